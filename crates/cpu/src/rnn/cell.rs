//! What a recurrent cell is.

use crate::real::Real;
use crate::tier::Tier;

/// One step of one sequence. All rows are `[H]` or several times that, gate after gate.
#[derive(Debug)]
pub struct Step<'a, T> {
    /// `[GATES H]`: the product with the input.
    pub input: &'a [T],
    /// `[GATES H]`: the product with the hidden state.
    pub hidden: &'a [T],
    /// The hidden state, before and after.
    pub h: &'a mut [T],
    /// The memory, before and after.
    pub c: &'a mut [T],
    /// `[SAVED H]`
    pub saved: &'a mut [T],
}

/// One step back.
#[derive(Debug)]
pub struct StepBack<'a, T> {
    /// What the step saved.
    pub saved: &'a [T],
    /// The hidden state before the step.
    pub h: &'a [T],
    /// The memory before the step.
    pub c: &'a [T],
    /// The gradient of the hidden state after the step; becomes that of the one before, as far as it does not pass through the
    /// product with the hidden state.
    pub dh: &'a mut [T],
    /// The gradient of the memory after the step; becomes that of the one before.
    pub dc: &'a mut [T],
    /// `[GATES H]`: becomes the gradient of the product with the input.
    pub dinput: &'a mut [T],
    /// `[GATES H]`: becomes the gradient of the product with the hidden state where it differs; empty otherwise.
    pub dhidden: &'a mut [T],
}

/// A recurrent cell. Rows of its weights are its gates one after the other, H rows each.
pub trait Cell: Copy + Send + Sync + 'static {
    /// How many gates there are.
    const GATES: usize;
    /// Values per hidden unit that backward reads.
    const SAVED: usize;
    /// Whether there is a memory beside the hidden state.
    const MEMORY: bool;
    /// Whether the products with input and hidden state have different gradients.
    const SEPARATE: bool;
    /// Where in the saved values the memory after the step stands, for cells that have one.
    const MEMORY_AT: usize = 0;
    /// One step.
    fn step<I: Tier, T: Real>(self, step: Step<'_, T>);
    /// One step back.
    fn back<I: Tier, T: Real>(self, step: StepBack<'_, T>);
}

/// The rows of `N` gates.
#[inline(always)]
pub(super) fn rows<T, const N: usize>(all: &[T], hidden: usize) -> [&[T]; N] {
    std::array::from_fn(|gate| &all[gate * hidden..(gate + 1) * hidden])
}

/// The rows of four gates, for writing.
#[inline(always)]
pub(super) fn four<T>(all: &mut [T], hidden: usize) -> [&mut [T]; 4] {
    let (a, rest) = all.split_at_mut(hidden);
    let (b, rest) = rest.split_at_mut(hidden);
    let (c, rest) = rest.split_at_mut(hidden);
    [a, b, c, &mut rest[..hidden]]
}

/// The rows of three gates, for writing.
#[inline(always)]
pub(super) fn three<T>(all: &mut [T], hidden: usize) -> [&mut [T]; 3] {
    let (a, rest) = all.split_at_mut(hidden);
    let (b, rest) = rest.split_at_mut(hidden);
    [a, b, &mut rest[..hidden]]
}
