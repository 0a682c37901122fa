//! RMSprop.

use cupola_cpu::real::Real;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::pieces::elementwise;
use super::rule::{Job, Rule};

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
        Self {
            lr: 1e-2,
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            centered: false,
        }
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

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        elementwise(jobs, |job, param, grad, slots| {
            let rule = job.rule;
            let [lr, scale, decay, eps] = [job.lr, job.grad_scale, rule.weight_decay, rule.eps].map(R::of);
            let [alpha, rest, momentum] = [rule.alpha, 1.0 - rule.alpha, rule.momentum].map(R::of);
            let Some((square, others)) = slots.split_first_mut() else {
                return;
            };
            let (average, buffer) = others.split_at_mut(usize::from(rule.centered));
            let (mut average, mut buffer) = (average.first_mut(), buffer.first_mut());
            for (index, (p, &g)) in param.iter_mut().zip(grad).enumerate() {
                let v = &mut square[index];
                let g = g * scale + decay * *p;
                *v = *v * alpha + g * g * rest;
                let mut under = *v;
                if let Some(average) = &mut average {
                    let a = average[index] + (g - average[index]) * rest;
                    average[index] = a;
                    under = under - a * a;
                }
                let mut direction = g / (under.sqrt() + eps);
                if let Some(buffer) = &mut buffer {
                    direction = buffer[index] * momentum + direction;
                    buffer[index] = direction;
                }
                *p = *p - lr * direction;
            }
        });
    }
}
