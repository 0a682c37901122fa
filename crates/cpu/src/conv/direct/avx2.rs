//! AVX2: an image is copied into a frame of zeros where windows reach outside, so that no lane needs a mask.

use std::arch::x86_64::*;
use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, parallel_for};

use super::super::Conv;
use super::super::gather::{RowPanels, part};
use super::{by_count, fills_vectors};
use crate::gemm::tiles::Shared;

/// Lanes of a vector of f32.
const LANES: usize = 8;
/// Products in an element of the output beyond which filling panels pays.
const DEPTH: usize = 512;
/// Channels up to which an image without padding is read where it is: more planes would meet in the same lines of the cache.
const IN_PLACE: usize = 8;
/// Tasks that a pass is cut into at least, where there are as many rows.
const TASKS: usize = 8;
/// Below this many multiply-adds everything runs on the calling thread.
const SMALL: usize = 1 << 18;

/// Whether [`forward`] is the faster way. The last vector of a row begins earlier than it would have to, so there must be one.
pub(super) fn serves_forward(conv: &Conv) -> bool {
    fills_vectors(conv, LANES) && conv.output[1] >= LANES && conv.depth() <= DEPTH
}

/// Whether [`weight_gradient`] is the faster way: output channels fill its lanes well enough. Larger weights gain too, but
/// chunks of images would take from them that a batch in parts of any size gives the bits of the whole.
pub(super) fn serves_weight(conv: &Conv) -> bool {
    let lanes = conv.group_out().next_multiple_of(LANES);
    conv.depth() * conv.group_out() <= 8192
        && (2..=6).contains(&conv.kernel[1])
        && conv.dilation[1] == 1
        && conv.group_out() * 8 >= lanes * 5
}

/// Some rows of an image for all channels, with zeros at both sides where windows reach outside.
struct Frame {
    /// Where row 0 of channel 0, with its padding, would be.
    start: *const f32,
    /// From one channel to the next.
    plane: usize,
    /// From one row to the next.
    pitch: usize,
    _copy: Option<Buffer>,
}

impl Frame {
    /// Rows `lines` of `image`, `[Cin, H, W]`; those outside of it are zero.
    #[target_feature(enable = "avx2")]
    fn new(conv: &Conv, image: &[f32], lines: Range<isize>) -> Self {
        let [height, width] = conv.input;
        let inside = lines.start.max(0)..lines.end.min(height as isize);
        if conv.padding[1] == 0 && inside == lines && conv.in_channels <= IN_PLACE {
            return Self { start: image.as_ptr(), plane: height * width, pitch: width, _copy: None };
        }
        let pitch = width + 2 * conv.padding[1];
        let size = lines.len() * pitch;
        // Planes that begin in the same lines of the cache would drive each other out.
        let plane = size.next_multiple_of(LANES) + if size.is_multiple_of(256) { 2 * LANES } else { 0 };
        let mut buffer = Buffer::uninit(DType::F32, conv.in_channels * plane, Placement::Passing);
        let copy = buffer.as_mut_slice::<f32>();
        if pitch > width || inside != lines {
            copy.fill(0.0);
        }
        for (image, copy) in image.chunks_exact(height * width).zip(copy.chunks_exact_mut(plane)) {
            for line in inside.clone() {
                let from = line as usize * width;
                let to = (line - lines.start) as usize * pitch + conv.padding[1];
                copy_row(&image[from..from + width], &mut copy[to..to + width]);
            }
        }
        let start = copy.as_ptr().wrapping_offset(-lines.start * pitch as isize);
        Self { start, plane, pitch, _copy: Some(buffer) }
    }
}

/// The input row that the first row of the kernel reads for output row `i`.
fn first_line(conv: &Conv, i: usize) -> isize {
    (i * conv.stride[0]) as isize - conv.padding[0] as isize
}

/// The rows of the kernel that read a row of the image for output row `i`.
fn kernel_rows(conv: &Conv, i: usize) -> Range<usize> {
    let (first, step) = (i * conv.stride[0], conv.dilation[0]);
    let low = conv.padding[0].saturating_sub(first).div_ceil(step);
    let high = (conv.input[0] + conv.padding[0]).saturating_sub(first).div_ceil(step);
    low.min(conv.kernel[0])..high.min(conv.kernel[0])
}

/// The input rows that `rows` of the output read, whether they are in the image or not.
fn lines(conv: &Conv, rows: &Range<usize>) -> Range<isize> {
    let reach = (conv.kernel[0] - 1) * conv.dilation[0] + 1;
    first_line(conv, rows.start)..first_line(conv, rows.end - 1) + reach as isize
}

