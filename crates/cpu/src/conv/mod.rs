//! Convolutions of images, as matrix products whose one operand is gathered while it is packed.
//!
//! A product needs its right operand in panels of columns (see [`gemm`](crate::gemm)). Here the columns are output positions
//! and the depth is channels times taps of the kernel, so a panel is filled straight from the image, row by row, with zeros
//! where the window lies outside; the matrix of all windows never exists. The same loop serves
//!
//! * the convolution: columns are positions of the output, taps reach into the input;
//! * its gradient with respect to the input, which is also the transposed convolution: columns are positions of the input, in
//!   one pass for each phase of the stride, so that no product with a zero between strides is computed.
//!
//! The gradient with respect to the weight is a product over all positions of all images: its depth is cut into blocks of
//! positions, its columns are (channel, tap) pairs.
//!
//! | module | what it holds |
//! |---|---|
//! | `rows` | runs of neighbouring positions, and copying them with zeros at the borders |
//! | `gather` | products over gathered columns |
//! | `direct` | convolutions of few channels, straight from the image |
//! | `weight` | the gradient of the weight |
//! | [`causal`] | the causal convolution of sequences, one kernel for each channel |

pub mod causal;
#[cfg(target_arch = "x86_64")]
mod direct;
mod gather;
pub(crate) mod rows;
mod weight;

pub use rows::Convolve;
pub use weight::weight_gradient;

use gather::{Gather, Planes, RowPanels};

/// A convolution from `[N, Cin, H, W]` to `[N, Cout, OH, OW]` with weight `[Cout, Cin / groups, KH, KW]`:
///
/// `y[n, o, i, j] = sum over c, a, b of w[o, c, a, b] x[n, c', i stride + a dilation - padding, j stride + b dilation - padding]`
///
/// where c' is channel c of o's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Number of images, N.
    pub batch: usize,
    /// Groups that channels are divided into on both sides.
    pub groups: usize,
    /// Channels of the input, Cin.
    pub in_channels: usize,
    /// Channels of the output, Cout.
    pub out_channels: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: [usize; 2],
    /// From one tap to the next.
    pub dilation: [usize; 2],
}

