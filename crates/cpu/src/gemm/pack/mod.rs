//! Rearranging operands into panels of words, the form that the kernels read.
//!
//! A packer sees either operand as *lanes* (rows of A, columns of B) over a *depth* (K). Whichever of the two is contiguous
//! in memory, it reads vectors along it: along the lanes they only have to be stored, along the depth blocks of lanes by
//! words are transposed in registers. Anything else is gathered element by element first.

use cupola_core::dtype::{bf16, f16};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::product::{Bf16, F32, F64, Int8};
use crate::isa::Isa;

/// A packer may write up to this many bytes past the end of a panel whose width is no multiple of 16 words.
pub const OVERRUN: usize = 64;

/// An operand as a packer sees it: lane i at depth k lies `i * lane_stride + k * depth_stride` elements after `ptr`.
#[derive(Clone, Copy)]
pub struct View {
    pub ptr: *const u8,
    pub lane_stride: isize,
    pub depth_stride: isize,
}

/// Packs `lanes` lanes and `depth` elements of depth into a panel of `width >= lanes` words; missing lanes, and what is
/// missing to a whole word of depth, become zero.
///
/// # Safety
/// The processor must have the packer's instructions. The view must be readable for lanes and depth. The target must have
/// room for `width` words for each word of depth and [`OVERRUN`] bytes more, unless `width` is a multiple of 16.
pub type PackFn = unsafe fn(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8);

/// Packs `words` words of the first `panels * width` of `lanes` lanes that lie side by side, `width` of them into each of so many panels
/// that start `stride` bytes apart: all panels take a word before the next one comes.
///
/// # Safety
/// As [`PackFn`] for each panel.
pub type PackAcrossFn =
    unsafe fn(source: View, panels: usize, lanes: usize, words: usize, width: usize, target: *mut u8, stride: usize);

/// A packer and the size of the elements it reads.
#[derive(Clone, Copy)]
pub struct Packer {
    pub run: PackFn,
    /// For panels narrower than a line of memory, where there is one.
    pub across: Option<PackAcrossFn>,
    /// As `run`, for whole column panels that start on a line of memory, with stores past the caches, where there is one:
    /// [`crate::stream::finish`] follows.
    pub past: Option<PackFn>,
    /// Bytes of an element.
    pub size: usize,
    /// Whether words are the elements themselves, so that kernels can read rows of a matrix without packing.
    pub plain: bool,
}

/// How an element becomes part of a word.
pub trait Form {
    /// The element.
    type Source: Copy + 'static;
    /// The word.
    type Word: Copy + Default + std::ops::BitOr<Output = Self::Word> + std::ops::Shl<u32, Output = Self::Word>;
    /// Elements in a word, the first in the lowest bits.
    const GROUP: usize;
    /// Whether a word is an element.
    const PLAIN: bool = Self::GROUP == 1 && size_of::<Self::Source>() == size_of::<Self::Word>();
    /// The element's bits at the bottom of a word.
    fn bits(source: Self::Source) -> Self::Word;
}

macro_rules! forms {
    ($($name:ident: $source:ty => $word:ty, $group:literal, |$x:ident| $bits:expr;)*) => {$(
        #[doc = concat!(stringify!($source), " as part of words of ", stringify!($group), ".")]
        pub struct $name;
        impl Form for $name {
            type Source = $source;
            type Word = $word;
            const GROUP: usize = $group;
            #[inline(always)]
            fn bits($x: $source) -> $word { $bits }
        }
    )*};
}
forms! {
    F64Same: f64 => u64, 1, |x| x.to_bits();
    F32Same: f32 => u32, 1, |x| x.to_bits();
    F32FromF16: f16 => u32, 1, |x| x.to_f32().to_bits();
    F32FromBf16: bf16 => u32, 1, |x| u32::from(x.to_bits()) << 16;
    Bf16Same: bf16 => u32, 2, |x| u32::from(x.to_bits());
    Bf16FromF32: f32 => u32, 2, |x| u32::from(round_to_bf16(x));
    ByteSame: u8 => u32, 4, |x| u32::from(x);
    ByteShifted: u8 => u32, 4, |x| u32::from(x ^ 0x80);
}

/// The bits of the nearest bf16, ties to even; a NaN stays a NaN and becomes quiet.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    let quiet = bits | 0x0040_0000;
    ((if x.is_nan() { quiet } else { rounded }) >> 16) as u16
}

/// An element type that the left operand of product `P` may have.
pub trait Lhs<P>: Copy + Send + Sync + 'static {
    /// The packer for rows.
    #[doc(hidden)]
    fn packer(isa: Isa) -> Packer;
    /// Whether bytes are shifted by 128 to make them unsigned.
    #[doc(hidden)]
    const SHIFTED: bool = false;
}

/// An element type that the right operand of product `P` may have.
pub trait Rhs<P>: Copy + Send + Sync + 'static {
    /// The packer for columns.
    #[doc(hidden)]
    fn packer(isa: Isa) -> Packer;
}

macro_rules! packer {
    ($form:ident, portable) => {
        fn packer(_: Isa) -> Packer {
            let run = portable::pack::<$form>;
            Packer { run, across: None, past: None, size: size_of::<Self>(), plain: $form::PLAIN }
        }
    };
    ($form:ident, $avx512:ident) => {
        fn packer(isa: Isa) -> Packer {
            let run: PackFn = match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::$avx512::<$form>,
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::pack::<$form>,
                _ => portable::pack::<$form>,
            };
            let (across, past): (_, Option<PackFn>) = match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => (avx2::across::<$form>(), Some(avx2::pack_past::<$form>)),
                _ => (None, None),
            };
            Packer { run, across, past, size: size_of::<Self>(), plain: $form::PLAIN }
        }
    };
}

macro_rules! operands {
    ($($product:ty: $source:ty => $form:ident, $avx512:ident;)*) => {$(
        impl Lhs<$product> for $source { packer!($form, $avx512); }
        impl Rhs<$product> for $source { packer!($form, $avx512); }
    )*};
}
operands! {
    F64: f64 => F64Same, portable;
    F32: f32 => F32Same, pack;
    F32: f16 => F32FromF16, pack;
    F32: bf16 => F32FromBf16, pack;
    Bf16: bf16 => Bf16Same, pack;
    Bf16: f32 => Bf16FromF32, pack_bf16;
}

impl Lhs<Int8> for u8 {
    packer!(ByteSame, pack);
}
impl Lhs<Int8> for i8 {
    packer!(ByteShifted, pack);
    const SHIFTED: bool = true;
}
impl Rhs<Int8> for i8 {
    packer!(ByteSame, pack);
}
