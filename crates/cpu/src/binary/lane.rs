//! Elements that arithmetic works on, and how blocks of strided operands reach a kernel.

use cupola_core::{Element, bf16, f16};

use crate::Isa;
use crate::real::Number;

/// Elements that pass through a kernel at a time: small enough to stay in the first-level cache.
pub const BLOCK: usize = 1024;

/// An element with arithmetic: every float and integer type.
pub trait Lane: Element {
    /// The type it is computed in: itself, or f32 for bf16 and f16.
    type Compute: Copy + Default + PartialOrd + Send + Sync + 'static;
    /// The value, exactly.
    fn up(self) -> Self::Compute;
    /// The slice itself when the element is what it is computed in.
    fn direct(slice: &[Self]) -> Option<&[Self::Compute]>;
    /// As [`Lane::direct`], to be written.
    fn direct_mut(slice: &mut [Self]) -> Option<&mut [Self::Compute]>;
    /// Converts a block to the type of computing.
    fn up_all(isa: Isa, from: &[Self], to: &mut [Self::Compute]);
    /// Converts a block back, rounding to even.
    fn down_all(isa: Isa, from: &[Self::Compute], to: &mut [Self]);
}

macro_rules! float_lanes {
    ($($type:ty),*) => {$(
        impl Lane for $type {
            type Compute = <$type as Number>::Real;
            #[inline(always)]
            fn up(self) -> Self::Compute { self.load() }
            #[inline(always)]
            fn direct(slice: &[Self]) -> Option<&[Self::Compute]> { Self::as_real(slice) }
            #[inline(always)]
            fn direct_mut(slice: &mut [Self]) -> Option<&mut [Self::Compute]> { Self::as_real_mut(slice) }
            #[inline(always)]
            fn up_all(isa: Isa, from: &[Self], to: &mut [Self::Compute]) { Self::widen(isa, from, to) }
            #[inline(always)]
            fn down_all(isa: Isa, from: &[Self::Compute], to: &mut [Self]) { Self::narrow(isa, from, to) }
        }
    )*};
}
float_lanes!(f64, f32, bf16, f16);

/// An integer type with arithmetic modulo its range.
pub trait Integer: Lane<Compute = Self> + Ord {
    /// a + b modulo the range.
    fn add(self, b: Self) -> Self;
    /// a - b modulo the range.
    fn sub(self, b: Self) -> Self;
    /// a b modulo the range.
    fn mul(self, b: Self) -> Self;
    /// a / b towards zero.
    fn div(self, b: Self) -> Self;
    /// a to the power b modulo the range; for negative b the quotient 1 / a^-b towards zero.
    fn pow(self, b: Self) -> Self;
}

macro_rules! integer_lanes {
    ($($type:ty),*) => {$(
        impl Lane for $type {
            type Compute = Self;
            #[inline(always)]
            fn up(self) -> Self { self }
            #[inline(always)]
            fn direct(slice: &[Self]) -> Option<&[Self]> { Some(slice) }
            #[inline(always)]
            fn direct_mut(slice: &mut [Self]) -> Option<&mut [Self]> { Some(slice) }
            #[inline(always)]
            fn up_all(_: Isa, from: &[Self], to: &mut [Self]) { to.copy_from_slice(from) }
            #[inline(always)]
            fn down_all(_: Isa, from: &[Self], to: &mut [Self]) { to.copy_from_slice(from) }
        }
        impl Integer for $type {
            #[inline(always)]
            fn add(self, b: Self) -> Self { self.wrapping_add(b) }
            #[inline(always)]
            fn sub(self, b: Self) -> Self { self.wrapping_sub(b) }
            #[inline(always)]
            fn mul(self, b: Self) -> Self { self.wrapping_mul(b) }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                assert!(b != 0, "div: an integer was divided by zero");
                self.wrapping_div(b)
            }
            #[inline(always)]
            fn pow(self, b: Self) -> Self {
                let exponent = b.to_i64();
                match (exponent >= 0, self.to_i64()) {
                    (true, _) => self.wrapping_pow(exponent.min(i64::from(u32::MAX)) as u32),
                    (false, 1) => 1,
                    (false, -1) if exponent % 2 == 0 => 1,
                    (false, -1) => self,
                    (false, 0) => panic!("pow: zero has no negative power"),
                    (false, _) => 0,
                }
            }
        }
    )*};
}
integer_lanes!(i64, i32, u32, i8, u8);

/// One operand of a kernel: blocks of consecutive elements along a stride, in the type of computing.
pub(crate) struct Stream<'a, T: Lane> {
    data: &'a [T],
    stride: isize,
    buffer: [T::Compute; BLOCK],
    /// Position and number of copies of the element that fills the buffer's begin, for stride zero.
    filled: (usize, usize),
}

impl<'a, T: Lane> Stream<'a, T> {
    pub fn new(data: &'a [T], stride: isize) -> Self {
        Self { data, stride, buffer: [T::Compute::default(); BLOCK], filled: (usize::MAX, 0) }
    }

    /// The `len` elements from `position` on, `len` at most [`BLOCK`].
    #[inline(always)]
    pub fn block(&mut self, isa: Isa, position: usize, len: usize) -> &[T::Compute] {
        let buffer = &mut self.buffer[..len];
        match self.stride {
            1 => {
                let data = &self.data[position..position + len];
                if let Some(direct) = T::direct(data) {
                    return direct;
                }
                T::up_all(isa, data, buffer);
            }
            0 => {
                if self.filled.0 != position || self.filled.1 < len {
                    buffer.fill(self.data[position].up());
                    self.filled = (position, len);
                }
            }
            stride => {
                for (k, slot) in buffer.iter_mut().enumerate() {
                    *slot = self.data[(position as isize + k as isize * stride) as usize].up();
                }
            }
        }
        &self.buffer[..len]
    }
}

/// Runs `kernel(block)` on the elements of `out` in the type of computing; where that is another type, on a block of its own
/// that is rounded to `out` afterwards.
#[inline(always)]
pub(crate) fn written<T: Lane>(
    isa: Isa,
    out: &mut [T],
    buffer: &mut [T::Compute],
    kernel: impl FnOnce(&mut [T::Compute]),
) {
    // The borrow checker does not see that the borrow ends where `direct_mut` returns `None`.
    if T::direct_mut(&mut []).is_some() {
        if let Some(direct) = T::direct_mut(out) {
            kernel(direct);
        }
    } else {
        let buffer = &mut buffer[..out.len()];
        kernel(buffer);
        T::down_all(isa, buffer, out);
    }
}
