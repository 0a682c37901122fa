//! Copies larger than the caches are written past them.
//!
//! An ordinary store first reads the line that it changes. For a copy that leaves the caches before anybody reads it this is
//! traffic for nothing: three bytes move instead of two. Functions of elements gain nothing by it: their stores wait where
//! they come in bursts, and cost as much as the reading.

/// Bytes from which a copy counts as larger than the caches.
pub(crate) const STREAMED: usize = 32 << 20;

/// Whether a copy to here is written past the caches.
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
        /// Bytes of a store, and of a cache line, which four stores fill.
        const VECTOR: usize = 16;
        const LINE: usize = 64;
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
    fn a_large_copy_is_a_copy() {
        let x: Vec<f32> = (0..STREAMED / 4 + 1234).map(|i| (i % 4099) as f32).collect();
        let mut y = vec![0.0; x.len()];
        crate::copy::plain(&x, &mut y);
        assert!(x == y);
    }
}
