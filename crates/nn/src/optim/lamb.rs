//! LAMB.

use cupola_cpu::optim::{self, Slices};
use cupola_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::optimizer::{Optimizer, own};
use super::rule::{Job, Master, Rule};

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
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-6, weight_decay: 1e-2 }
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

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        let mut rates = Vec::with_capacity(jobs.len());
        let mut directions: Vec<Tensor> = jobs.iter().map(|job| Tensor::build::<R>(job.shape, |_| ())).collect();
        let mut list = Vec::with_capacity(jobs.len());
        for (job, direction) in jobs.into_iter().zip(&mut directions) {
            let settings = optim::Lamb {
                beta1: job.rule.betas[0],
                beta2: job.rule.betas[1],
                eps: job.rule.eps,
                weight_decay: job.rule.weight_decay,
                step: job.step,
                grad_scale: job.grad_scale,
            };
            rates.push(job.lr);
            let mut slices = job.slices::<3>(&[0, 1]);
            slices.state[2] = own::<R>(direction);
            list.push((settings, slices));
        }
        optim::lamb_update(
            list.iter_mut()
                .map(|(settings, slices)| {
                    let Slices { param, grad, state } = slices;
                    (*settings, Slices { param, grad, state: state.each_mut().map(|slot| &mut **slot) })
                })
                .collect(),
        );
        for ((_, slices), lr) in list.into_iter().zip(rates) {
            optim::lamb_apply(lr, slices.param, slices.state[2]);
        }
    }
}
