//! exp and what is made from it.

use super::{fma, polynomial};
use crate::tier::Tier;

/// 1.5 * 2^23: adding it leaves the nearest integer (ties to even) in the low bits of the fraction.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has nine trailing zero bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// (n, r) with x = n ln 2 + r and |r| <= ln 2 / 2, for |x| < 200.
#[inline(always)]
fn reduce<I: Tier>(x: f32) -> (i32, f32) {
    let shifted = fma::<I>(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = fma::<I>(n, -LN2_HIGH, x);
    let r = fma::<I>(n, -LN2_LOW, r);
    ((shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32), r)
}

/// 2^n for -127 < n < 128.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^r - 1 - r, divided by r^2, for |r| <= ln 2 / 2.
#[inline(always)]
fn tail<I: Tier>(r: f32) -> f32 {
    polynomial::<I, 5>(r, [0.499_999_94, 0.166_665_21, 0.041_668_292, 0.008_368_721, 0.001_381_874_2])
}

/// e^x.
#[inline(always)]
pub fn exp<I: Tier>(x: f32) -> f32 {
    // The comparisons are written so that NaN passes; beyond the limits the result is 0 or infinity anyway.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (n, r) = reduce::<I>(x);
    let p = fma::<I>(r * r, tail::<I>(r), r) + 1.0;
    // Two factors: 2^n itself may be denormal or infinite while the product is not.
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// e^x for x <= 0 (and up to ln 2 above it, where rounding may have left a difference). Results below the smallest normal
/// number are 0: that spares the second factor of [`exp`] and both of its limits.
#[inline(always)]
pub fn exp_nonpositive<I: Tier>(x: f32) -> f32 {
    let (n, r) = reduce::<I>(x);
    let p = fma::<I>(r * r, tail::<I>(r), r) + 1.0;
    let result = p * power_of_two(n);
    // Just above the logarithm of the smallest normal number; below it n and r mean nothing.
    if x < -87.336_54 { 0.0 } else { result }
}

/// e^x - 1, accurate near zero.
#[inline(always)]
pub fn expm1<I: Tier>(x: f32) -> f32 {
    let clamped = if x < -18.0 { -18.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let (n, r) = reduce::<I>(clamped);
    let q = fma::<I>(r * r, tail::<I>(r), r);
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
    let (n, r) = reduce::<I>(twice);
    let q = fma::<I>(r * r, tail::<I>(r), r);
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
