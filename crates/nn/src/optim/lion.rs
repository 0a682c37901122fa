//! Lion.

use cupola_cpu::optim;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Master, Rule};

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
        Self { lr: 1e-4, betas: [0.9, 0.99], weight_decay: 0.0 }
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

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        let settings = |job: &Job<'_, Self, R>| optim::Lion {
            lr: job.lr,
            beta1: job.rule.betas[0],
            beta2: job.rule.betas[1],
            weight_decay: job.rule.weight_decay,
            grad_scale: job.grad_scale,
        };
        optim::lion(jobs.into_iter().map(|job| (settings(&job), job.slices(&[0]))).collect());
    }
}
