//! What a tier and a type of operands compute attention with: the vectors of the matrix products, and on top of them the few
//! functions of a softmax.

#[cfg(target_arch = "x86_64")]
use crate::gemm::Bf16;
use crate::gemm::kernel::{Lanes, portable};
#[cfg(target_arch = "x86_64")]
use crate::gemm::kernel::{avx2, avx512};
use crate::gemm::pack::{Lhs, Packer};
use crate::gemm::{F32, F64};
use crate::isa::Isa;
use crate::real::Real;
use crate::tier::{self, Tier};

use super::product::{ProductFn, Products};

/// Queries that are computed together, lane by lane: the width of every block.
pub const WIDTH: usize = 32;

/// See the [module](self).
///
/// # Safety
/// Methods may use instructions that the processor lacks; they must be inlined into functions that enable them.
pub trait Engine: Lanes<Acc: Exp2> + 'static {
    /// The tier, for plain loops.
    type Tier: Tier;
    /// The product whose words these are.
    type Product;
    /// Elements in a word.
    const GROUP: usize;
    /// Rows of the largest tile.
    const ROWS: usize;
    /// The tiles of products.
    const PRODUCTS: Products<Self::Acc>;

    /// Packs accumulators without changing them.
    fn plain(isa: Isa) -> Packer;
    /// Packs accumulators as words of operands.
    fn words_of_sums(isa: Isa) -> Packer;
    /// One value in all lanes.
    unsafe fn all(value: Self::Acc) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger of two numbers that are not NaN.
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// 2^x for x up to 0, which gives exactly 1; below the exponent of the smallest normal number it is 0.
    unsafe fn exp2(x: Self::Vector) -> Self::Vector;
    /// `x` where `low <= key < high` and `other` elsewhere.
    unsafe fn within(x: Self::Vector, key: i32, low: *const i32, high: *const i32, other: Self::Acc) -> Self::Vector;
}

/// The packer of elements of `T` into words of engine `E`.
pub fn packer<E: Engine, T: Lhs<E::Product>>(isa: Isa) -> Packer {
    T::packer(isa)
}

/// 2^r for |r| <= 1/2, by a polynomial of relative error 2e-9 before rounding, fitted for the relative error and rounded
/// coefficient by coefficient; lowest power first. The first is exactly 1, so that 2^0 is.
pub(crate) const EXP2: [f32; 7] =
    [1.0, std::f32::consts::LN_2, 0.240_226_46, 0.055_503_286, 0.009_618_489, 0.001_339_993, 0.000_153_458_12];

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the fraction.
const ROUNDER: f32 = 12_582_912.0;

/// What [`Engine::exp2`] computes, for one lane.
pub trait Exp2: Real {
    fn exp2<I: Tier>(self) -> Self;
}

impl Exp2 for f32 {
    #[inline(always)]
    fn exp2<I: Tier>(self) -> f32 {
        // Written so that NaN passes.
        let clamped = if self < -126.0 { -126.0 } else { self };
        let shifted = clamped + ROUNDER;
        let r = clamped - (shifted - ROUNDER);
        let mut p = EXP2[6];
        for k in (0..6).rev() {
            p = p.fma::<I>(r, EXP2[k]);
        }
        let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits());
        let power = f32::from_bits(n.wrapping_add(127) << 23);
        if self < -126.0 { 0.0 } else { p * power }
    }
}

impl Exp2 for f64 {
    #[inline(always)]
    fn exp2<I: Tier>(self) -> f64 {
        if self < -1022.0 { 0.0 } else { f64::exp2(self) }
    }
}

