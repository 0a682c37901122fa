//! Forward: a head walks over a sequence, chunk by chunk.

use std::ops::Range;

use cupola_core::parallel_for;

use super::pairs::{Chunk, weights};
use super::{CHUNK, Gla, Inputs};
use crate::chunked::{Scratch, parts, product};
use crate::gemm::{MatMut, MatRef};
use crate::multiply::Multiply;
use crate::real::Real;
use crate::scattered::Scattered;
use crate::{isa, kernel};

#[track_caller]
pub(super) fn run<T: Multiply>(gla: &Gla<'_>, inputs: &Inputs<'_, T>, y: &mut [T], last: &mut [T], borders: &mut [T]) {
    gla.check(inputs);
    assert_eq!(y.len(), inputs.v.len(), "size of y of {gla:?}");
    assert!(last.is_empty() || last.len() == gla.state_len(), "size of the final state of {gla:?}");
    assert!(borders.is_empty() || borders.len() == gla.borders_len(), "size of what is saved of {gla:?}");
    let (isa, first_border) = (isa(), gla.borders());
    let (y, last, borders) = (Scattered::new(y), Scattered::new(last), Scattered::new(borders));
    parallel_for(gla.sequences() * gla.heads, |piece| {
        let (sequence, head) = (piece / gla.heads, piece % gla.heads);
        let (start, end) = (gla.offsets[sequence], gla.offsets[sequence + 1]);
        let (keys, values, room) = (gla.keys, gla.values, CHUNK.min(end - start));
        let sizes = [
            gla.state(),
            room * keys,
            room * keys,
            room * keys,
            room * keys,
            room * keys,
            room * values,
            room * values,
            room * room,
        ];
        let mut memory = Scratch::new::<T>(&[sizes.iter().sum()]);
        let [memory] = memory.parts::<T, 1>([sizes.iter().sum()]);
        let [state, q, k, sums, near, far, v, rows_y, a] = parts(memory, sizes);
        let mut known = inputs.state.is_some();
        match inputs.state {
            Some(initial) => state.copy_from_slice(&initial[gla.place(sequence, head)]),
            None => state.fill(T::ZERO),
        }
        for (index, from) in (start..end).step_by(CHUNK).enumerate() {
            let tokens = from..end.min(from + CHUNK);
            let rows = tokens.len();
            if index > 0 && !borders.is_empty() {
                let place = gla.place(first_border[sequence] + index - 1, head);
                // SAFETY: sequences and heads differ between pieces, here and below.
                unsafe { borders.part(place.start, place.len()) }.copy_from_slice(state);
            }
            gather(gla, inputs, head, &tokens, [&mut *q, &mut *k, &mut *v, &mut *sums]);
            weights(isa, Chunk { rows, keys, q, k, sums }, a, near, far);
            product(MatRef::new(a, rows, rows), MatRef::new(v, rows, values), MatMut::new(rows_y, rows, values), false);
            if known {
                let used = rows * keys;
                decayed::<T>(isa, &q[..used], &sums[..used], &[], near);
                product(
                    MatRef::new(near, rows, keys),
                    MatRef::new(state, keys, values),
                    MatMut::new(rows_y, rows, values),
                    true,
                );
            }
            // SAFETY: as above.
            unsafe { gla.scatter(&rows_y[..rows * values], values, head, &tokens, &y) };
            if tokens.end == end && last.is_empty() {
                break;
            }
            let used = rows * keys;
            let (sums, total) = (&sums[..used], &sums[used - keys..used]);
            decayed::<T>(isa, &k[..used], sums, total, far);
            decay_state::<T>(isa, total, state);
            product(
                MatRef::new(far, rows, keys).t(),
                MatRef::new(v, rows, values),
                MatMut::new(state, keys, values),
                true,
            );
            known = true;
        }
        if !last.is_empty() {
            let place = gla.place(sequence, head);
            // SAFETY: as above.
            unsafe { last.part(place.start, place.len()) }.copy_from_slice(state);
        }
    });
}

/// A chunk's operands, and the sums of its decays.
pub(super) fn gather<T: Real>(
    gla: &Gla<'_>,
    inputs: &Inputs<'_, T>,
    head: usize,
    tokens: &Range<usize>,
    [q, k, v, sums]: [&mut [T]; 4],
) {
    gla.gather(inputs.q, gla.keys, head, tokens, q);
    gla.gather(inputs.k, gla.keys, head, tokens, k);
    gla.gather(inputs.v, gla.values, head, tokens, v);
    gla.gather(inputs.decay, gla.keys, head, tokens, sums);
    for row in 1..tokens.len() {
        let (before, now) = sums.split_at_mut(row * gla.keys);
        let before = &before[(row - 1) * gla.keys..];
        now[..gla.keys].iter_mut().zip(before).for_each(|(now, &before)| *now = *now + before);
    }
}

kernel! {
    /// `y = x exp(sums)`, or with the sums at the end `y = x exp(total - sums)`.
    pub(super) fn decayed[I; T: Real](x: &[T], sums: &[T], total: &[T], y: &mut [T]) {
        if total.is_empty() {
            for ((y, &x), &sum) in y.iter_mut().zip(x).zip(sums) {
                *y = x * sum.exp::<I>();
            }
            return;
        }
        let rows = x.chunks_exact(total.len()).zip(sums.chunks_exact(total.len()));
        for (y, (x, sums)) in y.chunks_exact_mut(total.len()).zip(rows) {
            for d in 0..total.len() {
                y[d] = x[d] * (total[d] - sums[d]).exp::<I>();
            }
        }
    }

    /// Multiplies each row of a state by the exponential of its sum.
    pub(super) fn decay_state[I; T: Real](total: &[T], state: &mut [T]) {
        let width = state.len() / total.len().max(1);
        for (row, &total) in state.chunks_exact_mut(width.max(1)).zip(total) {
            let factor = total.exp::<I>();
            row.iter_mut().for_each(|s| *s = *s * factor);
        }
    }
}
