//! Packing 32-bit words with AVX2: blocks of 8 lanes by 8 words; what is left over goes the portable way.

use std::arch::x86_64::*;

use cupola_core::dtype::{bf16, f16};

use super::{
    Bf16FromF32, Bf16Same, ByteSame, ByteShifted, F32FromBf16, F32FromF16, F32Same, Form, PackAcrossFn, View, portable,
};
use crate::fetch;

/// Vectors of words read from memory.
pub trait Vectors: Form<Word = u32> {
    /// 8 words of one lane from `8 * GROUP` neighbouring elements.
    unsafe fn along(from: *const Self::Source) -> __m256i;
    /// One word of each of 8 neighbouring lanes, from GROUP depths that lie `stride` elements apart.
    unsafe fn across(from: *const Self::Source, stride: isize) -> __m256i;
    /// Whether there is [`Vectors::across_some`]: elements of 32 bits can be read singly.
    const MASKED: bool = false;
    /// [`Vectors::across`] for the lanes whose sign bit is set in `mask`, zeros for the others.
    unsafe fn across_some(_from: *const Self::Source, _stride: isize, _mask: __m256i) -> __m256i {
        unreachable!("elements of this form cannot be read singly")
    }
}

macro_rules! vectors {
    ($form:ty, $source:ty, |$p:ident| $along:expr, |$q:ident, $stride:ident| $across:expr
        $(, |$r:ident, $far:ident, $mask:ident| $some:expr)?) => {
        impl Vectors for $form {
            #[inline(always)]
            unsafe fn along($p: *const $source) -> __m256i {
                // SAFETY: the caller vouches for the elements; inlined into functions that enable the instructions.
                unsafe { $along }
            }
            #[inline(always)]
            unsafe fn across($q: *const $source, $stride: isize) -> __m256i {
                // SAFETY: as above.
                unsafe { $across }
            }
            $(
                const MASKED: bool = true;
                #[inline(always)]
                unsafe fn across_some($r: *const $source, $far: isize, $mask: __m256i) -> __m256i {
                    // SAFETY: as above; lanes that are not in the mask are not touched.
                    unsafe { $some }
                }
            )?
        }
    };
}

vectors!(F32Same, f32, |p| _mm256_loadu_si256(p.cast()), |p, _stride| _mm256_loadu_si256(p.cast()), |p, _far, mask| {
    _mm256_maskload_epi32(p.cast(), mask)
});
vectors!(F32FromF16, f16, |p| _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast()))), |p, _stride| {
    _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
});
vectors!(F32FromBf16, bf16, |p| _mm256_slli_epi32::<16>(halves(p)), |p, _stride| _mm256_slli_epi32::<16>(halves(p)));
vectors!(Bf16Same, bf16, |p| _mm256_loadu_si256(p.cast()), |p, stride| {
    _mm256_or_si256(halves(p), _mm256_slli_epi32::<16>(halves(p.offset(stride))))
});
vectors!(
    Bf16FromF32,
    f32,
    |p| {
        // PACKUS works on 128-bit lanes, so the quarters end up as 0, 2, 1, 3.
        let packed = _mm256_packus_epi32(rounded(p), rounded(p.add(8)));
        _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
    },
    |p, stride| _mm256_or_si256(rounded(p), _mm256_slli_epi32::<16>(rounded(p.offset(stride)))),
    |p, stride, mask| {
        let first = rounded_vector(_mm256_maskload_ps(p, mask));
        let second = rounded_vector(_mm256_maskload_ps(p.offset(stride), mask));
        _mm256_or_si256(first, _mm256_slli_epi32::<16>(second))
    }
);
vectors!(ByteSame, u8, |p| _mm256_loadu_si256(p.cast()), |p, stride| bytes(p, stride));
vectors!(
    ByteShifted,
    u8,
    |p| _mm256_xor_si256(_mm256_loadu_si256(p.cast()), _mm256_set1_epi8(i8::MIN)),
    |p, stride| _mm256_xor_si256(bytes(p, stride), _mm256_set1_epi8(i8::MIN))
);

