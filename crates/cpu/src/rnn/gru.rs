//! The gated recurrent unit (Cho et al., "Learning phrase representations", 2014), in the form whose reset gate acts after the
//! product:
//!
//! ```text
//! r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
//! z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
//! n = tanh(W_in x + b_in + r (W_hn h + b_hn))
//! h' = (1 - z) n + z h
//! ```

use super::cell::{Cell, Step, StepBack, four, rows, three};
use crate::real::Real;
use crate::tier::Tier;

/// Gates in PyTorch's order: reset, update, new.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gru;

impl Cell for Gru {
    const GATES: usize = 3;
    /// The gates, and the product with the hidden state that the reset gate acts on.
    const SAVED: usize = 4;
    const MEMORY: bool = false;
    const SEPARATE: bool = true;

    #[inline(always)]
    fn step<I: Tier, T: Real>(self, step: Step<'_, T>) {
        let n = step.h.len();
        let [xr, xz, xn] = rows::<T, 3>(step.input, n);
        let [hr, hz, hn] = rows::<T, 3>(step.hidden, n);
        let [r, z, new, product] = four(step.saved, n);
        let h = &mut step.h[..n];
        for k in 0..n {
            let reset = (xr[k] + hr[k]).sigmoid::<I>();
            let update = (xz[k] + hz[k]).sigmoid::<I>();
            let candidate = reset.fma::<I>(hn[k], xn[k]).tanh::<I>();
            r[k] = reset;
            z[k] = update;
            new[k] = candidate;
            product[k] = hn[k];
            h[k] = update.fma::<I>(h[k] - candidate, candidate);
        }
    }

    #[inline(always)]
    fn back<I: Tier, T: Real>(self, step: StepBack<'_, T>) {
        let n = step.dh.len();
        let [r, z, new, product] = rows::<T, 4>(step.saved, n);
        let [xr, xz, xn] = three(step.dinput, n);
        let [hr, hz, hn] = three(step.dhidden, n);
        let (h, dh) = (&step.h[..n], &mut step.dh[..n]);
        for k in 0..n {
            let d_new = dh[k] * (T::ONE - z[k]) * (T::ONE - new[k] * new[k]);
            let d_update = dh[k] * (h[k] - new[k]) * z[k] * (T::ONE - z[k]);
            let d_reset = d_new * product[k] * r[k] * (T::ONE - r[k]);
            xr[k] = d_reset;
            hr[k] = d_reset;
            xz[k] = d_update;
            hz[k] = d_update;
            xn[k] = d_new;
            hn[k] = d_new * r[k];
            dh[k] = dh[k] * z[k];
        }
    }
}
