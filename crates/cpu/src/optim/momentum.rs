//! Stochastic gradient descent with momentum, and Lion.

use super::{Slices, each_piece};
use crate::real::Real;
use crate::work::{PIECE, pieces, pieces2};
use crate::{isa, kernel};

/// Settings of [`sgd`](super::sgd).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// How much of the last step's direction is kept.
    pub momentum: f64,
    /// How little of the gradient enters the direction.
    pub dampening: f64,
    /// Looks ahead along the direction.
    pub nesterov: bool,
    /// The factor of the parameter that is added to the gradient.
    pub weight_decay: f64,
    /// Whether the direction is made from the gradient alone: true in the first step of a parameter.
    pub first: bool,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

/// Settings of [`muon_direction`](super::muon_direction).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// The decay of the average.
    pub momentum: f64,
    /// Looks ahead along the average.
    pub nesterov: bool,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

/// Settings of [`lion`](super::lion).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the average in the step.
    pub beta1: f64,
    /// The decay of the average that is kept.
    pub beta2: f64,
    /// The decay of the parameter, times the learning rate.
    pub weight_decay: f64,
    /// The factor of the gradient.
    pub grad_scale: f64,
}

kernel! {
    fn plain[I; R: Real](s: Sgd, p: &mut [R], g: &[R]) {
        let (lr, decay, scale) = (R::of(s.lr), R::of(s.weight_decay), R::of(s.grad_scale));
        for (p, &g) in p.iter_mut().zip(g) {
            let g = decay.fma::<I>(*p, g * scale);
            *p = (-lr).fma::<I>(g, *p);
        }
    }
    fn with_momentum[I; R: Real](s: Sgd, p: &mut [R], g: &[R], buffer: &mut [R]) {
        let (lr, decay, scale) = (R::of(s.lr), R::of(s.weight_decay), R::of(s.grad_scale));
        let keep = if s.first { R::ZERO } else { R::of(s.momentum) };
        let enter = if s.first { R::ONE } else { R::of(1.0 - s.dampening) };
        let (ahead, own) = if s.nesterov { (R::of(s.momentum), R::ONE) } else { (R::ONE, R::ZERO) };
        for ((p, &g), buffer) in p.iter_mut().zip(g).zip(buffer) {
            let g = decay.fma::<I>(*p, g * scale);
            let old = if s.first { R::ZERO } else { *buffer };
            let direction = keep.fma::<I>(old, enter * g);
            *buffer = direction;
            *p = (-lr).fma::<I>(ahead.fma::<I>(direction, own * g), *p);
        }
    }
    fn muon_piece[I; R: Real](s: Muon, g: &[R], buffer: &mut [R], direction: &mut [R]) {
        let (keep, take, scale) = (R::of(s.momentum), R::of(1.0 - s.momentum), R::of(s.grad_scale));
        for ((&g, b), u) in g.iter().zip(buffer).zip(direction) {
            let g = g * scale;
            *b = take.fma::<I>(g - *b, *b);
            *u = if s.nesterov { keep.fma::<I>(*b - g, g) } else { *b };
        }
    }
    fn muon_apply_piece[I; R: Real](p: &mut [R], keep: R, rate: R, direction: &[R]) {
        for (p, &d) in p.iter_mut().zip(direction) {
            *p = (-rate).fma::<I>(d, *p * keep);
        }
    }
    fn lion_piece[I; R: Real](s: Lion, p: &mut [R], g: &[R], m: &mut [R]) {
        let (lr, keep, scale) = (R::of(s.lr), R::of(1.0 - s.lr * s.weight_decay), R::of(s.grad_scale));
        let (b1, c1, b2, c2) = (R::of(s.beta1), R::of(1.0 - s.beta1), R::of(s.beta2), R::of(1.0 - s.beta2));
        for ((p, &g), m) in p.iter_mut().zip(g).zip(m) {
            let g = g * scale;
            let update = b1.fma::<I>(*m, c1 * g);
            let up = if update > R::ZERO { R::ONE } else { R::ZERO };
            let sign = if update < R::ZERO { -R::ONE } else { up };
            // A gradient that is no number must not vanish in a sign.
            let sign = if update.is_nan() { update } else { sign };
            *p = (-lr).fma::<I>(sign, *p * keep);
            *m = b2.fma::<I>(*m, c2 * g);
        }
    }
}

#[track_caller]
pub(super) fn muon_direction_of<R: Real>(settings: Muon, grad: &[R], buffer: &mut [R], direction: &mut [R]) {
    let len = grad.len();
    assert_eq!((buffer.len(), direction.len()), (len, len), "muon: lengths of state and direction of {len} elements");
    let isa = isa();
    pieces2((buffer, PIECE), (direction, PIECE), |first, buffer, direction| {
        muon_piece(isa, settings, &grad[first..first + direction.len()], buffer, direction);
    });
}

#[track_caller]
pub(super) fn muon_apply_of<R: Real>(param: &mut [R], keep: f64, rate: f64, direction: &[R]) {
    assert_eq!(param.len(), direction.len(), "muon: lengths of parameter and direction");
    let isa = isa();
    pieces(param, PIECE, |first, param| {
        let direction = &direction[first..first + param.len()];
        muon_apply_piece(isa, param, R::of(keep), R::of(rate), direction);
    });
}

#[track_caller]
pub(super) fn sgd_of<R: Real>(list: Vec<(Sgd, Slices<'_, R, 1>)>) {
    let isa = isa();
    for (settings, slices) in &list {
        let stateless = settings.momentum == 0.0;
        assert!(stateless || slices.state[0].len() == slices.param.len(), "sgd: momentum needs its state");
    }
    each_piece("sgd", list, &|settings, Slices { param, grad, state: [buffer] }| {
        if settings.momentum == 0.0 {
            plain(isa, settings, param, grad);
        } else {
            with_momentum(isa, settings, param, grad, buffer);
        }
    });
}

#[track_caller]
pub(super) fn lion_of<R: Real>(list: Vec<(Lion, Slices<'_, R, 1>)>) {
    let isa = isa();
    for (_, slices) in &list {
        assert_eq!(slices.state[0].len(), slices.param.len(), "lion: length of the state");
    }
    each_piece("lion", list, &|settings, Slices { param, grad, state: [m] }| lion_piece(isa, settings, param, grad, m));
}
