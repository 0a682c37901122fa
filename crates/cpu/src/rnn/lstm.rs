//! The long short-term memory (Hochreiter and Schmidhuber, 1997; with the forget gate of Gers et al., 2000):
//!
//! ```text
//! i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (W_ih x + b_ih + W_hh h + b_hh)
//! c' = f c + i g
//! h' = o tanh(c')
//! ```

use super::cell::{Cell, Step, StepBack, four, rows};
use crate::real::Real;
use crate::tier::Tier;

/// Gates in PyTorch's order: input, forget, cell, output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lstm;

impl Cell for Lstm {
    const GATES: usize = 4;
    /// The gates and the new memory.
    const SAVED: usize = 5;
    const MEMORY: bool = true;
    const SEPARATE: bool = false;
    const MEMORY_AT: usize = 4;

    #[inline(always)]
    fn step<I: Tier, T: Real>(self, step: Step<'_, T>) {
        let n = step.h.len();
        let [xi, xf, xg, xo] = rows::<T, 4>(step.input, n);
        let [hi, hf, hg, ho] = rows::<T, 4>(step.hidden, n);
        let (gates, memory) = step.saved.split_at_mut(4 * n);
        let [i, f, g, o] = four(gates, n);
        let (h, c, memory) = (&mut step.h[..n], &mut step.c[..n], &mut memory[..n]);
        for k in 0..n {
            let input = (xi[k] + hi[k]).sigmoid::<I>();
            let forget = (xf[k] + hf[k]).sigmoid::<I>();
            let cell = (xg[k] + hg[k]).tanh::<I>();
            let output = (xo[k] + ho[k]).sigmoid::<I>();
            let next = forget.fma::<I>(c[k], input * cell);
            i[k] = input;
            f[k] = forget;
            g[k] = cell;
            o[k] = output;
            c[k] = next;
            memory[k] = next;
            h[k] = output * next.tanh::<I>();
        }
    }

    #[inline(always)]
    fn back<I: Tier, T: Real>(self, step: StepBack<'_, T>) {
        let n = step.dh.len();
        let [i, f, g, o, memory] = rows::<T, 5>(step.saved, n);
        let [di, df, dg, d_o] = four(step.dinput, n);
        let (c, dh, dc) = (&step.c[..n], &mut step.dh[..n], &mut step.dc[..n]);
        for k in 0..n {
            let squashed = memory[k].tanh::<I>();
            let d_output = dh[k] * squashed;
            let d_memory = (dh[k] * o[k]).fma::<I>(T::ONE - squashed * squashed, dc[k]);
            di[k] = d_memory * g[k] * i[k] * (T::ONE - i[k]);
            df[k] = d_memory * c[k] * f[k] * (T::ONE - f[k]);
            dg[k] = d_memory * i[k] * (T::ONE - g[k] * g[k]);
            d_o[k] = d_output * o[k] * (T::ONE - o[k]);
            dc[k] = d_memory * f[k];
            dh[k] = T::ZERO;
        }
    }
}
