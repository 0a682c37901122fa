//! The error function and the normal distribution.

use super::{each, exp_nonpositive_of, fma, polynomial, polynomial_of};
use crate::tier::Tier;

/// erf x = 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x: x P(x^2) / Q(x^2), with |x| cut at 4.
#[inline(always)]
#[allow(clippy::approx_constant)] // A fitted coefficient, not the constant that it is near.
pub fn erf<I: Tier>(x: f32) -> f32 {
    let cut = if x > 4.0 { 4.0 } else { x };
    let cut = if cut < -4.0 { -4.0 } else { cut };
    let square = cut * cut;
    let p = polynomial::<I, 6>(
        square,
        [1.128_379_1, 0.193_543_26, 0.053_101_506, 0.003_883_266_1, 2.845_640_7e-4, 1.986_795_5e-6],
    );
    let q =
        polynomial::<I, 6>(square, [1.0, 0.504_855_8, 0.115_349_256, 0.015_207_096, 0.001_185_552_1, 3.742_021_4e-5]);
    let result = cut * p / q;
    let result = if result > 1.0 { 1.0 } else { result };
    if result < -1.0 { -1.0 } else { result }
}

/// The distribution function and the density of the standard normal distribution at x.
#[inline(always)]
pub fn normal<I: Tier>(x: f32) -> (f32, f32) {
    let ([tail], [e]) = normal_tail_of::<I, 1>([x.abs()]);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (distribution, e * 0.398_942_3)
}

/// The distribution function of the standard normal distribution at -u, for u >= 0, and e^(-u^2/2), of several numbers, a step of
/// all before the next step of any.
///
/// It is e^(-u^2/2) t P(t) with t = 1 / (1 + 0.35 u), so both results share one exponential, and the tail does not cancel as
/// 1 + erf would.
#[inline(always)]
pub fn normal_tail_of<I: Tier, const N: usize>(u: [f32; N]) -> ([f32; N], [f32; N]) {
    let t = u.map(|u| fma::<I>(0.35, u, 1.0)).map(|q| 1.0 / q);
    let e = exp_nonpositive_of::<I, N>(u.map(|u| -0.5 * (u * u)));
    // Even and odd powers side by side.
    let square = t.map(|t| t * t);
    let odd = polynomial_of::<I, 4, N>(square, [0.139_863_6, 0.105_554_96, 0.159_328_46, 0.144_034_71]);
    let even =
        polynomial_of::<I, 5, N>(square, [0.139_621_3, 0.119_820_684, -0.023_218_293, -0.255_846_77, -0.029_158_672]);
    let p: [f32; N] = each(|k| fma::<I>(odd[k], t[k], even[k]));
    (each(|k| e[k] * (t[k] * p[k])), e)
}
