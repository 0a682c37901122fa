//! Forward: a block of heads walks over a sequence, chunk by chunk.

use cupola_core::parallel_for;

use super::block::{Block, Factors, Scratch, product, scale_columns, scale_rows};
use super::weights::{Triangle, weigh};
use super::{CHUNK, Chunked, HEADS, Inputs, delta};
use crate::gemm::{MatMut, MatRef};
use crate::isa;
use crate::multiply::Multiply;
use crate::scattered::Scattered;

#[track_caller]
pub(super) fn run<T: Multiply>(
    chunked: &Chunked<'_>,
    inputs: &Inputs<'_, T>,
    y: &mut [T],
    last: &mut [T],
    borders: &mut [T],
) {
    chunked.check(inputs);
    assert_eq!(y.len(), inputs.v.len(), "size of y of {chunked:?}");
    assert!(last.is_empty() || last.len() == chunked.state_len(), "size of the final state of {chunked:?}");
    assert!(borders.is_empty() || borders.len() == chunked.borders_len(), "size of what is saved of {chunked:?}");
    let (y, last, borders) = (Scattered::new(y), Scattered::new(last), Scattered::new(borders));
    let (blocks, first_border) = (Block::all(chunked), chunked.borders());
    let isa = isa();
    parallel_for(chunked.sequences() * blocks.len(), |piece| {
        let (sequence, block) = (piece / blocks.len(), &blocks[piece % blocks.len()]);
        let job = Job { chunked, inputs, block, sequence, first_border: first_border[sequence] };
        // SAFETY: sequences and blocks differ between pieces.
        unsafe { job.run(isa, &y, &last, &borders) }
    });
}

struct Job<'a, T> {
    chunked: &'a Chunked<'a>,
    inputs: &'a Inputs<'a, T>,
    block: &'a Block,
    sequence: usize,
    /// The number of the sequence's first saved state.
    first_border: usize,
}

