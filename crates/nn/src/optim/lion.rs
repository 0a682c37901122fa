//! Lion.

use cupola_cpu::real::Real;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::pieces::elementwise;
use super::rule::{Job, Rule};

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023).
pub type Lion = Optimizer<LionConfig>;

/// ```text
/// p = p - lr * weight_decay * p
/// p = p - lr * sign(beta1 * m + (1 - beta1) * grad)
/// m = beta2 * m + (1 - beta2) * grad
/// ```
/// Every entry moves by the learning rate, so that is three to ten times smaller than AdamW's and the decay as much larger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LionConfig {
    /// Learning rate.
    pub lr: f64,
    /// Share of the kept direction in the update, and its decay.
    pub betas: [f64; 2],
    /// How fast weights shrink by themselves, relative to the learning rate.
    pub weight_decay: f64,
}

impl Default for LionConfig {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            betas: [0.9, 0.99],
            weight_decay: 0.0,
        }
    }
}

impl Rule for LionConfig {
    const NAME: &'static str = "lion";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        elementwise(jobs, |job, param, grad, slots| {
            let [mean] = slots else { return };
            let [keep, decay] = job.rule.betas.map(R::of);
            let [take, gain] = job.rule.betas.map(|beta| R::of(1.0 - beta));
            let [lr, scale, shrink] = [job.lr, job.grad_scale, 1.0 - job.lr * job.rule.weight_decay].map(R::of);
            for ((p, &g), m) in param.iter_mut().zip(grad).zip(mean.iter_mut()) {
                let g = g * scale;
                let direction = keep * *m + take * g;
                // The sign of 0 is 0, and a NaN stays one.
                let sign = if direction == R::ZERO {
                    R::ZERO
                } else {
                    direction / direction.abs()
                };
                *p = *p * shrink - lr * sign;
                *m = decay * *m + gain * g;
            }
        });
    }
}
