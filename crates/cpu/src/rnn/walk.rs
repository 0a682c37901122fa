//! The loops over time.

use cupola_core::parallel_for;
use cupola_core::pool::Parts;

use super::cell::{Cell, Step, StepBack};
use super::step::{Left, Right, Start, kernels};
use super::{Results, Sequences, States, Upstream, Weights};
use crate::multiply::Multiply;
use crate::real::Real;
use crate::{Isa, isa, kernel};

/// From this many sequences on there are two blocks at least: a thread without work costs more than fuller kernels gain.
const SPLIT: usize = 8;

/// Sequences in a block: about equal, at most what a kernel takes.
fn block_rows<T: Multiply>(isa: Isa, batch: usize) -> usize {
    let blocks = batch.div_ceil(kernels::<T>(isa).rows()).max(if batch >= SPLIT { 2 } else { 1 });
    batch.div_ceil(blocks).max(1)
}

kernel! {
    fn step[I; T: Real, C: Cell](cell: C, step: Step<'_, T>) {
        cell.step::<I, T>(step)
    }

    fn back[I; T: Real, C: Cell](cell: C, dy: Option<&[T]>, step: StepBack<'_, T>) {
        if let Some(dy) = dy {
            for (dh, &dy) in step.dh.iter_mut().zip(dy) {
                *dh = *dh + dy;
            }
        }
        cell.back::<I, T>(step)
    }
}

/// Row `index` of rows of `width` elements.
fn row<T>(data: &[T], index: usize, width: usize) -> &[T] {
    &data[index * width..(index + 1) * width]
}

fn row_mut<T>(data: &mut [T], index: usize, width: usize) -> &mut [T] {
    &mut data[index * width..(index + 1) * width]
}

/// Copies the given states of a block of sequences, or zeros.
fn load<T: Real>(states: Option<&[T]>, first: usize, target: &mut [T]) {
    match states {
        Some(states) => target.copy_from_slice(&states[first..first + target.len()]),
        None => target.fill(T::ZERO),
    }
}

/// Runs the cell over all sequences, given the products with the input `gates`, `[B, T, GATES H]`.
pub(super) fn forward<T: Multiply, C: Cell>(
    cell: C,
    sequences: &Sequences<'_>,
    weights: &Weights<'_, T>,
    gates: &[T],
    first: States<'_, T>,
    results: Results<'_, T>,
) {
    let (isa, steps, hidden) = (isa(), sequences.steps, sequences.hidden);
    if sequences.batch == 0 || hidden == 0 {
        return;
    }
    let width = C::GATES * hidden;
    // W_hh^T: column j of the operand is row j of the weight.
    let right = Right::new(weights.hidden, hidden, width, 1, hidden);
    let bias = weights.hidden_bias.map(|bias| {
        let mut padded = bias.to_vec();
        padded.resize(right.padded(), T::ZERO);
        padded
    });
    let rows = block_rows::<T>(isa, sequences.batch);
    let memory = if C::MEMORY { hidden } else { 0 };
    let keep = results.saved.is_some();
    let kept = if keep { C::SAVED * hidden } else { 0 };
    let y = Parts::new(results.y, rows * steps * hidden);
    let saved = Parts::new(results.saved.unwrap_or_default(), rows * steps * kept);
    let (last_h, last_c) = (Parts::new(results.h, rows * hidden), Parts::new(results.c, rows * memory));
    parallel_for(sequences.batch.div_ceil(rows), |block| {
        let (_, h) = last_h.take(block);
        let c = if C::MEMORY { last_c.take(block).1 } else { &mut [] };
        let y = if steps > 0 { y.take(block).1 } else { &mut [] };
        let saved = if keep && steps > 0 { saved.take(block).1 } else { &mut [] };
        let (begin, count) = (block * rows, h.len() / hidden);
        load(first.h, begin * hidden, h);
        load(first.c, begin * memory, c);
        let mut left = Left::new(isa, count, hidden);
        let mut products = vec![T::ZERO; count * right.padded()];
        let mut unsaved = vec![T::ZERO; if keep { 0 } else { C::SAVED * hidden }];
        for index in 0..count {
            let end = sequences.length(begin + index);
            y[(index * steps + end) * hidden..(index + 1) * steps * hidden].fill(T::ZERO);
        }
        for now in 0..steps {
            let start = bias.as_deref().map_or(Start::Zero, Start::Row);
            left.multiply(h, &right, start, &mut products);
            for index in (0..count).filter(|&index| now < sequences.length(begin + index)) {
                let time = sequences.time(begin + index, now);
                let saved = if keep { row_mut(saved, index * steps + time, kept) } else { &mut unsaved };
                let all = Step {
                    input: row(gates, (begin + index) * steps + time, width),
                    hidden: &row(&products, index, right.padded())[..width],
                    h: row_mut(h, index, hidden),
                    c: row_mut(c, index, memory),
                    saved,
                };
                step::<T, C>(isa, cell, all);
                row_mut(y, index * steps + time, hidden).copy_from_slice(row(h, index, hidden));
            }
        }
    });
}

