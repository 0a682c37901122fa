//! Element-wise functions of one argument: y = f(x), and dx = dy f'.
//!
//! A function is a type that implements [`Unary`]: [`functions`] holds the elementary ones, [`activations`] those that
//! networks put between layers. Each says whether its derivative is taken from the input or from the output.

pub mod activations;
pub mod functions;
#[cfg(test)]
mod tests;

pub use activations::*;
pub use functions::*;

use crate::fetch::{self, LINE};
use crate::real::{Number, Real};
use crate::tier::Tier;
use crate::work::{PIECE, pieces};
use crate::{Isa, isa};

/// What the derivative of a function is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saves {
    /// It is the same everywhere.
    Nothing,
    /// From x.
    Input,
    /// From y = f(x).
    Output,
}

/// A function of one real argument, with its derivative.
pub trait Unary: Copy + Send + Sync + 'static {
    /// The operation's name.
    const NAME: &'static str;
    /// What [`Unary::slope`] is given.
    const SAVES: Saves;
    /// f(x).
    fn value<I: Tier, R: Real>(self, x: R) -> R;
    /// Whether [`Unary::values`] takes its steps side by side.
    const ABREAST: bool = false;
    /// f of several numbers; the results are those of [`Unary::value`].
    #[inline(always)]
    fn values<I: Tier, R: Real, const N: usize>(self, x: [R; N]) -> [R; N] {
        x.map(|x| self.value::<I, R>(x))
    }
    /// f'(x), from x or from y as [`Unary::SAVES`] says.
    fn slope<I: Tier, R: Real>(self, saved: R) -> R;
}

/// The compiled loops of a function.
#[doc(hidden)]
pub trait UnaryKernel: Unary {
    fn forward_f32(self, isa: Isa, x: &[f32], y: &mut [f32]);
    fn forward_f64(self, x: &[f64], y: &mut [f64]);
    fn backward_f32(self, isa: Isa, saved: &[f32], dy: &[f32], dx: &mut [f32]);
    fn backward_f64(self, saved: &[f64], dy: &[f64], dx: &mut [f64]);
}

/// Bytes that operands are fetched ahead: what the processor guesses by itself comes a little late for loops with much to compute.
const AHEAD: usize = 1024;

#[inline(always)]
pub(crate) fn forward_body<I: Tier, R: Real, F: Unary>(op: F, x: &[R], y: &mut [R]) {
    // Four registers side by side.
    let four = 4 * I::LANES;
    let abreast = if F::ABREAST { x.len().min(y.len()) / four * four } else { 0 };
    let ((x, more_x), (y, more_y)) = (x.split_at(abreast), y.split_at_mut(abreast));
    for (x, y) in x.chunks_exact(four).zip(y.chunks_exact_mut(four)) {
        for line in x.chunks(LINE / size_of::<R>()) {
            fetch::near(line.as_ptr().cast::<u8>().wrapping_add(AHEAD));
        }
        for a in 0..I::LANES {
            let [b, c, d] = [1, 2, 3].map(|register| a + register * I::LANES);
            [y[a], y[b], y[c], y[d]] = op.values::<I, R, 4>([x[a], x[b], x[c], x[d]]);
        }
    }
    for (y, &x) in more_y.iter_mut().zip(more_x) {
        *y = op.value::<I, R>(x);
    }
}

#[inline(always)]
pub(crate) fn backward_body<I: Tier, R: Real, F: Unary>(op: F, saved: &[R], dy: &[R], dx: &mut [R]) {
    if F::SAVES == Saves::Nothing {
        for (dx, &dy) in dx.iter_mut().zip(dy) {
            *dx = dy * op.slope::<I, R>(dy);
        }
        return;
    }
    for ((dx, &dy), &saved) in dx.iter_mut().zip(dy).zip(saved) {
        *dx = dy * op.slope::<I, R>(saved);
    }
}

