//! AVX-512: lanes outside of the image are masked.

use std::arch::x86_64::*;
use std::ops::Range;

use cupola_core::parallel_for;

use super::super::Conv;
use super::super::gather::{RowPanels, part};
use super::super::rows::{RowCopy, Run};
use super::{by_count, fills_vectors};
use crate::gemm::tiles::Shared;

/// Lanes of a vector of f32.
const LANES: usize = 16;
/// Output channels by taps that the gradient of the weight keeps in registers.
const ROWS: usize = 4;
/// The longest kernel row that the gradient of the weight takes.
const TAPS: usize = 5;
/// More vectors in a row of the output are left to the general way.
const VECTORS: usize = 16;
/// Output rows in a task.
const BLOCK: usize = 8;

/// Which lanes of each vector of an output row a tap of the kernel row reads inside the image, as bits.
fn masks(conv: &Conv) -> Vec<Vec<u16>> {
    let vectors = conv.output[1].div_ceil(LANES);
    let mask = |vector: usize, tap: usize| {
        let column = vector * LANES;
        let run = Run { at: 0, len: (conv.output[1] - column).min(LANES), image: 0, row: 0, column };
        let offset = (tap * conv.dilation[1]) as isize - conv.padding[1] as isize;
        let (low, high) = RowCopy::<f32>::inside(&run, 1, offset, conv.input[1], true);
        ((1u32 << high) - (1u32 << low)) as u16
    };
    (0..vectors).map(|vector| (0..conv.kernel[1]).map(|tap| mask(vector, tap)).collect()).collect()
}

/// Whether vectors along rows are filled well enough, and few enough.
pub(super) fn serves(conv: &Conv) -> bool {
    fills_vectors(conv, LANES) && conv.output[1].div_ceil(LANES) <= VECTORS
}

/// Whether [`weight_gradient`] is the faster way.
pub(super) fn serves_weight(conv: &Conv) -> bool {
    serves(conv) && conv.depth() * conv.group_out() <= 8192 && conv.kernel[1] <= TAPS
}

/// The input row that output row `i` reads with kernel row `a`.
fn input_row(conv: &Conv, i: usize, a: usize) -> Option<usize> {
    let row = (i * conv.stride[0] + a * conv.dilation[0]).checked_sub(conv.padding[0])?;
    (row < conv.input[0]).then_some(row)
}

/// As [`super::forward`], whose chain of sums this is; lanes outside of the image add nothing instead of zero.
///
/// # Safety
/// The processor has AVX-512; slices have the sizes of the convolution.
pub unsafe fn forward(conv: &Conv, x: &[f32], panels: &RowPanels<f32>, bias: Option<&[f32]>, y: &mut [f32]) {
    let masks = masks(conv);
    let blocks = conv.output[0].div_ceil(BLOCK);
    let target = Shared(y.as_mut_ptr());
    parallel_for(conv.batch * blocks, |task| {
        let (image, block) = (task / blocks, task % blocks);
        let rows = block * BLOCK..conv.output[0].min((block + 1) * BLOCK);
        for group in 0..conv.groups {
            for index in 0..panels.count() {
                let (channels, weights) = panels.panel(group, index, 0);
                let strip = Strip {
                    conv,
                    x: x[(image * conv.in_channels + group * conv.group_in()) * conv.input_plane()..].as_ptr(),
                    weights,
                    masks: &masks,
                    bias: bias.map(|bias| &bias[group * conv.group_out() + channels.start..]),
                    y: target.get().wrapping_add(
                        (image * conv.out_channels + group * conv.group_out() + channels.start) * conv.output_plane(),
                    ),
                };
                // SAFETY: the caller's; tasks write rows of their own.
                unsafe { strip.run(channels.len(), rows.clone()) };
            }
        }
    });
}

/// Some output channels of one image.
struct Strip<'a> {
    conv: &'a Conv,
    /// The group's first channel.
    x: *const f32,
    /// For each (channel, tap) the weights of the strip's channels.
    weights: *const f32,
    masks: &'a [Vec<u16>],
    bias: Option<&'a [f32]>,
    y: *mut f32,
}

