//! AVX2 with FMA: up to 6 rows by 2 vectors (12 accumulators), twice over a column panel.

use std::arch::x86_64::*;

use super::{Kernels, Lanes, PANEL_BYTES, Strip, Tile, TileFn, Widened, body, rest};
use crate::fetch::LINE;

pub struct F32;
pub struct F64;
pub struct Bf16;
struct Int8;

impl Lanes for F32 {
    type Acc = f32;
    type Vector = __m256;
    type Words = __m256;
    const LANES: usize = 8;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: inlined into functions with AVX2, as all methods here.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_set1_ps(from.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: register operands only.
        unsafe { _mm256_fmadd_ps(a, b, sum) }
    }
    #[inline(always)]
    unsafe fn walk<const R: usize, const V: usize, const PER: usize>(
        sums: &mut [[__m256; V]; R],
        tile: &Tile<f32>,
        skip: usize,
    ) {
        // SAFETY: the caller vouches for the tile; the array has just these dimensions where it is taken for one that has.
        unsafe {
            let words = if R == 6 && V == 2 { full(&mut *std::ptr::from_mut(sums).cast(), tile, skip) } else { 0 };
            rest::<Self, R, V, PER>(sums, tile, skip, words);
        }
    }
}

/// As many words of the tile's depth as a multiple of four has, by six rows and two vectors; returns their number.
///
/// Compilers keep the twelve sums in registers only while a turn of the loop is one word, and a loop of hundreds of turns ends at a moment
/// that the processor does not foresee. This one has four words in a turn, each as the loop of one word has it.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn full(sums: &mut [[__m256; 2]; 6], tile: &Tile<f32>, skip: usize) -> usize {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    let turns = tile.depth / 4;
    if turns == 0 {
        return 0;
    }
    macro_rules! word {
        ($b:literal, $a:literal) => {
            concat!(
                "vmovups ymm12, [",
                $b,
                "]\n",
                "vmovups ymm13, [",
                $b,
                " + 32]\n",
                "vbroadcastss ymm14, [{a} + ",
                $a,
                " * 24]\n",
                "vbroadcastss ymm15, [{a} + ",
                $a,
                " * 24 + 4]\n",
                "vfmadd231ps ymm0, ymm14, ymm12\n",
                "vfmadd231ps ymm1, ymm14, ymm13\n",
                "vbroadcastss ymm14, [{a} + ",
                $a,
                " * 24 + 8]\n",
                "vfmadd231ps ymm2, ymm15, ymm12\n",
                "vfmadd231ps ymm3, ymm15, ymm13\n",
                "vbroadcastss ymm15, [{a} + ",
                $a,
                " * 24 + 12]\n",
                "vfmadd231ps ymm4, ymm14, ymm12\n",
                "vfmadd231ps ymm5, ymm14, ymm13\n",
                "vbroadcastss ymm14, [{a} + ",
                $a,
                " * 24 + 16]\n",
                "vfmadd231ps ymm6, ymm15, ymm12\n",
                "vfmadd231ps ymm7, ymm15, ymm13\n",
                "vbroadcastss ymm15, [{a} + ",
                $a,
                " * 24 + 20]\n",
                "vfmadd231ps ymm8, ymm14, ymm12\n",
                "vfmadd231ps ymm9, ymm14, ymm13\n",
                "vfmadd231ps ymm10, ymm15, ymm12\n",
                "vfmadd231ps ymm11, ymm15, ymm13\n",
            )
        };
    }
    // SAFETY: the caller vouches for the panels, of which `turns` times four words are read. A prefetch never faults.
    unsafe {
        std::arch::asm!(
            "2:",
            word!("{b}", "0"),
            "prefetcht1 [{far}]",
            word!("{b} + {step}", "1"),
            word!("{b} + 2 * {step}", "2"),
            word!("{b} + {step3}", "3"),
            "add {a}, 96",
            "lea {b}, [{b} + 4 * {step}]",
            "lea {far}, [{far} + 4 * {far_step}]",
            "dec {turns}",
            "jnz 2b",
            a = inout(reg) tile.a => _,
            b = inout(reg) tile.b.add(skip * 32) => _,
            far = inout(reg) tile.far.wrapping_add(skip * 32) => _,
            turns = inout(reg) turns => _,
            step = in(reg) tile.b_step,
            step3 = in(reg) 3 * tile.b_step,
            far_step = in(reg) tile.far_step,
            inout("ymm0") *s0, inout("ymm1") *s1, inout("ymm2") *s2, inout("ymm3") *s3,
            inout("ymm4") *s4, inout("ymm5") *s5, inout("ymm6") *s6, inout("ymm7") *s7,
            inout("ymm8") *s8, inout("ymm9") *s9, inout("ymm10") *s10, inout("ymm11") *s11,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack, readonly),
        );
    }
    turns * 4
}

