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
        && crate::isa() == crate::Isa::Avx512
        && direct::serves_forward(conv)
    {
        let panels = RowPanels::of_rows(conv.groups, rows, depth, w);
        // SAFETY: the tier is that of AVX-512; sizes were checked.
        return unsafe { direct::forward(conv, x, &panels, bias.and_then(direct::single), y) };
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
/// convolution of `dy`, plus `bias` (`[Cin]`). Each element is one chain over (output channel, tap) in rising order.
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
        && crate::isa() == crate::Isa::Avx512
        && let Some(back) = conv.turned()
        && direct::serves_few_rows(&back)
    {
        let flipped: Vec<usize> = (0..conv.taps()).rev().collect();
        let panels = RowPanels::of_columns(conv, &flipped, w);
        // SAFETY: the tier is that of AVX-512; sizes were checked.
        return unsafe { direct::forward(&back, dy, &panels, bias.and_then(direct::single), dx) };
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