impl Strip<'_> {
    unsafe fn run(&self, channels: usize, rows: Range<usize>) {
        let vectors = self.masks.len();
        for i in rows {
            for vector in (0..vectors).step_by(2) {
                // SAFETY: the caller's.
                unsafe {
                    if vector + 1 < vectors {
                        by_count!(channels, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 => |N| self.tile::<N, 2>(i, vector));
                    } else {
                        by_count!(channels, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 => |N| self.tile::<N, 1>(i, vector));
                    }
                }
            }
        }
    }

    /// R channels by V vectors of output row `i`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn tile<const R: usize, const V: usize>(&self, i: usize, vector: usize) {
        let conv = self.conv;
        let (height, width) = (conv.kernel[0], conv.kernel[1]);
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for channel in 0..conv.group_in() {
            for a in 0..height {
                let Some(row) = input_row(conv, i, a) else {
                    continue;
                };
                let line = self.x.wrapping_add(channel * conv.input_plane() + row * conv.input[1]);
                let weights = self.weights.wrapping_add((channel * height + a) * width * R);
                for b in 0..width {
                    let first = line.wrapping_add(vector * LANES + b * conv.dilation[1]).wrapping_sub(conv.padding[1]);
                    let mut values = [_mm512_setzero_ps(); V];
                    for (v, value) in values.iter_mut().enumerate() {
                        // SAFETY: the mask leaves out what is outside of the image.
                        *value =
                            unsafe { _mm512_maskz_loadu_ps(self.masks[vector + v][b], first.wrapping_add(v * LANES)) };
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: weights hold R channels for each tap.
                        let weight = unsafe { _mm512_set1_ps(*weights.add(b * R + r)) };
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = _mm512_fmadd_ps(weight, value, *sum);
                        }
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let bias = _mm512_set1_ps(self.bias.map_or(0.0, |bias| bias[r]));
            for (v, &sum) in sums.iter().enumerate() {
                let column = (vector + v) * LANES;
                let written = ((1u32 << (conv.output[1] - column).min(LANES)) - 1) as u16;
                let target = self.y.wrapping_add(r * conv.output_plane() + i * conv.output[1] + column);
                // SAFETY: the mask leaves out what is behind the row's end.
                unsafe { _mm512_mask_storeu_ps(target, written, _mm512_add_ps(sum, bias)) };
            }
        }
    }
}

/// Adds the products of `images` to `dw`, `[Cout, Cin / groups, KH, KW]`.
///
/// # Safety
/// The processor has AVX-512; slices have the sizes of the convolution.
pub unsafe fn weight_gradient(conv: &Conv, x: &[f32], dy: &[f32], images: Range<usize>, dw: &mut [f32]) {
    let masks = masks(conv);
    let blocks = conv.group_out().div_ceil(ROWS);
    for group in 0..conv.groups {
        for block in 0..blocks {
            let rows = part(conv.group_out(), blocks, block);
            let first = group * conv.group_out() + rows.start;
            for line in 0..conv.group_in() * conv.kernel[0] {
                let (channel, a) = (line / conv.kernel[0], line % conv.kernel[0]);
                let walk = Walk {
                    conv,
                    x: x[(group * conv.group_in() + channel) * conv.input_plane()..].as_ptr(),
                    dy: dy[first * conv.output_plane()..].as_ptr(),
                    masks: &masks,
                    images: images.clone(),
                    a,
                };
                let target = &mut dw[first * conv.depth() + line * conv.kernel[1]..];
                // SAFETY: the caller's.
                unsafe {
                    by_count!(rows.len(), 1 2 3 4 => |R| by_count!(conv.kernel[1], 1 2 3 4 5 => |K| walk.run::<R, K>(target)));
                }
            }
        }
    }
}

/// Some output channels by one row of the kernel of one input channel.
struct Walk<'a> {
    conv: &'a Conv,
    x: *const f32,
    dy: *const f32,
    masks: &'a [Vec<u16>],
    images: Range<usize>,
    a: usize,
}

impl Walk<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn run<const R: usize, const K: usize>(&self, target: &mut [f32]) {
        let conv = self.conv;
        let mut sums = [[_mm512_setzero_ps(); K]; R];
        for image in self.images.clone() {
            let x = self.x.wrapping_add(image * conv.in_channels * conv.input_plane());
            let dy = self.dy.wrapping_add(image * conv.out_channels * conv.output_plane());
            for i in 0..conv.output[0] {
                let Some(row) = input_row(conv, i, self.a) else {
                    continue;
                };
                for (vector, masks) in self.masks.iter().enumerate() {
                    let column = vector * LANES;
                    let first = x.wrapping_add(row * conv.input[1] + column).wrapping_sub(conv.padding[1]);
                    let mut values = [_mm512_setzero_ps(); K];
                    for (b, value) in values.iter_mut().enumerate() {
                        // SAFETY: the mask leaves out what is outside of the image.
                        *value = unsafe { _mm512_maskz_loadu_ps(masks[b], first.wrapping_add(b * conv.dilation[1])) };
                    }
                    let read = ((1u32 << (conv.output[1] - column).min(LANES)) - 1) as u16;
                    let dy = dy.wrapping_add(i * conv.output[1] + column);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: the mask leaves out what is behind the row's end.
                        let slope = unsafe { _mm512_maskz_loadu_ps(read, dy.wrapping_add(r * conv.output_plane())) };
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = _mm512_fmadd_ps(slope, value, *sum);
                        }
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (b, &sum) in sums.iter().enumerate() {
                target[r * conv.depth() + b] += _mm512_reduce_add_ps(sum);
            }
        }
    }
}