impl Lanes for F64 {
    type Acc = f64;
    type Vector = __m256d;
    type Words = __m256d;
    const LANES: usize = 4;
    const WORD: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256d {
        // SAFETY: inlined into functions with AVX2, as all methods here.
        unsafe { _mm256_setzero_pd() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m256d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_pd(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f64, value: __m256d) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_storeu_pd(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m256d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_pd(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m256d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_set1_pd(from.cast::<f64>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm256_add_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m256d, a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: register operands only.
        unsafe { _mm256_fmadd_pd(a, b, sum) }
    }
}

/// The two halves of pairs of bf16, widened to f32: a bf16 is the upper half of the f32 of the same value.
#[inline(always)]
unsafe fn widen(pairs: __m256i) -> [__m256; 2] {
    // SAFETY: register operands only; inlined into functions with AVX2.
    unsafe {
        let upper = _mm256_set1_epi32(0xFFFF_0000u32 as i32);
        let first = _mm256_slli_epi32::<16>(pairs);
        [_mm256_castsi256_ps(first), _mm256_castsi256_ps(_mm256_and_si256(pairs, upper))]
    }
}

impl Lanes for Bf16 {
    type Acc = f32;
    type Vector = __m256;
    type Words = [__m256; 2];
    const LANES: usize = 8;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: inlined into functions with AVX2, as all methods here.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> [__m256; 2] {
        // SAFETY: the caller vouches for the address.
        unsafe { widen(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> [__m256; 2] {
        // SAFETY: the caller vouches for the address.
        unsafe { widen(_mm256_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m256, a: [__m256; 2], b: [__m256; 2]) -> __m256 {
        // SAFETY: register operands only.
        unsafe { _mm256_fmadd_ps(a[1], b[1], _mm256_fmadd_ps(a[0], b[0], sum)) }
    }
}

impl Lanes for Int8 {
    type Acc = i32;
    type Vector = __m256i;
    /// Bytes 0 and 2, then 1 and 3 of each word, as 16-bit numbers: `VPMADDUBSW` would saturate.
    type Words = [__m256i; 2];
    const LANES: usize = 8;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: inlined into functions with AVX2, as all methods here.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, value: __m256i) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm256_storeu_si256(to.cast(), value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller vouches for the address.
        unsafe {
            let bytes = _mm256_loadu_si256(from.cast());
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes)]
        }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller vouches for the address.
        unsafe {
            let bytes = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
            [_mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16::<8>(bytes)]
        }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m256i, a: [__m256i; 2], b: [__m256i; 2]) -> __m256i {
        // SAFETY: register operands only. A sum of two products of a u8 and an i8 fits easily into 32 bits.
        unsafe {
            let even = _mm256_madd_epi16(a[0], b[0]);
            let odd = _mm256_madd_epi16(a[1], b[1]);
            _mm256_add_epi32(_mm256_add_epi32(sum, even), odd)
        }
    }
}

/// Pairs of bf16, widened to f32 before they reach the kernels of f32.
pub static BF16_WIDENED: Widened<f32> = Widened { kernels: &F32_KERNELS, run: widen_panel };

/// See [`super::WidenFn`].
#[target_feature(enable = "avx2,fma")]
unsafe fn widen_panel(panel: *const u8, words: usize, width: usize, target: *mut u8) {
    const VECTOR: usize = size_of::<__m256i>();
    let row = width * Bf16::WORD;
    for word in 0..words {
        let (from, to) = (panel.wrapping_add(word * row), target.wrapping_add(2 * word * row));
        for half in 0..2 {
            for lane in (0..row).step_by(VECTOR) {
                // SAFETY: the caller's. What a store writes past its row is overwritten by the next row, or lies in the room behind.
                unsafe {
                    let pairs = _mm256_loadu_si256(from.add(lane).cast());
                    _mm256_storeu_ps(to.add(half * row + lane).cast(), widen(pairs)[half]);
                }
            }
        }
    }
}

macro_rules! kernels {
    ($(#[$doc:meta])* $table:ident: $acc:ty, $name:ident, $whole:ident, $narrow:ident, $strip:ident, $lanes:ty) => {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $name<const R: usize>(tile: &Tile<$acc>) {
            // SAFETY: the caller vouches for the tile; this function enables the instructions.
            unsafe {
                body::<$lanes, R, 2, 4>(tile, 0);
                body::<$lanes, R, 2, 4>(tile, 2);
            }
        }

        /// Few rows leave registers for whole panels: each line of memory is read once, and more chains are on their way.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $whole<const R: usize, const V: usize>(tile: &Tile<$acc>) {
            // SAFETY: as above.
            unsafe { body::<$lanes, R, V, 4>(tile, 0) };
        }

        /// Panels of one line.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $narrow<const R: usize, const V: usize>(tile: &Tile<$acc>) {
            // SAFETY: as above.
            unsafe { body::<$lanes, R, V, 2>(tile, 0) };
        }

        #[target_feature(enable = "avx2,fma")]
        unsafe fn $strip(tile: &Tile<$acc>, strip: Strip) {
            let mut tile = *tile;
            let (start, next) = (usize::from(!tile.start.is_null()), usize::from(!tile.next.is_null()));
            for _ in 0..strip.tiles {
                // SAFETY: as above; pointers behind the last tile are not used.
                unsafe { body::<$lanes, 6, 2, 2>(&tile, 0) };
                tile.a = tile.a.wrapping_add(strip.a);
                tile.start = tile.start.wrapping_add(start * strip.start);
                tile.end = tile.end.wrapping_add(strip.end);
                tile.next = tile.next.wrapping_add(next * strip.next);
                tile.far = tile.far.wrapping_add(strip.far);
            }
        }

        $(#[$doc])*
        pub static $table: Kernels<$acc> = {
            type Run = TileFn<$acc>;
            const SINGLE: [Run; 6] =
                [$whole::<1, 4>, $whole::<2, 4>, $whole::<3, 4>, $name::<4>, $name::<5>, $name::<6>];
            const SEVERAL: [(usize, Run); 1] = [(2, $whole::<1, 8>)];
            const NARROW: [Run; 6] = [
                $narrow::<1, 2>, $narrow::<2, 2>, $narrow::<3, 2>, $narrow::<4, 2>, $narrow::<5, 2>, $narrow::<6, 2>,
            ];
            const SEVERAL_NARROW: [(usize, Run); 3] = [(4, $narrow::<1, 8>), (2, $narrow::<2, 4>), (2, $narrow::<3, 4>)];
            static LINES: Kernels<$acc> =
                Kernels { line: LINE, single: &NARROW, several: &SEVERAL_NARROW, strip: Some($strip), narrow: None };
            Kernels { line: PANEL_BYTES, single: &SINGLE, several: &SEVERAL, strip: None, narrow: Some(&LINES) }
        };
    };
}

kernels!(
    /// f32 by fused multiply-add.
    F32_KERNELS: f32, f32_tile, f32_whole, f32_narrow, f32_strip, F32
);
kernels!(
    /// f64 by fused multiply-add.
    F64_KERNELS: f64, f64_tile, f64_whole, f64_narrow, f64_strip, F64
);
kernels!(
    /// Pairs of bf16, widened in registers.
    BF16_KERNELS: f32, bf16_tile, bf16_whole, bf16_narrow, bf16_strip, Bf16
);
kernels!(
    /// Quadruples of bytes, widened to 16 bits in registers.
    INT8_KERNELS: i32, int8_tile, int8_whole, int8_narrow, int8_strip, Int8
);
