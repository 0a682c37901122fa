//! Convolutions of sequences and images.

use cupola_core::{DType, Shape};
use cupola_cpu::conv::{self, Conv};
use cupola_cpu::image_norm::{Images, channel_sums};

use crate::compute::{accumulated, compute_dtype, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::product_dtype;
use crate::tensor::Tensor;

/// How the kernel of a convolution over `D` dimensions moves.
///
/// ```
/// use cupola_tensor::ops::ConvConfig;
/// let same = ConvConfig { padding: [1, 1], ..ConvConfig::default() };
/// assert_eq!((same.stride, same.dilation, same.groups), ([1, 1], [1, 1], 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvConfig<const D: usize> {
    /// From one position of the kernel to the next.
    pub stride: [usize; D],
    /// Zeros added at both ends of each dimension.
    pub padding: [usize; D],
    /// From one tap of the kernel to the next.
    pub dilation: [usize; D],
    /// Groups that channels are divided into; each output channel sees the input channels of its group alone.
    pub groups: usize,
}

impl<const D: usize> Default for ConvConfig<D> {
    fn default() -> Self {
        Self { stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1 }
    }
}

impl From<ConvConfig<1>> for ConvConfig<2> {
    /// Over an image of height 1.
    fn from(config: ConvConfig<1>) -> Self {
        Self {
            stride: [1, config.stride[0]],
            padding: [0, config.padding[0]],
            dilation: [1, config.dilation[0]],
            groups: config.groups,
        }
    }
}

/// The convolution (as in PyTorch a cross-correlation):
///
/// `y[n, o, i, j] = bias[o] + sum over c, a, b of w[o, c, a, b] x[n, c', i s + a d - p, j s + b d - p]`
///
/// with stride s, dilation d, padding p, and c' channel c of o's group; x outside of the image is zero.
pub struct Conv2d {
    /// How the kernel moves.
    pub config: ConvConfig<2>,
    /// The dtype that x and w are rounded to and that y has; sums are kept in f32, of f64 in f64.
    pub dtype: DType,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Conv2d::INFO];

/// Sizes of a convolution of `x` by `weight`, checked.
#[track_caller]
fn sizes(op: &str, config: &ConvConfig<2>, x: &Shape, weight: &Shape, bias: Option<&Shape>) -> Conv {
    let ConvConfig { stride, padding, dilation, groups } = *config;
    assert!(
        x.rank() == 4 && weight.rank() == 4,
        "{op}: input {x} and weight {weight}, expected [N, C, H, W] and [Cout, Cin / groups, KH, KW]"
    );
    assert!(
        groups > 0 && weight[0].is_multiple_of(groups) && x[1] == weight[1] * groups,
        "{op}: input {x} and weight {weight} do not fit with {groups} groups"
    );
    assert!(
        bias.is_none_or(|b| b.dims() == [weight[0]]),
        "{op}: bias {bias:?} does not fit weight {weight}, expected [{}]",
        weight[0]
    );
    assert!(
        stride.iter().chain(&dilation).all(|&s| s > 0),
        "{op}: stride {stride:?} and dilation {dilation:?} start at 1"
    );
    let mut output = [0; 2];
    for axis in 0..2 {
        let size = Conv::output_size(x[2 + axis], weight[2 + axis], stride[axis], padding[axis], dilation[axis]);
        match size {
            Some(size) => output[axis] = size,
            None => panic!("{op}: kernel of weight {weight} with {config:?} does not fit input {x}"),
        }
    }
    Conv {
        batch: x[0],
        groups,
        in_channels: x[1],
        out_channels: weight[0],
        input: [x[2], x[3]],
        output,
        kernel: [weight[2], weight[3]],
        stride,
        padding,
        dilation,
    }
}

/// The gradient of a bias: dy, `[N, C, H, W]`, summed over each channel, in f32 or f64.
pub(super) fn bias_gradient(dy: &Tensor) -> Tensor {
    let shape = dy.shape();
    let images = Images { batch: shape[0], channels: shape[1], inner: shape[2] * shape[3] };
    with_real!(dy.dtype(), T => {
        Tensor::build::<T>([shape[1]], |sums| channel_sums(&images, dy.slice_of::<T>(), sums))
    })
}

