//! Dropout of whole channels.

use cupola_tensor::{Tensor, no_grad};

use super::dropout::check;
use crate::training::is_training;
use crate::{Layer, Module};

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
