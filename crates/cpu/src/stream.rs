//! Results larger than the caches are written past them.
//!
//! An ordinary store first reads the line that it changes. For a result that leaves the caches before anybody reads it this is
//! traffic for nothing: a copy moves three bytes instead of two, a sum of two operands four instead of three. Such stores
//! wait where many come at a time, so a few lines are computed in the first-level cache and stored before the next: with blocks
//! of 2 KiB nothing is gained any more. Nor is anything for functions of one operand, which have more to compute.

use crate::fetch::LINE;
use crate::tier::Tier;

/// Bytes from which a result counts as larger than the caches.
pub(crate) const STREAMED: usize = 32 << 20;
/// Elements of 32 bits that are computed before they are stored.
const BLOCK: usize = 64;

/// Whether a result here is written past the caches.
pub(crate) fn streams<T>(to: &[T]) -> bool {
    cfg!(target_arch = "x86_64") && size_of_val(to) >= STREAMED
}

/// Copies `from` to `to` past the caches; [`finish`] follows the last of such copies.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn store<T: Copy>(from: &[T], to: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        /// Bytes of a store.
        const VECTOR: usize = 16;
        assert_eq!(from.len(), to.len(), "lengths of a block and its place");
        let bytes = size_of_val(to);
        let start = to.as_ptr().addr();
        let head = (start.next_multiple_of(LINE) - start).min(bytes);
        let lines = (bytes - head) / LINE * LINE;
        let (source, target) = (from.as_ptr().cast::<u8>(), to.as_mut_ptr().cast::<u8>());
        let plain = |at: usize, count: usize| {
            // SAFETY: the range lies inside both slices, which have one length and, one being borrowed uniquely, do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(source.add(at), target.add(at), count) }
        };
        plain(0, head);
        for at in (head..head + lines).step_by(VECTOR) {
            // SAFETY: as above; `head` was chosen so that the target is aligned; every x86-64 processor has the instructions.
            unsafe { _mm_stream_si128(target.add(at).cast::<__m128i>(), _mm_loadu_si128(source.add(at).cast())) };
        }
        plain(head + lines, bytes - head - lines);
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Runs `body(first, block)` for blocks of `to` in order, where `first` is a block's position, and stores each past the caches;
/// [`finish`] follows the last of such calls. For bodies of kernels, with the kernel's own tier.
#[inline(always)]
pub(crate) fn computed<I: Tier>(to: &mut [f32], mut body: impl FnMut(usize, &mut [f32])) {
    #[repr(align(64))]
    struct Lines([f32; BLOCK]);
    let mut block = Lines([0.0; BLOCK]);
    let start = to.as_ptr().addr();
    let head = (start.next_multiple_of(LINE) - start) / size_of::<f32>();
    let mut at = 0;
    while at < to.len() {
        let most = if at == 0 && head > 0 { head } else { BLOCK };
        let len = most.min(to.len() - at);
        let (block, to) = (&mut block.0[..len], &mut to[at..at + len]);
        body(at, block);
        if len == BLOCK {
            lines::<I>(block, to)
        } else {
            to.copy_from_slice(block)
        }
        at += len;
    }
}

/// Stores a block of whole lines past the caches.
#[inline(always)]
fn lines<I: Tier>(from: &[f32], to: &mut [f32]) {
    assert!(from.len() == to.len() && to.as_ptr().addr().is_multiple_of(LINE), "a block lies on lines");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        for at in (0..BLOCK).step_by(8) {
            // SAFETY: both slices have a block's length, as was checked, and the target lies on a line; a tier with fused
            // multiply-adds has AVX, and every x86-64 processor the other instructions.
            unsafe {
                if I::FMA {
                    _mm256_stream_ps(to.add(at), _mm256_loadu_ps(from.add(at)));
                } else {
                    _mm_stream_ps(to.add(at), _mm_loadu_ps(from.add(at)));
                    _mm_stream_ps(to.add(at + 4), _mm_loadu_ps(from.add(at + 4)));
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Makes what [`store`] wrote visible to others before what this thread does next.
pub(crate) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, which has no preconditions.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_arrives_and_nothing_beside_it() {
        let source: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (start, len) in [(0, 0), (0, 1000), (1, 999), (3, 60), (17, 64), (31, 130), (63, 500)] {
            let mut target = vec![7u8; 1000];
            store(&source[start..start + len], &mut target[start..start + len]);
            finish();
            let expected: Vec<u8> =
                (0..1000).map(|i| if (start..start + len).contains(&i) { source[i] } else { 7 }).collect();
            assert_eq!(target, expected, "{len} bytes from {start}");
        }
    }

    #[test]
    fn a_large_sum_has_the_values_of_small_ones() {
        let len = STREAMED / 4 + 4321;
        let x: Vec<f32> = (0..len).map(|i| (i % 4099) as f32 / 512.0 - 4.0).collect();
        let layout = cupola_core::Layout::contiguous([len].into());
        let add = crate::binary::Binary::Add;
        // Results that begin on a line, and beside one.
        for beside in [0, 3] {
            let mut sum = vec![0.0f32; len + beside];
            crate::binary::forward(add, layout.shape, (&x, &layout), (&x, &layout), &mut sum[beside..]);
            assert!(x.iter().zip(&sum[beside..]).all(|(x, sum)| x + x == *sum));
            assert!(sum[..beside].iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn a_large_copy_is_a_copy() {
        let x: Vec<f32> = (0..STREAMED / 4 + 1234).map(|i| (i % 4099) as f32).collect();
        let mut y = vec![0.0; x.len()];
        crate::copy::plain(&x, &mut y);
        assert!(x == y);
    }
}
