//! RMSprop.

use cupola_cpu::optim;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Master, Rule};

/// RMSprop (Hinton, "Neural Networks for Machine Learning", lecture 6, 2012), `torch.optim.RMSprop`.
pub type RmsProp = Optimizer<RmsPropConfig>;

/// ```text
/// g = grad + weight_decay * p
/// v = alpha * v + (1 - alpha) * g^2
/// a = alpha * a + (1 - alpha) * g               (centered: v - a^2 is used in place of v below)
/// b = momentum * b + g / (sqrt(v) + eps)
/// p = p - lr * b
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsPropConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean square of gradients.
    pub alpha: f64,
    /// Keeps the denominator away from 0.
    pub eps: f64,
    /// The penalty on the squared weights (L2), as part of the gradient.
    pub weight_decay: f64,
    /// How much of the former direction is kept.
    pub momentum: f64,
    /// Whether gradients are measured by their variance in place of their mean square.
    pub centered: bool,
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        Self { lr: 1e-2, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Rule for RmsPropConfig {
    const NAME: &'static str = "rmsprop";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "grad_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        }
    }

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        let settings = |job: &Job<'_, Self, R>| optim::RmsProp {
            lr: job.lr,
            alpha: job.rule.alpha,
            eps: job.rule.eps,
            momentum: job.rule.momentum,
            centered: job.rule.centered,
            weight_decay: job.rule.weight_decay,
            grad_scale: job.grad_scale,
        };
        let places = |rule: &Self| if rule.centered { [0, 1, 2] } else { [0, 2, 1] };
        optim::rmsprop(
            jobs.into_iter()
                .map(|job| (settings(&job), places(job.rule), job))
                .map(|(s, p, job)| (s, job.slices(&p)))
                .collect(),
        );
    }
}