/// Compiles the loops of functions in this crate, once for each tier.
macro_rules! unary_kernels {
    ($($op:ident),* $(,)?) => {$(
        impl $crate::unary::UnaryKernel for $op {
            fn forward_f32(self, isa: $crate::Isa, x: &[f32], y: &mut [f32]) {
                $crate::kernel! { fn run[I;](op: $op, x: &[f32], y: &mut [f32]) {
                    $crate::unary::forward_body::<I, f32, $op>(op, x, y)
                } }
                run(isa, self, x, y)
            }
            fn forward_f64(self, x: &[f64], y: &mut [f64]) {
                $crate::unary::forward_body::<$crate::tier::Portable, f64, $op>(self, x, y)
            }
            fn backward_f32(self, isa: $crate::Isa, saved: &[f32], dy: &[f32], dx: &mut [f32]) {
                $crate::kernel! { fn run[I;](op: $op, saved: &[f32], dy: &[f32], dx: &mut [f32]) {
                    $crate::unary::backward_body::<I, f32, $op>(op, saved, dy, dx)
                } }
                run(isa, self, saved, dy, dx)
            }
            fn backward_f64(self, saved: &[f64], dy: &[f64], dx: &mut [f64]) {
                $crate::unary::backward_body::<$crate::tier::Portable, f64, $op>(self, saved, dy, dx)
            }
        }
    )*};
}
pub(crate) use unary_kernels;

/// A type that functions of one argument are computed in.
#[doc(hidden)]
pub trait UnaryReal: Real {
    fn forward<F: UnaryKernel>(op: F, isa: Isa, x: &[Self], y: &mut [Self]);
    fn backward<F: UnaryKernel>(op: F, isa: Isa, saved: &[Self], dy: &[Self], dx: &mut [Self]);
}

impl UnaryReal for f32 {
    fn forward<F: UnaryKernel>(op: F, isa: Isa, x: &[f32], y: &mut [f32]) {
        op.forward_f32(isa, x, y)
    }
    fn backward<F: UnaryKernel>(op: F, isa: Isa, saved: &[f32], dy: &[f32], dx: &mut [f32]) {
        op.backward_f32(isa, saved, dy, dx)
    }
}

impl UnaryReal for f64 {
    fn forward<F: UnaryKernel>(op: F, _: Isa, x: &[f64], y: &mut [f64]) {
        op.forward_f64(x, y)
    }
    fn backward<F: UnaryKernel>(op: F, _: Isa, saved: &[f64], dy: &[f64], dx: &mut [f64]) {
        op.backward_f64(saved, dy, dx)
    }
}

/// Elements that are widened, or set aside, at a time: small enough to stay in the first-level cache.
const BLOCK: usize = 1024;

/// y = f(x).
///
/// # Panics
/// When the lengths differ.
#[track_caller]
pub fn forward<T: Number<Real: UnaryReal>, F: UnaryKernel>(op: F, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "{}: lengths of x and y", F::NAME);
    let isa = isa();
    forward_loop(isa, x, y, &|x, y| T::Real::forward(op, isa, x, y));
}

/// x = f(x).
pub fn forward_in_place<T: Number<Real: UnaryReal>, F: UnaryKernel>(op: F, x: &mut [T]) {
    let isa = isa();
    in_place_loop(isa, x, &|x, y| T::Real::forward(op, isa, x, y));
}

/// dx = dy f', where `saved` is x or y as [`Unary::SAVES`] says; it is not looked at for [`Saves::Nothing`].
///
/// # Panics
/// When the lengths differ.
#[track_caller]
pub fn backward<T: Number<Real: UnaryReal>, F: UnaryKernel>(op: F, saved: &[T], dy: &[T], dx: &mut [T]) {
    assert_eq!(dy.len(), dx.len(), "{}: lengths of dy and dx", F::NAME);
    let isa = isa();
    let saved = saved_or(op, saved, dy);
    backward_loop(isa, saved, dy, dx, &|saved, dy, dx| T::Real::backward(op, isa, saved, dy, dx));
}

