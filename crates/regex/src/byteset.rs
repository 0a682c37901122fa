//! Sets of bytes, looked for many bytes at a time.

/// A set of ASCII bytes, and perhaps all bytes beyond.
#[derive(Debug, Clone)]
pub struct ByteSet {
    /// For each low half of a byte, a bit for each high half of up to 7.
    pub(crate) low: [u8; 16],
    /// Bytes beyond ASCII are members.
    high: bool,
    simd: bool,
}

/// For each high half the bit of [`ByteSet::low`]; nothing for bytes beyond ASCII.
pub(crate) const HIGH: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

impl ByteSet {
    /// The ASCII bytes for which `member` holds, and those beyond ASCII if `high`.
    pub fn new(member: impl Fn(u8) -> bool, high: bool) -> Self {
        let mut low = [0; 16];
        for byte in (0..128).filter(|&byte| member(byte)) {
            low[usize::from(byte & 15)] |= 1 << (byte >> 4);
        }
        ByteSet { low, high, simd: has_simd() }
    }

    /// Membership.
    #[inline]
    pub fn contains(&self, byte: u8) -> bool {
        if byte < 0x80 { self.low[usize::from(byte & 15)] >> (byte >> 4) & 1 != 0 } else { self.high }
    }

    /// The first position from `from` on, but not beyond `to`, at which a member stands.
    #[inline]
    pub fn find(&self, text: &[u8], from: usize, to: usize) -> usize {
        let part = &text[..to];
        let mut at = from;
        #[cfg(target_arch = "x86_64")]
        if self.simd && at + 32 <= to {
            // SAFETY: `simd` is only set where AVX2 was found.
            at = unsafe { avx2(self, part, at) };
        }
        while at < to && !self.contains(part[at]) {
            at += 1;
        }
        at
    }
}

/// Whether vectors of 32 bytes can be used.
pub(crate) fn has_simd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Goes on in whole vectors; returns where the first member is, or where less than a vector is left.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(set: &ByteSet, text: &[u8], from: usize) -> usize {
    use std::arch::x86_64::*;
    // SAFETY: both tables have 16 bytes; unaligned loads are allowed.
    let (low, high) = unsafe { (_mm_loadu_si128(set.low.as_ptr().cast()), _mm_loadu_si128(HIGH.as_ptr().cast())) };
    let (low, high) = (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high));
    let beyond = if set.high { u32::MAX } else { 0 };
    let mut at = from;
    while let Some(bytes) = text.get(at..at + 32) {
        // SAFETY: `bytes` has 32 bytes; unaligned loads are allowed.
        let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        let halves = _mm256_and_si256(_mm256_srli_epi16::<4>(v), _mm256_set1_epi8(15));
        let found = _mm256_and_si256(_mm256_shuffle_epi8(low, v), _mm256_shuffle_epi8(high, halves));
        let none = _mm256_movemask_epi8(_mm256_cmpeq_epi8(found, _mm256_setzero_si256())) as u32;
        let bits = !none | _mm256_movemask_epi8(v) as u32 & beyond;
        if bits != 0 {
            return at + bits.trailing_zeros() as usize;
        }
        at += 32;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn members_are_found_wherever_they_stand(
            members in prop::collection::vec(0u8..128, 0..5),
            high in any::<bool>(),
            text in prop::collection::vec(prop_oneof![8 => 0x61u8..0x7A, 1 => any::<u8>()], 0..150),
            ends in (0usize..150, 0usize..150),
        ) {
            let set = ByteSet::new(|byte| members.contains(&byte), high);
            let slow = ByteSet { simd: false, ..set.clone() };
            let to = ends.1.min(text.len());
            let from = ends.0.min(to);
            let is = |byte: u8| members.contains(&byte) || high && byte >= 0x80;
            let expected = (from..to).find(|&at| is(text[at])).unwrap_or(to);
            prop_assert_eq!(set.find(&text, from, to), expected);
            prop_assert_eq!(slow.find(&text, from, to), expected);
            prop_assert!((0..=255).all(|byte| set.contains(byte) == is(byte)));
        }
    }
}
