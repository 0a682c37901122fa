//! Stochastic gradient descent.

use cupola_cpu::real::Real;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::pieces::elementwise;
use super::rule::{Job, Rule};

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
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
        }
    }
}

impl Rule for SgdConfig {
    const NAME: &'static str = "sgd";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 {
            &[]
        } else {
            &["momentum_buffer"]
        }
    }

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        elementwise(jobs, |job, param, grad, slots| {
            let rule = job.rule;
            let [lr, scale, decay] = [job.lr, job.grad_scale, rule.weight_decay].map(R::of);
            let Some(buffer) = slots.first_mut() else {
                for (p, &g) in param.iter_mut().zip(grad) {
                    *p = *p - lr * (g * scale + decay * *p);
                }
                return;
            };
            let first = job.step == 1;
            let (keep, take) = (R::of(rule.momentum), R::of(1.0 - rule.dampening));
            let (keep, take) = if first { (R::ZERO, R::ONE) } else { (keep, take) };
            let (direct, ahead) = if rule.nesterov {
                (R::ONE, R::of(rule.momentum))
            } else {
                (R::ZERO, R::ONE)
            };
            for ((p, &g), b) in param.iter_mut().zip(grad).zip(buffer.iter_mut()) {
                let g = g * scale + decay * *p;
                *b = keep * *b + take * g;
                *p = *p - lr * (direct * g + ahead * *b);
            }
        });
    }
}
