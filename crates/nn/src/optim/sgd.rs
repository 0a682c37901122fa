//! Stochastic gradient descent.

use cupola_cpu::optim;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Master, Rule};

/// Stochastic gradient descent with momentum, `torch.optim.SGD`.
pub type Sgd = Optimizer<SgdConfig>;

/// ```text
/// g = grad + weight_decay * p
/// b = momentum * b + (1 - dampening) * g        (b = g at the first step)
/// p = p - lr * (g + momentum * b if nesterov else b)
/// ```
/// Without momentum nothing is kept and `p = p - lr * g`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// How much of the former direction is kept.
    pub momentum: f64,
    /// How much of the gradient the kept direction leaves out.
    pub dampening: f64,
    /// The penalty on the squared weights (L2), as part of the gradient.
    pub weight_decay: f64,
    /// Whether to look ahead along the kept direction (Sutskever et al. 2013).
    pub nesterov: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

impl Rule for SgdConfig {
    const NAME: &'static str = "sgd";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        let settings = |job: &Job<'_, Self, R>| optim::Sgd {
            lr: job.lr,
            momentum: job.rule.momentum,
            dampening: job.rule.dampening,
            nesterov: job.rule.nesterov,
            weight_decay: job.rule.weight_decay,
            first: job.step == 1,
            grad_scale: job.grad_scale,
        };
        optim::sgd(jobs.into_iter().map(|job| (settings(&job), job.slices(&[0]))).collect());
    }
}