/// 16-bit elements in the lower halves of words.
#[inline(always)]
unsafe fn halves(from: *const bf16) -> __m256i {
    // SAFETY: the caller vouches for 8 elements.
    unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) }
}

/// [`super::round_to_bf16`] for 8 elements, in the lower halves of words.
#[inline(always)]
unsafe fn rounded(from: *const f32) -> __m256i {
    // SAFETY: the caller vouches for 8 elements.
    unsafe { rounded_vector(_mm256_loadu_ps(from)) }
}

/// As [`rounded`], of elements in a register.
#[inline(always)]
unsafe fn rounded_vector(x: __m256) -> __m256i {
    // SAFETY: register operands only; inlined into functions with AVX2.
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(up, quiet, nan))
    }
}

/// Four depths of bytes, interleaved.
#[inline(always)]
unsafe fn bytes(from: *const u8, stride: isize) -> __m256i {
    // SAFETY: the caller vouches for 8 lanes at 4 depths.
    unsafe {
        let row = |k: isize| _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.offset(k * stride).cast()));
        let low = _mm256_or_si256(row(0), _mm256_slli_epi32::<8>(row(1)));
        let high = _mm256_or_si256(row(2), _mm256_slli_epi32::<8>(row(3)));
        _mm256_or_si256(low, _mm256_slli_epi32::<16>(high))
    }
}

/// Row i of the result holds element i of each of the 8 vectors.
#[inline(always)]
unsafe fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: register operands only; inlined into functions with AVX2.
    unsafe {
        let mut pairs = r;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        // quads[4 i + j]: 128-bit lane l holds element 4 l + j of vectors 4 i to 4 i + 3.
        let mut quads = pairs;
        for i in 0..2 {
            quads[4 * i] = _mm256_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
            quads[4 * i + 1] = _mm256_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
            quads[4 * i + 2] = _mm256_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
            quads[4 * i + 3] = _mm256_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        }
        let mut out = quads;
        for j in 0..4 {
            out[j] = _mm256_permute2x128_si256::<0x20>(quads[j], quads[4 + j]);
            out[4 + j] = _mm256_permute2x128_si256::<0x31>(quads[j], quads[4 + j]);
        }
        out
    }
}

/// Eight words of each of ROWS lanes that are contiguous along the depth and `stride` elements apart, transposed. The number of lanes
/// is fixed so that the loads are straight code.
#[inline(always)]
unsafe fn along<F: Vectors, const ROWS: usize>(from: *const F::Source, stride: isize) -> [__m256i; 8] {
    // SAFETY: the caller's.
    unsafe {
        let mut rows = [_mm256_setzero_si256(); 8];
        for (i, row) in rows.iter_mut().enumerate().take(ROWS) {
            *row = F::along(from.wrapping_offset(i as isize * stride));
        }
        transpose(rows)
    }
}

/// Packs `words` words, a multiple of 8, of ROWS lanes as [`along`] reads them.
///
/// # Safety
/// As [`pack`].
#[inline(always)]
unsafe fn pack_along<F: Vectors, const ROWS: usize>(
    from: *const F::Source,
    stride: isize,
    words: usize,
    width: usize,
    to: *mut u8,
) {
    for word in (0..words).step_by(8) {
        // SAFETY: the caller's.
        unsafe {
            let rows = along::<F, ROWS>(from.wrapping_add(word * F::GROUP), stride);
            for (i, row) in rows.into_iter().enumerate() {
                _mm256_storeu_si256(to.add((word + i) * width * 4).cast(), row);
            }
        }
    }
}

/// Lanes whose words are a line of memory.
const LINE: usize = fetch::LINE / size_of::<u32>();

