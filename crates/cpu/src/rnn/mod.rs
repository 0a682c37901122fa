//! Recurrent cells over whole sequences.
//!
//! A cell's gates are sums of two products, one with the input and one with the hidden state. The first is computed for all
//! tokens at once. Then a loop over time multiplies the hidden state of a block of sequences with the recurrent weight, which
//! was packed once, and passes all gates in one go. Blocks of sequences are independent, so they run on different threads
//! without meeting in each step. Backward collects the gradients of all gates in the same way, and the gradients of the weights
//! are one product each at the end.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cell`] | what a cell is: its gates, forward and backward for one step |
//! | [`lstm`], [`gru`], [`elman`] | the cells |
//! | `step` | products with the recurrent weight |
//! | `walk` | the loops over time |
//!
//! Sequences are `[B, T, D]`; shorter ones end early: their state stays, and their outputs are zero. A reversed pass begins at
//! each sequence's own end.

pub mod cell;
pub mod elman;
pub mod gru;
pub mod lstm;
mod step;
mod walk;

use cupola_core::Buffer;
use cupola_core::alloc::Placement;

use crate::gemm::{Epilogue, MatMut, MatRef, Product};
use crate::image_norm::{Images, channel_sums};
use crate::multiply::Multiply;
use cell::Cell;

/// Sizes of a batch of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences<'a> {
    /// Number of sequences, B.
    pub batch: usize,
    /// Steps of the longest sequence, T.
    pub steps: usize,
    /// Width of the input, D.
    pub inputs: usize,
    /// Width of the hidden state, H.
    pub hidden: usize,
    /// Steps of each sequence, all T when not given.
    pub lengths: Option<&'a [usize]>,
    /// Whether time runs from each sequence's end to its start.
    pub reverse: bool,
}

impl Sequences<'_> {
    fn tokens(&self) -> usize {
        self.batch * self.steps
    }

    fn length(&self, sequence: usize) -> usize {
        self.lengths.map_or(self.steps, |lengths| lengths[sequence])
    }

    /// The token that a sequence meets in step `step`, which is below its length.
    fn time(&self, sequence: usize, step: usize) -> usize {
        if self.reverse { self.length(sequence) - 1 - step } else { step }
    }
}

/// A cell's parameters, G gates of H rows each: `[G H, D]`, `[G H, H]`, `[G H]`, `[G H]`.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, T> {
    /// For the input.
    pub input: &'a [T],
    /// For the hidden state.
    pub hidden: &'a [T],
    /// Added to the product with the input.
    pub input_bias: Option<&'a [T]>,
    /// Added to the product with the hidden state.
    pub hidden_bias: Option<&'a [T]>,
}

/// States `[B, H]`: h, and c for cells that have one.
#[derive(Clone, Copy, Debug)]
pub struct States<'a, T> {
    /// The hidden state, zero when not given.
    pub h: Option<&'a [T]>,
    /// The cell's memory, zero when not given.
    pub c: Option<&'a [T]>,
}

/// What a pass over the sequences writes.
#[derive(Debug)]
pub struct Results<'a, T> {
    /// The hidden state after each token, `[B, T, H]`; zero behind a sequence's end.
    pub y: &'a mut [T],
    /// What backward needs, `[B, T, SAVED H]`, if it will be called.
    pub saved: Option<&'a mut [T]>,
    /// The hidden state at the end, `[B, H]`.
    pub h: &'a mut [T],
    /// The memory at the end, `[B, H]`; empty for cells without.
    pub c: &'a mut [T],
}

/// The gradients of what a pass wrote; those not given are zero.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T> {
    /// Of the outputs, `[B, T, H]`.
    pub dy: Option<&'a [T]>,
    /// Of the final states.
    pub last: States<'a, T>,
}

