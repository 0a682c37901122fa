//! What kernels compute in and what they load and store.
//!
//! A [`Real`] is a type that kernels compute in: f32, with the polynomials of [`vmath`], and f64, with the
//! standard library's functions, which gradient checks use. A [`Number`] is a floating-point element; bf16 and f16 are
//! widened to f32 when they are loaded and rounded to even when they are stored.

use std::ops::{Add, Div, Mul, Neg, Sub};

use cupola_core::{Float, bf16, f16};

use crate::tier::Tier;
use crate::vmath;
use crate::{Isa, kernel};

/// A type that kernels compute in.
pub trait Real:
    Number<Real = Self>
    + Float<Accumulator = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// `self * b + c`, fused where the tier has an instruction for it.
    fn fma<I: Tier>(self, b: Self, c: Self) -> Self;
    /// |x|.
    fn abs(self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// The largest integer not above x.
    fn floor(self) -> Self;
    /// The smallest integer not below x.
    fn ceil(self) -> Self;
    /// The nearest integer, ties to even.
    fn round(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// e^x.
    fn exp<I: Tier>(self) -> Self;
    /// e^x of several numbers, as [`Real::exp`], step by step side by side.
    #[inline(always)]
    fn exp_of<I: Tier, const N: usize>(x: [Self; N]) -> [Self; N] {
        x.map(Self::exp::<I>)
    }
    /// e^x for x <= 0; results below the smallest normal number are 0.
    fn exp_nonpositive<I: Tier>(self) -> Self;
    /// e^x - 1.
    fn expm1<I: Tier>(self) -> Self;
    /// The natural logarithm.
    fn ln<I: Tier>(self) -> Self;
    /// ln(1 + x) for x in [0, 1].
    fn log1p_unit<I: Tier>(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh<I: Tier>(self) -> Self;
    /// 1 / (1 + e^-x).
    fn sigmoid<I: Tier>(self) -> Self;
    /// The error function.
    fn erf<I: Tier>(self) -> Self;
    /// The sine.
    fn sin<I: Tier>(self) -> Self;
    /// The cosine.
    fn cos<I: Tier>(self) -> Self;
    /// x to the power y.
    fn pow<I: Tier>(self, y: Self) -> Self;
    /// The standard normal distribution function and density.
    fn normal<I: Tier>(self) -> (Self, Self);
    /// The standard normal distribution function at the negatives of these, which must not be below zero, step by step side by side.
    fn normal_tail_of<I: Tier, const N: usize>(x: [Self; N]) -> [Self; N];

    /// The larger of two numbers; NaN when one of them is.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // `self` where it is larger or NaN, and `other` where that is NaN.
        let kept = if self > other { self } else { other };
        if self.is_nan() { self } else { kept }
    }
    /// The smaller of two numbers; NaN when one of them is.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        let kept = if self < other { self } else { other };
        if self.is_nan() { self } else { kept }
    }
    /// Whether this is not a number.
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn is_nan(self) -> bool {
        self != self
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f32::INFINITY;
    const NAN: Self = f32::NAN;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn fma<I: Tier>(self, b: Self, c: Self) -> Self {
        vmath::fma::<I>(self, b, c)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        f32::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        f32::ceil(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        f32::round_ties_even(self)
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        f32::copysign(self, sign)
    }
    #[inline(always)]
    fn exp<I: Tier>(self) -> Self {
        vmath::exp::<I>(self)
    }
    #[inline(always)]
    fn exp_of<I: Tier, const N: usize>(x: [f32; N]) -> [f32; N] {
        vmath::exp_of::<I, N>(x)
    }
    #[inline(always)]
    fn exp_nonpositive<I: Tier>(self) -> Self {
        vmath::exp_nonpositive::<I>(self)
    }
    #[inline(always)]
    fn expm1<I: Tier>(self) -> Self {
        vmath::expm1::<I>(self)
    }
    #[inline(always)]
    fn ln<I: Tier>(self) -> Self {
        vmath::ln::<I>(self)
    }
    #[inline(always)]
    fn log1p_unit<I: Tier>(self) -> Self {
        vmath::log1p_unit::<I>(self)
    }
    #[inline(always)]
    fn tanh<I: Tier>(self) -> Self {
        vmath::tanh::<I>(self)
    }
    #[inline(always)]
    fn sigmoid<I: Tier>(self) -> Self {
        vmath::sigmoid::<I>(self)
    }
    #[inline(always)]
    fn erf<I: Tier>(self) -> Self {
        vmath::erf::<I>(self)
    }
    #[inline(always)]
    fn sin<I: Tier>(self) -> Self {
        vmath::sin::<I>(self)
    }
    #[inline(always)]
    fn cos<I: Tier>(self) -> Self {
        vmath::cos::<I>(self)
    }
    #[inline(always)]
    fn pow<I: Tier>(self, y: Self) -> Self {
        vmath::pow::<I>(self, y)
    }
    #[inline(always)]
    fn normal<I: Tier>(self) -> (Self, Self) {
        vmath::normal::<I>(self)
    }
    #[inline(always)]
    fn normal_tail_of<I: Tier, const N: usize>(x: [f32; N]) -> [f32; N] {
        vmath::normal_tail_of::<I, N>(x).0
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const INFINITY: Self = f64::INFINITY;
    const NAN: Self = f64::NAN;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn fma<I: Tier>(self, b: Self, c: Self) -> Self {
        if I::FMA { self.mul_add(b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        f64::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        f64::ceil(self)
    }
    #[inline(always)]
    fn round(self) -> Self {
        f64::round_ties_even(self)
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        f64::copysign(self, sign)
    }
    #[inline(always)]
    fn exp<I: Tier>(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn exp_nonpositive<I: Tier>(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn expm1<I: Tier>(self) -> Self {
        f64::exp_m1(self)
    }
    #[inline(always)]
    fn ln<I: Tier>(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn log1p_unit<I: Tier>(self) -> Self {
        f64::ln_1p(self)
    }
    #[inline(always)]
    fn tanh<I: Tier>(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn sigmoid<I: Tier>(self) -> Self {
        let e = f64::exp(-self.abs());
        if self < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
    }
    #[inline(always)]
    fn erf<I: Tier>(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn sin<I: Tier>(self) -> Self {
        f64::sin(self)
    }
    #[inline(always)]
    fn cos<I: Tier>(self) -> Self {
        f64::cos(self)
    }
    #[inline(always)]
    fn pow<I: Tier>(self, y: Self) -> Self {
        f64::powf(self, y)
    }
    #[inline(always)]
    fn normal<I: Tier>(self) -> (Self, Self) {
        let density = f64::exp(-0.5 * self * self) / std::f64::consts::TAU.sqrt();
        (0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2), density)
    }
    #[inline(always)]
    fn normal_tail_of<I: Tier, const N: usize>(x: [f64; N]) -> [f64; N] {
        x.map(|x| 0.5 * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2))
    }
}

/// A floating-point element as kernels see it.
pub trait Number: Float {
    /// The type it is computed in.
    type Real: Real;
    /// The value, exactly.
    fn load(self) -> Self::Real;
    /// The nearest value of this type, ties to even.
    fn store(value: Self::Real) -> Self;
    /// The slice itself when the element is what it is computed in.
    fn as_real(slice: &[Self]) -> Option<&[Self::Real]>;
    /// As [`Number::as_real`], to be written.
    fn as_real_mut(slice: &mut [Self]) -> Option<&mut [Self::Real]>;
    /// Loads a whole slice.
    fn widen(isa: Isa, from: &[Self], to: &mut [Self::Real]);
    /// Stores a whole slice.
    fn narrow(isa: Isa, from: &[Self::Real], to: &mut [Self]);
}

macro_rules! own_real {
    ($($type:ty),*) => {$(
        impl Number for $type {
            type Real = $type;
            #[inline(always)]
            fn load(self) -> $type { self }
            #[inline(always)]
            fn store(value: $type) -> Self { value }
            #[inline(always)]
            fn as_real(slice: &[Self]) -> Option<&[$type]> { Some(slice) }
            #[inline(always)]
            fn as_real_mut(slice: &mut [Self]) -> Option<&mut [$type]> { Some(slice) }
            fn widen(_: Isa, from: &[Self], to: &mut [$type]) { to.copy_from_slice(from) }
            fn narrow(_: Isa, from: &[$type], to: &mut [Self]) { to.copy_from_slice(from) }
        }
    )*};
}
own_real!(f32, f64);

macro_rules! half_number {
    ($($type:ident),*) => {$(
        impl Number for $type {
            type Real = f32;
            #[inline(always)]
            fn load(self) -> f32 { halves::$type::load(self.to_bits()) }
            #[inline(always)]
            fn store(value: f32) -> Self { $type::from_bits(halves::$type::store(value)) }
            #[inline(always)]
            fn as_real(_: &[Self]) -> Option<&[f32]> { None }
            #[inline(always)]
            fn as_real_mut(_: &mut [Self]) -> Option<&mut [f32]> { None }
            fn widen(isa: Isa, from: &[Self], to: &mut [f32]) { widen::<Self>(isa, from, to) }
            fn narrow(isa: Isa, from: &[f32], to: &mut [Self]) { narrow::<Self>(isa, from, to) }
        }
    )*};
}
half_number!(bf16, f16);

kernel! {
    fn widen[_I; T: Number](from: &[T], to: &mut [T::Real]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from.load();
        }
    }
    fn narrow[_I; T: Number](from: &[T::Real], to: &mut [T]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = T::store(from);
        }
    }
}

/// Conversions without branches and library calls, so that loops over them become vector code.
mod halves {
    pub mod bf16 {
        #[inline(always)]
        pub fn load(bits: u16) -> f32 {
            f32::from_bits(u32::from(bits) << 16)
        }

        #[inline(always)]
        pub fn store(value: f32) -> u16 {
            let bits = value.to_bits();
            // Adds just below half of the last place, or half where that makes it even; a NaN stays one.
            let rounded = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1) >> 16;
            let nan = bits >> 16 | 0x40;
            (if value.is_nan() { nan } else { rounded }) as u16
        }
    }

    pub mod f16 {
        #[inline(always)]
        pub fn load(bits: u16) -> f32 {
            let bits = u32::from(bits);
            let magnitude = bits & 0x7fff;
            // Exponent and fraction moved into place are the value times 2^-112, also for denormals.
            let value = f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23);
            let special = f32::from_bits(magnitude << 13 | 0x7f80_0000);
            let value = if magnitude >= 0x7c00 { special } else { value };
            f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
        }

        #[inline(always)]
        pub fn store(value: f32) -> u16 {
            let bits = value.to_bits();
            let sign = bits >> 16 & 0x8000;
            let magnitude = bits & 0x7fff_ffff;
            // Normal results: rounds the 13 bits away and lowers the exponent by 112.
            let odd = magnitude >> 13 & 1;
            let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff).wrapping_add(odd) >> 13;
            // Below 2^-14: adding 1/2 leaves multiples of 2^-24 in the low bits, rounded to even.
            let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
            let result = if magnitude < 113 << 23 { denormal } else { normal };
            // 65520 and above are nearer to 2^16 than to the largest number.
            let result = if magnitude >= 0x477f_f000 { 0x7c00 } else { result };
            let nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
            (sign | if magnitude > 0x7f80_0000 { nan } else { result }) as u16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_tier;

    #[test]
    fn halves_load_every_value_and_store_to_the_nearest() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let b: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits(b)).collect();
        let h: Vec<f16> = bits.iter().map(|&b| f16::from_bits(b)).collect();
        let floats: Vec<f32> = (0..u32::MAX / 1021).map(|k| f32::from_bits(k * 1021)).collect();
        // Ties and their neighbours.
        let ties =
            h.iter().flat_map(|x| [x.to_f32(), x.to_f32() * (1.0 + 1.0 / 2048.0), x.to_f32() * (1.0 + 3.0 / 2048.0)]);
        let floats: Vec<f32> = floats.into_iter().chain(ties).collect();
        each_tier(|isa| {
            let mut wide = vec![0.0; bits.len()];
            bf16::widen(isa, &b, &mut wide);
            assert!(wide.iter().zip(&b).all(|(x, b)| x.to_bits() == b.to_f32().to_bits() || x.is_nan() && b.is_nan()));
            f16::widen(isa, &h, &mut wide);
            assert!(wide.iter().zip(&h).all(|(x, h)| *x == h.to_f32() || x.is_nan() && h.is_nan()));
            let mut narrow = vec![bf16::ZERO; floats.len()];
            bf16::narrow(isa, &floats, &mut narrow);
            for (x, n) in floats.iter().zip(&narrow) {
                assert!(n.to_bits() == bf16::from_f32(*x).to_bits(), "{x:e}");
            }
            let mut narrow = vec![f16::ZERO; floats.len()];
            f16::narrow(isa, &floats, &mut narrow);
            for (x, n) in floats.iter().zip(&narrow) {
                let expected = f16::from_f32(*x);
                assert!(n.to_bits() == expected.to_bits() || n.is_nan() && expected.is_nan(), "{x:e}: {n} {expected}");
            }
        });
    }
}