/// Packs a line of lanes of a column panel that is `pitch` bytes wide, `words` words of lanes that lie side by side, if PAST past the
/// caches.
///
/// # Safety
/// As [`pack`]; if PAST, the target is aligned to 32 bytes.
#[inline(always)]
unsafe fn line_across<F: Vectors, const PAST: bool>(
    from: *const F::Source,
    stride: isize,
    words: usize,
    to: *mut u8,
    pitch: usize,
) {
    for word in 0..words {
        let from = from.wrapping_offset((word * F::GROUP) as isize * stride);
        // SAFETY: the caller's.
        unsafe { line::<PAST>(to.add(word * pitch), F::across(from, stride), F::across(from.wrapping_add(8), stride)) };
    }
}

/// As [`line_across`], `words` words, a multiple of 8, of lanes that are contiguous along the depth and `stride` elements apart: less
/// than a line at a time would fetch each twice.
///
/// # Safety
/// As [`line_across`].
#[inline(always)]
unsafe fn line_along<F: Vectors, const PAST: bool>(
    from: *const F::Source,
    stride: isize,
    words: usize,
    to: *mut u8,
    pitch: usize,
) {
    for word in (0..words).step_by(8) {
        let from = from.wrapping_add(word * F::GROUP);
        // SAFETY: the caller's.
        unsafe {
            let first = along::<F, 8>(from, stride);
            let second = along::<F, 8>(from.wrapping_offset(8 * stride), stride);
            for (i, (first, second)) in first.into_iter().zip(second).enumerate() {
                line::<PAST>(to.add((word + i) * pitch), first, second);
            }
        }
    }
}

/// Stores a line.
#[inline(always)]
unsafe fn line<const PAST: bool>(to: *mut u8, first: __m256i, second: __m256i) {
    let to = to.cast::<__m256i>();
    // SAFETY: the caller vouches for the line and, if PAST, its alignment.
    unsafe {
        if PAST {
            _mm256_stream_si256(to, first);
            _mm256_stream_si256(to.add(1), second);
        } else {
            _mm256_storeu_si256(to, first);
            _mm256_storeu_si256(to.add(1), second);
        }
    }
}

/// See [`super::PackFn`].
///
/// # Safety
/// As [`super::PackFn`], with AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn pack<F: Vectors>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    // SAFETY: the caller's.
    unsafe { body::<F, false>(source, lanes, depth, width, target) }
}

/// See [`super::Packer::past`].
///
/// # Safety
/// As [`pack`]; the lanes are those of a column panel, which is aligned to 32 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn pack_past<F: Vectors>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    // SAFETY: the caller's.
    unsafe { body::<F, true>(source, lanes, depth, width, target) }
}