/// Copies a row; rows are too short for a call each.
#[inline]
#[target_feature(enable = "avx2")]
fn copy_row(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    let len = from.len();
    if len < LANES {
        from.iter().zip(to).for_each(|(&from, to)| *to = from);
        return;
    }
    for at in (0..len).step_by(LANES) {
        let at = at.min(len - LANES);
        // SAFETY: both rows have a vector from here on.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr().add(at), _mm256_loadu_ps(from.as_ptr().add(at))) };
    }
}

/// As [`super::forward`].
///
/// # Safety
/// The processor has AVX2; slices have the sizes of the convolution, which [`serves_forward`] has seen.
pub(super) unsafe fn forward(conv: &Conv, x: &[f32], panels: &RowPanels<f32>, bias: Option<&[f32]>, y: &mut [f32]) {
    let blocks = TASKS.div_ceil(conv.batch).min(conv.output[0]);
    let target = Shared(y.as_mut_ptr());
    let task = |task: usize| {
        let (image, block) = (task / blocks, task % blocks);
        let rows = part(conv.output[0], blocks, block);
        let size = conv.in_channels * conv.input_plane();
        let lines = lines(conv, &rows);
        let lines = lines.start.max(0)..lines.end.min(conv.input[0] as isize);
        // SAFETY: the caller's.
        let frame = unsafe { Frame::new(conv, &x[image * size..(image + 1) * size], lines) };
        for group in 0..conv.groups {
            for index in 0..panels.count() {
                let (channels, weights) = panels.panel(group, index, 0);
                let first = group * conv.group_out() + channels.start;
                let strip = Strip {
                    conv,
                    frame: &frame,
                    x: frame.start.wrapping_add(group * conv.group_in() * frame.plane),
                    weights,
                    bias: bias.map(|bias| &bias[first..]),
                    y: target.get().wrapping_add((image * conv.out_channels + first) * conv.output_plane()),
                };
                // SAFETY: the caller's; tasks write rows of their own.
                unsafe { by_count!(channels.len(), 1 2 3 4 5 6 => |R| strip.run::<R>(&rows)) };
            }
        }
    };
    if conv.output_len() * conv.depth() < SMALL {
        (0..conv.batch * blocks).for_each(task);
    } else {
        parallel_for(conv.batch * blocks, task);
    }
}

/// Some output channels of one image.
struct Strip<'a> {
    conv: &'a Conv,
    frame: &'a Frame,
    /// The group's first channel.
    x: *const f32,
    /// For each (channel, tap) the weights of the strip's channels.
    weights: *const f32,
    bias: Option<&'a [f32]>,
    y: *mut f32,
}

impl Strip<'_> {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const R: usize>(&self, rows: &Range<usize>) {
        let width = self.conv.output[1];
        for i in rows.clone() {
            for column in (0..width).step_by(2 * LANES) {
                let columns = [column, column + LANES].map(|column| column.min(width - LANES));
                // SAFETY: the caller's; both vectors lie in the row, and where they overlap they hold the same.
                unsafe {
                    if column + LANES < width {
                        self.tile::<R, 2>(i, columns);
                    } else {
                        self.tile::<R, 1>(i, [columns[0]]);
                    }
                }
            }
        }
    }

    /// R channels by the vectors that begin at `columns` of output row `i`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize, const V: usize>(&self, i: usize, columns: [usize; V]) {
        let (conv, frame) = (self.conv, self.frame);
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        let [height, width] = conv.kernel;
        let (kernel_rows, first) = (kernel_rows(conv, i), first_line(conv, i));
        for channel in 0..conv.group_in() {
            for a in kernel_rows.clone() {
                let line = first + (a * conv.dilation[0]) as isize;
                let line = self.x.wrapping_offset((channel * frame.plane) as isize + line * frame.pitch as isize);
                let mut weights = self.weights.wrapping_add((channel * height + a) * width * R);
                let mut from = columns.map(|column| line.wrapping_add(column));
                for _ in 0..width {
                    // SAFETY: the frame holds what the windows of the row's columns read.
                    let values = from.map(|from| unsafe { _mm256_loadu_ps(from) });
                    for (r, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: weights hold R channels for each tap.
                        let weight = unsafe { _mm256_broadcast_ss(&*weights.add(r)) };
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = _mm256_fmadd_ps(weight, value, *sum);
                        }
                    }
                    from = from.map(|from| from.wrapping_add(conv.dilation[1]));
                    weights = weights.wrapping_add(R);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let bias = _mm256_set1_ps(self.bias.map_or(0.0, |bias| bias[r]));
            let row = self.y.wrapping_add(r * conv.output_plane() + i * conv.output[1]);
            for (&sum, column) in sums.iter().zip(columns) {
                // SAFETY: a whole vector lies in the row from each column on.
                unsafe { _mm256_storeu_ps(row.add(column), _mm256_add_ps(sum, bias)) };
            }
        }
    }
}

