//! The products against chains computed element by element, which they have to equal bit for bit, and those against sums in f64.

mod cuts;
mod epilogues;
mod operands;
mod sums;

use cupola_core::dtype::{bf16, f16};

use super::*;
use crate::isa::Isa;

/// A matrix in some memory layout, with the slice it lies in.
#[derive(Clone, Debug)]
struct Stored<T> {
    data: Vec<T>,
    offset: usize,
    rows: usize,
    cols: usize,
    strides: (isize, isize),
}

/// Ways to lay out a matrix; see [`Stored::new`].
const LAYOUTS: usize = 7;

impl<T: Copy + Default> Stored<T> {
    fn new(rows: usize, cols: usize, layout: usize, value: impl Fn(usize, usize) -> T) -> Self {
        let (r, c) = (rows.max(1) as isize, cols.max(1) as isize);
        let (strides, offset) = match layout {
            0 => ((c, 1), 0),
            1 => ((1, r), 0),
            2 => ((c + 5, 1), 3),
            3 => ((1, r + 3), 1),
            4 => ((2 * c + 1, 2), 2),
            5 => ((-c, 1), c * (r - 1)),
            6 => ((-3, -3 * r), 3 * r * c),
            _ => unreachable!("there are {LAYOUTS} layouts"),
        };
        let len = (r * strides.0.abs() + c * strides.1.abs() + 8) as usize + offset as usize;
        let mut stored = Self { data: vec![T::default(); len], offset: offset as usize, rows, cols, strides };
        for i in 0..rows {
            for j in 0..cols {
                let at = stored.at(i, j);
                stored.data[at] = value(i, j);
            }
        }
        stored
    }

    fn at(&self, i: usize, j: usize) -> usize {
        (self.offset as isize + i as isize * self.strides.0 + j as isize * self.strides.1) as usize
    }

    fn get(&self, i: usize, j: usize) -> T {
        self.data[self.at(i, j)]
    }

    fn view(&self) -> MatRef<'_, T> {
        MatRef::strided(&self.data, self.offset, self.rows, self.cols, self.strides.0, self.strides.1)
    }
}

/// Reproducible numbers in [-1, 1) without pattern.
fn noise(seed: u64, i: usize, j: usize) -> f32 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((i as u64) << 32 | j as u64);
    for _ in 0..3 {
        x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    ((x >> 40) as f32) / (1u32 << 23) as f32 - 1.0
}

/// A type that test matrices hold.
trait Number: Copy + Default + std::fmt::Debug + PartialEq {
    fn number(seed: u64, i: usize, j: usize) -> Self;
    fn value(self) -> f64;
    /// The bits, so that comparison is exact.
    fn bits(self) -> u64;
}

macro_rules! numbers {
    ($($type:ty: |$seed:ident, $i:ident, $j:ident| $make:expr, |$x:ident| $value:expr, $bits:expr;)*) => {$(
        impl Number for $type {
            fn number($seed: u64, $i: usize, $j: usize) -> Self { $make }
            fn value(self) -> f64 { let $x = self; $value }
            fn bits(self) -> u64 { let $x = self; $bits }
        }
    )*};
}
numbers! {
    f32: |s, i, j| noise(s, i, j), |x| f64::from(x), u64::from(x.to_bits());
    f64: |s, i, j| f64::from(noise(s, i, j)) + f64::from(noise(s + 1, i, j)) * 1e-8, |x| x, x.to_bits();
    bf16: |s, i, j| bf16::from_f32(noise(s, i, j)), |x| x.to_f64(), u64::from(x.to_bits());
    f16: |s, i, j| f16::from_f32(noise(s, i, j)), |x| x.to_f64(), u64::from(x.to_bits());
    i8: |s, i, j| (noise(s, i, j) * 128.0) as i8, |x| f64::from(x), u64::from(x as u8);
    u8: |s, i, j| (noise(s, i, j).abs() * 256.0) as u8, |x| f64::from(x), u64::from(x);
    i32: |s, i, j| (noise(s, i, j) * 1e6) as i32, |x| f64::from(x), u64::from(x as u32);
}

