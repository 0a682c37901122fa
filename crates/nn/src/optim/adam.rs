//! Adam and AdamW.

use cupola_cpu::real::Real;
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::pieces::elementwise;
use super::rule::{Head, Job, Rule};

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
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            amsgrad: false,
        }
    }
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 1e-2,
            amsgrad: false,
        }
    }
}

const SLOTS: &[&str] = &["exp_avg", "exp_avg_sq"];
const AMSGRAD_SLOTS: &[&str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

/// What both rules share, ready for the loop.
struct Moments<R> {
    take: [R; 2],
    keep: R,
    step_size: R,
    root_correction: R,
    eps: R,
    scale: R,
}

impl<R: Real> Moments<R> {
    fn new<C>(job: &Head<'_, C>, betas: [f64; 2], eps: f64) -> Self {
        let correction = betas.map(|beta| 1.0 - beta.powf(job.step as f64));
        Self {
            take: betas.map(|beta| R::of(1.0 - beta)),
            keep: R::of(betas[1]),
            step_size: R::of(job.lr / correction[0]),
            root_correction: R::of(1.0 / correction[1].sqrt()),
            eps: R::of(eps),
            scale: R::of(job.grad_scale),
        }
    }

    /// `p = p * shrink`, `g = grad * scale + penalty * p`, and the update above.
    #[inline(always)]
    fn run(&self, shrink: R, penalty: R, param: &mut [R], grad: &[R], slots: &mut [&mut [R]]) {
        let [mean, square, highest @ ..] = slots else { return };
        let mut largest = highest.first_mut();
        for (index, (p, &g)) in param.iter_mut().zip(grad).enumerate() {
            let (m, v) = (&mut mean[index], &mut square[index]);
            let g = g * self.scale + penalty * *p;
            *m = *m + (g - *m) * self.take[0];
            *v = *v * self.keep + g * g * self.take[1];
            let mut under = *v;
            if let Some(largest) = &mut largest {
                largest[index] = largest[index].larger(*v);
                under = largest[index];
            }
            let denominator = under.sqrt() * self.root_correction + self.eps;
            *p = *p * shrink - self.step_size * (*m / denominator);
        }
    }
}

impl Rule for AdamConfig {
    const NAME: &'static str = "adam";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.amsgrad { AMSGRAD_SLOTS } else { SLOTS }
    }

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        elementwise(jobs, |job, param, grad, slots| {
            let moments = Moments::new(job, job.rule.betas, job.rule.eps);
            moments.run(R::ONE, R::of(job.rule.weight_decay), param, grad, slots);
        });
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

    fn update<R: Real>(jobs: Vec<Job<'_, Self, R>>) {
        elementwise(jobs, |job, param, grad, slots| {
            let moments = Moments::new(job, job.rule.betas, job.rule.eps);
            moments.run(R::of(1.0 - job.lr * job.rule.weight_decay), R::ZERO, param, grad, slots);
        });
    }
}
