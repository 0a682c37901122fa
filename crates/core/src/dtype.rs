//! Element types.

use std::fmt;

pub use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// The upper half of a binary32: 8 bits of exponent, 7 of fraction.
    BF16,
    /// IEEE 754 binary16.
    F16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, widest floats first.
    pub const ALL: [DType; 10] = [
        DType::F64,
        DType::F32,
        DType::BF16,
        DType::F16,
        DType::I64,
        DType::I32,
        DType::U32,
        DType::I8,
        DType::U8,
        DType::Bool,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers; only these carry gradients.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::BF16 | DType::F16)
    }

    /// Whether elements are integers (bool is not).
    pub const fn is_integer(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::U32 | DType::I8 | DType::U8)
    }

    /// The name used in messages, files and Rust source, such as `"f32"`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }

    /// The type that an operation on `self` and `other` computes in.
    ///
    /// Floats win over integers, integers over bool. Of two floats the wider wins, and bf16 with f16 gives f32. Of two
    /// integers the wider wins; u8 with i8 gives i32, u32 with a signed integer gives i64, because no narrower type
    /// holds both ranges.
    pub const fn promote(self, other: DType) -> DType {
        use DType::*;
        if self as u8 == other as u8 {
            return self;
        }
        match (self, other) {
            (F64, _) | (_, F64) => F64,
            (F32, _) | (_, F32) => F32,
            (BF16, F16) | (F16, BF16) => F32,
            (BF16, _) | (_, BF16) => BF16,
            (F16, _) | (_, F16) => F16,
            (I64, _) | (_, I64) => I64,
            (U32, I32 | I8) | (I32 | I8, U32) => I64,
            (U32, _) | (_, U32) => U32,
            (I32, _) | (_, I32) => I32,
            (I8, U8) | (U8, I8) => I32,
            (I8, _) | (_, I8) => I8,
            (U8, _) | (_, U8) => U8,
            (Bool, Bool) => Bool,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is the element of some [`DType`].
///
/// Conversions go through `f64` for floats and `i64` for integers, both of which hold every value of the narrower types
/// exactly; they serve references, printing and scalars, never a loop that has to be fast.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + Send + Sync + fmt::Debug + 'static
{
    /// The dtype of this Rust type.
    const DTYPE: DType;
    /// The value as `f64`; integers above 2^53 are rounded.
    fn to_f64(self) -> f64;
    /// The nearest value of this type: floats round to even, integers truncate towards zero and saturate, and bool is
    /// `value != 0`.
    fn from_f64(value: f64) -> Self;
    /// The value as `i64`; floats truncate towards zero and saturate.
    fn to_i64(self) -> i64;
    /// The value of this type with the low bits of `value`, as `as` does; floats round.
    fn from_i64(value: i64) -> Self;
}

/// An [`Element`] that is a floating-point number.
pub trait Float: Element {
    /// The type sums are kept in: `f64` for `f64`, `f32` for the rest.
    type Accumulator: Float;
}

/// `value` in f32, rounded to the neighbour whose last bit is 1 where it is not exact. Rounding that once more to a type with at
/// least two bits less gives the nearest value of that type, which neither rounding to nearest twice nor half's conversion,
/// which leaves out the low bits of the f64, does.
fn to_odd(value: f64) -> f32 {
    let single = value as f32;
    let bits = single.to_bits();
    let exact = f64::from(single) == value;
    if exact || !single.is_finite() || bits & 1 == 1 {
        return single;
    }
    // The value lies between this even neighbour and an odd one, whose bits differ by one.
    f32::from_bits(if value.abs() > f64::from(single).abs() { bits + 1 } else { bits - 1 })
}

macro_rules! native {
    ($($type:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_f64(value: f64) -> Self { value as $type }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_i64(value: i64) -> Self { value as $type }
        }
    )*};
}
native!(f64 => F64, f32 => F32, i64 => I64, i32 => I32, u32 => U32, i8 => I8, u8 => U8);

macro_rules! half_precision {
    ($($type:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 { <$type>::to_f64(self) }
            #[inline(always)]
            fn from_f64(value: f64) -> Self { <$type>::from_f32(to_odd(value)) }
            #[inline(always)]
            fn to_i64(self) -> i64 { self.to_f32() as i64 }
            #[inline(always)]
            fn from_i64(value: i64) -> Self { <$type>::from_f32(to_odd(value as f64)) }
        }
        impl Float for $type { type Accumulator = f32; }
    )*};
}
half_precision!(bf16 => BF16, f16 => F16);

impl Float for f64 {
    type Accumulator = f64;
}
impl Float for f32 {
    type Accumulator = f32;
}

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        value != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_commutative_and_keeps_equal_types() {
        for a in DType::ALL {
            assert_eq!(a.promote(a), a);
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
                assert!(a.promote(b).size() >= a.size().min(b.size()));
            }
        }
        assert_eq!(DType::BF16.promote(DType::F16), DType::F32);
        assert_eq!(DType::I64.promote(DType::BF16), DType::BF16);
        assert_eq!(DType::I8.promote(DType::U8), DType::I32);
    }

    #[test]
    fn conversions_round_and_saturate() {
        assert_eq!(<bf16 as Element>::from_f64(1.0 + 1.0 / 256.0), bf16::from_f32(1.0));
        assert_eq!(<bf16 as Element>::from_f64(-0.15673832917424824).to_f64(), -0.1572265625);
        // Just beyond the middle of two values, by less than an f32 can tell, and by less than half's conversion sees.
        for beyond in [1e-9, 1e-15] {
            assert_eq!(<bf16 as Element>::from_f64(1.0 + 1.0 / 256.0 + beyond).to_f64(), 1.0 + 1.0 / 128.0);
            assert_eq!(<f16 as Element>::from_f64(-1.0 - 1.0 / 2048.0 - beyond).to_f64(), -1.0 - 1.0 / 1024.0);
            assert_eq!(<bf16 as Element>::from_f64(1.0 + 3.0 / 256.0 - beyond).to_f64(), 1.0 + 1.0 / 128.0);
        }
        assert_eq!(<bf16 as Element>::from_f64(f64::MAX), bf16::INFINITY);
        assert_eq!(<f16 as Element>::from_f64(1e-300).to_bits(), 0);
        assert_eq!(u8::from_f64(300.7), 255);
        assert_eq!(i8::from_f64(-1.9), -1);
        assert!(bool::from_f64(0.5));
        assert_eq!(i32::from_i64(-3), -3);
    }
}