impl<T: Multiply> Job<'_, T> {
    /// # Safety
    /// No other thread may write this block's part of this sequence.
    unsafe fn run(&self, isa: crate::Isa, y: &Scattered<'_, T>, last: &Scattered<'_, T>, borders: &Scattered<'_, T>) {
        let Job { chunked, inputs, block, sequence, .. } = *self;
        let (start, end) = (chunked.offsets[sequence], chunked.offsets[sequence + 1]);
        let (chunk, width, keys, values) = (chunked.chunk(), block.width, chunked.keys, chunked.values);
        if width == 0 {
            return;
        }
        let room = chunk.min(end - start) * chunked.rank;
        let of_factors = Factors::<T>::sizes(chunked);
        let sizes = [keys * width, room * width, room * width, room * width, room * room, room * room, room * HEADS];
        let mut memory = Scratch::new::<T>(&[sizes.iter().sum(), of_factors.iter().sum()]);
        let [own, of_these] = memory.parts::<T, 2>([sizes.iter().sum(), of_factors.iter().sum()]);
        let [state, rows_y, x, ks, g, a, beta] = parts(own, sizes);
        let mut factors = Factors::new(chunked, parts(of_these, of_factors));
        let mut known = inputs.state.is_some();
        match inputs.state {
            Some(initial) => block.read_state(chunked, initial, sequence, state),
            None => state.fill(T::ZERO),
        }
        for (index, from) in (start..end).step_by(chunk).enumerate() {
            let tokens = from..end.min(from + chunk);
            let rows = tokens.len() * chunked.rank;
            let used = rows * width;
            if index > 0 && !borders.is_empty() {
                let at = block.border(chunked, self.first_border + index - 1);
                // SAFETY: the caller's.
                unsafe { borders.part(at, state.len()) }.copy_from_slice(state);
            }
            factors.fill(isa, chunked, inputs, block, &tokens);
            let (q, k) = (block.keys(chunked, inputs.q, &tokens), block.keys(chunked, inputs.k, &tokens));
            block.gather(chunked, inputs.v, &tokens, x);
            if known {
                product(q, MatRef::new(state, keys, width), MatMut::new(rows_y, rows, width), false);
                if inputs.beta.is_some() {
                    product(k, MatRef::new(state, keys, width), MatMut::new(ks, rows, width), false);
                }
            } else {
                rows_y[..used].fill(T::ZERO);
            }
            if let Some(all) = inputs.beta {
                product(k, k.t(), MatMut::new(g, rows, rows), false);
                for head in 0..block.count {
                    let (own, columns) = (factors.of(head, rows), head * values..(head + 1) * values);
                    let beta = &mut beta[..rows];
                    beta.iter_mut().zip(tokens.clone()).for_each(|(beta, token)| {
                        *beta = all[token * chunked.heads + block.first + head];
                    });
                    let (sums, left) = (&factors.sums[own.clone()], &factors.left[own]);
                    let ks = known.then_some(&ks[..]);
                    delta::right_side::<T>(isa, &mut x[..used], ks, &mut [], width, columns.clone(), left, beta);
                    delta::system::<T>(isa, rows, g, sums, beta, a);
                    delta::solve(isa, rows, a, x, rows, width, columns);
                }
            }
            product(q, k.t(), MatMut::new(g, rows, rows), false);
            for head in 0..block.count {
                let (own, columns) = (factors.of(head, rows), head * values..(head + 1) * values);
                if known {
                    scale_rows::<T>(isa, &mut rows_y[..used], width, columns.clone(), &factors.left[own.clone()]);
                }
                let diagonals = self.diagonals(head, &tokens, &factors.scales[own.clone()], &mut beta[..rows]);
                let triangle = Triangle {
                    rank: chunked.rank,
                    stride: rows,
                    sums: &factors.sums[own.clone()],
                    scales: &factors.scales[own],
                    diagonals,
                };
                weigh::<T>(isa, &triangle, g, a);
                lower_times(half(chunked.rank), a, rows, x, rows_y, width, columns);
            }
            // SAFETY: the caller's.
            unsafe { block.scatter(chunked, &rows_y[..used], &tokens, y) };
            if tokens.end == end && last.is_empty() {
                break;
            }
            for head in 0..block.count {
                let (own, columns) = (factors.of(head, rows), head * values..(head + 1) * values);
                let ends = &mut factors.ends[own.clone()];
                ends.iter_mut().zip(&factors.scales[own]).for_each(|(end, &scale)| *end = *end * scale);
                scale_rows::<T>(isa, &mut x[..used], width, columns.clone(), ends);
                scale_columns::<T>(isa, state, width, columns, factors.last[head]);
            }
            product(k.t(), MatRef::new(x, rows, width), MatMut::new(state, keys, width), true);
            known = true;
        }
        if !last.is_empty() {
            // SAFETY: the caller's.
            unsafe { block.write_state(chunked, state, sequence, last) };
        }
    }

    /// The factors with which a head's rows read their own token's writes.
    fn diagonals<'b>(
        &self,
        head: usize,
        tokens: &std::ops::Range<usize>,
        scales: &'b [T],
        room: &'b mut [T],
    ) -> &'b [T] {
        diagonals(self.chunked, self.inputs, self.block, head, tokens, scales, room)
    }
}

/// The factors with which a head's rows read their own token's writes: the scales, or, in `room`, the diagonals.
pub(super) fn diagonals<'b, T: Multiply>(
    chunked: &Chunked<'_>,
    inputs: &Inputs<'_, T>,
    block: &Block,
    head: usize,
    tokens: &std::ops::Range<usize>,
    scales: &'b [T],
    room: &'b mut [T],
) -> &'b [T] {
    let Some(all) = inputs.diagonal else { return scales };
    for (rows, token) in room.chunks_exact_mut(chunked.rank).zip(tokens.clone()) {
        rows.fill(all[token * chunked.heads + block.first + head]);
    }
    room
}

/// Cuts a slice into parts of the sizes given.
pub(crate) fn parts<T, const N: usize>(slice: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    let mut rest = slice;
    sizes.map(|size| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        part
    })
}

/// Rows of a triangle that are multiplied at a time, whole tokens: half of a chunk, whose upper right quarter is left out.
pub(super) fn half(rank: usize) -> usize {
    (CHUNK / 2).next_multiple_of(rank)
}

/// `y += a x` for columns `columns`, where a is zero behind each token's own rows.
pub(super) fn lower_times<T: Multiply>(
    half: usize,
    a: &[T],
    rows: usize,
    x: &[T],
    y: &mut [T],
    width: usize,
    columns: std::ops::Range<usize>,
) {
    for first in (0..rows).step_by(half) {
        let end = rows.min(first + half);
        product(
            MatRef::strided(a, first * rows, end - first, end, rows as isize, 1),
            MatRef::strided(x, columns.start, end, columns.len(), width as isize, 1),
            MatMut::strided(y, first * width + columns.start, end - first, columns.len(), width),
            true,
        );
    }
}
