//! The difference of two attentions (Ye et al., "Differential Transformer", 2024, arXiv:2410.05258).

use cupola_nn::init::Init;
use cupola_nn::layers::RmsNorm;
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::Tensor;

/// `(1 - l0) norm(A1 V - l A2 V)` for each pair of heads, with `l = exp(q1 . k1) - exp(q2 . k2) + l0` of learned vectors and
/// `l0 = 0.8 - 0.6 exp(-0.3 layer)`, layers counted from 0. The norm is by the root mean square of a pair's values.
#[derive(Module, Clone)]
pub struct Differential {
    /// `[Dh]`.
    pub lambda_q1: Param,
    /// `[Dh]`.
    pub lambda_k1: Param,
    /// `[Dh]`.
    pub lambda_q2: Param,
    /// `[Dh]`.
    pub lambda_k2: Param,
    /// Of the `2 Dh` values of a pair.
    pub subln: RmsNorm,
    first: f64,
}

impl Differential {
    /// For heads of this width in layer `layer`.
    pub fn new(head_dim: usize, layer: usize) -> Self {
        let vector = || Param::new([head_dim], Init::normal(0.1));
        Self {
            lambda_q1: vector(),
            lambda_k1: vector(),
            lambda_q2: vector(),
            lambda_k2: vector(),
            subln: RmsNorm::new(2 * head_dim).with_eps(1e-5),
            first: 0.8 - 0.6 * (-0.3 * layer as f64).exp(),
        }
    }

    /// What is subtracted of the second attention, a scalar.
    pub fn lambda(&self) -> Tensor {
        let product = |q: &Param, k: &Param| (q * &**k).sum([]).exp();
        product(&self.lambda_q1, &self.lambda_k1) - product(&self.lambda_q2, &self.lambda_k2) + self.first
    }

    /// From the two attentions of each pair.
    ///
    /// # Shapes
    /// `[N, H / 2, 2 Dh]` twice -> `[N, H / 2, 2 Dh]`.
    #[track_caller]
    pub fn forward(&self, first: &Tensor, second: &Tensor) -> Tensor {
        let difference = first - (second * self.lambda()).to_dtype(first.dtype());
        self.subln.forward(&difference) * (1.0 - self.first)
    }
}
