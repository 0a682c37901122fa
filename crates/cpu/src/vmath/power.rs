//! Powers with a real exponent.

use crate::tier::Tier;

#[inline(always)]
fn fma<I: Tier>(a: f64, b: f64, c: f64) -> f64 {
    if I::FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn polynomial<I: Tier, const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = fma::<I>(sum, x, coefficients[k]);
    }
    sum
}

/// ln a for a > 0 that was an f32, to a relative 1e-13.
#[inline(always)]
fn ln<I: Tier>(a: f64) -> f64 {
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let shifted = a.to_bits().wrapping_add(0x3ff0_0000_0000_0000 - SQRT_HALF);
    let k = ((shifted >> 52) as i32 - 1023) as f64;
    let f = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    // ln(1 + f) = 2 artanh(f / (2 + f)).
    let s = f / (2.0 + f);
    let p = polynomial::<I, 5>(
        s * s,
        [
            0.666_666_666_758_616_6,
            0.399_999_955_970_672_3,
            0.285_721_121_853_485_9,
            0.221_760_466_499_702_66,
            0.195_864_053_082_659_7,
        ],
    );
    fma::<I>(k, std::f64::consts::LN_2, fma::<I>(s * s * s, p, 2.0 * s))
}

/// e^x for |x| <= 200, to a relative 5e-12.
#[inline(always)]
fn exp<I: Tier>(x: f64) -> f64 {
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    let shifted = fma::<I>(x, std::f64::consts::LOG2_E, ROUNDER);
    let r = fma::<I>(shifted - ROUNDER, -std::f64::consts::LN_2, x);
    let p = polynomial::<I, 7>(
        r,
        [
            0.500_000_000_043_714,
            0.166_666_667_865_672_05,
            0.041_666_664_364_161_415,
            0.008_333_281_189_337_977,
            0.001_388_920_083_467_849_5,
            1.990_934_451_204_798e-4,
            2.470_773_179_147_095_2e-5,
        ],
    );
    let p = fma::<I>(r * r, p, r) + 1.0;
    f64::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// x to the power y, computed in f64 and rounded once; special cases as in IEEE 754 (`pow`).
#[inline(always)]
pub fn pow<I: Tier>(x: f32, y: f32) -> f32 {
    let magnitude = x.abs();
    let log = ln::<I>(f64::from(magnitude));
    let log = if magnitude == 0.0 { f64::NEG_INFINITY } else { log };
    let log = if magnitude == f32::INFINITY { f64::INFINITY } else { log };
    let power = f64::from(y) * log;
    let power = if power > 200.0 { 200.0 } else { power };
    let power = if power < -200.0 { -200.0 } else { power };
    let result = exp::<I>(power) as f32;
    // From 2^24 on every f32 is even; below, the integer part tells.
    let size = y.abs();
    let whole = size as u32;
    let small = size < 16_777_216.0;
    let integer = !small || whole as f32 == size;
    let odd = small && whole as f32 == size && whole & 1 == 1;
    let result = if x < 0.0 && !integer && magnitude < f32::INFINITY { f32::NAN } else { result };
    let negative = odd && x.to_bits() >> 31 == 1;
    let result = if negative { -result } else { result };
    let result = if x.is_nan() || y.is_nan() { f32::NAN } else { result };
    let unit = x == 1.0 || (x == -1.0 && size == f32::INFINITY);
    if y == 0.0 || unit { 1.0 } else { result }
}
