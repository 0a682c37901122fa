//! Which of 64 actions are of a sort, one bit for each, and where these bits are.

/// Actions that are looked at together.
pub const CHUNK: usize = 64;

/// The ways to do so.
pub trait Bits {
    /// Which of the actions have the given one.
    ///
    /// # Safety
    /// The machine has the instructions of this way.
    unsafe fn of<const ACTION: u8>(chunk: &[u8; CHUNK]) -> u64;

    /// Writes the places of the bits, each `at` further; behind them anything may be written.
    ///
    /// # Safety
    /// The machine has the instructions of this way.
    unsafe fn places(bits: u64, at: u32, out: &mut [u32; CHUNK]);
}

/// Without vectors.
#[derive(Debug)]
pub struct Plain;

impl Bits for Plain {
    #[inline(always)]
    unsafe fn of<const ACTION: u8>(chunk: &[u8; CHUNK]) -> u64 {
        let shift = ACTION.trailing_zeros();
        // The multiplication moves the low bit of each byte into the top byte.
        let low = |word: u64| (word >> shift & spread(1)).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        words(chunk).enumerate().fold(0, |bits, (index, word)| bits | low(word) << (8 * index))
    }

    #[inline(always)]
    unsafe fn places(bits: u64, at: u32, out: &mut [u32; CHUNK]) {
        let mut rest = bits;
        for group in out.chunks_exact_mut(8).take(bits.count_ones().div_ceil(8) as usize) {
            for slot in group {
                // Never zero, which would need a case of its own.
                *slot = at + (rest | 1 << 63).trailing_zeros();
                rest &= rest.wrapping_sub(1);
            }
        }
    }
}

/// With AVX2, in functions that are compiled for it.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub struct Avx2;

/// For each byte the places of its bits.
#[cfg(target_arch = "x86_64")]
static PLACES: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 != 0 {
                all[byte][count] = bit as u8;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

#[cfg(target_arch = "x86_64")]
impl Bits for Avx2 {
    #[inline(always)]
    unsafe fn of<const ACTION: u8>(chunk: &[u8; CHUNK]) -> u64 {
        use std::arch::x86_64::*;
        // The bit of each byte becomes its highest.
        let top = |half: &[u8]| {
            // SAFETY: a half has 32 bytes, and unaligned loads are allowed; the caller has found AVX2.
            unsafe {
                let v = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_movemask_epi8(_mm256_sll_epi16(v, _mm_cvtsi32_si128(ACTION.leading_zeros() as i32))) as u32
            }
        };
        let (low, high) = chunk.split_at(32);
        u64::from(top(low)) | u64::from(top(high)) << 32
    }

    #[inline(always)]
    unsafe fn places(bits: u64, at: u32, out: &mut [u32; CHUNK]) {
        use std::arch::x86_64::*;
        let mut to = out.as_mut_ptr();
        let mut rest = bits;
        // SAFETY: the caller has found AVX2. Before the last byte at most 56 places are written, and behind them there is
        // room for eight more. A row of the table has 8 bytes; unaligned loads and stores are allowed.
        unsafe {
            let mut base = _mm256_set1_epi32(at as i32);
            for _ in 0..8 {
                let byte = rest as u8;
                let places = _mm_loadl_epi64(PLACES[usize::from(byte)].as_ptr().cast());
                _mm256_storeu_si256(to.cast(), _mm256_add_epi32(base, _mm256_cvtepu8_epi32(places)));
                base = _mm256_add_epi32(base, _mm256_set1_epi32(8));
                to = to.add(byte.count_ones() as usize);
                rest >>= 8;
            }
        }
    }
}

/// Whether one of the given actions is among them.
#[inline(always)]
pub fn has(chunk: &[u8; CHUNK], actions: u8) -> bool {
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
        fn bits_are_those_of_the_actions(chunk in prop::collection::vec(0u8..64, CHUNK), mask in 0u8..64) {
            let chunk: [u8; CHUNK] = chunk.try_into().unwrap();
            fn all<A: Bits>(chunk: &[u8; CHUNK]) -> Vec<u64> {
                // SAFETY: the instructions are looked for below.
                unsafe { vec![A::of::<1>(chunk), A::of::<2>(chunk), A::of::<4>(chunk), A::of::<8>(chunk), A::of::<32>(chunk)] }
            }
            let with = |wanted: u8| (0..CHUNK).fold(0, |bits, at| bits | u64::from(chunk[at] & wanted != 0) << at);
            let expected: Vec<u64> = [1, 2, 4, 8, 32].into_iter().map(with).collect();
            prop_assert_eq!(&all::<Plain>(&chunk), &expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                prop_assert_eq!(&all::<Avx2>(&chunk), &expected);
            }
            prop_assert_eq!(has(&chunk, mask), chunk.iter().any(|actions| actions & mask != 0));
        }

        #[test]
        fn places_of_bits_are_found(bits in prop_oneof![any::<u64>(), (0u32..64, any::<u64>()).prop_map(|(n, b)| b >> n & b)], at in 0u32..9999) {
            let expected: Vec<u32> = (0..64).filter(|&bit| bits >> bit & 1 != 0).map(|bit| at + bit).collect();
            let mut out = [0; CHUNK];
            // SAFETY: these are for any machine.
            unsafe { Plain::places(bits, at, &mut out) };
            prop_assert_eq!(&out[..expected.len()], &expected[..]);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                out = [0; CHUNK];
                // SAFETY: AVX2 was found.
                unsafe { Avx2::places(bits, at, &mut out) };
                prop_assert_eq!(&out[..expected.len()], &expected[..]);
            }
        }
    }
}
