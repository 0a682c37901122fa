//! Any target: 4 rows by 8 accumulators at a time, in arrays that the compiler keeps in vector registers.

use super::{Kernels, Lanes, PANEL_BYTES, Tile, body};
use crate::gemm::product::Accumulator;

/// `a * b + c`: fused where the target has the instruction, in two roundings where it would be a function call.
#[inline(always)]
pub fn mul_add<F: Fused>(a: F, b: F, c: F) -> F {
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    if FUSED { a.fused(b, c) } else { a.split(b, c) }
}

/// Floats that multiply and add in one or in two roundings.
pub trait Fused: Copy {
    /// `self * b + c`, rounded once.
    fn fused(self, b: Self, c: Self) -> Self;
    /// `self * b + c`, rounded twice.
    fn split(self, b: Self, c: Self) -> Self;
}

macro_rules! fused {
    ($($float:ty),*) => {$(
        impl Fused for $float {
            #[inline(always)]
            fn fused(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            #[inline(always)]
            fn split(self, b: Self, c: Self) -> Self {
                self * b + c
            }
        }
    )*};
}
fused!(f32, f64);

/// Lanes whose words are `W`: how one lane multiplies and accumulates.
pub trait Lane<const N: usize> {
    type Acc: Copy + Default;
    type Word: Copy;
    fn mac(sum: Self::Acc, a: Self::Word, b: Self::Word) -> Self::Acc;
}

pub struct F32;
pub struct F64;
pub struct Bf16;
struct Int8;

impl Lane<8> for F32 {
    type Acc = f32;
    type Word = f32;
    #[inline(always)]
    fn mac(sum: f32, a: f32, b: f32) -> f32 {
        mul_add(a, b, sum)
    }
}

impl Lane<4> for F64 {
    type Acc = f64;
    type Word = f64;
    #[inline(always)]
    fn mac(sum: f64, a: f64, b: f64) -> f64 {
        mul_add(a, b, sum)
    }
}

impl Lane<8> for Bf16 {
    type Acc = f32;
    type Word = u32;
    #[inline(always)]
    fn mac(sum: f32, a: u32, b: u32) -> f32 {
        let (low, high) = (|w: u32| f32::from_bits(w << 16), |w: u32| f32::from_bits(w & 0xFFFF_0000));
        mul_add(high(a), high(b), mul_add(low(a), low(b), sum))
    }
}

impl Lane<8> for Int8 {
    type Acc = i32;
    type Word = u32;
    #[inline(always)]
    fn mac(sum: i32, a: u32, b: u32) -> i32 {
        let product = |k: u32| ((a >> (8 * k)) & 0xFF) as i32 * i32::from((b >> (8 * k)) as i8);
        sum.wrapping_add(product(0)).wrapping_add(product(1)).wrapping_add(product(2)).wrapping_add(product(3))
    }
}

macro_rules! portable {
    ($(#[$doc:meta])* $table:ident: $acc:ty, $name:ident, $lane:ty, $lanes:literal, $passes:literal) => {
        impl Lanes for $lane {
            type Acc = <$lane as Lane<$lanes>>::Acc;
            type Vector = [Self::Acc; $lanes];
            type Words = [<$lane as Lane<$lanes>>::Word; $lanes];
            const LANES: usize = $lanes;
            const WORD: usize = size_of::<<$lane as Lane<$lanes>>::Word>();

            #[inline(always)]
            unsafe fn zero() -> Self::Vector {
                Default::default()
            }
            #[inline(always)]
            unsafe fn load(from: *const Self::Acc) -> Self::Vector {
                // SAFETY: the caller vouches for the address.
                unsafe { from.cast::<Self::Vector>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(to: *mut Self::Acc, value: Self::Vector) {
                // SAFETY: the caller vouches for the address.
                unsafe { to.cast::<Self::Vector>().write_unaligned(value) }
            }
            #[inline(always)]
            unsafe fn words(from: *const u8) -> Self::Words {
                // SAFETY: the caller vouches for the address.
                unsafe { from.cast::<Self::Words>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn splat(from: *const u8) -> Self::Words {
                // SAFETY: the caller vouches for the address.
                [unsafe { from.cast::<<$lane as Lane<$lanes>>::Word>().read_unaligned() }; $lanes]
            }
            #[inline(always)]
            unsafe fn mac(mut sum: Self::Vector, a: Self::Words, b: Self::Words) -> Self::Vector {
                for (sum, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
                    *sum = <$lane as Lane<$lanes>>::mac(*sum, a, b);
                }
                sum
            }
            #[inline(always)]
            unsafe fn plus(mut a: Self::Vector, b: Self::Vector) -> Self::Vector {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = Accumulator::plus(*a, b));
                a
            }
        }

        unsafe fn $name<const R: usize>(tile: &Tile<$acc>) {
            for pass in 0..$passes {
                // SAFETY: the caller vouches for the tile.
                unsafe { body::<$lane, R, 1, $passes>(tile, pass) }
            }
        }

        $(#[$doc])*
        pub static $table: Kernels<$acc> = Kernels {
            line: PANEL_BYTES,
            single: &[$name::<1>, $name::<2>, $name::<3>, $name::<4>],
            several: &[],
            strip: None,
            narrow: None,
        };
    };
}

portable!(
    /// f32.
    F32_KERNELS: f32, f32_tile, F32, 8, 4
);
portable!(
    /// f64.
    F64_KERNELS: f64, f64_tile, F64, 4, 4
);
portable!(
    /// Pairs of bf16, widened.
    BF16_KERNELS: f32, bf16_tile, Bf16, 8, 4
);
portable!(
    /// Quadruples of bytes.
    INT8_KERNELS: i32, int8_tile, Int8, 8, 4
);
