//! Natural logarithms.

use super::{fma, polynomial};
use crate::tier::Tier;

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// ln(1 + f) + k ln 2 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
#[inline(always)]
fn assemble<I: Tier>(f: f32, k: f32) -> f32 {
    let p = polynomial::<I, 8>(
        f,
        [
            0.333_333_3,
            -0.250_008_2,
            0.200_012_42,
            -0.166_234_09,
            0.142_015_8,
            -0.131_596_1,
            0.127_622_17,
            -0.076_364_39,
        ],
    );
    let square = f * f;
    let tail = fma::<I>(f * square, p, k * LN2_LOW);
    fma::<I>(k, LN2_HIGH, fma::<I>(square, -0.5, tail) + f)
}

/// ln x.
#[inline(always)]
pub fn ln<I: Tier>(x: f32) -> f32 {
    let denormal = x < f32::MIN_POSITIVE;
    let scaled = if denormal { x * 8_388_608.0 } else { x };
    let bias = if denormal { 150.0 } else { 127.0 };
    let bits = scaled.to_bits();
    // Shifts the cut between exponents from 1 to sqrt(1/2), so that f is small on both sides of x = 1.
    let shifted = bits.wrapping_add(0x3f80_0000 - 0x3f35_04f3);
    let k = (shifted >> 23) as i32 as f32 - bias;
    let f = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let result = assemble::<I>(f, k);
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    let result = if x == f32::INFINITY { x } else { result };
    // Negative numbers and NaN.
    if x >= 0.0 { result } else { f32::NAN }
}

/// ln(1 + e) for 0 <= e <= 1, with full relative accuracy near zero.
#[inline(always)]
pub fn log1p_unit<I: Tier>(e: f32) -> f32 {
    let upper = e > 0.414_213_57;
    let f = if upper { fma::<I>(0.5, e, -0.5) } else { e };
    assemble::<I>(f, if upper { 1.0 } else { 0.0 })
}