impl Conv {
    /// The output size along one dimension, `None` when the kernel does not fit once.
    pub fn output_size(size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Option<usize> {
        let reach = dilation * (kernel.checked_sub(1)?) + 1;
        Some((size + 2 * padding).checked_sub(reach)? / stride + 1)
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.input_plane()
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels * self.output_plane()
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.depth()
    }

    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Input channels of a group.
    fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of a group.
    fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Products in one element of the output.
    fn depth(&self) -> usize {
        self.group_in() * self.taps()
    }

    /// Where each tap reads, relative to stride times output position.
    fn offsets(&self) -> Vec<[isize; 2]> {
        let at = |axis: usize, k: usize| (k * self.dilation[axis]) as isize - self.padding[axis] as isize;
        let across = |a: usize| (0..self.kernel[1]).map(move |b| [at(0, a), at(1, b)]);
        (0..self.kernel[0]).flat_map(across).collect()
    }

    /// The convolution from output to input whose kernel is this one's, flipped, with the two channels exchanged: it gives the
    /// gradient of the input. There is one without padding in between where the stride is one.
    #[cfg(target_arch = "x86_64")]
    fn turned(&self) -> Option<Self> {
        let padding = |axis: usize| (self.dilation[axis] * (self.kernel[axis] - 1)).checked_sub(self.padding[axis]);
        let padding = [padding(0)?, padding(1)?];
        (self.stride == [1, 1]).then_some(Self {
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            input: self.output,
            output: self.input,
            padding,
            ..*self
        })
    }

    #[track_caller]
    fn check(&self, x: usize, w: usize, y: usize) {
        assert!(
            self.groups > 0
                && self.in_channels.is_multiple_of(self.groups)
                && self.out_channels.is_multiple_of(self.groups)
                && self.stride.iter().all(|&s| s > 0),
            "{self:?} is no convolution"
        );
        assert_eq!(
            (x, w, y),
            (self.input_len(), self.weight_len(), self.output_len()),
            "sizes of input, weight and output of {self:?}"
        );
    }
}

/// `y = conv(x, w) + bias`. Each element is one chain over (channel, tap) in rising order.
///
/// # Panics
/// When a slice has another length than the sizes say.
#[track_caller]
pub fn forward<T: Convolve>(conv: &Conv, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check(x.len(), w.len(), y.len());
    if y.is_empty() {
        return;
    }
    let (rows, depth, taps) = (conv.group_out(), conv.depth(), conv.offsets());
    #[cfg(target_arch = "x86_64")]
    if let (Some(x), Some(w), Some(y)) = (direct::single(x), direct::single(w), direct::single_mut(y))
        && direct::serves_forward(crate::isa(), conv)
    {
        let panels = RowPanels::of_rows(conv.groups, rows, depth, w);
        // SAFETY: the tier was asked; sizes were checked.
        return unsafe { direct::forward(crate::isa(), conv, x, &panels, bias.and_then(direct::single), y) };
    }
    let panels = RowPanels::of_rows(conv.groups, rows, depth, w);
    let gather = Gather {
        batch: conv.batch,
        groups: conv.groups,
        source: Planes { channels: conv.in_channels, size: conv.input },
        channels: conv.group_in(),
        taps: &taps,
        step: conv.stride,
        grid: conv.output,
        target: Planes { channels: conv.out_channels, size: conv.output },
        rows,
        target_start: [0, 0],
        target_step: [1, 1],
    };
    gather.run(x, &panels, bias, y);
}

/// The gradient of the input, `[N, Cin, H, W]`, from that of the output; or, seen from the other side, the transposed
/// convolution of `dy`, plus `bias` (`[Cin]`). Each element is one chain over (output channel, tap), channels in rising order.
///
/// # Panics
/// When a slice has another length than the sizes say.
#[track_caller]
pub fn input_gradient<T: Convolve>(conv: &Conv, dy: &[T], w: &[T], bias: Option<&[T]>, dx: &mut [T]) {
    conv.check(dx.len(), w.len(), dy.len());
    if dx.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let (Some(dy), Some(w), Some(dx)) = (direct::single(dy), direct::single(w), direct::single_mut(dx))
        && let Some(back) = conv.turned()
        && direct::serves_few_rows(crate::isa(), &back)
    {
        let flipped: Vec<usize> = (0..conv.taps()).rev().collect();
        let panels = RowPanels::of_columns(conv, &flipped, w);
        // SAFETY: the tier was asked; sizes were checked.
        return unsafe { direct::forward(crate::isa(), &back, dy, &panels, bias.and_then(direct::single), dx) };
    }
    for down in 0..conv.stride[0].min(conv.input[0]) {
        for across in 0..conv.stride[1].min(conv.input[1]) {
            phase(conv, [down, across], dy, w, bias, dx);
        }
    }
}

/// The taps of a dimension that reach input positions `start + stride * i` from output positions `offset + i`, as pairs (tap,
/// offset).
fn phase_taps(conv: &Conv, axis: usize, start: usize) -> Vec<(usize, isize)> {
    let stride = conv.stride[axis] as isize;
    let ahead = |tap: usize| (start + conv.padding[axis]) as isize - (tap * conv.dilation[axis]) as isize;
    (0..conv.kernel[axis]).filter(|&tap| ahead(tap) % stride == 0).map(|tap| (tap, ahead(tap) / stride)).collect()
}

/// The input positions that are `start` modulo the stride.
fn phase<T: Convolve>(conv: &Conv, start: [usize; 2], dy: &[T], w: &[T], bias: Option<&[T]>, dx: &mut [T]) {
    let [down, across] = [0, 1].map(|axis| phase_taps(conv, axis, start[axis]));
    let pairs = down.iter().flat_map(|d| across.iter().map(move |a| (*d, *a)));
    let (chosen, taps): (Vec<usize>, Vec<[isize; 2]>) =
        pairs.map(|((a, down), (b, across))| (a * conv.kernel[1] + b, [down, across])).unzip();
    let panels = RowPanels::of_columns(conv, &chosen, w);
    let gather = Gather {
        batch: conv.batch,
        groups: conv.groups,
        source: Planes { channels: conv.out_channels, size: conv.output },
        channels: conv.group_out(),
        taps: &taps,
        step: [1, 1],
        grid: [0, 1].map(|axis| (conv.input[axis] - start[axis]).div_ceil(conv.stride[axis])),
        target: Planes { channels: conv.in_channels, size: conv.input },
        rows: conv.group_in(),
        target_start: start,
        target_step: conv.stride,
    };
    gather.run(dy, &panels, bias, dx);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, with_isa};

