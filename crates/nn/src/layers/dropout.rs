//! Dropout and its relatives.

use cupola_tensor::{Tensor, no_grad};

use crate::training::is_training;
use crate::{Layer, Module};

#[track_caller]
fn check(name: &str, p: f64) {
    assert!((0.0..1.0).contains(&p), "{name}: a probability of {p} is not in 0..1");
}

/// Each element is dropped with probability `p` in training and the rest scaled by `1 / (1 - p)`, `torch.nn.Dropout` (Srivastava et
/// al., 2014). What is dropped follows from the training scope's seed and step, the call, and the sample's position in the step's
/// batch.
///
/// ```
/// use cupola_nn::{Layer, layers::Dropout, training};
/// use cupola_tensor::{Tensor, no_grad};
/// let drop = Dropout::new(0.5);
/// let x = Tensor::ones([4, 100]);
/// assert!(no_grad(|| drop.forward(&x)).equals(&x));
/// let _scope = training(0, 0);
/// let kept = drop.forward(&x).to_vec::<f32>().iter().filter(|&&y| y == 2.0).count();
/// assert!((150..250).contains(&kept));
/// ```
#[derive(Module, Clone, Debug)]
pub struct Dropout {
    p: f64,
}

impl Dropout {
    /// Drops with probability `p`.
    ///
    /// # Panics
    /// When `p` is not in 0..1.
    #[track_caller]
    pub fn new(p: f64) -> Self {
        check("Dropout", p);
        Self { p }
    }
}

impl Layer for Dropout {
    /// # Panics
    /// When recorded outside of a training scope, unless nothing is ever dropped.
    fn forward(&self, x: &Tensor) -> Tensor {
        if self.p > 0.0 && is_training("Dropout") { x.dropout(self.p) } else { x.clone() }
    }
}

/// Whole channels of `[N, C, ..]` are dropped with probability `p` in training, `torch.nn.Dropout2d` (Tompson et al., "Efficient
/// Object Localization Using Convolutional Networks", 2015).
///
/// ```
/// use cupola_nn::{Layer, layers::Dropout2d, training};
/// use cupola_tensor::Tensor;
/// let _scope = training(0, 0);
/// let y = Dropout2d::new(0.5).forward(&Tensor::ones([1, 8, 3, 3]));
/// assert!(y.sum([2, 3]).to_vec::<f32>().iter().all(|&sum| sum == 0.0 || sum == 18.0));
/// ```
#[derive(Module, Clone, Debug)]
pub struct Dropout2d {
    p: f64,
}

impl Dropout2d {
    /// Drops with probability `p`.
    ///
    /// # Panics
    /// When `p` is not in 0..1.
    #[track_caller]
    pub fn new(p: f64) -> Self {
        check("Dropout2d", p);
        Self { p }
    }
}

impl Layer for Dropout2d {
    /// # Panics
    /// When the shape is not `[N, C, ..]`, or when recorded outside of a training scope.
    fn forward(&self, x: &Tensor) -> Tensor {
        assert!(x.rank() >= 2, "Dropout2d: shape {}, expected [N, C, ..]", x.shape());
        if self.p == 0.0 || !is_training("Dropout2d") {
            return x.clone();
        }
        let mut shape = vec![1; x.rank()];
        shape[..2].copy_from_slice(&x.shape()[..2]);
        x * no_grad(|| Tensor::ones_of(shape, x.dtype()).dropout(self.p))
    }
}

/// Dropout that keeps mean and variance of self-normalising networks, `torch.nn.AlphaDropout` (Klambauer et al.,
/// "Self-Normalizing Neural Networks", 2017): dropped elements become `alpha' = -lambda alpha` of SELU, and
///
/// `y = a (kept x + dropped alpha') + b`, `a = ((1 - p) (1 + p alpha'^2))^(-1/2)`, `b = -a p alpha'`.
///
/// ```
/// use cupola_nn::{Layer, layers::AlphaDropout, training};
/// use cupola_tensor::{Rng, Tensor};
/// let _scope = training(0, 0);
/// let y = AlphaDropout::new(0.3).forward(&Tensor::randn([100, 100], Rng::seed(0)));
/// assert!(y.mean([]).item().abs() < 0.05 && (y.std([], 0.0).item() - 1.0).abs() < 0.05);
/// ```
#[derive(Module, Clone, Debug)]
pub struct AlphaDropout {
    p: f64,
}

/// `-scale * alpha` of SELU.
const SATURATED: f64 = -1.758_099_340_847_376_6;

impl AlphaDropout {
    /// Drops with probability `p`.
    ///
    /// # Panics
    /// When `p` is not in 0..1.
    #[track_caller]
    pub fn new(p: f64) -> Self {
        check("AlphaDropout", p);
        Self { p }
    }
}

impl Layer for AlphaDropout {
    /// # Panics
    /// When recorded outside of a training scope.
    fn forward(&self, x: &Tensor) -> Tensor {
        if self.p == 0.0 || !is_training("AlphaDropout") {
            return x.clone();
        }
        let kept =
            no_grad(|| Tensor::ones_of(*x.shape(), x.dtype()).dropout(self.p).gt_scalar(0.0).to_dtype(x.dtype()));
        let scale = ((1.0 - self.p) * (1.0 + self.p * SATURATED * SATURATED)).sqrt().recip();
        let shift = -scale * self.p * SATURATED;
        let constant = (1.0 - &kept) * (scale * SATURATED) + shift;
        x * (kept * scale) + constant
    }
}