impl Op for Conv2d {
    const NAME: &'static str = "conv2d";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, weight) = (inputs[0].to_dtype(self.dtype), inputs[1].to_dtype(self.dtype));
        let sizes = sizes(Self::NAME, &self.config, x.shape(), weight.shape(), inputs.get(2).map(|b| b.shape()));
        let dtype = compute_dtype(Self::NAME, &x);
        saved.keep([&x, &weight]);
        let (x, weight) = (prepare(&x, dtype), prepare(&weight, dtype));
        let bias = inputs.get(2).map(|b| prepare(b, dtype));
        let shape = Shape::new(&[sizes.batch, sizes.out_channels, sizes.output[0], sizes.output[1]]);
        let y = with_real!(dtype, T => Tensor::build::<T>(shape, |y| {
            conv::forward(&sizes, x.slice_of::<T>(), weight.slice_of(), bias.as_ref().map(Tensor::slice_of), y);
        }));
        y.to_dtype(self.dtype).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x, weight] = cx.saved();
        let sizes = sizes(Self::NAME, &self.config, x.shape(), weight.shape(), None);
        let dtype = compute_dtype(Self::NAME, x);
        let (dy, x, weight) = (prepare(&cx.take_dy(), dtype), prepare(x, dtype), prepare(weight, dtype));
        with_real!(dtype, T => {
            let dy_values = dy.slice_of::<T>();
            let dx = cx.needs(0).then(|| {
                let meta = cx.input(0);
                let fill = |dx: &mut [T]| conv::input_gradient(&sizes, dy_values, weight.slice_of(), None, dx);
                Tensor::build::<T>(meta.shape, fill).to_dtype(meta.dtype)
            });
            let dweight = cx.needs(1).then(|| {
                accumulated::<T>(cx, 1, |dw, add| conv::weight_gradient(&sizes, x.slice_of(), dy_values, add, dw))
            });
            let mut grads = vec![dx, dweight];
            if cx.inputs() == 3 {
                grads.push(cx.needs(2).then(|| bias_gradient(&dy).to_dtype(cx.input(2).dtype)));
            }
            grads.into()
        })
    }
}

