//! Convolutions of sequences and images.

use cupola_tensor::Tensor;
use cupola_tensor::ops::ConvConfig;

use crate::init::Init;
use crate::{Layer, Module, Param};

/// Weight and bias of a convolution, uniform within `1 / sqrt(fan_in)` at first, where the fan is the second dimension times the
/// kernel's size.
#[track_caller]
pub(super) fn parameters(shape: &[usize], outputs: usize) -> (Param, Option<Param>) {
    let fan = shape[1..].iter().product::<usize>().max(1);
    let init = Init::uniform_within(1.0 / (fan as f64).sqrt());
    (Param::new(shape, init.clone()), Some(Param::new([outputs], init)))
}

macro_rules! convolution {
    ($(#[$meta:meta])* $name:ident, $dims:literal, $method:ident, $shapes:literal) => {
        $(#[$meta])*
        #[derive(Module, Clone, Debug)]
        pub struct $name {
            /// `[out, in / groups, kernel..]`, uniform within `1 / sqrt(fan_in)` at first.
            pub weight: Param,
            /// `[out]`, likewise.
            pub bias: Option<Param>,
            /// How the kernel moves.
            pub config: ConvConfig<$dims>,
        }

        impl $name {
            /// A convolution from `inputs` to `outputs` channels with stride 1 and without padding.
            #[track_caller]
            pub fn new(inputs: usize, outputs: usize, kernel: [usize; $dims]) -> Self {
                Self::with(inputs, outputs, kernel, ConvConfig::default())
            }

            /// A convolution from `inputs` to `outputs` channels.
            ///
            /// # Panics
            /// When the groups do not divide both numbers of channels.
            #[track_caller]
            pub fn with(inputs: usize, outputs: usize, kernel: [usize; $dims], config: ConvConfig<$dims>) -> Self {
                let groups = config.groups;
                assert!(
                    groups > 0 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups),
                    concat!(stringify!($name), ": {} groups do not divide {} input and {} output channels"),
                    groups, inputs, outputs
                );
                let shape: Vec<usize> = [outputs, inputs / groups].into_iter().chain(kernel).collect();
                let (weight, bias) = parameters(&shape, outputs);
                Self { weight, bias, config }
            }

            /// The same convolution without a bias.
            #[must_use]
            pub fn without_bias(self) -> Self {
                Self { bias: None, ..self }
            }
        }

        impl Layer for $name {
            /// # Shapes
            #[doc = $shapes]
            fn forward(&self, x: &Tensor) -> Tensor {
                x.$method(&self.weight, self.bias.as_deref(), self.config)
            }
        }
    };
}

convolution! {
    /// The convolution of sequences, `torch.nn.Conv1d`; the formula stands at
    /// [`Conv2d`](cupola_tensor::ops::conv::Conv2d).
    ///
    /// ```
    /// use cupola_nn::{Layer, Module, layers::Conv1d};
    /// use cupola_tensor::Tensor;
    /// let layer = Conv1d::new(3, 8, [5]).init(0);
    /// assert_eq!(layer.forward(&Tensor::ones([2, 3, 20])).shape().dims(), [2, 8, 16]);
    /// ```
    Conv1d, 1, conv1d, "`[N, in, L]` -> `[N, out, OL]`."
}

convolution! {
    /// The convolution of images, `torch.nn.Conv2d`; the formula stands at
    /// [`Conv2d`](cupola_tensor::ops::conv::Conv2d).
    ///
    /// ```
    /// use cupola_nn::{Layer, Module, layers::Conv2d};
    /// use cupola_tensor::{Tensor, ops::ConvConfig};
    /// let layer = Conv2d::with(3, 8, [3, 3], ConvConfig { padding: [1, 1], stride: [2, 2], ..ConvConfig::default() }).init(0);
    /// assert_eq!(layer.forward(&Tensor::ones([2, 3, 8, 8])).shape().dims(), [2, 8, 4, 4]);
    /// ```
    Conv2d, 2, conv2d, "`[N, in, H, W]` -> `[N, out, OH, OW]`."
}
