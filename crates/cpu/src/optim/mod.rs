//! Optimiser steps: one fused pass over all parameters.
//!
//! A step is given as a list of [`Slices`], one for each parameter, with its settings. The list is cut into pieces of a fixed
//! size that the threads share, so that a step costs one parallel region whatever the number of parameters. Every formula is
//! PyTorch's, or its paper's where PyTorch has none. The gradient is multiplied by `grad_scale` first, which is how clipping
//! and loss scaling cost no pass of their own.

mod adaptive;
mod momentum;
#[cfg(test)]
mod tests;
mod vector;

pub use adaptive::{Adam, Lamb, RmsProp};
pub use momentum::{Lion, Muon, Sgd};

use cupola_core::pool::Parts;

use crate::instantiate;
use crate::real::Real;
use crate::work::{PIECE, parallel_for};

/// A parameter, its gradient and its state in `N` slices, all of one length; a state that the settings do not use may be
/// empty.
#[derive(Debug)]
pub struct Slices<'a, R, const N: usize> {
    /// Updated in place.
    pub param: &'a mut [R],
    /// The gradient.
    pub grad: &'a [R],
    /// State, updated in place.
    pub state: [&'a mut [R]; N],
}

/// Runs `update` on pieces of all parameters; state slices that are empty stay empty in every piece.
#[track_caller]
fn each_piece<R: Real, S: Copy + Sync + Send, const N: usize>(
    op: &str,
    list: Vec<(S, Slices<'_, R, N>)>,
    update: &(dyn Fn(S, Slices<'_, R, N>) + Sync),
) {
    let mut all = Vec::new();
    for (settings, slices) in list {
        let Slices { param, grad, state } = slices;
        let len = param.len();
        assert_eq!(grad.len(), len, "{op}: length of the gradient of a parameter of {len}");
        let fits = |state: &&mut [R]| state.is_empty() || state.len() == len;
        assert!(state.iter().all(fits), "{op}: length of the state of a parameter of {len}");
        let mut state = state.map(|state| state.chunks_mut(PIECE));
        for (param, grad) in param.chunks_mut(PIECE).zip(grad.chunks(PIECE)) {
            let state = state.each_mut().map(|state| state.next().unwrap_or_default());
            all.push(Some((settings, Slices { param, grad, state })));
        }
    }
    let elements: usize = all.iter().flatten().map(|(_, slices)| slices.param.len()).sum();
    let parts = Parts::new(&mut all, 1);
    let run = |index: usize| {
        if let Some((settings, slices)) = parts.take(index).1.first_mut().and_then(Option::take) {
            update(settings, slices);
        }
    };
    if elements <= 2 * PIECE { (0..parts.len()).for_each(run) } else { parallel_for(parts.len(), &run) }
}

instantiate! {
    /// Types that optimisers keep parameters in.
    Steps: Real, for [f32, f64] {
        /// g = grad + weight_decay p; b = momentum b + (1 - dampening) g (b = g in the first step); p -= lr (g + momentum b) with
        /// Nesterov's form, p -= lr b without. The state is b, which may be empty where momentum is 0.
        ///
        /// # Panics
        /// When lengths differ, or momentum has no state.
        fn sgd(list: Vec<(Sgd, Slices<'_, T, 1>)>) = momentum::sgd_of;
        /// u = sign(beta1 m + (1 - beta1) g); p = p (1 - lr weight_decay) - lr u; m = beta2 m + (1 - beta2) g (Chen et al., "Symbolic
        /// discovery of optimization algorithms", 2023).
        ///
        /// # Panics
        /// When lengths differ.
        fn lion(list: Vec<(Lion, Slices<'_, T, 1>)>) = momentum::lion_of;
        /// The first half of a Muon step for one parameter (Jordan et al., 2024): b += (1 - momentum) (g - b), and the direction
        /// u = momentum b + (1 - momentum) g with Nesterov's form, u = b without. The state is b.
        ///
        /// # Panics
        /// When lengths differ.
        fn muon_direction(settings: Muon, grad: &[T], buffer: &mut [T], direction: &mut [T]) = momentum::muon_direction_of;
        /// The second half, with the direction made orthogonal: p = keep p - rate d.
        ///
        /// # Panics
        /// When lengths differ.
        fn muon_apply(param: &mut [T], keep: f64, rate: f64, direction: &[T]) = momentum::muon_apply_of;
        /// Adam (Kingma and Ba, 2015), AdamW (Loshchilov and Hutter, 2019) and AMSGrad (Reddi et al., 2018). The state is the mean m,
        /// the mean of squares v, and with AMSGrad the largest v.
        ///
        /// m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps),
        /// after p *= 1 - lr weight_decay when decoupled, with g += weight_decay p otherwise.
        ///
        /// # Panics
        /// When lengths differ or the step is 0.
        fn adam(list: Vec<(Adam, Slices<'_, T, 3>)>) = adaptive::adam_of;
        /// RMSprop (Hinton, 2012; centred after Graves, 2013). The state is the mean of squares v, with `centered` the mean, and with
        /// momentum the direction.
        ///
        /// v = alpha v + (1 - alpha) g^2; d = g / (sqrt(v - mean^2) + eps); b = momentum b + d; p -= lr b.
        ///
        /// # Panics
        /// When lengths differ.
        fn rmsprop(list: Vec<(RmsProp, Slices<'_, T, 3>)>) = adaptive::rmsprop_of;
        /// The first half of a LAMB step (You et al., "Large batch optimization for deep learning", 2020): m and v as in Adam, and
        /// the direction u = m' / (sqrt(v') + eps) + weight_decay p with the corrected m' and v'. The state is m, v and u.
        ///
        /// # Panics
        /// When lengths differ or the step is 0.
        fn lamb_update(list: Vec<(Lamb, Slices<'_, T, 3>)>) = adaptive::lamb_update_of;
        /// The second half of a LAMB step for one parameter: p -= lr |p| / |u| u, where a norm of 0 makes the factor lr alone.
        /// Returns the trust ratio |p| / |u|.
        ///
        /// # Panics
        /// When lengths differ.
        fn lamb_apply(lr: f64, param: &mut [T], update: &[T]) -> f64 = adaptive::lamb_apply_of;
        /// x *= factor.
        fn scale(x: &mut [T], factor: f64) = vector::scale_of;
        /// y += factor x.
        ///
        /// # Panics
        /// When the lengths differ.
        fn add_scaled(y: &mut [T], factor: f64, x: &[T]) = vector::add_scaled_of;
        /// y += weight (x - y): an exponential moving average with decay 1 - weight.
        ///
        /// # Panics
        /// When the lengths differ.
        fn lerp(y: &mut [T], weight: f64, x: &[T]) = vector::lerp_of;
        /// The sum of squares, added up in f64 in pieces of a fixed size, in order.
        fn sum_squares(x: &[T]) -> f64 = vector::sum_squares_of;
    }
}