/// As [`super::weight_gradient`]. Each element is one chain over (image, position).
///
/// Lanes are output channels: dy is turned so that those of a position lie side by side, and each is multiplied by what a tap
/// reads there. The sums of the taps of some kernel rows are kept while the positions of an image pass.
///
/// # Safety
/// The processor has AVX2; slices have the sizes of the convolution, which [`serves_weight`] has seen.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn weight_gradient(conv: &Conv, x: &[f32], dy: &[f32], images: Range<usize>, dw: &mut [f32]) {
    let (rows, taps, plane) = (conv.group_out(), conv.kernel[1], conv.output_plane());
    let count = conv.group_in() * conv.kernel[0];
    let lanes = rows.next_multiple_of(LANES);
    let sizes = [conv.groups * count * taps * lanes, plane * lanes];
    let mut scratch = Buffer::uninit(DType::F32, sizes[0] + sizes[1], Placement::Passing);
    let (sums, turned) = scratch.as_mut_slice::<f32>().split_at_mut(sizes[0]);
    sums.fill(0.0);
    let size = conv.in_channels * conv.input_plane();
    for image in images {
        // Lines of the kernel are walked together, so each has all its rows.
        let frame = Frame::new(conv, &x[image * size..(image + 1) * size], lines(conv, &(0..conv.output[0])));
        for (group, sums) in sums.chunks_exact_mut(count * taps * lanes).enumerate() {
            let first = image * conv.out_channels + group * rows;
            turn(&dy[first * plane..(first + rows) * plane], plane, lanes, turned);
            let walk = Walk {
                conv,
                frame: &frame,
                x: frame.start.wrapping_add(group * conv.group_in() * frame.plane),
                slopes: turned.as_ptr(),
                lanes,
            };
            for (block, sums) in sums.chunks_mut(count * taps * 2 * LANES).enumerate() {
                // SAFETY: the caller's; a block of sums holds the kernel rows for one or two vectors.
                unsafe {
                    if sums.len() == count * taps * 2 * LANES {
                        match taps {
                            2 => walk.run::<2, 3, 2>(block, sums),
                            3 => walk.run::<3, 2, 2>(block, sums),
                            4 => walk.run::<4, 1, 2>(block, sums),
                            5 => walk.run::<5, 1, 2>(block, sums),
                            _ => walk.run::<6, 1, 2>(block, sums),
                        }
                    } else {
                        match taps {
                            2 => walk.run::<2, 4, 1>(block, sums),
                            3 => walk.run::<3, 4, 1>(block, sums),
                            4 => walk.run::<4, 3, 1>(block, sums),
                            5 => walk.run::<5, 2, 1>(block, sums),
                            _ => walk.run::<6, 2, 1>(block, sums),
                        }
                    }
                }
            }
        }
    }
    for (group, sums) in sums.chunks_exact(count * taps * lanes).enumerate() {
        for (block, sums) in sums.chunks(count * taps * 2 * LANES).enumerate() {
            let width = sums.len() / (count * taps);
            for row in block * 2 * LANES..rows.min(block * 2 * LANES + width) {
                let target = &mut dw[(group * rows + row) * conv.depth()..][..conv.depth()];
                for (target, sums) in target.iter_mut().zip(sums.chunks_exact(width)) {
                    *target += sums[row - block * 2 * LANES];
                }
            }
        }
    }
}

