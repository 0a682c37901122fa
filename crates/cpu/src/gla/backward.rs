//! Backward: a head walks back over a sequence, chunk by chunk, from the saved state before each.

use cupola_core::parallel_for;

use super::forward::{decay_state, decayed, gather};
use super::pairs::{Chunk, weights, weights_back};
use super::{CHUNK, Gla, Gradients, Inputs};
use crate::chunked::{Scratch, parts, product};
use crate::gemm::{MatMut, MatRef};
use crate::lanes::sum_of;
use crate::multiply::Multiply;
use crate::real::Real;
use crate::scattered::Scattered;
use crate::{isa, kernel};

#[track_caller]
pub(super) fn run<T: Multiply>(
    gla: &Gla<'_>,
    inputs: &Inputs<'_, T>,
    borders: &[T],
    dy: &[T],
    dlast: Option<&[T]>,
    gradients: Gradients<'_, T>,
) {
    gla.check(inputs);
    assert_eq!(borders.len(), gla.borders_len(), "size of what was saved of {gla:?}");
    assert_eq!(dy.len(), inputs.v.len(), "size of the gradient of y of {gla:?}");
    assert!(dlast.is_none_or(|d| d.len() == gla.state_len()), "size of the final state's gradient of {gla:?}");
    let Gradients { dq, dk, dv, ddecay, dstate } = gradients;
    let found = [dq.len(), dk.len(), dv.len(), ddecay.len()];
    let expected = [inputs.q.len(), inputs.k.len(), inputs.v.len(), inputs.decay.len()];
    assert_eq!(found, expected, "sizes of the gradients of {gla:?}");
    assert!(dstate.is_empty() || dstate.len() == gla.state_len(), "size of the state's gradient of {gla:?}");
    let (isa, first_border) = (isa(), gla.borders());
    let [dq, dk, dv, ddecay, dstate] = [dq, dk, dv, ddecay, dstate].map(Scattered::new);
    parallel_for(gla.sequences() * gla.heads, |piece| {
        let (sequence, head) = (piece / gla.heads, piece % gla.heads);
        let (start, end) = (gla.offsets[sequence], gla.offsets[sequence + 1]);
        let (keys, values, room) = (gla.keys, gla.values, CHUNK.min(end - start));
        let (of_keys, of_values, square) = ([room * keys; 11], [room * values; 3], [room * room; 2]);
        let sizes = [2 * gla.state() + keys, of_keys.iter().sum(), of_values.iter().sum(), square.iter().sum()];
        let mut memory = Scratch::new::<T>(&sizes);
        let [states, tall, wide, squares] = memory.parts::<T, 4>(sizes);
        let [state, running, of_total] = parts(states, [gla.state(), gla.state(), keys]);
        let [q, k, sums, grad_q, grad_k, late, near, far, dnear, dfar, dsums] = parts(tall, of_keys);
        let [v, rows_dy, grad_v] = parts(wide, of_values);
        let [a, da] = parts(squares, square);
        match dlast {
            Some(dlast) => running.copy_from_slice(&dlast[gla.place(sequence, head)]),
            None => running.fill(T::ZERO),
        }
        let mut after = dlast.is_some();
        for index in (0..(end - start).div_ceil(CHUNK)).rev() {
            let from = start + index * CHUNK;
            let tokens = from..end.min(from + CHUNK);
            let (rows, used) = (tokens.len(), tokens.len() * keys);
            let before = index > 0 || inputs.state.is_some();
            match (index, inputs.state) {
                (0, Some(initial)) => state.copy_from_slice(&initial[gla.place(sequence, head)]),
                (0, None) => state.fill(T::ZERO),
                _ => state.copy_from_slice(&borders[gla.place(first_border[sequence] + index - 1, head)]),
            }
            gather(gla, inputs, head, &tokens, [&mut *q, &mut *k, &mut *v, &mut *sums]);
            gla.gather(dy, values, head, &tokens, rows_dy);
            let chunk = Chunk { rows, keys, q, k, sums };
            let (sums, total) = (&sums[..used], &sums[used - keys..used]);
            let (of_v, of_dy) = (MatRef::new(v, rows, values), MatRef::new(rows_dy, rows, values));
            // The triangle.
            weights(isa, chunk, a, near, far);
            product(of_dy, of_v.t(), MatMut::new(da, rows, rows), false);
            product(MatRef::new(a, rows, rows).t(), of_dy, MatMut::new(grad_v, rows, values), false);
            // The state before the chunk: dq = exp(sums) (dy S^T).
            match before {
                true => {
                    product(of_dy, MatRef::new(state, keys, values).t(), MatMut::new(dnear, rows, keys), false);
                    decayed::<T>(isa, &dnear[..used], sums, &[], grad_q);
                }
                false => grad_q[..used].fill(T::ZERO),
            }
            // The state after it: dk = exp(total - sums) (v dS^T), and dv = (k exp(total - sums)) dS.
            of_total.fill(T::ZERO);
            match after {
                true => {
                    let of_running = MatRef::new(running, keys, values);
                    product(of_v, of_running.t(), MatMut::new(dfar, rows, keys), false);
                    decayed::<T>(isa, &dfar[..used], sums, total, late);
                    decayed::<T>(isa, &k[..used], sums, total, far);
                    product(MatRef::new(far, rows, keys), of_running, MatMut::new(grad_v, rows, values), true);
                    total_gradient::<T>(isa, &k[..used], &late[..used], [total, state, running], of_total);
                    grad_k[..used].copy_from_slice(&late[..used]);
                }
                false => grad_k[..used].fill(T::ZERO),
            }
            let room = [&mut *near, &mut *far, &mut *dnear, &mut *dfar];
            weights_back(isa, chunk, da, [&mut *grad_q, &mut *grad_k], room);
            decay_gradient::<T>(isa, [&q[..used], &k[..used], &grad_q[..used], &grad_k[..used]], of_total, dsums);
            // SAFETY: sequences and heads differ between pieces, here and below.
            unsafe {
                gla.scatter(&grad_q[..used], keys, head, &tokens, &dq);
                gla.scatter(&grad_k[..used], keys, head, &tokens, &dk);
                gla.scatter(&grad_v[..rows * values], values, head, &tokens, &dv);
                gla.scatter(&dsums[..used], keys, head, &tokens, &ddecay);
            }
            if index > 0 || !dstate.is_empty() {
                decayed::<T>(isa, &q[..used], sums, &[], near);
                decay_state::<T>(isa, total, running);
                product(MatRef::new(near, rows, keys).t(), of_dy, MatMut::new(running, keys, values), true);
                after = true;
            }
        }
        if !dstate.is_empty() {
            let place = gla.place(sequence, head);
            // SAFETY: as above.
            unsafe { dstate.part(place.start, place.len()) }.copy_from_slice(running);
        }
    });
}

