//! The gradient of the weight: a product over all positions of all images.

use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, parallel_for};

use super::Conv;
#[cfg(target_arch = "x86_64")]
use super::direct;
use super::gather::{columns, kernels, part};
use super::rows::{Convolve, RowCopy, Run, runs};
use crate::gemm::tiles::{OVERRUN, PANEL_BYTES, Shared, Tile, View};
use crate::gemm::{Lhs, Rhs};
use crate::isa::{Isa, isa};

/// Positions in a block of depth.
const DEPTH: usize = 256;
/// Column panels of a task at most; they share the rows that are read.
const PANELS: usize = 4;
/// Tasks that the columns are cut into at least, where there are as many.
const TASKS: usize = 8;
/// Where columns make too few tasks, images are cut into chunks of at least this many positions, whose sums are then added in
/// order. The cut depends on the sizes of one image, so that images may come in any number of batches.
const CHUNK: usize = 1024;
/// Below this many multiply-adds everything runs on the calling thread.
const SMALL: usize = 1 << 18;

/// `dw[o, c, a, b] = sum over n, i, j of dy[n, o, i, j] x[n, c', i stride + a dilation - padding, ...]`, `[Cout, Cin / groups,
/// KH, KW]`. Where `accumulate` is set it is added to what `dw` holds.
///
/// Each element is one chain over (image, position) in rising order, starting at what is accumulated to; for small weights one
/// chain for each chunk of images, added in order.
///
/// # Panics
/// When a slice has another length than the sizes say.
#[track_caller]
pub fn weight_gradient<T: Convolve>(conv: &Conv, x: &[T], dy: &[T], accumulate: bool, dw: &mut [T]) {
    conv.check(x.len(), dw.len(), dy.len());
    if !accumulate {
        dw.fill(T::ZERO);
    }
    let positions = conv.batch * conv.output_plane();
    if dw.is_empty() || positions == 0 {
        return;
    }
    let panels = conv.depth().div_ceil(columns::<T>());
    let per_task = (panels / TASKS).clamp(1, PANELS);
    let column_tasks = panels.div_ceil(per_task);
    let chunk_images = CHUNK.div_ceil(conv.output_plane());
    // Also for a single chunk: its sum is added to what `dw` holds, as that of every other batch's chunk would be.
    let direct = serves(conv, x);
    let chunked = direct || conv.groups * column_tasks < TASKS;
    let chunks = if chunked { conv.batch.div_ceil(chunk_images) } else { 1 };
    let mut partial = chunked.then(|| Buffer::uninit(T::DTYPE, chunks * dw.len(), Placement::Passing));
    let target = match &mut partial {
        None => Shared(dw.as_mut_ptr()),
        Some(partial) => {
            let partial = partial.as_mut_slice::<T>();
            partial.fill(T::ZERO);
            Shared(partial.as_mut_ptr())
        }
    };
    let images_of = |chunk: usize| chunk * chunk_images..conv.batch.min((chunk + 1) * chunk_images);
    if direct {
        let partial = partial.as_mut().expect("what is done directly is cut into chunks");
        directly(conv, x, dy, images_of, partial.as_mut_slice::<T>());
        return add_chunks(partial.as_slice::<T>(), dw);
    }
    let left = Left::pack(conv, dy);
    let job = Job { conv, isa: isa(), x: Shared(x.as_ptr()), left: &left, target };
    let task = |index: usize| {
        let (chunk, index) = (index / (conv.groups * column_tasks), index % (conv.groups * column_tasks));
        let (group, column) = (index / column_tasks, index % column_tasks);
        let images = if chunked { images_of(chunk) } else { 0..conv.batch };
        // SAFETY: sizes were checked; tasks of a chunk write columns of their own, chunks their own copies.
        unsafe { job.task(group, part(panels, column_tasks, column), images, chunk * conv.weight_len()) };
    };
    let tasks = chunks * conv.groups * column_tasks;
    if positions * conv.weight_len() < SMALL {
        (0..tasks).for_each(task);
    } else {
        parallel_for(tasks, task);
    }
    if let Some(partial) = &partial {
        add_chunks(partial.as_slice::<T>(), dw);
    }
}

/// Adds the sums of all chunks, in order.
fn add_chunks<T: Convolve>(partial: &[T], dw: &mut [T]) {
    for chunk in partial.chunks_exact(dw.len()) {
        for (dw, &chunk) in dw.iter_mut().zip(chunk) {
            *dw = *dw + chunk;
        }
    }
}

/// Whether vectors along the rows of the image are the faster way.
#[cfg(target_arch = "x86_64")]
fn serves<T: Convolve>(conv: &Conv, x: &[T]) -> bool {
    direct::single(x).is_some() && direct::serves_weight(isa(), conv)
}