    fn values(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few bits, so that both types hold the same.
            f64::from((state >> 54) as u32) / 512.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Output, gradient of the input and gradient of the weight.
    fn all<T: Convolve>(conv: &Conv, number: impl Fn(f64) -> T) -> [Vec<T>; 3] {
        let of = |len: usize, seed: u64| values(len, seed).into_iter().map(&number).collect::<Vec<T>>();
        let (x, w, bias) = (of(conv.input_len(), 1), of(conv.weight_len(), 2), of(conv.out_channels, 3));
        let dy = of(conv.output_len(), 4);
        let [mut y, mut dx, mut dw] = [dy.len(), x.len(), w.len()].map(|len| vec![number(0.5); len]);
        forward(conv, &x, &w, Some(&bias), &mut y);
        input_gradient(conv, &dy, &w, None, &mut dx);
        weight_gradient(conv, &x, &dy, true, &mut dw);
        [y, dx, dw]
    }

    #[test]
    fn kernels_straight_from_the_image_agree_with_f64() {
        let mut cases = Vec::new();
        for width in 1..=7 {
            for out_channels in [5, 8, 13, 16, 22] {
                // Padding alone, with rows that no kernel row reads, dilated downwards, and without any.
                for (padding, stride, dilation) in [([1, 1], 1, 1), ([4, 0], 2, 1), ([2, 2], 1, 2), ([0, 0], 1, 1)] {
                    cases.push((3, 1, out_channels, [3, width], [9, 21], padding, [stride, 1], [dilation, 1]));
                }
            }
        }
        cases.push((2, 1, 6, [3, 3], [8, 20], [1, 1], [2, 3], [1, 1]));
        cases.push((2, 1, 6, [3, 3], [8, 20], [1, 2], [1, 1], [1, 2]));
        cases.push((4, 2, 12, [2, 3], [8, 24], [1, 1], [1, 1], [1, 1]));
        cases.push((12, 2, 36, [5, 5], [6, 14], [0, 0], [1, 1], [1, 1]));
        cases.push((16, 1, 8, [2, 2], [17, 17], [0, 0], [1, 1], [1, 1]));
        for (in_channels, groups, out_channels, kernel, input, padding, stride, dilation) in cases {
            let size = |axis: usize| {
                Conv::output_size(input[axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
                    .expect("the kernel fits")
            };
            let output = [size(0), size(1)];
            let conv =
                Conv { batch: 3, groups, in_channels, out_channels, input, output, kernel, stride, padding, dilation };
            let wanted = all::<f64>(&conv, |x| x);
            for isa in Isa::available() {
                let found = with_isa(isa, || all::<f32>(&conv, |x| x as f32));
                for (part, (found, wanted)) in ["y", "dx", "dw"].iter().zip(found.iter().zip(&wanted)) {
                    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                        let off = (f64::from(*found) - wanted).abs();
                        assert!(
                            off < 1e-4 * wanted.abs().max(1.0),
                            "{part}[{index}] on {isa:?}: {found}, {wanted}, {conv:?}"
                        );
                    }
                }
            }
        }
    }
}