kernel! {
    /// The gradient of the sums at a chunk's end, for each key channel: that of what is left of writes, and of the state before.
    fn total_gradient[I; T: Real](k: &[T], dk: &[T], states: [&[T]; 3], of_total: &mut [T]) {
        let [total, state, running] = states;
        let keys = total.len();
        for (k, dk) in k.chunks_exact(keys.max(1)).zip(dk.chunks_exact(keys.max(1))) {
            for d in 0..keys {
                of_total[d] = k[d].fma::<I>(dk[d], of_total[d]);
            }
        }
        let width = state.len() / keys.max(1);
        for d in 0..keys {
            let (state, running) = (&state[d * width..][..width], &running[d * width..][..width]);
            let dot = sum_of(width, |p| state[p] * running[p]);
            of_total[d] = total[d].exp::<I>().fma::<I>(dot, of_total[d]);
        }
    }

    /// The gradient of the decays: of the sums it is `q dq - k dk`, and at the end `of_total` besides; a decay is part of its own
    /// row's sum and of all later ones.
    fn decay_gradient[_I; T: Real](rows: [&[T]; 4], of_total: &mut [T], result: &mut [T]) {
        let [q, k, dq, dk] = rows;
        let keys = of_total.len();
        for at in (0..q.len()).step_by(keys.max(1)).rev() {
            let (q, k, dq, dk) = (&q[at..][..keys], &k[at..][..keys], &dq[at..][..keys], &dk[at..][..keys]);
            let result = &mut result[at..][..keys];
            for d in 0..keys {
                of_total[d] = of_total[d] + (q[d] * dq[d] - k[d] * dk[d]);
                result[d] = of_total[d];
            }
        }
    }
}
