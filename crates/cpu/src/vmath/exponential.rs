//! exp and what is made from it.

use super::{each, fma};
use crate::tier::Tier;

/// 1.5 * 2^23: adding it leaves the nearest integer (ties to even) in the low bits of the fraction.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has nine trailing zero bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// (n, r) with x = n ln 2 + r and |r| <= ln 2 / 2, for |x| < 200. Only the low 23 bits of n are right.
#[inline(always)]
fn reduce<I: Tier, const N: usize>(x: [f32; N]) -> ([i32; N], [f32; N]) {
    let shifted = x.map(|x| fma::<I>(x, std::f32::consts::LOG2_E, ROUNDER));
    let n = shifted.map(|shifted| shifted - ROUNDER);
    let r: [f32; N] = each(|k| fma::<I>(n[k], -LN2_HIGH, x[k]));
    (shifted.map(|shifted| shifted.to_bits() as i32), each(|k| fma::<I>(n[k], -LN2_LOW, r[k])))
}

/// 2^n for -127 < n < 128.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^r - 1 for |r| <= ln 2 / 2: r + r^2 (a + b r + r^2 (c + d r + e r^2)), whose two halves are computed side by side.
#[inline(always)]
fn expm1_reduced<I: Tier, const N: usize>(r: [f32; N]) -> [f32; N] {
    let square = r.map(|r| r * r);
    let high = r.map(|r| fma::<I>(0.008_368_721, r, 0.041_668_292));
    let low = r.map(|r| fma::<I>(0.166_665_21, r, 0.499_999_94));
    let high: [f32; N] = each(|k| fma::<I>(0.001_381_874_2, square[k], high[k]));
    let tail: [f32; N] = each(|k| fma::<I>(square[k], high[k], low[k]));
    each(|k| fma::<I>(square[k], tail[k], r[k]))
}

/// e^x.
#[inline(always)]
pub fn exp<I: Tier>(x: f32) -> f32 {
    let [y] = exp_of::<I, 1>([x]);
    y
}

/// e^x of several numbers, a step of all before the next step of any: a processor looks ahead over so few instructions that
/// one long chain behind another would leave it waiting.
#[inline(always)]
pub fn exp_of<I: Tier, const N: usize>(x: [f32; N]) -> [f32; N] {
    // The comparisons are written so that NaN passes; beyond the limits the result is 0 or infinity anyway.
    let x = x.map(|x| if x < -104.0 { -104.0 } else { x });
    let x = x.map(|x| if x > 89.0 { 89.0 } else { x });
    let (n, r) = reduce::<I, N>(x);
    let p = expm1_reduced::<I, N>(r).map(|q| q + 1.0);
    // Two factors: 2^n itself may be denormal or infinite while the product is not.
    let half = n.map(|n| n >> 1);
    let one: [f32; N] = each(|k| p[k] * power_of_two(half[k]));
    let other: [f32; N] = each(|k| power_of_two(n[k].wrapping_sub(half[k])));
    each(|k| one[k] * other[k])
}

/// e^x for x <= 0 (and up to ln 2 above it, where rounding may have left a difference). Results below the smallest normal
/// number are 0: that spares the second factor of [`exp`] and both of its limits.
#[inline(always)]
pub fn exp_nonpositive<I: Tier>(x: f32) -> f32 {
    let [y] = exp_nonpositive_of::<I, 1>([x]);
    y
}

/// [`exp_nonpositive`] of several numbers, side by side as [`exp_of`].
#[inline(always)]
pub fn exp_nonpositive_of<I: Tier, const N: usize>(x: [f32; N]) -> [f32; N] {
    let (n, r) = reduce::<I, N>(x);
    let p = expm1_reduced::<I, N>(r).map(|q| q + 1.0);
    let scale = n.map(power_of_two);
    // Just above the logarithm of the smallest normal number; below it n and r mean nothing.
    each(|k| if x[k] < -87.336_54 { 0.0 } else { p[k] * scale[k] })
}

/// e^x - 1, accurate near zero.
#[inline(always)]
pub fn expm1<I: Tier>(x: f32) -> f32 {
    let clamped = if x < -18.0 { -18.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let ([n], [r]) = reduce::<I, 1>([clamped]);
    let [q] = expm1_reduced::<I, 1>([r]);
    // (e^r - 1) 2^n + (2^n - 1) with half of 2^n, which is finite for every n that occurs.
    let half = power_of_two(n.wrapping_sub(1));
    let result = 2.0 * fma::<I>(half, q, half - 0.5);
    // Keeps the sign of zero and denormals, for which r is x itself but for the sign of zero.
    if x == 0.0 { x } else { result }
}

/// tanh x = (e^2|x| - 1) / (e^2|x| + 1) with the sign of x.
#[inline(always)]
pub fn tanh<I: Tier>(x: f32) -> f32 {
    let twice = 2.0 * x.abs();
    // 1 - tanh(10) is below half a unit of the last place.
    let twice = if twice > 20.0 { 20.0 } else { twice };
    let ([n], [r]) = reduce::<I, 1>([twice]);
    let [q] = expm1_reduced::<I, 1>([r]);
    let scale = power_of_two(n);
    let e = fma::<I>(scale, q, scale - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// 1 / (1 + e^-x), from e^-|x|, so that neither side overflows and both tails keep their relative accuracy; 0
/// below -87.3.
#[inline(always)]
pub fn sigmoid<I: Tier>(x: f32) -> f32 {
    let e = exp_nonpositive::<I>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}
