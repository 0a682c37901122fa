//! AVX-512: up to 14 rows by 2 vectors (28 accumulators, 2 vectors of words, 1 broadcast word).

use std::arch::x86_64::*;

use super::{Kernels, Lanes, PANEL_BYTES, Tile, TileFn, body};

pub struct F32;
pub struct F64;
pub struct Bf16;
struct Int8;

impl Lanes for F32 {
    type Acc = f32;
    type Vector = __m512;
    type Words = __m512;
    const LANES: usize = 16;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: inlined into functions with AVX-512, as all methods here.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m512 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m512 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_set1_ps(from.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: register operands only.
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }
}

impl Lanes for F64 {
    type Acc = f64;
    type Vector = __m512d;
    type Words = __m512d;
    const LANES: usize = 8;
    const WORD: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m512d {
        // SAFETY: inlined into functions with AVX-512, as all methods here.
        unsafe { _mm512_setzero_pd() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m512d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_pd(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f64, value: __m512d) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_storeu_pd(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m512d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_pd(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m512d {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_set1_pd(from.cast::<f64>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm512_add_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m512d, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: register operands only.
        unsafe { _mm512_fmadd_pd(a, b, sum) }
    }
}

impl Lanes for Bf16 {
    type Acc = f32;
    type Vector = __m512;
    type Words = __m512i;
    const LANES: usize = 16;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: inlined into functions with AVX512-BF16, as all methods here.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: register operands only; `__m512bh` and `__m512i` are the same 64 bytes.
        unsafe {
            let pairs = |words| std::mem::transmute::<__m512i, __m512bh>(words);
            _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
        }
    }
}

impl Lanes for Int8 {
    type Acc = i32;
    type Vector = __m512i;
    type Words = __m512i;
    const LANES: usize = 16;
    const WORD: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: inlined into functions with AVX512-VNNI, as all methods here.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m512i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, value: __m512i) {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_storeu_si512(to.cast(), value) }
    }
    #[inline(always)]
    unsafe fn words(from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the address.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: register operands only.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mac(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: register operands only. The first factor's bytes are unsigned, the second's signed.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }
}

macro_rules! kernels {
    ($(#[$doc:meta])* $table:ident: $acc:ty, $name:ident, $lanes:ty, $features:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const V: usize>(tile: &Tile<$acc>) {
            // SAFETY: the caller vouches for the tile; this function enables the instructions.
            unsafe { body::<$lanes, R, V, 2>(tile, 0) }
        }

        $(#[$doc])*
        pub static $table: Kernels<$acc> = {
            type Run = TileFn<$acc>;
            const SINGLE: [Run; 14] = [
                $name::<1, 2>, $name::<2, 2>, $name::<3, 2>, $name::<4, 2>, $name::<5, 2>, $name::<6, 2>, $name::<7, 2>,
                $name::<8, 2>, $name::<9, 2>, $name::<10, 2>, $name::<11, 2>, $name::<12, 2>, $name::<13, 2>,
                $name::<14, 2>,
            ];
            const SEVERAL: [(usize, Run); 6] = [
                (4, $name::<1, 8>), (4, $name::<2, 8>), (4, $name::<3, 8>), (2, $name::<4, 4>), (2, $name::<5, 4>),
                (2, $name::<6, 4>),
            ];
            Kernels { line: PANEL_BYTES, single: &SINGLE, several: &SEVERAL, strip: None, narrow: None }
        };
    };
}

kernels!(
    /// f32 by fused multiply-add.
    F32_KERNELS: f32, f32_tile, F32, "avx512f"
);
kernels!(
    /// f64 by fused multiply-add.
    F64_KERNELS: f64, f64_tile, F64, "avx512f"
);
kernels!(
    /// Pairs of bf16 by `VDPBF16PS`.
    BF16_KERNELS: f32, bf16_tile, Bf16, "avx512f,avx512bf16"
);
kernels!(
    /// Quadruples of bytes by `VPDPBUSD`.
    INT8_KERNELS: i32, int8_tile, Int8, "avx512f,avx512vnni"
);
