//! Pooling over windows of the last two dimensions, plane by plane.
//!
//! Images are `[planes, H, W]`, where batch and channels together make the planes. A one-dimensional pooling has H = 1.

pub mod adaptive;
pub mod average;
pub mod max;

use crate::conv::Convolve;
use crate::conv::rows::{RowCopy, RowCopyFn, Run};

/// Windows of a row that are served at a time.
const LANES: usize = 16;

/// Sizes of a pooling: windows of `kernel`, `stride` apart, over an image with `padding` on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Images times channels.
    pub planes: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// From one window to the next, down and across.
    pub stride: [usize; 2],
    /// What is added above and below, left and right.
    pub padding: [usize; 2],
    /// From one element of a window to the next.
    pub dilation: [usize; 2],
}

impl Pooling {
    /// How many windows that reach over `reach` elements fit into `size` with `padding` on both sides. `ceil` adds a window that
    /// reaches past the end, as long as it begins inside the input or the padding before it. `None` when not even one fits.
    pub fn output_size(size: usize, reach: usize, stride: usize, padding: usize, ceil: bool) -> Option<usize> {
        let room = (size + 2 * padding).checked_sub(reach)?;
        let steps = if ceil { room.div_ceil(stride) } else { room / stride };
        let beyond = ceil && steps * stride >= size + padding;
        Some(steps + 1 - usize::from(beyond))
    }

    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The input position of element `tap` of window `index` along `axis`, if it lies inside.
    #[inline(always)]
    fn position(&self, axis: usize, index: usize, tap: usize) -> Option<usize> {
        let position = (index * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (position < self.input[axis]).then_some(position)
    }

    /// The windows along a row whose element `tap` lies inside the input, and the position of the first one's.
    #[inline(always)]
    fn across(&self, tap: usize) -> (usize, usize, usize) {
        let (stride, padding, ahead) = (self.stride[1], self.padding[1], tap * self.dilation[1]);
        let first = padding.saturating_sub(ahead).div_ceil(stride);
        let room = (self.input[1] + padding).saturating_sub(ahead);
        let end = room.div_ceil(stride).min(self.output[1]);
        (first, end.max(first), (first * stride + ahead).saturating_sub(padding))
    }

    /// What windows `from..from + len`, at most [`LANES`], see in a row as element `tap`, and which of them see any; the others
    /// get zero.
    #[inline(always)]
    fn lanes<T: Convolve>(
        &self,
        row: &[T],
        copy: RowCopyFn<T>,
        from: usize,
        len: usize,
        tap: usize,
    ) -> ([T; LANES], usize, usize) {
        let offset = (tap * self.dilation[1]) as isize - self.padding[1] as isize;
        let run = Run { at: 0, len, image: 0, row: 0, column: from };
        let step = self.stride[1];
        let (low, high) = RowCopy::<T>::inside(&run, step, offset, row.len(), true);
        let mut values = [T::ZERO; LANES];
        // SAFETY: lanes inside the limits lie in the row; there are no more than LANES.
        unsafe {
            copy(&RowCopy {
                source: row.as_ptr().wrapping_offset((from * step) as isize + offset),
                source_stride: 0,
                step,
                target: values.as_mut_ptr(),
                target_stride: 0,
                channels: 1,
                low,
                high,
                len: len.min(LANES),
            });
        }
        (values, low, high)
    }

    /// Whether windows are two by two elements, each element in at most one, and all inside.
    fn halves(&self) -> bool {
        let inside = |axis: usize| 2 * self.output[axis] <= self.input[axis];
        [self.kernel, self.stride] == [[2, 2]; 2]
            && (self.padding, self.dilation) == ([0, 0], [1, 1])
            && inside(0)
            && inside(1)
    }

    /// Elements of work in the planes of one piece are about [`crate::work::PIECE`].
    fn planes_per_piece(&self) -> usize {
        crate::work::rows_per_piece(self.input_plane().max(self.output_plane()))
    }
}

#[cfg(test)]
mod tests {
    use super::Pooling;

    #[test]
    fn output_sizes_follow_the_ceiling_rule() {
        let size = Pooling::output_size;
        assert_eq!(size(28, 2, 2, 0, false), Some(14));
        assert_eq!(size(7, 3, 2, 0, true), Some(3));
        assert_eq!(size(8, 3, 2, 0, true), Some(4));
        // The last window would begin in the padding behind the input.
        assert_eq!(size(5, 2, 3, 1, true), Some(2));
        assert_eq!(size(2, 5, 1, 1, false), None);
    }
}
