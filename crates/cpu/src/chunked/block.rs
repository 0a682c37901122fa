//! A block of heads that share queries and keys, chunk by chunk: where its operands lie, and its factors.

use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, Element};

use super::{Chunked, HEADS, Inputs};
use crate::gemm::{Epilogue, MatMut, MatRef, Product};
use crate::kernel;
use crate::multiply::Multiply;
use crate::real::Real;
use crate::scattered::Scattered;

/// Memory of a piece of work, handed out part by part.
pub(crate) struct Scratch(Buffer);

impl Scratch {
    pub fn new<T: Element>(sizes: &[usize]) -> Self {
        Self(Buffer::uninit(T::DTYPE, sizes.iter().sum(), Placement::Passing))
    }

    /// Parts of the sizes given, of arbitrary contents.
    pub fn parts<T: Element, const N: usize>(&mut self, sizes: [usize; N]) -> [&mut [T]; N] {
        super::forward::parts(self.0.as_mut_slice::<T>(), sizes)
    }
}

/// `c = a b`, or `c += a b`.
#[inline]
pub(crate) fn product<T: Multiply>(a: MatRef<'_, T>, b: MatRef<'_, T>, c: MatMut<'_, T>, accumulate: bool) {
    T::Product::matmul(a, b, c, Epilogue { accumulate, ..Epilogue::default() });
}

/// Heads `first..first + count` of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub group: usize,
    pub first: usize,
    pub count: usize,
    /// The number of this block.
    pub index: usize,
    /// Columns of values, and of the state.
    pub width: usize,
}

impl Block {
    /// All blocks, in order of heads.
    pub fn all(chunked: &Chunked<'_>) -> Vec<Block> {
        let share = chunked.heads / chunked.groups;
        let mut blocks = Vec::new();
        for group in 0..chunked.groups {
            for first in (0..share).step_by(HEADS) {
                let count = HEADS.min(share - first);
                let (index, width) = (blocks.len(), count * chunked.values);
                blocks.push(Block { group, first: group * share + first, count, index, width });
            }
        }
        blocks
    }

    /// Rows of queries or keys of some tokens.
    pub fn keys<'a, T>(&self, chunked: &Chunked<'_>, x: &'a [T], tokens: &Range<usize>) -> MatRef<'a, T> {
        let stride = chunked.groups * chunked.keys;
        let offset = tokens.start * chunked.rank * stride + self.group * chunked.keys;
        MatRef::strided(x, offset, tokens.len() * chunked.rank, chunked.keys, stride as isize, 1)
    }

    /// Copies the block's columns of rows `[N, R, H, P]` of some tokens.
    pub fn gather<T: Copy>(&self, chunked: &Chunked<'_>, x: &[T], tokens: &Range<usize>, to: &mut [T]) {
        let stride = chunked.heads * chunked.values;
        let offset = tokens.start * chunked.rank * stride + self.first * chunked.values;
        if self.width == 0 {
            return;
        }
        for (row, to) in to.chunks_exact_mut(self.width).take(tokens.len() * chunked.rank).enumerate() {
            to.copy_from_slice(&x[offset + row * stride..][..self.width]);
        }
    }

    /// The inverse of [`Block::gather`].
    ///
    /// # Safety
    /// No other thread may write these columns of these rows.
    pub unsafe fn scatter<T: Copy>(
        &self,
        chunked: &Chunked<'_>,
        from: &[T],
        tokens: &Range<usize>,
        x: &Scattered<'_, T>,
    ) {
        let stride = chunked.heads * chunked.values;
        let offset = tokens.start * chunked.rank * stride + self.first * chunked.values;
        if self.width == 0 {
            return;
        }
        for (row, from) in from.chunks_exact(self.width).take(tokens.len() * chunked.rank).enumerate() {
            // SAFETY: the caller's.
            unsafe { x.part(offset + row * stride, self.width) }.copy_from_slice(from);
        }
    }

    /// A sequence's state `[H, S, P]` as the block computes with it, `[S, columns]`.
    pub fn read_state<T: Copy>(&self, chunked: &Chunked<'_>, state: &[T], sequence: usize, to: &mut [T]) {
        for head in 0..self.count {
            for key in 0..chunked.keys {
                let from = self.state_row(chunked, sequence, head, key);
                let at = key * self.width + head * chunked.values;
                to[at..at + chunked.values].copy_from_slice(&state[from..from + chunked.values]);
            }
        }
    }

    /// The inverse of [`Block::read_state`].
    ///
    /// # Safety
    /// No other thread may write the state of this sequence and these heads.
    pub unsafe fn write_state<T: Copy>(
        &self,
        chunked: &Chunked<'_>,
        from: &[T],
        sequence: usize,
        state: &Scattered<'_, T>,
    ) {
        for head in 0..self.count {
            for key in 0..chunked.keys {
                let at = key * self.width + head * chunked.values;
                // SAFETY: the caller's.
                let row = unsafe { state.part(self.state_row(chunked, sequence, head, key), chunked.values) };
                row.copy_from_slice(&from[at..at + chunked.values]);
            }
        }
    }

