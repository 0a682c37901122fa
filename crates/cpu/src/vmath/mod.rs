//! Elementary functions in f32, written so that a loop over elements becomes vector code: no branches, no tables (but for
//! the bits of 2/pi), no library calls.
//!
//! | function | largest error, in units of the last place | exceptions |
//! |---|---|---|
//! | [`exp`], [`exp_of`] | 1 | |
//! | [`exp_nonpositive`], [`exp_nonpositive_of`] | 1 | results below the smallest normal number are 0 |
//! | [`expm1`] | 2 | |
//! | [`ln`] | 1 | |
//! | [`log1p_unit`] | 2 | for arguments in [0, 1] |
//! | [`tanh`] | 3 | |
//! | [`sigmoid`] | 3 | results below the smallest normal number are 0 |
//! | [`erf`] | 6 | |
//! | [`sin`], [`cos`] | 2 | any finite argument, the largest included |
//! | [`normal`] | 2e-7 absolute; relative 4e-7 (1 + x^2) in the lower tail | |
//! | [`pow`] | 1 | |
//!
//! The bounds hold in every tier and are tested against `f64` over all exponents. Infinities, NaN and denormal arguments
//! give what IEEE 754 asks for; results below the smallest normal number are rounded once, as denormals.
//!
//! The polynomials were fitted for the relative error by a weighted least-squares (Lawson) iteration, coefficient by
//! coefficient rounded to f32.

mod error_function;
mod exponential;
mod logarithm;
mod power;
mod trigonometric;

pub use error_function::{erf, normal, normal_tail_of};
pub use exponential::{exp, exp_nonpositive, exp_nonpositive_of, exp_of, expm1, sigmoid, tanh};
pub use logarithm::{ln, log1p_unit};
pub use power::pow;
pub use trigonometric::{cos, sin};

use crate::tier::Tier;

/// `a * b + c`, fused where the tier has an instruction for it.
#[inline(always)]
pub(crate) fn fma<I: Tier>(a: f32, b: f32, c: f32) -> f32 {
    if I::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with coefficients in rising order, by Horner's rule.
#[inline(always)]
fn polynomial<I: Tier, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let [sum] = polynomial_of::<I, N, 1>([x], coefficients);
    sum
}

/// [`polynomial`] of several numbers, side by side.
#[inline(always)]
fn polynomial_of<I: Tier, const N: usize, const M: usize>(x: [f32; M], coefficients: [f32; N]) -> [f32; M] {
    let mut sum = [coefficients[N - 1]; M];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = each(|m| fma::<I>(sum[m], x[m], coefficients[k]));
    }
    sum
}

/// An array of `f(0)`, `f(1)`, ...
#[inline(always)]
fn each<T, const N: usize>(f: impl FnMut(usize) -> T) -> [T; N] {
    std::array::from_fn(f)
}

#[cfg(test)]
mod tests;
