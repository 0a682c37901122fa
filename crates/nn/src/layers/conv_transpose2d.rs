//! The transposed convolution of images.

use cupola_tensor::Tensor;
use cupola_tensor::ops::ConvConfig;

use super::conv::parameters;
use crate::{Layer, Module, Param};

/// The transposed convolution of images, `torch.nn.ConvTranspose2d`; the formula stands at
/// [`ConvTranspose2d`](cupola_tensor::ops::conv_transpose::ConvTranspose2d).
///
/// ```
/// use cupola_nn::{Layer, Module, layers::ConvTranspose2d};
/// use cupola_tensor::{Tensor, ops::ConvConfig};
/// let double = ConvConfig { stride: [2, 2], ..ConvConfig::default() };
/// let layer = ConvTranspose2d::with(8, 3, [2, 2], double).init(0);
/// assert_eq!(layer.forward(&Tensor::ones([1, 8, 4, 4])).shape().dims(), [1, 3, 8, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct ConvTranspose2d {
    /// `[in, out / groups, KH, KW]`, uniform within `1 / sqrt(out / groups * KH * KW)` at first, as PyTorch has it.
    pub weight: Param,
    /// `[out]`, likewise.
    pub bias: Option<Param>,
    /// How the kernel moves over the result.
    pub config: ConvConfig<2>,
    /// Rows and columns added at the end of the result.
    pub output_padding: [usize; 2],
}

impl ConvTranspose2d {
    /// A transposed convolution from `inputs` to `outputs` channels with stride 1 and without padding.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, kernel: [usize; 2]) -> Self {
        Self::with(inputs, outputs, kernel, ConvConfig::default())
    }

    /// A transposed convolution from `inputs` to `outputs` channels.
    ///
    /// # Panics
    /// When the groups do not divide both numbers of channels.
    #[track_caller]
    pub fn with(inputs: usize, outputs: usize, kernel: [usize; 2], config: ConvConfig<2>) -> Self {
        let groups = config.groups;
        assert!(
            groups > 0 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups),
            "ConvTranspose2d: {groups} groups do not divide {inputs} input and {outputs} output channels"
        );
        let (weight, bias) = parameters(&[inputs, outputs / groups, kernel[0], kernel[1]], outputs);
        Self { weight, bias, config, output_padding: [0, 0] }
    }

    /// The same with a larger result.
    #[must_use]
    pub fn with_output_padding(self, output_padding: [usize; 2]) -> Self {
        Self { output_padding, ..self }
    }

    /// The same without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Layer for ConvTranspose2d {
    /// # Shapes
    /// `[N, in, H, W]` -> `[N, out, OH, OW]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        x.conv_transpose2d(&self.weight, self.bias.as_deref(), self.config, self.output_padding)
    }
}
