//! Packing 32-bit words with AVX-512: blocks of 16 lanes by 16 words.

use std::arch::x86_64::*;

use cupola_core::dtype::{bf16, f16};

use super::{Bf16FromF32, Bf16Same, ByteSame, ByteShifted, F32FromBf16, F32FromF16, F32Same, Form, View};

/// Vectors of words read from memory.
pub trait Vectors: Form<Word = u32> {
    /// 16 words of one lane from `valid <= 16 * GROUP` neighbouring elements; the rest of the depth counts as zero.
    unsafe fn along(from: *const Self::Source, valid: usize) -> __m512i;
    /// One word of each of the lanes in `lanes`, from `valid` depths (at least one) that lie `stride` elements apart.
    unsafe fn across(from: *const Self::Source, stride: isize, valid: usize, lanes: __mmask16) -> __m512i;
}

/// The lowest `count` bits.
#[inline(always)]
fn mask(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

macro_rules! vectors {
    ($form:ty, $source:ty, |$p:ident, $valid:ident| $along:expr, |$q:ident, $stride:ident, $depths:ident, $lanes:ident| $across:expr) => {
        impl Vectors for $form {
            #[inline(always)]
            unsafe fn along($p: *const $source, $valid: usize) -> __m512i {
                // SAFETY: masked loads touch the valid elements only, which the caller vouches for; inlined into functions
                // that enable the instructions.
                unsafe { $along }
            }
            #[inline(always)]
            unsafe fn across($q: *const $source, $stride: isize, $depths: usize, $lanes: __mmask16) -> __m512i {
                // SAFETY: as above.
                unsafe { $across }
            }
        }
    };
}

vectors!(
    F32Same,
    f32,
    |p, valid| _mm512_maskz_loadu_epi32(mask(valid) as __mmask16, p.cast()),
    |p, _stride, _depths, lanes| _mm512_maskz_loadu_epi32(lanes, p.cast())
);
vectors!(
    F32FromF16,
    f16,
    |p, valid| _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(valid) as __mmask16, p.cast()))),
    |p, _stride, _depths, lanes| _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, p.cast())))
);
vectors!(
    F32FromBf16,
    bf16,
    |p, valid| _mm512_slli_epi32::<16>(halves(p, mask(valid) as __mmask16)),
    |p, _stride, _depths, lanes| _mm512_slli_epi32::<16>(halves(p, lanes))
);
vectors!(
    Bf16Same,
    bf16,
    |p, valid| _mm512_maskz_loadu_epi16(mask(valid) as __mmask32, p.cast()),
    |p, stride, depths, lanes| {
        let first = halves(p, lanes);
        let second = halves(p.wrapping_offset(stride), if depths > 1 { lanes } else { 0 });
        _mm512_or_si512(first, _mm512_slli_epi32::<16>(second))
    }
);
vectors!(
    Bf16FromF32,
    f32,
    |p, valid| {
        let mask = mask(valid);
        let low = _mm512_maskz_loadu_ps(mask as __mmask16, p);
        let high = _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, p.wrapping_add(16));
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    },
    |p, stride, depths, lanes| {
        let first = _mm512_maskz_loadu_ps(lanes, p);
        let second = _mm512_maskz_loadu_ps(if depths > 1 { lanes } else { 0 }, p.wrapping_offset(stride));
        let first = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(first));
        let second = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(second));
        _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second)))
    }
);
vectors!(ByteSame, u8, |p, valid| _mm512_maskz_loadu_epi8(mask(valid), p.cast()), |p, stride, depths, lanes| bytes(
    p, stride, depths, lanes
));
vectors!(
    ByteShifted,
    u8,
    |p, valid| _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask(valid), p.cast()), _mm512_set1_epi8(i8::MIN)),
    |p, stride, depths, lanes| _mm512_xor_si512(bytes(p, stride, depths, lanes), _mm512_set1_epi8(i8::MIN))
);

/// 16-bit elements in the lower halves of words.
#[inline(always)]
unsafe fn halves(from: *const bf16, lanes: __mmask16) -> __m512i {
    // SAFETY: the caller vouches for the lanes.
    unsafe { _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from.cast())) }
}

/// Up to four depths of bytes, interleaved.
#[inline(always)]
unsafe fn bytes(from: *const u8, stride: isize, depths: usize, lanes: __mmask16) -> __m512i {
    // SAFETY: the caller vouches for the lanes of the first `depths` rows; the others are masked out.
    unsafe {
        let row = |k: usize| {
            let lanes = if k < depths { lanes } else { 0 };
            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, from.wrapping_offset(k as isize * stride).cast()))
        };
        let low = _mm512_or_si512(row(0), _mm512_slli_epi32::<8>(row(1)));
        let high = _mm512_or_si512(row(2), _mm512_slli_epi32::<8>(row(3)));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
    }
}

