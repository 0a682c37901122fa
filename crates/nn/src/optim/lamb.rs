//! LAMB.

use cupola_core::parallel_for;
use cupola_core::pool::Parts;
use cupola_cpu::real::Real;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Rule};

/// LAMB (You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020).
pub type Lamb = Optimizer<LambConfig>;

/// ```text
/// m, v as in Adam
/// u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * p
/// p = p - lr * |p| / |u| * u                    (the ratio is 1 where either norm is 0)
/// ```
/// The norms are those of the whole parameter, of each part where it has parts; they are accumulated in f64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean and of the mean square of gradients.
    pub betas: [f64; 2],
    /// Keeps the denominator away from 0.
    pub eps: f64,
    /// How fast weights shrink by themselves.
    pub weight_decay: f64,
}

impl Default for LambConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-6,
            weight_decay: 1e-2,
        }
    }
}

/// Elements of one piece; norms add up in these, in order.
const PIECE: usize = 8 << 10;

/// The constants of one parameter's update.
#[derive(Clone, Copy)]
struct Constants<R> {
    keep: [R; 2],
    take: [R; 2],
    mean_correction: R,
    root_correction: R,
    eps: R,
    decay: R,
    scale: R,
}

impl<R: Real> Constants<R> {
    fn new(job: &Job<'_, LambConfig, R>) -> Self {
        let betas = job.rule.betas;
        let correction = betas.map(|beta| 1.0 - beta.powf(job.step as f64));
        Self {
            keep: betas.map(R::of),
            take: betas.map(|beta| R::of(1.0 - beta)),
            mean_correction: R::of(1.0 / correction[0]),
            root_correction: R::of(1.0 / correction[1].sqrt()),
            eps: R::of(job.rule.eps),
            decay: R::of(job.rule.weight_decay),
            scale: R::of(job.grad_scale),
        }
    }

    #[inline(always)]
    fn direction(&self, p: R, m: R, v: R) -> R {
        m * self.mean_correction / (v.sqrt() * self.root_correction + self.eps) + self.decay * p
    }
}

impl Rule for LambConfig {
    const NAME: &'static str = "lamb";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        for mut job in jobs {
            let constants = Constants::new(&job);
            let norms = moments(&mut job, constants);
            let ratio = match norms {
                [param, update] if param > 0.0 && update > 0.0 => (param / update).sqrt(),
                _ => 1.0,
            };
            let rate = R::of(job.lr * ratio);
            let (mean, square) = (&*job.slots[0], &*job.slots[1]);
            let parts = Parts::new(job.param, PIECE);
            parallel_for(parts.len(), |index| {
                let (start, param) = parts.take(index);
                for (p, (&m, &v)) in param.iter_mut().zip(mean[start..].iter().zip(&square[start..])) {
                    *p = *p - rate * constants.direction(*p, m, v);
                }
            });
        }
    }
}

/// Brings the moments up to date; returns the squared norms of the parameter and of its direction.
fn moments<R: Real>(job: &mut Job<'_, LambConfig, R>, constants: Constants<R>) -> [f64; 2] {
    let [mean, square] = &mut job.slots[..] else {
        return [0.0; 2];
    };
    let (param, mean, square) = (
        Parts::new(job.param, PIECE),
        Parts::new(mean, PIECE),
        Parts::new(square, PIECE),
    );
    let mut sums = vec![[0.0; 2]; param.len()];
    let results = Parts::new(&mut sums, 1);
    let (old, grad) = (job.old, job.grad);
    parallel_for(param.len(), |index| {
        let ((start, p), (_, m), (_, v)) = (param.take(index), mean.take(index), square.take(index));
        if let Some(old) = old {
            p.copy_from_slice(&old[start..start + p.len()]);
        }
        let mut sum = [0.0; 2];
        for (((p, m), v), &g) in p.iter().zip(m).zip(v).zip(&grad[start..]) {
            let g = g * constants.scale;
            *m = constants.keep[0] * *m + constants.take[0] * g;
            *v = constants.keep[1] * *v + constants.take[1] * (g * g);
            let (p, u) = (p.to_f64(), constants.direction(*p, *m, *v).to_f64());
            sum = [sum[0] + p * p, sum[1] + u * u];
        }
        results.take(index).1[0] = sum;
    });
    drop(results);
    sums.iter()
        .fold([0.0; 2], |total, sum| [total[0] + sum[0], total[1] + sum[1]])
}
