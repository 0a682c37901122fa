//! The cross-entropy of classes.

use cupola_tensor::Tensor;
use cupola_tensor::ops::cross_entropy::{CrossEntropyConfig, Reduction as Reduce};
use cupola_tensor::ops::linear_cross_entropy;

use super::Reduction;

/// `-log(softmax(x)[target])` of logits `x`, `torch.nn.CrossEntropyLoss`; the formula with all options stands at
/// [`Tensor::cross_entropy`]. Probabilities are never stored.
#[derive(Clone, Debug)]
pub struct CrossEntropyLoss {
    /// A weight for each class `[V]`; the mean is over the weights of the targets then.
    pub weight: Option<Tensor>,
    /// The target of rows that do not count.
    pub ignore_index: i64,
    /// The part of the target's probability that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The weight of the squared log-sum-exp of each row.
    pub z_loss: f64,
    /// What the mean divides by instead: the number of tokens of a step of which this is a micro-batch.
    pub divisor: Option<f64>,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl Default for CrossEntropyLoss {
    fn default() -> Self {
        Self {
            weight: None,
            ignore_index: -100,
            label_smoothing: 0.0,
            z_loss: 0.0,
            divisor: None,
            reduction: Reduction::Mean,
        }
    }
}

impl CrossEntropyLoss {
    /// The loss, computed in f32 (f64 for f64).
    ///
    /// # Shapes
    /// `x [.., V]`, `target [..]` of integers; a scalar, or `[..]` without reduction.
    ///
    /// # Panics
    /// When the shapes do not fit or a target is no class.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        assert!(
            x.rank() > 0 && target.shape().dims() == &x.shape()[..x.rank() - 1],
            "cross_entropy: input {} and target {}, expected [.., V] and [..]",
            x.shape(),
            target.shape()
        );
        let rows = target.numel();
        let losses = x.reshape([rows, x.dim(-1)]).cross_entropy(&target.reshape([rows]), &self.config());
        if self.reduction == Reduction::None { losses.reshape(target.shape()) } else { losses }
    }

    /// The loss of the logits `x weight^T`, of which those of a large vocabulary are never all in memory
    /// ([`linear_cross_entropy()`]): the head of a language model and its loss in one.
    ///
    /// ```
    /// use cupola_nn::losses::CrossEntropyLoss;
    /// use cupola_tensor::{Rng, Tensor};
    /// let (x, head) = (Tensor::randn([2, 3, 8], Rng::seed(0)), Tensor::randn([50, 8], Rng::seed(1)));
    /// let target = Tensor::randint(0, 50, [2, 3], Rng::seed(2));
    /// let loss = CrossEntropyLoss::default().forward_linear(&x, &head, &target);
    /// let apart = CrossEntropyLoss::default().forward(&x.matmul(&head.transpose(0, 1)), &target);
    /// assert!(loss.relative_error(&apart) < 1e-6);
    /// ```
    ///
    /// # Shapes
    /// `x [.., D]`, `weight [V, D]`, `target [..]` of integers; a scalar, or `[..]` without reduction.
    ///
    /// # Panics
    /// When the shapes do not fit or a target is no class.
    #[track_caller]
    pub fn forward_linear(&self, x: &Tensor, weight: &Tensor, target: &Tensor) -> Tensor {
        assert!(
            x.rank() > 0 && target.shape().dims() == &x.shape()[..x.rank() - 1],
            "cross_entropy: input {} and target {}, expected [.., D] and [..]",
            x.shape(),
            target.shape()
        );
        let rows = target.numel();
        let x = if x.rank() == 2 { x.clone() } else { x.reshape([rows, x.dim(-1)]) };
        let losses = linear_cross_entropy(&x, weight, &target.reshape([rows]), &self.config());
        if self.reduction == Reduction::None { losses.reshape(target.shape()) } else { losses }
    }

    fn config(&self) -> CrossEntropyConfig {
        CrossEntropyConfig {
            reduction: match self.reduction {
                Reduction::None => Reduce::None,
                Reduction::Mean => Reduce::Mean,
                Reduction::Sum => Reduce::Sum,
            },
            ignore_index: Some(self.ignore_index),
            label_smoothing: self.label_smoothing,
            class_weights: self.weight.clone(),
            z_loss: self.z_loss,
            divisor: self.divisor,
        }
    }
}

/// The mean of [`CrossEntropyLoss`].
///
/// ```
/// use cupola_nn::losses::cross_entropy;
/// use cupola_tensor::Tensor;
/// let loss = cross_entropy(&Tensor::zeros([2, 10]), &Tensor::from_vec(vec![3i64, 7], [2]));
/// assert!((loss.item() - 10f64.ln()).abs() < 1e-6);
/// ```
///
/// # Panics
/// When the shapes do not fit or a target is no class.
#[track_caller]
pub fn cross_entropy(x: &Tensor, target: &Tensor) -> Tensor {
    CrossEntropyLoss::default().forward(x, target)
}
