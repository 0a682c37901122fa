//! Optimisers that divide by a running root mean square: Adam, AdamW, RMSprop, LAMB.

use super::{Slices, each_piece};
use crate::real::Real;
use crate::{isa, kernel};

/// Settings of [`adam`](super::adam).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// The decay of the parameter.
    pub weight_decay: f64,
    /// Whether the decay acts on the parameter itself (AdamW) or enters the gradient (Adam).
    pub decoupled: bool,
    /// Whether the largest mean square so far is what is divided by.
    pub amsgrad: bool,
    /// The number of this step, from 1.
    pub step: u64,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

/// Settings of [`rmsprop`](super::rmsprop).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the mean of squares.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// How much of the last direction is kept.
    pub momentum: f64,
    /// Whether the square of the mean is subtracted from the mean of squares.
    pub centered: bool,
    /// The factor of the parameter that is added to the gradient.
    pub weight_decay: f64,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

/// Settings of [`lamb_update`](super::lamb_update).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// The factor of the parameter in the update.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

/// 1 - beta^step.
fn correction(beta: f64, step: u64) -> f64 {
    1.0 - beta.powf(step as f64)
}

#[derive(Clone, Copy)]
struct AdamFactors<R> {
    scale: R,
    /// Into the gradient.
    decay: R,
    /// Of the parameter.
    keep: R,
    /// 1 - beta1.
    enter1: R,
    beta2: R,
    /// 1 - beta2.
    enter2: R,
    /// lr / (1 - beta1^step).
    step_size: R,
    /// 1 / sqrt(1 - beta2^step).
    root: R,
    eps: R,
}

impl Adam {
    fn factors<R: Real>(&self) -> AdamFactors<R> {
        AdamFactors {
            scale: R::of(self.grad_scale),
            decay: R::of(if self.decoupled { 0.0 } else { self.weight_decay }),
            keep: R::of(if self.decoupled { 1.0 - self.lr * self.weight_decay } else { 1.0 }),
            enter1: R::of(1.0 - self.beta1),
            beta2: R::of(self.beta2),
            enter2: R::of(1.0 - self.beta2),
            step_size: R::of(self.lr / correction(self.beta1, self.step)),
            root: R::of(1.0 / correction(self.beta2, self.step).sqrt()),
            eps: R::of(self.eps),
        }
    }
}

kernel! {
    fn adam_piece[I; R: Real](f: AdamFactors<R>, p: &mut [R], g: &[R], m: &mut [R], v: &mut [R]) {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = f.decay.fma::<I>(*p, g * f.scale);
            let mean = (g - *m).fma::<I>(f.enter1, *m);
            let square = f.beta2.fma::<I>(*v, f.enter2 * g * g);
            *m = mean;
            *v = square;
            let denominator = square.sqrt().fma::<I>(f.root, f.eps);
            *p = (-f.step_size).fma::<I>(mean / denominator, *p * f.keep);
        }
    }
    fn amsgrad_piece[I; R: Real](f: AdamFactors<R>, p: &mut [R], g: &[R], m: &mut [R], v: &mut [R], largest: &mut [R]) {
        for ((((p, &g), m), v), largest) in p.iter_mut().zip(g).zip(m).zip(v).zip(largest) {
            let g = f.decay.fma::<I>(*p, g * f.scale);
            let mean = (g - *m).fma::<I>(f.enter1, *m);
            let square = f.beta2.fma::<I>(*v, f.enter2 * g * g);
            *m = mean;
            *v = square;
            *largest = largest.larger(square);
            let denominator = largest.sqrt().fma::<I>(f.root, f.eps);
            *p = (-f.step_size).fma::<I>(mean / denominator, *p * f.keep);
        }
    }
    fn rmsprop_piece[I; R: Real](s: RmsProp, p: &mut [R], g: &[R], v: &mut [R], mean: &mut [R], buffer: &mut [R]) {
        let (lr, decay, scale) = (R::of(s.lr), R::of(s.weight_decay), R::of(s.grad_scale));
        let (alpha, enter, eps, momentum) = (R::of(s.alpha), R::of(1.0 - s.alpha), R::of(s.eps), R::of(s.momentum));
        let (centered, moving) = (s.centered, s.momentum > 0.0);
        // Without their state the two are one element that is never looked at.
        for (k, (p, v)) in p.iter_mut().zip(v).enumerate() {
            let g = decay.fma::<I>(*p, g[k] * scale);
            let square = alpha.fma::<I>(*v, enter * g * g);
            *v = square;
            let spread = if centered {
                let average = (g - mean[k]).fma::<I>(enter, mean[k]);
                mean[k] = average;
                (-average).fma::<I>(average, square)
            } else {
                square
            };
            let step = g / (spread.sqrt() + eps);
            let step = if moving {
                buffer[k] = momentum.fma::<I>(buffer[k], step);
                buffer[k]
            } else {
                step
            };
            *p = (-lr).fma::<I>(step, *p);
        }
    }
    fn lamb_piece[I; R: Real](f: AdamFactors<R>, p: &[R], g: &[R], m: &mut [R], v: &mut [R], update: &mut [R]) {
        for ((((&p, &g), m), v), update) in p.iter().zip(g).zip(m).zip(v).zip(update) {
            let g = g * f.scale;
            let mean = (g - *m).fma::<I>(f.enter1, *m);
            let square = f.beta2.fma::<I>(*v, f.enter2 * g * g);
            *m = mean;
            *v = square;
            let ratio = mean * f.step_size / square.sqrt().fma::<I>(f.root, f.eps);
            *update = f.decay.fma::<I>(p, ratio);
        }
    }
}