impl Tensor {
    /// The convolution of images; see [`Conv2d`]. Sums are kept in f32 (f64 for f64); under autocast the factors are rounded to
    /// its dtype first, and the result has it.
    ///
    /// ```
    /// use cupola_tensor::{Tensor, ops::ConvConfig};
    /// let x = Tensor::arange(0.0, 9.0, 1.0).reshape([1, 1, 3, 3]);
    /// let y = x.conv2d(&Tensor::ones([1, 1, 2, 2]), None, ConvConfig::default());
    /// assert_eq!(y.to_vec::<f32>(), [8.0, 12.0, 20.0, 24.0]);
    /// ```
    ///
    /// # Shapes
    /// `[N, Cin, H, W]`, weight `[Cout, Cin / groups, KH, KW]`, bias `[Cout]` -> `[N, Cout, OH, OW]`,
    /// `OH = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1`.
    ///
    /// # Panics
    /// When the shapes do not fit or a dtype is not floating-point.
    #[track_caller]
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, config: ConvConfig<2>) -> Tensor {
        let inputs: Vec<&Tensor> = [Some(self), Some(weight), bias].into_iter().flatten().collect();
        Conv2d { config, dtype: product_dtype(self.dtype(), weight.dtype()) }.apply(&inputs)
    }

    /// The convolution of sequences; see [`Conv2d`], of which it is the case of height 1.
    ///
    /// # Shapes
    /// `[N, Cin, L]`, weight `[Cout, Cin / groups, K]`, bias `[Cout]` -> `[N, Cout, OL]`.
    ///
    /// # Panics
    /// As [`Tensor::conv2d`].
    #[track_caller]
    pub fn conv1d(&self, weight: &Tensor, bias: Option<&Tensor>, config: ConvConfig<1>) -> Tensor {
        assert!(
            self.rank() == 3 && weight.rank() == 3,
            "conv1d: input {} and weight {}, expected [N, C, L] and [Cout, Cin / groups, K]",
            self.shape(),
            weight.shape()
        );
        self.unsqueeze(2).conv2d(&weight.unsqueeze(2), bias, config.into()).squeeze(2)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let plain = ConvConfig::<2>::default();
    let same = ConvConfig { padding: [1, 1], ..plain };
    let strided = ConvConfig { stride: [2, 2], padding: [1, 1], ..plain };
    let odd = ConvConfig { stride: [2, 3], padding: [2, 1], dilation: [1, 2], groups: 1 };
    let grouped = ConvConfig { padding: [1, 0], groups: 2, ..plain };
    let depthwise = ConvConfig { padding: [1, 1], groups: 4, ..plain };
    type Sizes = ([usize; 4], [usize; 4]);
    let all: [(&str, Sizes, ConvConfig<2>); 12] = [
        ("3x3", ([2, 3, 5, 4], [4, 3, 3, 3]), plain),
        ("same", ([2, 2, 4, 5], [3, 2, 3, 3]), same),
        ("stride 2", ([2, 2, 7, 6], [3, 2, 3, 3]), strided),
        ("1x1, stride 2", ([2, 3, 5, 5], [4, 3, 1, 1]), ConvConfig { stride: [2, 2], ..plain }),
        ("uneven", ([1, 2, 6, 9], [3, 2, 3, 2]), odd),
        ("grouped", ([2, 4, 4, 4], [6, 2, 3, 2]), grouped),
        ("depthwise", ([1, 4, 5, 5], [4, 1, 3, 3]), depthwise),
        ("many rows", ([1, 2, 3, 3], [33, 2, 2, 2]), plain),
        ("wide", ([1, 1, 2, 65], [2, 1, 1, 5]), ConvConfig { padding: [0, 2], ..plain }),
        (
            "few channels",
            ([2, 4, 7, 21], [6, 2, 3, 4]),
            ConvConfig { stride: [2, 1], padding: [1, 3], dilation: [2, 1], groups: 2 },
        ),
        (
            "few channels, dilated",
            ([1, 1, 3, 40], [17, 1, 2, 3]),
            ConvConfig { padding: [1, 2], dilation: [1, 2], ..plain },
        ),
        ("no images", ([0, 2, 3, 3], [2, 2, 2, 2]), plain),
    ];
    let mut cases = Vec::new();
    for (name, (x, w), config) in all {
        let inputs = [uniform(x, 1), uniform(w, 2), uniform([w[0]], 3)];
        let run = move |x: &[Tensor]| vec![x[0].conv2d(&x[1], Some(&x[2]), config)];
        cases.push(Case::new(name, inputs, run).reference(move |x| vec![reference(&x[0], &x[1], Some(&x[2]), config)]));
    }
    let inputs = [uniform([2, 3, 5, 5], 1), uniform([2, 3, 2, 2], 2)];
    let no_bias = Case::new("no bias", inputs, move |x| vec![x[0].conv2d(&x[1], None, plain)]);
    cases.push(no_bias.reference(move |x| vec![reference(&x[0], &x[1], None, plain)]));
    let line = ConvConfig { stride: [2], padding: [3], dilation: [2], groups: 1 };
    let inputs = [uniform([2, 3, 17], 1), uniform([4, 3, 3], 2), uniform([4], 3)];
    let one = Case::new("one dimension", inputs, move |x| vec![x[0].conv1d(&x[1], Some(&x[2]), line)]);
    cases.push(one.reference(move |x| {
        let image = |a: &Array| Array::new(&[a.shape[0], a.shape[1], 1, a.shape[2]], a.data.clone());
        let y = reference(&image(&x[0]), &image(&x[1]), Some(&x[2]), line.into());
        vec![Array::new(&[2, 4, y.shape[3]], y.data)]
    }));
    cases
}

