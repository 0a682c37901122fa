//! Which of 64 actions are of a sort, one bit for each.

/// Actions that are looked at together.
pub const CHUNK: usize = 64;

/// Which of the actions have the given one.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub fn bits(chunk: &[u8; CHUNK], action: u8) -> u64 {
    use std::arch::x86_64::{_mm_cvtsi32_si128, _mm_loadu_si128, _mm_movemask_epi8, _mm_sll_epi16};
    let (parts, _) = chunk.as_chunks::<16>();
    // The bit of each byte becomes its highest.
    let shift = action.leading_zeros() as i32;
    // SAFETY: SSE2 is part of x86-64; a part has 16 bytes, and unaligned loads are allowed.
    let top = |part: &[u8; 16]| unsafe {
        _mm_movemask_epi8(_mm_sll_epi16(_mm_loadu_si128(part.as_ptr().cast()), _mm_cvtsi32_si128(shift)))
    };
    parts.iter().rev().fold(0, |bits, part| bits << 16 | top(part) as u64)
}

/// Which of the actions have the given one.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub fn bits(chunk: &[u8; CHUNK], action: u8) -> u64 {
    bits_of_words(chunk, action)
}

/// Without vectors.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn bits_of_words(chunk: &[u8; CHUNK], action: u8) -> u64 {
    let shift = action.trailing_zeros();
    // The multiplication moves the low bit of each byte into the top byte.
    let low = |word: u64| (word >> shift & spread(1)).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    words(chunk).enumerate().fold(0, |bits, (index, word)| bits | low(word) << (8 * index))
}

/// Whether one of the given actions is among them.
#[inline(always)]
pub fn any(chunk: &[u8; CHUNK], actions: u8) -> bool {
    words(chunk).fold(0, |all, word| all | word) & spread(actions) != 0
}

#[inline(always)]
fn words(chunk: &[u8; CHUNK]) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
    let (words, _) = chunk.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word))
}

/// `actions` in every byte of a word.
const fn spread(actions: u8) -> u64 {
    actions as u64 * 0x0101_0101_0101_0101
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_those_of_the_actions(chunk in prop::collection::vec(0u8..64, CHUNK), wanted in 0u32..6, mask in 0u8..64) {
            let chunk: [u8; CHUNK] = chunk.try_into().unwrap();
            let wanted = 1 << wanted;
            let expected = (0..CHUNK).fold(0, |bits, at| bits | u64::from(chunk[at] & wanted != 0) << at);
            prop_assert_eq!(bits(&chunk, wanted), expected);
            prop_assert_eq!(bits_of_words(&chunk, wanted), expected);
            prop_assert_eq!(super::any(&chunk, mask), chunk.iter().any(|actions| actions & mask != 0));
        }
    }
}
