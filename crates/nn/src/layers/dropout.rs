//! Dropout.

use cupola_tensor::Tensor;

use crate::training::is_training;
use crate::{Layer, Module};

/// What every dropout asks of its probability.
#[track_caller]
pub(super) fn check(name: &str, p: f64) {
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
