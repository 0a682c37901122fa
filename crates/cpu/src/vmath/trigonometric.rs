//! sin and cos for every finite argument.
//!
//! The argument is an integer times a power of two, so the fraction of x * 2/pi modulo 4 needs only a window of 2/pi's
//! bits (Payne and Hanek, "Radian reduction for trigonometric functions", 1983). It is held in 64-bit fixed point.

use super::polynomial;
use crate::tier::Tier;

/// The bits of 2/pi after the point in words of 32, after four words of zeros for arguments below one.
const TWO_OVER_PI: [u32; 12] = [
    0,
    0,
    0,
    0,
    0xa2f9_836e,
    0x4e44_1529,
    0xfc27_57d1,
    0xf534_ddc0,
    0xdb62_9599,
    0x3c43_9041,
    0xfe51_63ab,
    0xdebb_c561,
];

/// (quadrant, r) with |x| = quadrant * pi/2 + r modulo 2 pi and |r| <= pi/4; for finite x.
#[inline(always)]
fn reduce(x: f32) -> (u32, f32) {
    let bits = x.to_bits() & 0x7fff_ffff;
    // |x| = mantissa * 2^(exponent - 150). Below 2^-6 the caller uses x itself; there any index inside the table will do.
    let exponent = bits >> 23;
    let mantissa = u64::from((bits & 0x007f_ffff) | 0x0080_0000);
    // The bits of weight 2^2 and above in mantissa * 2^(exponent - 150) * 2/pi are whole turns. So the window begins where
    // the table's weight times 2^(exponent - 150) is 2^1: position exponent - 152 after the point.
    let position = exponent.wrapping_sub(152 - 128).min(255 - 24);
    let (word, shift) = ((position >> 5) as usize, position & 31);
    let w = |k: usize| u64::from(TWO_OVER_PI[word + k]);
    // 96 bits from `position` on, as three words.
    let cut = |high: u64, low: u64| (((high << 32 | low) << shift) >> 32) & 0xffff_ffff;
    let (a, b, c) = (cut(w(0), w(1)), cut(w(1), w(2)), cut(w(2), w(3)));
    // The product modulo 4 in units of 2^-62: what carries out at the top is whole turns.
    let fixed = ((mantissa * a) << 32).wrapping_add(mantissa * b).wrapping_add((mantissa * c) >> 32);
    let quadrant = fixed.wrapping_add(1 << 61) >> 62;
    let rest = fixed.wrapping_sub(quadrant << 62) as i64;
    // The 24 x 32 bit products leave the rest exact to 2^-62 * 2; in f64 it keeps 53 bits.
    let r = rest as f64 * (std::f64::consts::FRAC_PI_2 / (1u64 << 62) as f64);
    (quadrant as u32 & 3, r as f32)
}

#[inline(always)]
fn both<I: Tier>(r: f32) -> (f32, f32) {
    let z = r * r;
    let s = polynomial::<I, 4>(z, [-0.166_666_67, 0.008_333_379, -1.985_306_9e-4, 2.832_629_4e-6]);
    let c = polynomial::<I, 3>(z, [0.041_666_646, -0.001_388_731, 2.443_233_1e-5]);
    (super::fma::<I>(r * z, s, r), super::fma::<I>(z * z, c, super::fma::<I>(z, -0.5, 1.0)))
}

/// sin x.
#[inline(always)]
pub fn sin<I: Tier>(x: f32) -> f32 {
    let (quadrant, r) = reduce(x);
    let small = x.abs() < 0.785;
    let (quadrant, r) = (if small { 0 } else { quadrant }, if small { x.abs() } else { r });
    let (s, c) = both::<I>(r);
    let value = if quadrant & 1 == 0 { s } else { c };
    let sign = (quadrant & 2) << 30 ^ (x.to_bits() & 0x8000_0000);
    let value = f32::from_bits(value.to_bits() ^ sign);
    if x.abs() < f32::INFINITY { value } else { f32::NAN }
}

/// cos x.
#[inline(always)]
pub fn cos<I: Tier>(x: f32) -> f32 {
    let (quadrant, r) = reduce(x);
    let small = x.abs() < 0.785;
    let (quadrant, r) = (if small { 0 } else { quadrant }, if small { x.abs() } else { r });
    let (s, c) = both::<I>(r);
    let value = if quadrant & 1 == 0 { c } else { s };
    let sign = (quadrant.wrapping_add(1) & 2) << 30;
    let value = f32::from_bits(value.to_bits() ^ sign);
    if x.abs() < f32::INFINITY { value } else { f32::NAN }
}
