//! Group normalisation.

use cupola_tensor::Tensor;

use crate::init::Init;
use crate::{Layer, Module, Param};

/// Every group of channels of every image by its own mean and variance, `torch.nn.GroupNorm` (Wu and He, "Group Normalization",
/// 2018).
///
/// ```
/// use cupola_nn::{Layer, Module, layers::GroupNorm};
/// use cupola_tensor::{Rng, Tensor};
/// let norm = GroupNorm::new(2, 6).init(0);
/// assert_eq!(norm.forward(&Tensor::randn([1, 6, 4, 4], Rng::seed(0))).shape().dims(), [1, 6, 4, 4]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct GroupNorm {
    /// `[C]`, ones at first.
    pub weight: Option<Param>,
    /// `[C]`, zeros at first.
    pub bias: Option<Param>,
    /// How many groups.
    pub groups: usize,
    /// Added to variances; 1e-5 unless set otherwise.
    pub eps: f64,
}

impl GroupNorm {
    /// A norm of `channels` channels in `groups` groups.
    ///
    /// # Panics
    /// When the groups do not divide the channels.
    #[track_caller]
    pub fn new(groups: usize, channels: usize) -> Self {
        assert!(
            groups > 0 && channels.is_multiple_of(groups),
            "GroupNorm: {groups} groups do not divide {channels} channels"
        );
        Self {
            weight: Some(Param::new([channels], Init::Ones)),
            bias: Some(Param::new([channels], Init::Zeros)),
            groups,
            eps: 1e-5,
        }
    }

    /// The same norm with another `eps`.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The same norm without weight and bias.
    #[must_use]
    pub fn without_affine(self) -> Self {
        Self { weight: None, bias: None, ..self }
    }
}

impl Layer for GroupNorm {
    /// # Shapes
    /// `[N, C, ..]` -> `[N, C, ..]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, self.weight.as_deref(), self.bias.as_deref(), self.eps)
    }
}
