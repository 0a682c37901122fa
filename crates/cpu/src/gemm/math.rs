//! Activations for epilogues, without branches, so that loops over them become vector code in every tier.

use super::kernel::portable::Fused;

#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.fused(b, c) } else { a.split(b, c) }
}

#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, highest_first: [f32; N]) -> f32 {
    highest_first.into_iter().fold(0.0, |sum, c| fma::<FUSED>(sum, x, c))
}

/// e^x to 2 ulp; zero below -87.3, where the result would be denormal, and infinite above 88.7.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; e^r is a minimax polynomial of degree 6 (relative error 2e-9).
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the fraction.
    const SHIFT: f32 = 12_582_912.0;
    // Upper and lower part of ln 2; the upper has trailing zeros, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = fma::<FUSED>(x, std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = fma::<FUSED>(n, -LN2_LOW, fma::<FUSED>(n, -LN2_HIGH, x));
    let p = polynomial::<FUSED, 7>(r, [1.394_110_9e-3, 8.375_126e-3, 4.166_635e-2, 0.166_664_16, 0.5, 1.0, 1.0]);
    // 2^n in two factors, because n = 128 has no f32.
    let n = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let value = p * power(half) * power(n.wrapping_sub(half));
    let value = if x > 88.722_84 { f32::INFINITY } else { value };
    if x < -87.336_54 { 0.0 } else { value }
}

/// `x * Phi(x)`.
///
/// With t = |x|, `Phi(-t) = exp(-t^2 / 2) * u * p(u)` where `u = 1 / (1 + 0.35 t)`; p has degree 8 (relative error 4e-8 for
/// t up to 14), so that the tail towards minus infinity is relatively exact as well.
#[inline(always)]
pub fn gelu_erf<const FUSED: bool>(x: f32) -> f32 {
    let t = x.abs();
    let u = 1.0 / fma::<FUSED>(t, 0.35, 1.0);
    let p = polynomial::<FUSED, 9>(
        u,
        [
            -0.029_679_522,
            0.146_545_83,
            -0.260_961_23,
            0.165_051,
            -0.027_046_608,
            0.107_114_59,
            0.119_444_92,
            0.139_912_3,
            0.139_618_71,
        ],
    );
    let tail = exp::<FUSED>(-0.5 * t * t) * u * p;
    let main = if x < 0.0 { 0.0 } else { x };
    // An infinite x would meet a tail of zero.
    let minus = if t > 1e3 { 0.0 } else { t * tail };
    main - minus
}

/// `x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))`, which equals the form with tanh.
#[inline(always)]
pub fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    const SCALE: f32 = -1.595_769;
    x / (1.0 + exp::<FUSED>(SCALE * x * fma::<FUSED>(0.044_715 * x, x, 1.0)))
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
pub fn silu<const FUSED: bool>(x: f32) -> f32 {
    x / (1.0 + exp::<FUSED>(-x))
}

/// [`gelu_erf`] in f64, by the everywhere convergent series
/// `erf(z) = 2 / sqrt(pi) * exp(-z^2) * sum 2^n z^(2n+1) / (1 * 3 * ... * (2n + 1))`, whose terms are all of one sign.
pub fn gelu_erf_f64(x: f64) -> f64 {
    let z = (x * std::f64::consts::FRAC_1_SQRT_2).abs();
    let erf = if z > 6.0 {
        1.0
    } else {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum
    };
    // NaN fails the comparison above and both sums, and comes out as NaN.
    0.5 * x * (1.0 + erf.copysign(x))
}

/// [`gelu_tanh`] in f64.
pub fn gelu_tanh_f64(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// [`silu`] in f64.
pub fn silu_f64(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