/// Turns `[rows, plane]` into `[plane, lanes]`, with zeros in the lanes behind the rows.
#[target_feature(enable = "avx2")]
fn turn(source: &[f32], plane: usize, lanes: usize, target: &mut [f32]) {
    let rows = source.len() / plane;
    let target = &mut target[..plane * lanes];
    let whole = plane / LANES * LANES;
    for first in (0..lanes).step_by(LANES) {
        let count = (rows - first).min(LANES);
        for position in (0..whole).step_by(LANES) {
            let mut block = [_mm256_setzero_ps(); LANES];
            for (row, block) in block.iter_mut().enumerate().take(count) {
                // SAFETY: the row has a vector from this position on.
                *block = unsafe { _mm256_loadu_ps(source[(first + row) * plane + position..].as_ptr()) };
            }
            for (column, values) in transposed(block).into_iter().enumerate() {
                // SAFETY: a position has all lanes of the vectors.
                unsafe { _mm256_storeu_ps(target[(position + column) * lanes + first..].as_mut_ptr(), values) };
            }
        }
        for position in whole..plane {
            for lane in 0..LANES {
                let value = if lane < count { source[(first + lane) * plane + position] } else { 0.0 };
                target[position * lanes + first + lane] = value;
            }
        }
    }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256; LANES]) -> [__m256; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |x: __m256, y: __m256| (_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
    let fours = |(x, xx): (__m256, __m256), (y, yy): (__m256, __m256)| {
        [
            _mm256_shuffle_ps::<0x44>(x, y),
            _mm256_shuffle_ps::<0xee>(x, y),
            _mm256_shuffle_ps::<0x44>(xx, yy),
            _mm256_shuffle_ps::<0xee>(xx, yy),
        ]
    };
    let (upper, lower) = (fours(pairs(a, b), pairs(c, d)), fours(pairs(e, f), pairs(g, h)));
    std::array::from_fn(|column| {
        let (upper, lower) = (upper[column % 4], lower[column % 4]);
        if column < 4 {
            _mm256_permute2f128_ps::<0x20>(upper, lower)
        } else {
            _mm256_permute2f128_ps::<0x31>(upper, lower)
        }
    })
}

/// One image's share of the gradient of a group's weight.
struct Walk<'a> {
    conv: &'a Conv,
    frame: &'a Frame,
    /// The group's first channel.
    x: *const f32,
    /// dy of the group, `[positions, lanes]`.
    slopes: *const f32,
    lanes: usize,
}

impl Walk<'_> {
    /// All kernel rows of all channels, A at a time, by the V vectors of output channels that begin at two times `block`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const K: usize, const A: usize, const V: usize>(&self, block: usize, sums: &mut [f32]) {
        let (height, frame) = (self.conv.kernel[0], self.frame);
        let lines = self.conv.group_in() * height;
        let slopes = self.slopes.wrapping_add(block * 2 * LANES);
        for first in (0..lines).step_by(A) {
            // Where there is no further line, the last one is computed more than once.
            let chosen: [usize; A] = std::array::from_fn(|index| (first + index).min(lines - 1));
            let from = chosen.map(|line| {
                let down = first_line(self.conv, 0) + (line % height * self.conv.dilation[0]) as isize;
                self.x.wrapping_offset((line / height * frame.plane) as isize + down * frame.pitch as isize)
            });
            let sums = chosen.map(|line| sums[line * K * V * LANES..(line + 1) * K * V * LANES].as_mut_ptr());
            // SAFETY: the caller's; there are sums of K taps by V vectors for each line.
            unsafe { self.lines::<K, A, V>(from, slopes, sums) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn lines<const K: usize, const A: usize, const V: usize>(
        &self,
        from: [*const f32; A],
        mut slopes: *const f32,
        targets: [*mut f32; A],
    ) {
        let conv = self.conv;
        let at = |a: usize, k: usize, v: usize| targets[a].wrapping_add((k * V + v) * LANES);
        let mut sums = [[[_mm256_setzero_ps(); V]; K]; A];
        for (a, sums) in sums.iter_mut().enumerate() {
            for (k, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller's.
                    *sum = unsafe { _mm256_loadu_ps(at(a, k, v)) };
                }
            }
        }
        for i in 0..conv.output[0] {
            let mut from = from.map(|from| from.wrapping_add(i * conv.stride[0] * self.frame.pitch));
            for _ in 0..conv.output[1] {
                let mut values = [_mm256_setzero_ps(); V];
                for (v, value) in values.iter_mut().enumerate() {
                    // SAFETY: each position has all its lanes.
                    *value = unsafe { _mm256_loadu_ps(slopes.add(v * LANES)) };
                }
                for (from, sums) in from.iter().zip(&mut sums) {
                    for (k, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: the frame holds what the taps read at this position.
                        let x = unsafe { _mm256_broadcast_ss(&*from.add(k)) };
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = _mm256_fmadd_ps(x, value, *sum);
                        }
                    }
                }
                from = from.map(|from| from.wrapping_add(conv.stride[1]));
                slopes = slopes.wrapping_add(self.lanes);
            }
        }
        for (a, sums) in sums.iter().enumerate() {
            for (k, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's.
                    unsafe { _mm256_storeu_ps(at(a, k, v), sum) };
                }
            }
        }
    }
}