#[cfg(test)]
fn reference(
    x: &crate::testing::Array,
    w: &crate::testing::Array,
    bias: Option<&crate::testing::Array>,
    config: ConvConfig<2>,
) -> crate::testing::Array {
    let size = |axis: usize| {
        let last = (0..).find(|i| {
            i * config.stride[axis] + config.dilation[axis] * (w.shape[2 + axis] - 1)
                >= x.shape[2 + axis] + 2 * config.padding[axis]
        });
        last.expect("strides lead past the end")
    };
    let channels = w.shape[1];
    crate::testing::Array::from_fn(&[x.shape[0], w.shape[0], size(0), size(1)], |i| {
        let mut sum = bias.map_or(0.0, |b| b.data[i[1]]);
        let first = i[1] / (w.shape[0] / config.groups) * channels;
        for c in 0..channels {
            for a in 0..w.shape[2] {
                for b in 0..w.shape[3] {
                    let row = (i[2] * config.stride[0] + a * config.dilation[0]).checked_sub(config.padding[0]);
                    let column = (i[3] * config.stride[1] + b * config.dilation[1]).checked_sub(config.padding[1]);
                    if let (Some(row), Some(column)) = (row, column)
                        && row < x.shape[2]
                        && column < x.shape[3]
                    {
                        sum += w.at(&[i[1], c, a, b]) * x.at(&[i[0], first + c, row, column]);
                    }
                }
            }
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use cupola_core::Rng;
    use cupola_core::pool::with_threads;

    use super::*;
    use crate::Gradients;

    /// Results and gradients of a convolution that is large enough to be cut into several tasks, blocks and chunks.
    fn step(threads: usize, config: ConvConfig<2>, x: [usize; 4], w: [usize; 4]) -> Vec<Tensor> {
        with_threads(threads, || {
            let x = Tensor::randn(x, Rng::seed(1)).requires_grad();
            let w = Tensor::randn(w, Rng::seed(2)).requires_grad();
            let y = x.conv2d(&w, None, config);
            let weights = Tensor::randn(*y.shape(), Rng::seed(3));
            let grads = (&y * &weights).sum([]).backward();
            vec![y.detach(), grads[&x].clone(), grads[&w].clone()]
        })
    }

    #[test]
    fn the_number_of_threads_leaves_every_bit() {
        let same = ConvConfig { padding: [1, 1], ..ConvConfig::default() };
        let sizes = [
            (same, [4, 40, 12, 12], [70, 40, 3, 3]),
            (ConvConfig { stride: [2, 2], ..same }, [9, 8, 33, 31], [16, 8, 3, 3]),
            (same, [16, 1, 28, 28], [6, 1, 5, 5]),
        ];
        for (config, x, w) in sizes {
            let one = step(1, config, x, w);
            for threads in [2, 4, 7] {
                let many = step(threads, config, x, w);
                assert!(one.iter().zip(&many).all(|(a, b)| a.same_bits(b)), "{threads} threads, input {x:?}");
            }
        }
    }

    #[test]
    fn large_sizes_agree_with_f64() {
        let config = ConvConfig { padding: [1, 1], ..ConvConfig::default() };
        let run = |dtype: DType| {
            let x = Tensor::randn([3, 40, 17, 19], Rng::seed(1)).to_dtype(dtype).requires_grad();
            let w = Tensor::randn([70, 40, 3, 3], Rng::seed(2)).to_dtype(dtype).requires_grad();
            let y = x.conv2d(&w, None, config);
            let grads = (&y * &Tensor::randn(*y.shape(), Rng::seed(3)).to_dtype(dtype)).sum([]).backward();
            [y.detach(), grads[&x].clone(), grads[&w].clone()]
        };
        for (single, double) in run(DType::F32).iter().zip(&run(DType::F64)) {
            assert!(single.to_f64().relative_error(double) < 1e-5);
        }
    }

    #[test]
    fn micro_batches_accumulate_to_the_same_bits_as_one_batch() {
        for (x, w) in [([8, 40, 12, 12], [30, 40, 3, 3]), ([12, 1, 20, 20], [6, 1, 5, 5])] {
            let images = Tensor::randn(x, Rng::seed(1));
            let w = Tensor::randn(w, Rng::seed(2)).requires_grad();
            // The first weight is summed in one chain, the second in chunks of four images.
            let size = 4;
            let loss = |images: &Tensor| images.conv2d(&w, None, ConvConfig::default()).sum([]);
            let whole = loss(&images).backward();
            let mut parts = Gradients::new();
            for start in (0..x[0]).step_by(size) {
                loss(&images.narrow(0, start, size)).backward_into(&mut parts);
            }
            assert!(whole[&w].same_bits(&parts[&w]), "{x:?}");
        }
    }

    #[test]
    #[should_panic(expected = "conv2d: input [1, 3, 4, 4] and weight [2, 2, 3, 3] do not fit with 1 groups")]
    fn channels_that_do_not_fit_are_named() {
        let _ = Tensor::zeros([1, 3, 4, 4]).conv2d(&Tensor::zeros([2, 2, 3, 3]), None, ConvConfig::default());
    }
}
