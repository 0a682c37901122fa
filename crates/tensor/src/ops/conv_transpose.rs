//! The transposed convolution of images.

use cupola_core::{DType, Shape};
use cupola_cpu::conv::{self, Conv};

use super::conv::{ConvConfig, bias_gradient};
use crate::compute::{accumulated, compute_dtype, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::product_dtype;
use crate::tensor::Tensor;

/// The transpose of the linear map that [`Conv2d`](super::conv::Conv2d) is, also called deconvolution (Zeiler et al.,
/// "Deconvolutional networks", 2010): each input element is laid down times the kernel, and overlaps add up.
///
/// `y[n, o, i s + a d - p, j s + b d - p] += w[c, o', a, b] x[n, c, i, j]`
pub struct ConvTranspose2d {
    /// How the kernel moves over the result.
    pub config: ConvConfig<2>,
    /// Rows and columns added at the end of the result, below the stride or the dilation: several sizes of a convolution's
    /// input give the same output, and this chooses among them.
    pub output_padding: [usize; 2],
    /// The dtype that x and w are rounded to and that y has; sums are kept in f32, of f64 in f64.
    pub dtype: DType,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[ConvTranspose2d::INFO];

impl ConvTranspose2d {
    /// The convolution that this is the transpose of: from the result to the input.
    #[track_caller]
    fn sizes(&self, x: &Shape, weight: &Shape, bias: Option<&Shape>) -> Conv {
        let op = Self::NAME;
        let ConvConfig { stride, padding, dilation, groups } = self.config;
        assert!(
            x.rank() == 4 && weight.rank() == 4,
            "{op}: input {x} and weight {weight}, expected [N, C, H, W] and [Cin, Cout / groups, KH, KW]"
        );
        assert!(
            groups > 0 && x[1] == weight[0] && x[1].is_multiple_of(groups),
            "{op}: input {x} and weight {weight} do not fit with {groups} groups"
        );
        let channels = weight[1] * groups;
        assert!(
            bias.is_none_or(|b| b.dims() == [channels]),
            "{op}: bias {bias:?} does not fit weight {weight} and {groups} groups, expected [{channels}]"
        );
        let mut output = [0; 2];
        for axis in 0..2 {
            let (s, d, extra) = (stride[axis], dilation[axis], self.output_padding[axis]);
            assert!(s > 0 && d > 0, "{op}: stride {stride:?} and dilation {dilation:?} start at 1");
            assert!(
                extra < s.max(d),
                "{op}: output padding {:?} is not below stride {stride:?} or dilation {dilation:?}",
                self.output_padding
            );
            assert!(x[2 + axis] > 0 && weight[2 + axis] > 0, "{op}: input {x} or weight {weight} is empty");
            let reach = (x[2 + axis] - 1) * s + d * (weight[2 + axis] - 1) + 1 + extra;
            match reach.checked_sub(2 * padding[axis]) {
                Some(size) if size > 0 => output[axis] = size,
                _ => panic!("{op}: padding {padding:?} leaves nothing of input {x} and weight {weight}"),
            }
        }
        Conv {
            batch: x[0],
            groups,
            in_channels: channels,
            out_channels: x[1],
            input: output,
            output: [x[2], x[3]],
            kernel: [weight[2], weight[3]],
            stride,
            padding,
            dilation,
        }
    }
}

impl Op for ConvTranspose2d {
    const NAME: &'static str = "conv_transpose2d";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (x, weight) = (inputs[0].to_dtype(self.dtype), inputs[1].to_dtype(self.dtype));
        let sizes = self.sizes(x.shape(), weight.shape(), inputs.get(2).map(|b| b.shape()));
        let dtype = compute_dtype(Self::NAME, &x);
        saved.keep([&x, &weight]);
        let (x, weight) = (prepare(&x, dtype), prepare(&weight, dtype));
        let bias = inputs.get(2).map(|b| prepare(b, dtype));
        let shape = Shape::new(&[sizes.batch, sizes.in_channels, sizes.input[0], sizes.input[1]]);
        let y = with_real!(dtype, T => Tensor::build::<T>(shape, |y| {
            conv::input_gradient(&sizes, x.slice_of::<T>(), weight.slice_of(), bias.as_ref().map(Tensor::slice_of), y);
        }));
        y.to_dtype(self.dtype).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x, weight] = cx.saved();
        let sizes = self.sizes(x.shape(), weight.shape(), None);
        let dtype = compute_dtype(Self::NAME, x);
        let (dy, x, weight) = (prepare(&cx.take_dy(), dtype), prepare(x, dtype), prepare(weight, dtype));
        with_real!(dtype, T => {
            let dy_values = dy.slice_of::<T>();
            let dx = cx.needs(0).then(|| {
                let meta = cx.input(0);
                let fill = |dx: &mut [T]| conv::forward(&sizes, dy_values, weight.slice_of(), None, dx);
                Tensor::build::<T>(meta.shape, fill).to_dtype(meta.dtype)
            });
            let dweight = cx.needs(1).then(|| {
                accumulated::<T>(cx, 1, |dw, add| conv::weight_gradient(&sizes, dy_values, x.slice_of(), add, dw))
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
    /// The transposed convolution of images; see [`ConvTranspose2d`]. Sums are kept in f32 (f64 for f64); under autocast the
    /// factors are rounded to its dtype first, and the result has it.
    ///
    /// # Shapes
    /// `[N, Cin, H, W]`, weight `[Cin, Cout / groups, KH, KW]`, bias `[Cout]` -> `[N, Cout, OH, OW]`,
    /// `OH = (H - 1) stride - 2 padding + dilation (KH - 1) + 1 + output_padding`.
    ///
    /// # Panics
    /// When the shapes do not fit, the output padding is neither below stride nor dilation, or a dtype is not floating-point.
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        config: ConvConfig<2>,
        output_padding: [usize; 2],
    ) -> Tensor {
        let inputs: Vec<&Tensor> = [Some(self), Some(weight), bias].into_iter().flatten().collect();
        let dtype = product_dtype(self.dtype(), weight.dtype());
        ConvTranspose2d { config, output_padding, dtype }.apply(&inputs)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let plain = ConvConfig::<2>::default();
    let up = ConvConfig { stride: [2, 2], padding: [1, 1], ..plain };
    let odd = ConvConfig { stride: [3, 1], padding: [0, 2], dilation: [1, 2], groups: 1 };
    type Sizes = ([usize; 4], [usize; 4]);
    let all: [(&str, Sizes, ConvConfig<2>, [usize; 2]); 7] = [
        ("3x3", ([2, 3, 4, 3], [3, 4, 3, 3]), plain, [0, 0]),
        ("stride 2", ([2, 2, 4, 5], [2, 3, 3, 3]), up, [1, 0]),
        ("kernel below stride", ([1, 2, 3, 3], [2, 2, 1, 2]), ConvConfig { stride: [3, 3], ..plain }, [2, 0]),
        ("uneven", ([1, 2, 3, 5], [2, 2, 2, 3]), odd, [1, 1]),
        ("grouped", ([2, 4, 3, 3], [4, 3, 2, 2]), ConvConfig { groups: 2, ..up }, [0, 1]),
        ("wide", ([1, 1, 1, 33], [1, 33, 1, 3]), ConvConfig { stride: [1, 2], ..plain }, [0, 0]),
        ("no images", ([0, 2, 3, 3], [2, 2, 2, 2]), plain, [0, 0]),
    ];
    let mut cases = Vec::new();
    for (name, (x, w), config, extra) in all {
        let reference = move |x: &Array, w: &Array, bias: &[f64]| {
            let size = |axis: usize| {
                (x.shape[2 + axis] - 1) * config.stride[axis]
                    + config.dilation[axis] * (w.shape[2 + axis] - 1)
                    + 1
                    + extra[axis]
                    - 2 * config.padding[axis]
            };
            let (inside, outside) = (x.shape[1] / config.groups, w.shape[1]);
            let mut y = Array::from_fn(&[x.shape[0], outside * config.groups, size(0), size(1)], |i| bias[i[1]]);
            let shape = y.shape.clone();
            Array::from_fn(&[x.shape[0], x.shape[1], x.shape[2], x.shape[3], outside, w.shape[2], w.shape[3]], |i| {
                let row = (i[2] * config.stride[0] + i[5] * config.dilation[0]).checked_sub(config.padding[0]);
                let column = (i[3] * config.stride[1] + i[6] * config.dilation[1]).checked_sub(config.padding[1]);
                if let (Some(row), Some(column)) = (row, column)
                    && row < shape[2]
                    && column < shape[3]
                {
                    let channel = i[1] / inside * outside + i[4];
                    let at = ((i[0] * shape[1] + channel) * shape[2] + row) * shape[3] + column;
                    y.data[at] += x.at(&i[..4]) * w.at(&[i[1], i[4], i[5], i[6]]);
                }
                0.0
            });
            y
        };
        let channels = w[1] * config.groups;
        let inputs = [uniform(x, 1), uniform(w, 2), uniform([channels], 3)];
        let run = move |x: &[Tensor]| vec![x[0].conv_transpose2d(&x[1], Some(&x[2]), config, extra)];
        cases.push(Case::new(name, inputs, run).reference(move |x| vec![reference(&x[0], &x[1], &x[2].data)]));
        if name == "stride 2" {
            let run = move |x: &[Tensor]| vec![x[0].conv_transpose2d(&x[1], None, config, extra)];
            let case = Case::new("no bias", [uniform(x, 1), uniform(w, 2)], run);
            cases.push(case.reference(move |x| vec![reference(&x[0], &x[1], &vec![0.0; channels])]));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "conv_transpose2d: output padding [2, 0] is not below stride [2, 2] or dilation [1, 1]")]
    fn an_output_padding_beyond_the_stride_is_refused() {
        let config = ConvConfig { stride: [2, 2], ..ConvConfig::default() };
        let _ = Tensor::zeros([1, 1, 2, 2]).conv_transpose2d(&Tensor::zeros([1, 1, 2, 2]), None, config, [2, 0]);
    }
}