/// Row i of the result holds element i of each of the 16 vectors.
#[inline(always)]
unsafe fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: register operands only; inlined into functions with AVX-512.
    unsafe {
        let mut pairs = r;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        // quads[4 i + j]: 128-bit lane l holds element 4 l + j of vectors 4 i to 4 i + 3.
        let mut quads = pairs;
        for i in 0..4 {
            quads[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
            quads[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
            quads[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
            quads[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        }
        let mut out = quads;
        for j in 0..4 {
            let low_even = _mm512_shuffle_i32x4::<0x88>(quads[j], quads[4 + j]);
            let low_odd = _mm512_shuffle_i32x4::<0xDD>(quads[j], quads[4 + j]);
            let high_even = _mm512_shuffle_i32x4::<0x88>(quads[8 + j], quads[12 + j]);
            let high_odd = _mm512_shuffle_i32x4::<0xDD>(quads[8 + j], quads[12 + j]);
            out[j] = _mm512_shuffle_i32x4::<0x88>(low_even, high_even);
            out[4 + j] = _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd);
            out[8 + j] = _mm512_shuffle_i32x4::<0xDD>(low_even, high_even);
            out[12 + j] = _mm512_shuffle_i32x4::<0xDD>(low_odd, high_odd);
        }
        out
    }
}

#[inline(always)]
unsafe fn body<F: Vectors>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    let from = source.ptr.cast::<F::Source>();
    let words = depth.div_ceil(F::GROUP);
    // SAFETY: offsets stay within the lanes and depth of the view. Vectors are stored in rising order of address within a
    // block of 16 words (so that what one writes past the panel's width is overwritten by the next), and the last
    // overruns by less than 64 bytes.
    unsafe {
        let store = |word: usize, lane: usize, value: __m512i| {
            _mm512_storeu_si512(target.add((word * width + lane) * 4).cast(), value);
        };
        if source.lane_stride == 1 && source.depth_stride != 1 {
            for word in 0..words {
                let k = word * F::GROUP;
                let row = from.offset(k as isize * source.depth_stride);
                for lane in (0..width).step_by(16) {
                    let lanes = mask(lanes.saturating_sub(lane)) as __mmask16;
                    let value =
                        F::across(row.wrapping_add(lane), source.depth_stride, (depth - k).min(F::GROUP), lanes);
                    store(word, lane, value);
                }
            }
            return;
        }
        let read = |lane: usize, word: usize| {
            let k = word * F::GROUP;
            let valid = (depth - k).min(16 * F::GROUP);
            let first = from.offset(lane as isize * source.lane_stride + k as isize * source.depth_stride);
            if source.depth_stride == 1 {
                F::along(first, valid)
            } else {
                gathered::<F>(first, source.depth_stride, valid)
            }
        };
        if width == 1 {
            for word in (0..words).step_by(16) {
                let value = read(0, word);
                _mm512_mask_storeu_epi32(target.add(word * 4).cast(), mask(words - word) as __mmask16, value);
            }
            return;
        }
        for lane in (0..width).step_by(16) {
            for word in (0..words).step_by(16) {
                let mut rows = [_mm512_setzero_si512(); 16];
                for (i, row) in rows.iter_mut().enumerate().take(lanes.saturating_sub(lane)) {
                    *row = read(lane + i, word);
                }
                for (i, row) in transpose(rows).into_iter().enumerate().take(words - word) {
                    store(word + i, lane, row);
                }
            }
        }
    }
}

/// As [`Vectors::along`] for elements that lie `stride` apart.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn spread<S: Copy>(from: *const S, stride: isize, valid: usize, to: *mut S) {
    for k in 0..valid {
        // SAFETY: the caller vouches for `valid` elements on both sides.
        unsafe { to.add(k).write(from.offset(k as isize * stride).read()) };
    }
}

#[inline(always)]
unsafe fn gathered<F: Vectors>(from: *const F::Source, stride: isize, valid: usize) -> __m512i {
    let mut elements = [std::mem::MaybeUninit::<F::Source>::uninit(); 64];
    // SAFETY: at most 16 * GROUP <= 64 elements are valid, and only those are written and read.
    unsafe {
        spread(from, stride, valid, elements.as_mut_ptr().cast());
        F::along(elements.as_ptr().cast(), valid)
    }
}

/// See [`super::PackFn`].
///
/// # Safety
/// As [`super::PackFn`], with AVX-512 F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn pack<F: Vectors>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    // SAFETY: the caller's.
    unsafe { body::<F>(source, lanes, depth, width, target) }
}

/// The same for forms that need AVX512-BF16 as well.
///
/// # Safety
/// As [`super::PackFn`], with AVX-512 F, BW, VL and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn pack_bf16<F: Vectors>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    // SAFETY: the caller's.
    unsafe { body::<F>(source, lanes, depth, width, target) }
}
