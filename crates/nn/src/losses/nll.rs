//! The negative log-likelihood.

use cupola_tensor::{Tensor, no_grad};

use super::Reduction;

/// `-weight[target] x[target]` of log-probabilities `x`, `torch.nn.NLLLoss`. The mean is over the weights: ignored rows weigh
/// nothing.
#[derive(Clone, Debug)]
pub struct NllLoss {
    /// A weight for each class `[V]`.
    pub weight: Option<Tensor>,
    /// The target of rows that do not count.
    pub ignore_index: i64,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl Default for NllLoss {
    fn default() -> Self {
        Self { weight: None, ignore_index: -100, reduction: Reduction::Mean }
    }
}

impl NllLoss {
    /// The loss.
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
            "nll: input {} and target {}, expected [.., V] and [..]",
            x.shape(),
            target.shape()
        );
        let classes = x.dim(-1);
        let weights: Option<Vec<f64>> = self.weight.as_ref().map(|weight| weight.to_f64_vec());
        let found = weights.as_ref().map_or(classes, Vec::len);
        assert_eq!(found, classes, "nll: weights of {found} classes for input {}", x.shape());
        let targets = target.to_indices();
        let ignored = |&&class: &&i64| class == self.ignore_index;
        if let Some(class) = targets.iter().find(|class| !ignored(class) && !(0..classes as i64).contains(*class)) {
            panic!("nll: target {class} is not one of {classes} classes");
        }
        let row_weight = |class: &i64| match &weights {
            _ if ignored(&class) => 0.0,
            Some(weights) => weights[*class as usize],
            None => 1.0,
        };
        let row_weights: Vec<f64> = targets.iter().map(row_weight).collect();
        let indices: Vec<i64> = targets.iter().map(|class| if ignored(&class) { 0 } else { *class }).collect();
        let indices = Tensor::from_vec(indices, *target.shape()).unsqueeze(-1);
        let total: f64 = row_weights.iter().sum();
        let row_weights = no_grad(|| Tensor::from_vec(row_weights, *target.shape()).to_dtype(x.dtype()));
        let losses = -(x.gather(-1, &indices).squeeze(-1) * row_weights);
        match self.reduction {
            Reduction::None => losses,
            Reduction::Sum => losses.sum([]),
            Reduction::Mean => losses.sum([]) / total,
        }
    }
}

/// The mean of [`NllLoss`].
///
/// # Panics
/// When the shapes do not fit or a target is no class.
#[track_caller]
pub fn nll(x: &Tensor, target: &Tensor) -> Tensor {
    NllLoss::default().forward(x, target)
}