/// dy = dy f', as [`backward`] in the memory of dy.
///
/// # Panics
/// When the lengths differ.
#[track_caller]
pub fn backward_in_place<T: Number<Real: UnaryReal>, F: UnaryKernel>(op: F, saved: &[T], dy: &mut [T]) {
    let isa = isa();
    if F::SAVES == Saves::Nothing {
        return in_place_loop(isa, dy, &|dy, dx| T::Real::backward(op, isa, dy, dy, dx));
    }
    assert_eq!(saved.len(), dy.len(), "{}: lengths of the saved tensor and dy", F::NAME);
    backward_in_place_loop(isa, saved, dy, &|saved, dy, dx| T::Real::backward(op, isa, saved, dy, dx));
}

// The loops over pieces and blocks know nothing of the function, so that they are compiled once for each element type.
type Map<'a, R> = &'a (dyn Fn(&[R], &mut [R]) + Sync);
type Map2<'a, R> = &'a (dyn Fn(&[R], &[R], &mut [R]) + Sync);

fn forward_loop<T: Number>(isa: Isa, x: &[T], y: &mut [T], map: Map<T::Real>) {
    pieces(y, PIECE, |first, y| {
        let x = &x[first..first + y.len()];
        if let (Some(x), Some(y)) = (T::as_real(x), T::as_real_mut(y)) {
            return map(x, y);
        }
        let mut wide = [[T::Real::ZERO; BLOCK]; 2];
        for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
            let [wide, result] = wide.each_mut().map(|wide| &mut wide[..x.len()]);
            T::widen(isa, x, wide);
            map(wide, result);
            T::narrow(isa, result, y);
        }
    });
}

fn in_place_loop<T: Number>(isa: Isa, x: &mut [T], map: Map<T::Real>) {
    pieces(x, PIECE, |_, x| {
        let mut wide = [[T::Real::ZERO; BLOCK]; 2];
        for x in x.chunks_mut(BLOCK) {
            let [wide, result] = wide.each_mut().map(|wide| &mut wide[..x.len()]);
            T::widen(isa, x, wide);
            map(wide, result);
            T::narrow(isa, result, x);
        }
    });
}

fn backward_loop<T: Number>(isa: Isa, saved: &[T], dy: &[T], dx: &mut [T], map: Map2<T::Real>) {
    pieces(dx, PIECE, |first, dx| {
        let (saved, dy) = (&saved[first..first + dx.len()], &dy[first..first + dx.len()]);
        if let (Some(saved), Some(dy), Some(dx)) = (T::as_real(saved), T::as_real(dy), T::as_real_mut(dx)) {
            return map(saved, dy, dx);
        }
        let mut wide = [[T::Real::ZERO; BLOCK]; 3];
        for ((saved, dy), dx) in saved.chunks(BLOCK).zip(dy.chunks(BLOCK)).zip(dx.chunks_mut(BLOCK)) {
            let [wide_saved, wide_dy, wide_dx] = wide.each_mut().map(|wide| &mut wide[..dx.len()]);
            T::widen(isa, saved, wide_saved);
            T::widen(isa, dy, wide_dy);
            map(wide_saved, wide_dy, wide_dx);
            T::narrow(isa, wide_dx, dx);
        }
    });
}

fn backward_in_place_loop<T: Number>(isa: Isa, saved: &[T], dy: &mut [T], map: Map2<T::Real>) {
    pieces(dy, PIECE, |first, dy| {
        let saved = &saved[first..first + dy.len()];
        let mut wide = [[T::Real::ZERO; BLOCK]; 3];
        for (saved, dy) in saved.chunks(BLOCK).zip(dy.chunks_mut(BLOCK)) {
            let [wide_saved, wide_dy, wide_dx] = wide.each_mut().map(|wide| &mut wide[..dy.len()]);
            T::widen(isa, saved, wide_saved);
            T::widen(isa, dy, wide_dy);
            map(wide_saved, wide_dy, wide_dx);
            T::narrow(isa, wide_dx, dy);
        }
    });
}

#[track_caller]
fn saved_or<'a, T, F: Unary>(_: F, saved: &'a [T], dy: &'a [T]) -> &'a [T] {
    if F::SAVES == Saves::Nothing {
        return dy;
    }
    assert_eq!(saved.len(), dy.len(), "{}: lengths of the saved tensor and dy", F::NAME);
    saved
}