#[cfg(not(target_arch = "x86_64"))]
fn serves<T: Convolve>(_: &Conv, _: &[T]) -> bool {
    false
}

/// Adds the products of each chunk of images to its part of `partial`, where [`serves`] said so.
fn directly<T: Convolve>(
    conv: &Conv,
    x: &[T],
    dy: &[T],
    images: impl Fn(usize) -> Range<usize> + Sync,
    partial: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(x), Some(dy), Some(partial)) = (direct::single(x), direct::single(dy), direct::single_mut(partial)) {
        let (isa, parts) = (isa(), cupola_core::pool::Parts::new(partial, conv.weight_len()));
        parallel_for(parts.len(), |chunk| {
            let (_, dw) = parts.take(chunk);
            // SAFETY: `serves` has seen the tier; sizes were checked.
            unsafe { direct::weight_gradient(isa, conv, x, dy, images(chunk), dw) };
        });
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("nothing is done directly: {conv:?}, {} {} {}", x.len(), dy.len(), images(partial.len()).len());
}

/// dy as left operand, rows the output channels of a group: for each block of positions, for each row panel, the block's depth.
/// Blocks start anew with each image's `blocks_per_image` or hold several whole images.
struct Left<T> {
    buffer: Buffer,
    panels: usize,
    /// Elements of a row panel.
    pitch: usize,
    element: std::marker::PhantomData<T>,
}

/// Images per block, and blocks per image; one of the two is 1.
fn blocking(conv: &Conv) -> (usize, usize) {
    let plane = conv.output_plane();
    ((DEPTH / plane).max(1), plane.div_ceil(DEPTH))
}

/// Blocks of positions of `images`: each a range of positions counted over all images.
fn blocks(conv: &Conv, images: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let plane = conv.output_plane();
    let (images_per_block, parts) = blocking(conv);
    images.clone().step_by(images_per_block).flat_map(move |image| {
        let last = images.end.min(image + images_per_block);
        (0..parts).map(move |index| {
            if parts == 1 {
                image * plane..last * plane
            } else {
                let piece = part(plane, parts, index);
                image * plane + piece.start..image * plane + piece.end
            }
        })
    })
}

impl<T: Convolve> Left<T> {
    fn pack(conv: &Conv, dy: &[T]) -> Self {
        let rows = conv.group_out();
        let panels = rows.div_ceil(kernels::<T>(isa()).rows());
        let widest = rows.div_ceil(panels);
        // A panel holds every position, so that a block of any chunk is found by its first position.
        let pitch = conv.batch * conv.output_plane() * widest + OVERRUN / size_of::<T>();
        let mut buffer = Buffer::uninit(T::DTYPE, conv.groups * panels * pitch, Placement::Passing);
        let start = Shared(buffer.as_mut_slice::<T>().as_mut_ptr());
        let packer = <T as Lhs<T::Product>>::packer(isa());
        let plane = conv.output_plane();
        // One task packs a panel of one group in order: an overrun is overwritten by the next image or hits the spare room.
        let task = |index: usize| {
            let range = part(rows, panels, index % panels);
            let first = index / panels * rows + range.start;
            let target = start.get().wrapping_add(index * pitch);
            for image in 0..conv.batch {
                let view = View {
                    ptr: dy[(image * conv.out_channels + first) * plane..].as_ptr().cast(),
                    lane_stride: plane as isize,
                    depth_stride: 1,
                };
                let target = target.wrapping_add(image * plane * range.len());
                // SAFETY: the rows' planes lie in `dy`; the panel has room for all positions and the overrun.
                unsafe { (packer.run)(view, range.len(), plane, range.len(), target.cast()) };
            }
        };
        if dy.len() < SMALL / 4 {
            (0..conv.groups * panels).for_each(task);
        } else {
            parallel_for(conv.groups * panels, task);
        }
        Self { buffer, panels, pitch, element: std::marker::PhantomData }
    }

    /// A row panel of a group, and where its words for `position` on stand.
    fn panel(&self, conv: &Conv, group: usize, index: usize, position: usize) -> (Range<usize>, *const T) {
        let rows = part(conv.group_out(), self.panels, index);
        let at = (group * self.panels + index) * self.pitch + position * rows.len();
        let start = self.buffer.as_slice::<T>().as_ptr();
        (rows, start.wrapping_add(at))
    }
}

struct Job<'a, T> {
    conv: &'a Conv,
    isa: Isa,
    x: Shared<*const T>,
    left: &'a Left<T>,
    target: Shared<*mut T>,
}