/// The methods of [`Engine`] as loops over arrays, which the compiler turns into vector code.
macro_rules! by_lane {
    ($lanes:ty) => {
        #[inline(always)]
        unsafe fn all(value: Self::Acc) -> Self::Vector {
            let lanes = [value; <$lanes>::LANES];
            // SAFETY: the array has as many elements as a vector.
            unsafe { <$lanes>::load(lanes.as_ptr()) }
        }
        #[inline(always)]
        unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: the caller's.
            unsafe { zip::<$lanes>(a, b, |a, b| a + b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: the caller's.
            unsafe { zip::<$lanes>(a, b, |a, b| a - b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: the caller's.
            unsafe { zip::<$lanes>(a, b, |a, b| a * b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: the caller's.
            unsafe { zip::<$lanes>(a, b, |a, b| if a > b { a } else { b }) }
        }
        #[inline(always)]
        unsafe fn exp2(x: Self::Vector) -> Self::Vector {
            // SAFETY: the caller's.
            unsafe { zip::<$lanes>(x, x, |x, _| Exp2::exp2::<<$lanes as Engine>::Tier>(x)) }
        }
        #[inline(always)]
        unsafe fn within(
            x: Self::Vector,
            key: i32,
            low: *const i32,
            high: *const i32,
            other: Self::Acc,
        ) -> Self::Vector {
            let mut lanes = [other; <$lanes>::LANES];
            // SAFETY: the array has as many elements as a vector; the caller vouches for the limits of as many lanes.
            unsafe {
                <$lanes>::store(lanes.as_mut_ptr(), x);
                for (lane, x) in lanes.iter_mut().enumerate() {
                    let visible = (*low.add(lane) <= key) & (key < *high.add(lane));
                    *x = if visible { *x } else { other };
                }
                <$lanes>::load(lanes.as_ptr())
            }
        }
    };
}

/// `f` of each pair of lanes.
///
/// # Safety
/// As [`Engine`].
#[inline(always)]
unsafe fn zip<L: Lanes>(a: L::Vector, b: L::Vector, f: impl Fn(L::Acc, L::Acc) -> L::Acc) -> L::Vector
where
    L::Acc: Real,
{
    // No vector has more lanes than 16.
    let (mut x, mut y) = ([L::Acc::ZERO; 16], [L::Acc::ZERO; 16]);
    // SAFETY: the arrays have room for a vector.
    unsafe {
        L::store(x.as_mut_ptr(), a);
        L::store(y.as_mut_ptr(), b);
        for lane in 0..L::LANES {
            x[lane] = f(x[lane], y[lane]);
        }
        L::load(x.as_ptr())
    }
}

macro_rules! products {
    ($name:ident, $lanes:ty, [$($rows:literal),*] $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn $name<const R: usize, const V: usize, const DOWN: bool>(
            job: &super::product::Product<<$lanes as Lanes>::Acc>,
        ) {
            // SAFETY: the caller vouches for the operands; this function enables the instructions.
            unsafe { super::product::tile::<$lanes, R, V, DOWN>(job) }
        }
    };
    (@table $name:ident, [$($rows:literal),*]) => {{
        type Run<Acc> = ProductFn<Acc>;
        Products {
            along: [&[$($name::<$rows, 1, false> as Run<_>),*], &[$($name::<$rows, 2, false> as Run<_>),*]],
            down: [&[$($name::<$rows, 1, true> as Run<_>),*], &[$($name::<$rows, 2, true> as Run<_>),*]],
        }
    }};
}

macro_rules! engine {
    ($lanes:ty, $tier:ty, $product:ty, $plain:ty, $group:literal, $name:ident, $count:literal, [$($rows:literal),*]
        $(, $features:literal)?; $($methods:tt)*) => {
        products!($name, $lanes, [$($rows),*] $(, $features)?);
        impl Engine for $lanes {
            type Tier = $tier;
            type Product = $product;
            const GROUP: usize = $group;
            const ROWS: usize = $count;
            const PRODUCTS: Products<Self::Acc> = products!(@table $name, [$($rows),*]);
            fn plain(isa: Isa) -> Packer {
                <Self::Acc as Lhs<$plain>>::packer(isa)
            }
            fn words_of_sums(isa: Isa) -> Packer {
                <Self::Acc as Lhs<$product>>::packer(isa)
            }
            $($methods)*
        }
    };
}

engine!(portable::F32, tier::Portable, F32, F32, 1, portable_f32, 4, [1, 2, 3, 4]; by_lane!(portable::F32););
engine!(portable::F64, tier::Portable, F64, F64, 1, portable_f64, 4, [1, 2, 3, 4]; by_lane!(portable::F64););
#[cfg(target_arch = "x86_64")]
engine!(avx2::F64, tier::Avx2, F64, F64, 1, avx2_f64, 6, [1, 2, 3, 4, 5, 6], "avx2,fma,f16c"; by_lane!(avx2::F64););
#[cfg(target_arch = "x86_64")]
engine!(
    avx512::F64, tier::Avx512, F64, F64, 1, avx512_f64, 8, [1, 2, 3, 4, 5, 6, 7, 8], "avx512f,avx512bw,avx512dq,avx512vl";
    by_lane!(avx512::F64);
);

/// The methods of [`Engine`] on 8 lanes of f32. Left to the compiler, 2^x would be computed lane by lane.
#[cfg(target_arch = "x86_64")]
macro_rules! by_eight {
    () => {
        #[inline(always)]
        unsafe fn all(value: f32) -> Self::Vector {
            // SAFETY: inlined into functions with AVX2 and FMA, as all methods here.
            unsafe { std::arch::x86_64::_mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn exp2(x: Self::Vector) -> Self::Vector {
            use std::arch::x86_64::*;
            // SAFETY: register operands only.
            unsafe {
                let low = _mm256_set1_ps(-126.0);
                // Of a NaN and a number, MAX gives its second operand.
                let clamped = _mm256_max_ps(low, x);
                let shifted = _mm256_add_ps(clamped, _mm256_set1_ps(ROUNDER));
                let r = _mm256_sub_ps(clamped, _mm256_sub_ps(shifted, _mm256_set1_ps(ROUNDER)));
                let mut p = _mm256_set1_ps(EXP2[6]);
                for k in (0..6).rev() {
                    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP2[k]));
                }
                // What the rounder has above the exponent's bits is shifted out.
                let n = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
                let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n));
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, low), _mm256_mul_ps(p, power))
            }
        }
        #[inline(always)]
        unsafe fn within(x: Self::Vector, key: i32, low: *const i32, high: *const i32, other: f32) -> Self::Vector {
            use std::arch::x86_64::*;
            // SAFETY: the caller vouches for the limits of 8 lanes.
            unsafe {
                let key = _mm256_set1_epi32(key);
                let before = _mm256_cmpgt_epi32(_mm256_loadu_si256(low.cast()), key);
                let until = _mm256_cmpgt_epi32(_mm256_loadu_si256(high.cast()), key);
                let visible = _mm256_castsi256_ps(_mm256_andnot_si256(before, until));
                _mm256_blendv_ps(_mm256_set1_ps(other), x, visible)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
engine!(avx2::F32, tier::Avx2, F32, F32, 1, avx2_f32, 6, [1, 2, 3, 4, 5, 6], "avx2,fma,f16c"; by_eight!(););

/// The methods of [`Engine`] on 16 lanes of f32.
#[cfg(target_arch = "x86_64")]
macro_rules! by_vector {
    () => {
        #[inline(always)]
        unsafe fn all(value: f32) -> Self::Vector {
            // SAFETY: inlined into functions with AVX-512, as all methods here.
            unsafe { std::arch::x86_64::_mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector {
            // SAFETY: register operands only.
            unsafe { std::arch::x86_64::_mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn exp2(x: Self::Vector) -> Self::Vector {
            use std::arch::x86_64::*;
            // SAFETY: register operands only.
            unsafe {
                let n = _mm512_roundscale_ps::<8>(x);
                let r = _mm512_sub_ps(x, n);
                let mut p = _mm512_set1_ps(EXP2[6]);
                for k in (0..6).rev() {
                    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2[k]));
                }
                // Minus infinity leaves NaN in r, which the mask takes out; NaN itself passes.
                let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(-126.0));
                _mm512_maskz_scalef_ps(normal, p, n)
            }
        }
        #[inline(always)]
        unsafe fn within(x: Self::Vector, key: i32, low: *const i32, high: *const i32, other: f32) -> Self::Vector {
            use std::arch::x86_64::*;
            // SAFETY: the caller vouches for the limits of 16 lanes.
            unsafe {
                let key = _mm512_set1_epi32(key);
                let from = _mm512_cmple_epi32_mask(_mm512_loadu_si512(low.cast()), key);
                let visible = _mm512_mask_cmpgt_epi32_mask(from, _mm512_loadu_si512(high.cast()), key);
                _mm512_mask_mov_ps(_mm512_set1_ps(other), visible, x)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
engine!(
    avx512::F32, tier::Avx512, F32, F32, 1, avx512_f32, 14, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    "avx512f,avx512bw,avx512dq,avx512vl"; by_vector!();
);
#[cfg(target_arch = "x86_64")]
engine!(
    avx512::Bf16, tier::Avx512, Bf16, F32, 2, avx512_bf16, 14, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"; by_vector!();
);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[target_feature(enable = "avx2,fma")]
    fn of_eight(x: [f32; 8]) -> [f32; 8] {
        let mut y = [0.0; 8];
        // SAFETY: this function enables the instructions; the arrays have a vector's length.
        unsafe { avx2::F32::store(y.as_mut_ptr(), avx2::F32::exp2(avx2::F32::load(x.as_ptr()))) };
        y
    }

    #[test]
    fn eight_lanes_have_the_bits_of_one() {
        if crate::isa::isa() < Isa::Avx2 {
            return;
        }
        let edges = [0.0, -0.0, -0.5, -125.99, -126.0, -126.01, f32::NEG_INFINITY, f32::NAN];
        for first in (0..=1400).step_by(8) {
            let x: [f32; 8] = std::array::from_fn(|i| -((first + i) as f32) / 11.0);
            for x in [x, edges] {
                // SAFETY: the processor has the instructions, as was asked above.
                let y = unsafe { of_eight(x) };
                for (x, y) in x.into_iter().zip(y) {
                    let one = Exp2::exp2::<tier::Avx2>(x);
                    assert!(y.to_bits() == one.to_bits() || y.is_nan() && one.is_nan(), "2^{x} = {y}, {one}");
                }
            }
        }
    }
}