/// Gradients that backward writes. Those of the weights are written where they are asked for, or added to what is there.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// `[B, T, D]`
    pub dx: Option<&'a mut [T]>,
    /// `[G H, D]`, and whether to add to it.
    pub dinput: Option<(&'a mut [T], bool)>,
    /// `[G H, H]`, and whether to add to it.
    pub dhidden: Option<(&'a mut [T], bool)>,
    /// `[G H]`
    pub dinput_bias: &'a mut [T],
    /// `[G H]`
    pub dhidden_bias: &'a mut [T],
    /// `[B, H]`
    pub dh: &'a mut [T],
    /// `[B, H]`; empty for cells without a memory.
    pub dc: &'a mut [T],
}

#[track_caller]
fn check<T, C: Cell>(sequences: &Sequences<'_>, weights: &Weights<'_, T>, x: &[T], first: &States<'_, T>) {
    let (hidden, rows) = (sequences.hidden, C::GATES * sequences.hidden);
    assert_eq!(x.len(), sequences.tokens() * sequences.inputs, "input of {sequences:?}");
    assert_eq!(
        (weights.input.len(), weights.hidden.len()),
        (rows * sequences.inputs, rows * hidden),
        "weights of {sequences:?}"
    );
    let biases = [weights.input_bias, weights.hidden_bias];
    assert!(biases.into_iter().flatten().all(|b| b.len() == rows), "biases of {sequences:?}");
    let states = [first.h, first.c];
    assert!(states.into_iter().flatten().all(|s| s.len() == sequences.batch * hidden), "states of {sequences:?}");
    assert!(
        sequences.lengths.is_none_or(|l| l.len() == sequences.batch && l.iter().all(|&l| l <= sequences.steps)),
        "lengths of {sequences:?}"
    );
}

/// Runs the cell over all sequences.
///
/// # Panics
/// When a slice has another length than the sizes say.
#[track_caller]
pub fn forward<T: Multiply, C: Cell>(
    cell: C,
    sequences: &Sequences<'_>,
    weights: &Weights<'_, T>,
    x: &[T],
    first: States<'_, T>,
    results: Results<'_, T>,
) {
    check::<T, C>(sequences, weights, x, &first);
    let (hidden, rows) = (sequences.hidden, C::GATES * sequences.hidden);
    let memory = if C::MEMORY { hidden } else { 0 };
    assert_eq!(results.y.len(), sequences.tokens() * hidden, "output of {sequences:?}");
    assert_eq!(
        (results.h.len(), results.c.len()),
        (sequences.batch * hidden, sequences.batch * memory),
        "final states of {sequences:?}"
    );
    let mut gates = Buffer::uninit(T::DTYPE, sequences.tokens() * rows, Placement::Passing);
    let gates = gates.as_mut_slice::<T>();
    T::Product::matmul(
        MatRef::new(x, sequences.tokens(), sequences.inputs),
        MatRef::new(weights.input, rows, sequences.inputs).t(),
        MatMut::new(gates, sequences.tokens(), rows),
        Epilogue { bias: weights.input_bias, ..Epilogue::default() },
    );
    walk::forward(cell, sequences, weights, gates, first, results);
}

/// The gradients of everything that went in, from what [`forward`] wrote and the gradients of its results.
///
/// # Panics
/// When a slice has another length than the sizes say.
#[track_caller]
#[allow(clippy::too_many_arguments)]
pub fn backward<T: Multiply, C: Cell>(
    cell: C,
    sequences: &Sequences<'_>,
    weights: &Weights<'_, T>,
    x: &[T],
    first: States<'_, T>,
    (y, saved): (&[T], &[T]),
    upstream: Upstream<'_, T>,
    gradients: Gradients<'_, T>,
) {
    check::<T, C>(sequences, weights, x, &first);
    let (tokens, hidden, rows) = (sequences.tokens(), sequences.hidden, C::GATES * sequences.hidden);
    assert_eq!((y.len(), saved.len()), (tokens * hidden, tokens * C::SAVED * hidden), "{sequences:?}");
    let Gradients { dx, dinput, dhidden, dinput_bias, dhidden_bias, dh, dc } = gradients;
    // The gradients of the gates, as sums with the input and, where that differs, with the hidden state.
    let mut of_input = Buffer::uninit(T::DTYPE, tokens * rows, Placement::Passing);
    let mut of_hidden = Buffer::uninit(T::DTYPE, if C::SEPARATE { tokens * rows } else { 0 }, Placement::Passing);
    let mut before = Buffer::uninit(T::DTYPE, tokens * hidden, Placement::Passing);
    let (of_input, of_hidden) = (of_input.as_mut_slice::<T>(), of_hidden.as_mut_slice::<T>());
    let before = before.as_mut_slice::<T>();
    walk::previous(sequences, y, first.h, before);
    let states = walk::Reverse { before, c: first.c, saved, upstream };
    walk::backward(cell, sequences, weights, states, [of_input, of_hidden], [dh, dc]);
    let of_input: &[T] = of_input;
    let of_hidden: &[T] = if C::SEPARATE { of_hidden } else { of_input };

    if let Some(dx) = dx {
        T::Product::matmul(
            MatRef::new(of_input, tokens, rows),
            MatRef::new(weights.input, rows, sequences.inputs),
            MatMut::new(dx, tokens, sequences.inputs),
            Epilogue::default(),
        );
    }
    let weight = |gates: &[T], other: &[T], width: usize, target: Option<(&mut [T], bool)>| {
        if let Some((target, accumulate)) = target {
            T::Product::matmul(
                MatRef::new(gates, tokens, rows).t(),
                MatRef::new(other, tokens, width),
                MatMut::new(target, rows, width),
                Epilogue { accumulate, ..Epilogue::default() },
            );
        }
    };
    weight(of_input, x, sequences.inputs, dinput);
    weight(of_hidden, before, hidden, dhidden);
    let images = Images { batch: tokens, channels: rows, inner: 1 };
    channel_sums(&images, of_input, dinput_bias);
    if C::SEPARATE {
        channel_sums(&images, of_hidden, dhidden_bias);
    } else {
        dhidden_bias.copy_from_slice(dinput_bias);
    }
}