impl<T: Convolve> Job<'_, T> {
    /// Adds the products of some images to the columns of some panels of a group, in the copy that starts at `copy`.
    ///
    /// # Safety
    /// Everything has the sizes of the convolution; nobody else writes these columns.
    unsafe fn task(&self, group: usize, panels: Range<usize>, images: Range<usize>, copy: usize) {
        let (conv, width, count) = (self.conv, columns::<T>(), panels.len());
        let (rows, depth) = (conv.group_out(), conv.depth());
        let lanes = panels.start * width..depth.min(panels.end * width);
        let (images_per_block, _) = blocking(conv);
        let longest = DEPTH.max(images_per_block * conv.output_plane()).min(conv.batch * conv.output_plane());
        let stride = count * width;

        let sizes = [count * width * longest, longest * stride, rows * stride];
        let mut scratch = Buffer::uninit(T::DTYPE, sizes.iter().sum(), Placement::Passing);
        let gathered = scratch.as_mut_slice::<T>().as_mut_ptr();
        let packed = gathered.wrapping_add(sizes[0]);
        let sums = packed.wrapping_add(sizes[1]);
        let target = self.target.get().wrapping_add(copy + group * rows * depth + lanes.start);
        for row in 0..rows {
            // SAFETY: the sums have room for whole panels; the target has this row's lanes.
            unsafe {
                let sums = sums.add(row * stride);
                sums.copy_from_nonoverlapping(target.add(row * depth), lanes.len());
                std::slice::from_raw_parts_mut(sums.add(lanes.len()), stride - lanes.len()).fill(T::ZERO);
            }
        }
        let packer = <T as Rhs<T::Product>>::packer(self.isa);
        for block in blocks(conv, images) {
            let len = block.len();
            // SAFETY: the scratch has room for all lanes over this block, twice.
            unsafe {
                self.gather(group, &lanes, &runs(conv.output, block.start, block.end), len, gathered);
                for panel in 0..count {
                    let view = View {
                        ptr: gathered.wrapping_add(panel * width * len).cast_const().cast(),
                        lane_stride: len as isize,
                        depth_stride: 1,
                    };
                    let here = (lanes.len() - panel * width).min(width);
                    (packer.run)(view, here, len, width, packed.add(panel * width * longest).cast());
                }
            }
            for index in 0..self.left.panels {
                let (range, a) = self.left.panel(conv, group, index, block.start);
                let kernel = kernels::<T>(self.isa).single[range.len() - 1];
                for panel in 0..count {
                    let end = sums.wrapping_add(range.start * stride + panel * width);
                    let tile = Tile {
                        depth: len,
                        a: a.cast(),
                        b: packed.wrapping_add(panel * width * longest).cast_const().cast(),
                        b_step: PANEL_BYTES,
                        b_panel: 0,
                        start: end.cast_const(),
                        start_stride: stride,
                        end,
                        end_stride: stride,
                        bias: std::ptr::null(),
                        next: std::ptr::null(),
                        next_stride: 0,
                        far: a.cast(),
                        far_step: 0,
                    };
                    // SAFETY: the panels hold this depth, the sums these rows and columns.
                    unsafe { kernel(&tile) };
                }
            }
        }
        for row in 0..rows {
            // SAFETY: as above.
            unsafe { target.add(row * depth).copy_from_nonoverlapping(sums.add(row * stride), lanes.len()) };
        }
    }

    /// Writes one row for each lane, a (channel, tap) pair: what it reads at each of `len` positions.
    unsafe fn gather(&self, group: usize, lanes: &Range<usize>, cut: &[Run], len: usize, rows: *mut T) {
        let (conv, taps) = (self.conv, self.conv.taps());
        let [height, width] = conv.input;
        let copy = T::row_copy(self.isa, conv.stride[1]);
        for (tap, [down, across]) in conv.offsets().into_iter().enumerate() {
            // The channels whose lane for this tap is among those asked for.
            let channels = lanes.start.saturating_sub(tap).div_ceil(taps)..lanes.end.saturating_sub(tap).div_ceil(taps);
            if channels.is_empty() {
                continue;
            }
            let lane = channels.start * taps + tap - lanes.start;
            for run in cut {
                let row = (run.row * conv.stride[0]) as isize + down;
                let exists = (0..height as isize).contains(&row);
                let (low, high) = RowCopy::<T>::inside(run, conv.stride[1], across, width, exists);
                let channel = run.image * conv.in_channels + group * conv.group_in() + channels.start;
                let column = (run.column * conv.stride[1]) as isize + across;
                let at = (channel * conv.input_plane()) as isize + row * width as isize + column;
                // SAFETY: lanes inside the limits lie in the image; the rows have room for the run.
                unsafe {
                    copy(&RowCopy {
                        source: self.x.get().wrapping_offset(at),
                        source_stride: conv.input_plane(),
                        step: conv.stride[1],
                        target: rows.add(lane * len + run.at),
                        target_stride: taps * len,
                        channels: channels.len(),
                        low,
                        high,
                        len: run.len,
                    });
                }
            }
        }
    }
}
