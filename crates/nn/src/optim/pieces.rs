//! One pass over all elements of all parameters.

use cupola_core::parallel_for;
use cupola_core::pool::Parts;
use cupola_cpu::real::Real;

use super::rule::{Head, Job};

/// Elements of one piece: parameter, gradient and two moments of so many f32 stay in a core's own cache.
const PIECE: usize = 8 << 10;

struct Cut<'j, C, R> {
    head: Head<'j, C>,
    /// The number of the job's first piece among all.
    first: usize,
    old: Option<&'j [R]>,
    param: Parts<'j, R>,
    grad: &'j [R],
    slots: Vec<Parts<'j, R>>,
}

/// Calls `update(job, param, grad, slots)` for every piece of every job in one parallel region. `param` holds the values before.
pub(super) fn elementwise<C: Sync, R: Real>(
    jobs: Vec<Job<'_, C, R>>,
    update: impl Fn(&Head<'_, C>, &mut [R], &[R], &mut [&mut [R]]) + Sync,
) {
    pieces(jobs, |_, head, param, grad, slots| update(head, param, grad, slots));
}

/// As [`elementwise`], with the number of the job first.
pub(super) fn pieces<C: Sync, R: Real>(
    jobs: Vec<Job<'_, C, R>>,
    update: impl Fn(usize, &Head<'_, C>, &mut [R], &[R], &mut [&mut [R]]) + Sync,
) {
    let mut cuts = Vec::with_capacity(jobs.len());
    let mut count = 0;
    for job in jobs {
        let head = Head {
            rule: job.rule,
            lr: job.lr,
            step: job.step,
            grad_scale: job.grad_scale,
        };
        let param = Parts::new(job.param, PIECE);
        let first = count;
        count += param.len();
        cuts.push(Cut {
            head,
            first,
            old: job.old,
            param,
            grad: job.grad,
            slots: job.slots.into_iter().map(|slot| Parts::new(slot, PIECE)).collect(),
        });
    }
    parallel_for(count, |number| {
        let index = cuts.partition_point(|cut| cut.first <= number) - 1;
        let cut = &cuts[index];
        let (start, param) = cut.param.take(number - cut.first);
        let range = start..start + param.len();
        if let Some(old) = cut.old {
            param.copy_from_slice(&old[range.clone()]);
        }
        let mut slots: Vec<&mut [R]> = cut.slots.iter().map(|slot| slot.take(number - cut.first).1).collect();
        update(index, &cut.head, param, &cut.grad[range], &mut slots);
    });
}
