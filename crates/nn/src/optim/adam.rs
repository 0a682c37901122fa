//! Adam and AdamW.

use cupola_cpu::optim;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Master, Rule};

/// Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015), `torch.optim.Adam`.
pub type Adam = Optimizer<AdamConfig>;

/// Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019),
/// `torch.optim.AdamW`.
pub type AdamW = Optimizer<AdamWConfig>;

/// ```text
/// g = grad + weight_decay * p
/// m = beta1 * m + (1 - beta1) * g
/// v = beta2 * v + (1 - beta2) * g^2             (amsgrad: w = max(w, v), used in place of v below)
/// p = p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean and of the mean square of gradients.
    pub betas: [f64; 2],
    /// Keeps the denominator away from 0.
    pub eps: f64,
    /// The penalty on the squared weights (L2), as part of the gradient.
    pub weight_decay: f64,
    /// Whether the denominator never falls (Reddi et al., "On the Convergence of Adam and Beyond", 2018).
    pub amsgrad: bool,
}

/// ```text
/// p = p - lr * weight_decay * p
/// ```
/// and then as [`AdamConfig`] without weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean and of the mean square of gradients.
    pub betas: [f64; 2],
    /// Keeps the denominator away from 0.
    pub eps: f64,
    /// How fast weights shrink by themselves, relative to the learning rate.
    pub weight_decay: f64,
    /// Whether the denominator never falls (Reddi et al. 2018).
    pub amsgrad: bool,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-2, amsgrad: false }
    }
}

const SLOTS: &[&str] = &["exp_avg", "exp_avg_sq"];
const AMSGRAD_SLOTS: &[&str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

/// A step of either rule.
fn step<C, R: Master>(jobs: Vec<Job<'_, C, R>>, decoupled: bool, options: impl Fn(&C) -> ([f64; 2], f64, f64, bool)) {
    let settings = |job: &Job<'_, C, R>| {
        let ([beta1, beta2], eps, weight_decay, amsgrad) = options(job.rule);
        let (lr, step, grad_scale) = (job.lr, job.step, job.grad_scale);
        optim::Adam { lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, step, grad_scale }
    };
    optim::adam(jobs.into_iter().map(|job| (settings(&job), job.slices(&[0, 1, 2]))).collect());
}

impl Rule for AdamConfig {
    const NAME: &'static str = "adam";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.amsgrad { AMSGRAD_SLOTS } else { SLOTS }
    }

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        step(jobs, false, |rule| (rule.betas, rule.eps, rule.weight_decay, rule.amsgrad));
    }
}

impl Rule for AdamWConfig {
    const NAME: &'static str = "adamw";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.amsgrad { AMSGRAD_SLOTS } else { SLOTS }
    }

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        step(jobs, true, |rule| (rule.betas, rule.eps, rule.weight_decay, rule.amsgrad));
    }
}