fn stored<T: Number>(seed: u64, rows: usize, cols: usize, layout: usize) -> Stored<T> {
    Stored::new(rows, cols, layout, |i, j| T::number(seed, i, j))
}

/// A product whose chain the tests can compute for one element.
trait Chain: Product {
    fn chain<A: Number, B: Number>(start: Self::Acc, pairs: &[(A, B)]) -> Self::Acc;
}

/// One step of a chain in the current tier.
fn step(a: f32, b: f32, sum: f32) -> f32 {
    let fused = isa() > Isa::Scalar || cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    if fused { a.mul_add(b, sum) } else { a * b + sum }
}

impl Chain for F32 {
    fn chain<A: Number, B: Number>(start: f32, pairs: &[(A, B)]) -> f32 {
        pairs.iter().fold(start, |sum, (a, b)| step(a.value() as f32, b.value() as f32, sum))
    }
}

impl Chain for F64 {
    fn chain<A: Number, B: Number>(start: f64, pairs: &[(A, B)]) -> f64 {
        let fused = isa() > Isa::Scalar || cfg!(any(target_feature = "fma", target_arch = "aarch64"));
        pairs.iter().fold(start, |sum, (a, b)| match fused {
            true => a.value().mul_add(b.value(), sum),
            false => a.value() * b.value() + sum,
        })
    }
}

impl Chain for Bf16 {
    fn chain<A: Number, B: Number>(start: f32, pairs: &[(A, B)]) -> f32 {
        let narrow = |x: f64| bf16::from_f32(x as f32);
        #[cfg(target_arch = "x86_64")]
        if Bf16::tier(isa()) == Isa::Avx512 {
            return pairs.chunks(2).fold(start, |sum, pair| {
                let part = |k: usize, pick: fn(&(A, B)) -> f64| pair.get(k).map_or(bf16::ZERO, |p| narrow(pick(p)));
                let word = |pick: fn(&(A, B)) -> f64| {
                    u32::from(part(0, pick).to_bits()) | u32::from(part(1, pick).to_bits()) << 16
                };
                // SAFETY: the tier has AVX512-BF16.
                unsafe { dot_pair(sum, word(|p| p.0.value()), word(|p| p.1.value())) }
            });
        }
        pairs.iter().fold(start, |sum, (a, b)| step(narrow(a.value()).to_f32(), narrow(b.value()).to_f32(), sum))
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bf16")]
unsafe fn dot_pair(sum: f32, a: u32, b: u32) -> f32 {
    use std::arch::x86_64::*;
    let word = |w: u32| -> __m128bh {
        // SAFETY: both are 16 bytes.
        unsafe { std::mem::transmute(_mm_set1_epi32(w as i32)) }
    };
    _mm_cvtss_f32(_mm_dpbf16_ps(_mm_set1_ps(sum), word(a), word(b)))
}

impl Chain for Int8 {
    fn chain<A: Number, B: Number>(start: i32, pairs: &[(A, B)]) -> i32 {
        pairs.iter().fold(start, |sum, (a, b)| sum.wrapping_add((a.value() * b.value()) as i32))
    }
}

/// The whole product by chains.
fn expected<P: Chain, A: Number, B: Number>(
    a: &Stored<A>,
    b: &Stored<B>,
    start: impl Fn(usize, usize) -> P::Acc,
) -> Vec<Vec<P::Acc>> {
    let element = |i: usize, j: usize| {
        let pairs: Vec<_> = (0..a.cols).map(|k| (a.get(i, k), b.get(k, j))).collect();
        P::chain(start(i, j), &pairs)
    };
    (0..a.rows).map(|i| (0..b.cols).map(|j| element(i, j)).collect()).collect()
}

/// Runs `body` in every tier of this machine.
fn every_tier(mut body: impl FnMut(Isa)) {
    for tier in Isa::available() {
        crate::isa::with_isa(tier, || body(tier));
    }
}

fn bits<T: Number>(values: &[T]) -> Vec<u64> {
    values.iter().map(|x| x.bits()).collect()
}
