//! The products: which types they take, accumulate in and give, and which kernels serve them.

use cupola_core::dtype::{bf16, f16};

use super::kernel::{Kernels, PANEL_BYTES, Widened, portable};
#[cfg(target_arch = "x86_64")]
use super::kernel::{avx2, avx512};
use crate::isa::{Isa, extensions};
use crate::real::Real;
use crate::tier::{Avx2, Portable, Tier};
use crate::unary::{Gelu, GeluTanh, Relu, Silu, Unary};

/// f32 products: operands f32, bf16 or f16 (widened exactly), accumulation in f32, results f32, bf16 or f16.
///
/// An element is the chain `fma(a[i][k], b[k][j], sum)` for rising k.
#[derive(Clone, Copy, Debug)]
pub struct F32;

/// f64 products.
///
/// An element is the chain `fma(a[i][k], b[k][j], sum)` for rising k.
#[derive(Clone, Copy, Debug)]
pub struct F64;

/// bf16 products: operands bf16 or f32 (rounded to bf16 first), accumulation in f32, results f32, bf16 or f16.
///
/// With AVX512-BF16 an element is the chain of `VDPBF16PS` over k in pairs, which takes denormals for zero; otherwise it is
/// the chain of [`F32`] over the widened operands. Cutting K at even positions leaves the bits alone.
#[derive(Clone, Copy, Debug)]
pub struct Bf16;

/// Byte products: left operand i8 or u8, right operand i8, accumulation and result i32, which wraps.
#[derive(Clone, Copy, Debug)]
pub struct Int8;

/// The machinery behind a [`super::Product`].
pub trait Arithmetic: Sized + Send + Sync + 'static {
    /// What sums are kept in.
    type Acc: Accumulator;
    /// Elements of depth in a word.
    const GROUP: usize;
    /// Bytes of a word.
    const WORD: usize;
    /// Columns of a panel.
    const COLS: usize = PANEL_BYTES / Self::WORD;
    /// Whether packed right operands keep corrections for shifted left operands.
    const SHIFTS: bool = false;
    /// The tier that serves this product where `isa` is asked for: lower if an extension is missing.
    fn tier(isa: Isa) -> Isa {
        isa
    }
    /// The kernels for a tier that [`Arithmetic::tier`] gave.
    fn kernels(tier: Isa) -> &'static Kernels<Self::Acc>;
    /// How to widen panels beforehand, where that is faster.
    fn widened(_tier: Isa) -> Option<&'static Widened<Self::Acc>> {
        None
    }
}

macro_rules! kernels {
    ($table:ident) => {
        fn kernels(tier: Isa) -> &'static Kernels<Self::Acc> {
            match tier {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => &avx512::$table,
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => &avx2::$table,
                _ => &portable::$table,
            }
        }
    };
}

impl Arithmetic for F32 {
    type Acc = f32;
    const GROUP: usize = 1;
    const WORD: usize = 4;
    kernels!(F32_KERNELS);
}

impl Arithmetic for F64 {
    type Acc = f64;
    const GROUP: usize = 1;
    const WORD: usize = 8;
    kernels!(F64_KERNELS);
}

impl Arithmetic for Bf16 {
    type Acc = f32;
    const GROUP: usize = 2;
    const WORD: usize = 4;
    fn tier(isa: Isa) -> Isa {
        if extensions().bf16 { isa } else { isa.min(Isa::Avx2) }
    }
    kernels!(BF16_KERNELS);
    fn widened(tier: Isa) -> Option<&'static Widened<f32>> {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&avx2::BF16_WIDENED),
            _ => None,
        }
    }
}

impl Arithmetic for Int8 {
    type Acc = i32;
    const GROUP: usize = 4;
    const WORD: usize = 4;
    const SHIFTS: bool = true;
    fn tier(isa: Isa) -> Isa {
        if extensions().vnni { isa } else { isa.min(Isa::Avx2) }
    }
    kernels!(INT8_KERNELS);
}

