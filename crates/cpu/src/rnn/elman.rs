//! The simple recurrence (Elman, "Finding structure in time", 1990): `h' = act(W_ih x + b_ih + W_hh h + b_hh)`.

use super::cell::{Cell, Step, StepBack};
use crate::real::Real;
use crate::tier::Tier;

/// With act = tanh.
#[derive(Clone, Copy, Debug, Default)]
pub struct ElmanTanh;

/// With act = max(0, x).
#[derive(Clone, Copy, Debug, Default)]
pub struct ElmanRelu;

impl Cell for ElmanTanh {
    const GATES: usize = 1;
    /// The new state.
    const SAVED: usize = 1;
    const MEMORY: bool = false;
    const SEPARATE: bool = false;

    #[inline(always)]
    fn step<I: Tier, T: Real>(self, step: Step<'_, T>) {
        let n = step.h.len();
        let (input, hidden, saved) = (&step.input[..n], &step.hidden[..n], &mut step.saved[..n]);
        for k in 0..n {
            let value = (input[k] + hidden[k]).tanh::<I>();
            step.h[k] = value;
            saved[k] = value;
        }
    }

    #[inline(always)]
    fn back<I: Tier, T: Real>(self, step: StepBack<'_, T>) {
        let n = step.dh.len();
        let (saved, dinput) = (&step.saved[..n], &mut step.dinput[..n]);
        for k in 0..n {
            dinput[k] = step.dh[k] * (T::ONE - saved[k] * saved[k]);
            step.dh[k] = T::ZERO;
        }
    }
}

impl Cell for ElmanRelu {
    const GATES: usize = 1;
    /// The new state.
    const SAVED: usize = 1;
    const MEMORY: bool = false;
    const SEPARATE: bool = false;

    #[inline(always)]
    fn step<I: Tier, T: Real>(self, step: Step<'_, T>) {
        let n = step.h.len();
        let (input, hidden, saved) = (&step.input[..n], &step.hidden[..n], &mut step.saved[..n]);
        for k in 0..n {
            let sum = input[k] + hidden[k];
            let value = if sum < T::ZERO { T::ZERO } else { sum };
            step.h[k] = value;
            saved[k] = value;
        }
    }

    #[inline(always)]
    fn back<I: Tier, T: Real>(self, step: StepBack<'_, T>) {
        let n = step.dh.len();
        let (saved, dinput) = (&step.saved[..n], &mut step.dinput[..n]);
        for k in 0..n {
            dinput[k] = if saved[k] > T::ZERO { step.dh[k] } else { T::ZERO };
            step.dh[k] = T::ZERO;
        }
    }
}