#[track_caller]
pub(super) fn adam_of<R: Real>(list: Vec<(Adam, Slices<'_, R, 3>)>) {
    let isa = isa();
    let list = list.into_iter().map(|(settings, slices)| {
        assert!(settings.step > 0, "adam: steps are counted from 1");
        let len = slices.param.len();
        let [m, v, largest] = slices.state.each_ref().map(|state| state.len());
        assert_eq!((m, v), (len, len), "adam: lengths of the state");
        assert_eq!(largest, if settings.amsgrad { len } else { 0 }, "adam: length of AMSGrad's state");
        ((settings.amsgrad, settings.factors::<R>()), slices)
    });
    let list: Vec<_> = list.collect();
    each_piece("adam", list, &|(amsgrad, factors), Slices { param, grad, state: [m, v, largest] }| {
        if amsgrad {
            amsgrad_piece(isa, factors, param, grad, m, v, largest);
        } else {
            adam_piece(isa, factors, param, grad, m, v);
        }
    });
}

#[track_caller]
pub(super) fn rmsprop_of<R: Real>(list: Vec<(RmsProp, Slices<'_, R, 3>)>) {
    let isa = isa();
    for (settings, slices) in &list {
        let len = slices.param.len();
        let wanted = [len, if settings.centered { len } else { 0 }, if settings.momentum > 0.0 { len } else { 0 }];
        assert_eq!(slices.state.each_ref().map(|state| state.len()), wanted, "rmsprop: lengths of the state");
    }
    each_piece("rmsprop", list, &|settings, Slices { param, grad, state: [v, mean, buffer] }| {
        rmsprop_piece(isa, settings, param, grad, v, mean, buffer);
    });
}

#[track_caller]
pub(super) fn lamb_update_of<R: Real>(list: Vec<(Lamb, Slices<'_, R, 3>)>) {
    let isa = isa();
    let list = list.into_iter().map(|(s, slices)| {
        assert!(s.step > 0, "lamb: steps are counted from 1");
        assert!(slices.state.iter().all(|state| state.len() == slices.param.len()), "lamb: lengths of the state");
        let Lamb { beta1, beta2, eps, weight_decay, step, grad_scale } = s;
        let adam =
            Adam { lr: 1.0, beta1, beta2, eps, weight_decay, decoupled: false, amsgrad: false, step, grad_scale };
        (adam.factors::<R>(), slices)
    });
    let list: Vec<_> = list.collect();
    each_piece("lamb", list, &|factors, Slices { param, grad, state: [m, v, update] }| {
        lamb_piece(isa, factors, param, grad, m, v, update);
    });
}

#[track_caller]
pub(super) fn lamb_apply_of<R: Real>(lr: f64, param: &mut [R], update: &[R]) -> f64 {
    let (weight, step) = (super::vector::sum_squares_of(param).sqrt(), super::vector::sum_squares_of(update).sqrt());
    let trust = if weight > 0.0 && step > 0.0 { weight / step } else { 1.0 };
    super::vector::add_scaled_of(param, -lr * trust, update);
    trust
}
