//! Muon.

use cupola_core::{DType, Shape};
use cupola_cpu::optim;
use cupola_tensor::{Tensor, no_grad};
use serde::{Deserialize, Serialize};

use super::optimizer::Optimizer;
use super::rule::{Job, Master, Rule};

/// Muon (Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024), `torch.optim.Muon`.
///
/// For the matrices of hidden layers; embeddings, heads, biases and norms go to another optimiser:
///
/// ```no_run
/// # use cupola_nn::optim::{AdamW, AdamWConfig, Muon, MuonConfig};
/// let hidden = Muon::new(MuonConfig::default()).only("layers.*proj.weight");
/// let rest = AdamW::new(AdamWConfig::default()).except("layers.*proj.weight");
/// ```
pub type Muon = Optimizer<MuonConfig>;

/// How the learning rate follows the shape `[rows, cols]` of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrAdjustment {
    /// `sqrt(max(1, rows / cols))`, Jordan's own.
    Original,
    /// `0.2 * sqrt(max(rows, cols))`: updates as large as AdamW's, whose rate and decay then serve (Liu et al., "Muon is Scalable
    /// for LLM Training", 2025).
    MatchRmsAdamw,
    /// `sqrt(rows / cols)` (Bernstein, "Deriving Muon", 2025).
    SpectralUnclamped,
}

/// What the Newton-Schulz iteration computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16, as PyTorch does; the iteration forgives it.
    Bf16,
    /// The parameter's own.
    Full,
}

/// ```text
/// b = momentum * b + (1 - momentum) * grad
/// u = momentum * b + (1 - momentum) * grad      (nesterov; u = b without)
/// p = p - lr * weight_decay * p - lr * adjustment * orthogonalised(u)
/// ```
/// where `orthogonalised` brings all singular values near 1 by iterations of `X = a X + (b A + c A^2) X` with `A = X X^T`,
/// starting from `X = u / max(|u|, eps)`, on the transpose where there are more rows than columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonConfig {
    /// Learning rate.
    pub lr: f64,
    /// How fast weights shrink by themselves, relative to the learning rate.
    pub weight_decay: f64,
    /// Decay of the mean of gradients.
    pub momentum: f64,
    /// Whether to look ahead along the mean.
    pub nesterov: bool,
    /// The polynomial's coefficients `a`, `b`, `c`.
    pub ns_coefficients: [f64; 3],
    /// The least norm that a direction is divided by.
    pub eps: f64,
    /// Iterations.
    pub ns_steps: usize,
    /// How the learning rate follows the shape.
    pub adjust_lr: LrAdjustment,
    /// What the iteration computes in.
    pub precision: Precision,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            weight_decay: 0.1,
            momentum: 0.95,
            nesterov: true,
            ns_coefficients: [3.4445, -4.7750, 2.0315],
            eps: 1e-7,
            ns_steps: 5,
            adjust_lr: LrAdjustment::Original,
            precision: Precision::Bf16,
        }
    }
}

impl MuonConfig {
    fn adjustment(&self, rows: f64, cols: f64) -> f64 {
        match self.adjust_lr {
            LrAdjustment::Original => (rows / cols).max(1.0).sqrt(),
            LrAdjustment::MatchRmsAdamw => 0.2 * rows.max(cols).sqrt(),
            LrAdjustment::SpectralUnclamped => (rows / cols).sqrt(),
        }
    }

    /// The matrix `u` with its singular values near 1.
    fn orthogonalised(&self, u: &Tensor) -> Tensor {
        let dtype = match self.precision {
            Precision::Bf16 => DType::BF16,
            Precision::Full => u.dtype(),
        };
        let wide = u.dim(0) <= u.dim(1);
        let upright = |x: Tensor| if wide { x } else { x.permute(&[1, 0]) };
        let narrow = u.to_dtype(dtype);
        let norm = match u.dtype() {
            DType::F64 => optim::sum_squares(narrow.to_f64().contiguous().slice_of::<f64>()),
            _ => optim::sum_squares(narrow.to_dtype(DType::F32).contiguous().slice_of::<f32>()),
        }
        .sqrt();
        let mut x = upright(narrow).contiguous() * (1.0 / norm.max(self.eps));
        let [a, b, c] = self.ns_coefficients;
        for _ in 0..self.ns_steps {
            let gram = x.matmul(&x.permute(&[1, 0]));
            let polynomial = &gram * b + gram.matmul(&gram) * c;
            x = &x * a + polynomial.matmul(&x);
        }
        upright(x).to_dtype(u.dtype()).contiguous()
    }
}

impl Rule for MuonConfig {
    const NAME: &'static str = "muon";

    fn lr(&self) -> f64 {
        self.lr
    }

    fn slots(&self) -> &'static [&'static str] {
        &["momentum_buffer"]
    }

    fn accepts(&self, shape: &Shape) -> Result<(), &'static str> {
        if shape.rank() == 2 { Ok(()) } else { Err("a matrix") }
    }

    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>) {
        for mut job in jobs {
            let rule = job.rule;
            let settings = optim::Muon { momentum: rule.momentum, nesterov: rule.nesterov, grad_scale: job.grad_scale };
            let [buffer] = &mut job.slots[..] else { continue };
            let update = Tensor::build::<R>(job.shape, |u| optim::muon_direction(settings, job.grad, buffer, u));
            let direction = no_grad(|| rule.orthogonalised(&update));
            let rate = job.lr * rule.adjustment(job.shape[0] as f64, job.shape[1] as f64);
            optim::muon_apply(job.param, 1.0 - job.lr * rule.weight_decay, rate, direction.slice_of::<R>());
        }
    }
}