/// The hidden state before each token, `[B, T, H]`; zero behind a sequence's end.
pub(super) fn previous<T: Real>(sequences: &Sequences<'_>, y: &[T], h: Option<&[T]>, before: &mut [T]) {
    let (steps, hidden) = (sequences.steps, sequences.hidden);
    if before.is_empty() {
        return;
    }
    let parts = Parts::new(before, steps * hidden);
    parallel_for(parts.len(), |sequence| {
        let (_, before) = parts.take(sequence);
        let y = row(y, sequence, steps * hidden);
        let length = sequences.length(sequence);
        before[length * hidden..].fill(T::ZERO);
        for now in 0..length {
            let target = row_mut(before, sequences.time(sequence, now), hidden);
            match (now, h) {
                (0, None) => target.fill(T::ZERO),
                (0, Some(h)) => target.copy_from_slice(row(h, sequence, hidden)),
                _ => target.copy_from_slice(row(y, sequences.time(sequence, now - 1), hidden)),
            }
        }
    });
}

/// What the loop backwards reads.
pub(super) struct Reverse<'a, T> {
    /// The hidden state before each token.
    pub before: &'a [T],
    /// The memory before the first token.
    pub c: Option<&'a [T]>,
    /// What forward saved.
    pub saved: &'a [T],
    pub upstream: Upstream<'a, T>,
}

/// The gradients of the products with input and hidden state, `[B, T, GATES H]` each (the second is empty unless they differ),
/// and those of the first states.
pub(super) fn backward<T: Multiply, C: Cell>(
    cell: C,
    sequences: &Sequences<'_>,
    weights: &Weights<'_, T>,
    states: Reverse<'_, T>,
    [of_input, of_hidden]: [&mut [T]; 2],
    [dh, dc]: [&mut [T]; 2],
) {
    let (isa, steps, hidden) = (isa(), sequences.steps, sequences.hidden);
    if sequences.batch == 0 || hidden == 0 {
        return;
    }
    let width = C::GATES * hidden;
    let right = Right::new(weights.hidden, width, hidden, hidden, 1);
    let rows = block_rows::<T>(isa, sequences.batch);
    let memory = if C::MEMORY { hidden } else { 0 };
    let separate = if C::SEPARATE { width } else { 0 };
    let of_input = Parts::new(of_input, rows * steps * width);
    let of_hidden = Parts::new(of_hidden, rows * steps * separate);
    let (dh, dc) = (Parts::new(dh, rows * hidden), Parts::new(dc, rows * memory));
    let Reverse { before, c, saved, upstream } = states;
    parallel_for(sequences.batch.div_ceil(rows), |block| {
        let (_, dh) = dh.take(block);
        let dc = if C::MEMORY { dc.take(block).1 } else { &mut [] };
        let of_input = if steps > 0 { of_input.take(block).1 } else { &mut [] };
        let of_hidden = if C::SEPARATE && steps > 0 { of_hidden.take(block).1 } else { &mut [] };
        let (begin, count) = (block * rows, dh.len() / hidden);
        load(upstream.last.h, begin * hidden, dh);
        load(upstream.last.c, begin * memory, dc);
        let mut left = Left::new(isa, count, width);
        let padded = right.padded();
        // The gradient of the hidden state, rows padded to whole panels.
        let mut carried = vec![T::ZERO; count * padded];
        let mut gates = vec![T::ZERO; count * width];
        let zeros = vec![T::ZERO; memory];
        for index in 0..count {
            row_mut(&mut carried, index, padded)[..hidden].copy_from_slice(row(dh, index, hidden));
            let end = sequences.length(begin + index);
            of_input[(index * steps + end) * width..(index + 1) * steps * width].fill(T::ZERO);
            if C::SEPARATE {
                of_hidden[(index * steps + end) * width..(index + 1) * steps * width].fill(T::ZERO);
            }
        }
        for now in (0..steps).rev() {
            for index in 0..count {
                let sequence = begin + index;
                let gates = row_mut(&mut gates, index, width);
                if now >= sequences.length(sequence) {
                    gates.fill(T::ZERO);
                    continue;
                }
                let time = sequences.time(sequence, now);
                let token = sequence * steps + time;
                let earlier = match now {
                    _ if !C::MEMORY => &[],
                    0 => c.map_or(&zeros[..], |c| row(c, sequence, hidden)),
                    _ => {
                        let token = sequence * steps + sequences.time(sequence, now - 1);
                        row(row(saved, token, C::SAVED * hidden), C::MEMORY_AT, hidden)
                    }
                };
                let dinput = row_mut(of_input, index * steps + time, width);
                let dhidden = row_mut(of_hidden, index * steps + time, separate);
                let all = StepBack {
                    saved: row(saved, token, C::SAVED * hidden),
                    h: row(before, token, hidden),
                    c: earlier,
                    dh: &mut row_mut(&mut carried, index, padded)[..hidden],
                    dc: row_mut(dc, index, memory),
                    dinput,
                    dhidden,
                };
                back::<T, C>(isa, cell, upstream.dy.map(|dy| row(dy, token, hidden)), all);
                gates.copy_from_slice(if C::SEPARATE {
                    row(of_hidden, index * steps + time, width)
                } else {
                    row(of_input, index * steps + time, width)
                });
            }
            left.multiply(&gates, &right, Start::Result, &mut carried);
        }
        for index in 0..count {
            row_mut(dh, index, hidden).copy_from_slice(&row(&carried, index, padded)[..hidden]);
        }
    });
}