    fn state_row(&self, chunked: &Chunked<'_>, sequence: usize, head: usize, key: usize) -> usize {
        ((sequence * chunked.heads + self.first + head) * chunked.keys + key) * chunked.values
    }

    /// Where the block's part of saved state `border` lies.
    pub fn border(&self, chunked: &Chunked<'_>, border: usize) -> usize {
        border * chunked.state() + self.first * chunked.keys * chunked.values
    }
}

/// The factors of a chunk, head after head; each head has `chunk` tokens' or `chunk * rank` rows' worth of room.
pub(super) struct Factors<'a, T> {
    /// Sums of decays since the chunk's begin, for each row.
    pub sums: &'a mut [T],
    /// The scale, for each row.
    pub scales: &'a mut [T],
    /// exp of the sums, for each row: what is left of the state before the chunk.
    pub left: &'a mut [T],
    /// exp of the differences from the last sum, for each row: what is left of a write at the chunk's end.
    pub ends: &'a mut [T],
    /// What is left of the state at the chunk's end, for each head.
    pub last: &'a mut [T],
    /// Rows of a head.
    pub room: usize,
}

impl<'a, T: Real> Factors<'a, T> {
    /// Elements of scratch memory.
    pub fn sizes(chunked: &Chunked<'_>) -> [usize; 5] {
        let room = chunked.chunk() * chunked.rank * HEADS;
        [room, room, room, room, HEADS]
    }

    pub fn new(chunked: &Chunked<'_>, [sums, scales, left, ends, last]: [&'a mut [T]; 5]) -> Self {
        Self { sums, scales, left, ends, last, room: chunked.chunk() * chunked.rank }
    }

    /// Fills in the factors of some tokens.
    pub fn fill(
        &mut self,
        isa: crate::Isa,
        chunked: &Chunked<'_>,
        inputs: &Inputs<'_, T>,
        block: &Block,
        tokens: &Range<usize>,
    ) {
        let (rank, rows) = (chunked.rank, tokens.len() * chunked.rank);
        for head in 0..block.count {
            let own = head * self.room..head * self.room + rows;
            let (sums, scales) = (&mut self.sums[own.clone()], &mut self.scales[own.clone()]);
            let mut sum = T::ZERO;
            for (index, token) in tokens.clone().enumerate() {
                let at = token * chunked.heads + block.first + head;
                sum = sum + inputs.decay[at];
                sums[index * rank..(index + 1) * rank].fill(sum);
                scales[index * rank..(index + 1) * rank].fill(inputs.scale.map_or(T::ONE, |scale| scale[at]));
            }
            exponentials::<T>(isa, sums, T::ZERO, false, &mut self.left[own.clone()]);
            exponentials::<T>(isa, sums, sum, true, &mut self.ends[own.clone()]);
            self.last[head] = self.left[own.end - 1];
        }
    }

    /// Rows of a head.
    pub fn of(&self, head: usize, rows: usize) -> Range<usize> {
        head * self.room..head * self.room + rows
    }
}

kernel! {
    /// exp(x), or exp(from - x).
    pub(super) fn exponentials[I; T: Real](x: &[T], from: T, minus: bool, y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            let exponent = if minus { from - x } else { x };
            *y = exponent.exp::<I>();
        }
    }

    /// Multiplies columns `columns` of each row by a factor of the row.
    pub(super) fn scale_rows[_I; T: Real](x: &mut [T], width: usize, columns: Range<usize>, factors: &[T]) {
        for (x, &factor) in x.chunks_exact_mut(width).zip(factors) {
            for x in &mut x[columns.clone()] {
                *x = *x * factor;
            }
        }
    }

    /// Multiplies columns `columns` of all rows by one factor.
    pub(super) fn scale_columns[_I; T: Real](x: &mut [T], width: usize, columns: Range<usize>, factor: T) {
        for x in x.chunks_exact_mut(width) {
            for x in &mut x[columns.clone()] {
                *x = *x * factor;
            }
        }
    }

    /// `x[i] . y[i]` over some columns, for each row.
    pub(super) fn row_dots[I; T: Real](x: &[T], y: &[T], width: usize, columns: Range<usize>, dots: &mut [T]) {
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
        for (dot, (x, y)) in dots.iter_mut().zip(rows) {
            let (x, y) = (&x[columns.clone()], &y[columns.clone()]);
            *dot = crate::lanes::sum_of(x.len(), |i| x[i] * y[i]);
        }
    }
}