/// A type that sums are kept in: f32, f64 or i32.
pub trait Accumulator: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// The activations that an epilogue may apply to it.
    type Activation: Copy + Default + PartialEq + Send + Sync + std::fmt::Debug;
    /// The neutral scale.
    const ONE: Self;
    /// Whether this is the neutral scale.
    #[doc(hidden)]
    fn is_one(self) -> bool;
    /// Product, wrapping for integers.
    #[doc(hidden)]
    fn times(self, other: Self) -> Self;
    /// Sum, wrapping for integers.
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
    /// Applies an activation to a row; `FUSED` allows fused multiply-add.
    #[doc(hidden)]
    fn activate<const FUSED: bool>(activation: Self::Activation, row: &mut [Self]);
}

/// What an epilogue applies to each element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// The value itself.
    #[default]
    None,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x * Phi(x)` with the normal distribution function: GELU in its exact form.
    GeluErf,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: GELU in the form with tanh.
    GeluTanh,
    /// `x / (1 + exp(-x))`, also called swish.
    Silu,
}

/// Integer results take no activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoActivation;

macro_rules! float {
    ($float:ty, $fused:ident => $tier:ty) => {
        impl Accumulator for $float {
            type Activation = Activation;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn is_one(self) -> bool {
                self == 1.0
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn activate<const $fused: bool>(activation: Activation, row: &mut [Self]) {
                match (activation, $fused) {
                    (Activation::None, _) => {}
                    (Activation::Relu, _) => apply::<Portable, _, _>(Relu, row),
                    (Activation::GeluErf, true) => apply::<$tier, _, _>(Gelu, row),
                    (Activation::GeluErf, false) => apply::<Portable, _, _>(Gelu, row),
                    (Activation::GeluTanh, true) => apply::<$tier, _, _>(GeluTanh, row),
                    (Activation::GeluTanh, false) => apply::<Portable, _, _>(GeluTanh, row),
                    (Activation::Silu, true) => apply::<$tier, _, _>(Silu, row),
                    (Activation::Silu, false) => apply::<Portable, _, _>(Silu, row),
                }
            }
        }
    };
}

/// The functions are those of [`crate::unary`], so that an activation has the same bits behind a product and by itself.
#[inline(always)]
fn apply<I: Tier, R: Real, F: Unary>(function: F, row: &mut [R]) {
    row.iter_mut().for_each(|x| *x = function.value::<I, R>(*x));
}

// Both tiers with fused multiply-adds give the same; f64 is computed without, as everywhere.
float!(f32, FUSED => Avx2);
float!(f64, FUSED => Portable);

impl Accumulator for i32 {
    type Activation = NoActivation;
    const ONE: Self = 1;
    #[inline(always)]
    fn is_one(self) -> bool {
        self == 1
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn activate<const FUSED: bool>(_: NoActivation, _: &mut [Self]) {}
}

/// An element type that a result accumulated in `Acc` may have.
pub trait Output<Acc>: Copy + Send + Sync + 'static {
    /// Whether this is the accumulator itself.
    #[doc(hidden)]
    const EXACT: bool = false;
    /// The accumulator of the same value.
    #[doc(hidden)]
    fn widen(self) -> Acc;
    /// The nearest element.
    #[doc(hidden)]
    fn narrow(value: Acc) -> Self;
}

macro_rules! exact {
    ($($type:ty),*) => {$(
        impl Output<$type> for $type {
            const EXACT: bool = true;
            #[inline(always)]
            fn widen(self) -> $type { self }
            #[inline(always)]
            fn narrow(value: $type) -> $type { value }
        }
    )*};
}
exact!(f32, f64, i32);

impl Output<f32> for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> bf16 {
        bf16::from_bits(super::pack::round_to_bf16(value))
    }
}

impl Output<f32> for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn narrow(value: f32) -> f16 {
        f16::from_f32(value)
    }
}