#[inline(always)]
unsafe fn body<F: Vectors, const PAST: bool>(source: View, lanes: usize, depth: usize, width: usize, target: *mut u8) {
    let from = source.ptr.cast::<F::Source>();
    let at = |lane: usize, k: usize| {
        from.wrapping_offset(lane as isize * source.lane_stride + k as isize * source.depth_stride)
    };
    let whole = depth / F::GROUP;
    // A single lane is read across, one word after the other, where it can be.
    let along = source.depth_stride == 1 && (lanes > 1 || source.lane_stride != 1);
    let across = source.lane_stride == 1 && !along;
    let whole_lines = if (along || across) && width.is_multiple_of(LINE) { lanes / LINE * LINE } else { 0 };
    for lane in (0..whole_lines).step_by(LINE) {
        // SAFETY: offsets stay within the lanes and depth of the view, stores within the panel.
        unsafe {
            let words = if along { whole / 8 * 8 } else { whole };
            let to = target.add(lane * 4);
            if along {
                line_along::<F, PAST>(at(lane, 0), source.lane_stride, words, to, width * 4);
            } else {
                line_across::<F, PAST>(at(lane, 0), source.depth_stride, words, to, width * 4);
            }
            let rest = View { ptr: at(lane, words * F::GROUP).cast(), ..source };
            portable::block::<F>(rest, LINE, depth - words * F::GROUP, LINE, width, to.add(words * width * 4));
        }
    }
    let mut done = whole_lines;
    for lane in (whole_lines..width).step_by(8) {
        let here = lanes.saturating_sub(lane).min(8);
        let columns = (width - lane).min(8);
        // Only the last block of lanes may write past the width, and only onto words that are written later.
        let words = match () {
            () if along => whole / 8 * 8,
            () if across && (here == 8 || F::MASKED && here > 0) => whole,
            () => 0,
        };
        // SAFETY: offsets stay within the lanes and depth of the view. Rows are stored in rising order of address, so that
        // what one writes past the panel's width is overwritten by the next, or by the next block of words, or lies in
        // the overrun.
        unsafe {
            if along {
                let (first, to) = (at(lane, 0), target.add(lane * 4));
                let stride = source.lane_stride;
                // Calls, not a choice of function: only so are they inlined, and compiled with this function's instructions.
                match here {
                    8 => pack_along::<F, 8>(first, stride, words, width, to),
                    7 => pack_along::<F, 7>(first, stride, words, width, to),
                    6 => pack_along::<F, 6>(first, stride, words, width, to),
                    5 => pack_along::<F, 5>(first, stride, words, width, to),
                    4 => pack_along::<F, 4>(first, stride, words, width, to),
                    3 => pack_along::<F, 3>(first, stride, words, width, to),
                    2 => pack_along::<F, 2>(first, stride, words, width, to),
                    1 => pack_along::<F, 1>(first, stride, words, width, to),
                    _ => pack_along::<F, 0>(first, stride, words, width, to),
                }
            } else if here < 8 {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(here as i32), lanes);
                for word in 0..words {
                    let row = F::across_some(at(lane, word * F::GROUP), source.depth_stride, mask);
                    _mm256_storeu_si256(target.add((word * width + lane) * 4).cast(), row);
                }
            } else {
                for word in 0..words {
                    let row = F::across(at(lane, word * F::GROUP), source.depth_stride);
                    _mm256_storeu_si256(target.add((word * width + lane) * 4).cast(), row);
                }
            }
            let rest = View { ptr: at(lane, words * F::GROUP).cast(), ..source };
            let to = target.add((words * width + lane) * 4);
            portable::block::<F>(rest, here, depth - words * F::GROUP, columns, width, to);
        }
        done += columns;
    }
    debug_assert_eq!(done, width);
}

/// [`pack_across`] for a form whose elements can be read singly.
pub fn across<F: Vectors>() -> Option<PackAcrossFn> {
    F::MASKED.then_some(pack_across::<F>)
}

/// See [`PackAcrossFn`]; panels are at most 8 lanes wide.
///
/// # Safety
/// As [`PackAcrossFn`], with AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pack_across<F: Vectors>(
    source: View,
    panels: usize,
    lanes: usize,
    words: usize,
    width: usize,
    target: *mut u8,
    stride: usize,
) {
    /// Words that are fetched ahead.
    const AHEAD: usize = 8;
    let from = source.ptr.cast::<F::Source>();
    let at = |word: usize| from.wrapping_offset((word * F::GROUP) as isize * source.depth_stride);
    // Panels behind which there are lanes to read whole vectors.
    let open = if lanes < 8 { 0 } else { panels.min((lanes - 8) / width + 1) };
    // SAFETY: offsets stay within the lanes and depth of the view, but for prefetches, which never fault. What a store writes
    // past a panel's width is overwritten by the panel's next word or lies in the room behind it.
    unsafe {
        let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(width as i32), numbers);
        for word in 0..words {
            let row = at(word);
            let ahead = at(word + AHEAD).cast::<i8>();
            for offset in (0..lanes * size_of::<F::Source>()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(offset));
            }
            let mut to = target.wrapping_add(word * width * 4);
            for panel in 0..open {
                _mm256_storeu_si256(to.cast(), F::across(row.wrapping_add(panel * width), source.depth_stride));
                to = to.wrapping_add(stride);
            }
            for panel in open..panels {
                let words = F::across_some(row.wrapping_add(panel * width), source.depth_stride, mask);
                _mm256_storeu_si256(to.cast(), words);
                to = to.wrapping_add(stride);
            }
        }
    }
}
