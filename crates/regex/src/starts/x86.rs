//! With vectors of 32 bytes.

use std::arch::x86_64::*;

use super::groups::Multi;
use super::kinds::ByKinds;
use super::{BLOCK, Starts, Way, Window};
use crate::byteset::HIGH;
use crate::program::Program;

/// Whether so many positions are left open that it is too slow to test them one by one.
#[inline]
fn more_than_two(open: u64) -> bool {
    let without_one = open & open.wrapping_sub(1);
    without_one & without_one.wrapping_sub(1) != 0
}

#[target_feature(enable = "avx2")]
fn table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes are read; unaligned loads are allowed.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn upper(v: __m256i) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi16::<4>(v), _mm256_set1_epi8(15))
}

/// Which bytes of the two vectors are not zero.
#[target_feature(enable = "avx2")]
fn nonzero(a: __m256i, b: __m256i) -> u64 {
    let zero = _mm256_setzero_si256();
    let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, zero)) as u32;
    let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(b, zero)) as u32;
    !(u64::from(low) | u64::from(high) << 32)
}

/// The first window with a bit from `from` on, or an empty one where less than a block is left.
#[target_feature(enable = "avx2")]
pub fn look(starts: &Starts, program: &Program, text: &[u8], from: usize, window: &mut Window) {
    let (first, halves) = (table(&starts.first.low), table(&HIGH));
    let mut base = from;
    // Two bytes more, for the second and third ones of the last character.
    while let Some(block) = text.get(base..base + BLOCK + 2) {
        let p = block.as_ptr();
        // SAFETY: `block` has 66 bytes; unaligned loads are allowed.
        let (a, b) = unsafe { (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) };
        let (high_a, high_b) = (_mm256_shuffle_epi8(halves, upper(a)), _mm256_shuffle_epi8(halves, upper(b)));
        let found_a = _mm256_and_si256(_mm256_shuffle_epi8(first, a), high_a);
        let found_b = _mm256_and_si256(_mm256_shuffle_epi8(first, b), high_b);
        let any = _mm256_or_si256(found_a, found_b);
        let wide = _mm256_movemask_epi8(_mm256_or_si256(a, b)) != 0;
        if !wide && _mm256_testz_si256(any, any) != 0 {
            base = match starts.range {
                Some(range) => skip_range::<true>(range, text, base + BLOCK),
                None => skip::<true>(first, halves, text, base + BLOCK),
            };
            continue;
        }
        let (mut found_a, mut found_b) = (found_a, found_b);
        if wide {
            match &starts.multi {
                Multi::None if _mm256_testz_si256(any, any) != 0 => {
                    base = match starts.range {
                        Some(range) => skip_range::<false>(range, text, base + BLOCK),
                        None => skip::<false>(first, halves, text, base + BLOCK),
                    };
                    continue;
                }
                Multi::None => {}
                Multi::Bytes => {
                    let beyond = _mm256_set1_epi8(i8::MIN);
                    found_a = _mm256_or_si256(found_a, _mm256_and_si256(a, beyond));
                    found_b = _mm256_or_si256(found_b, _mm256_and_si256(b, beyond));
                }
                Multi::Groups(groups) => {
                    let tables = Tables { first, halves, fine: groups.fine.each_ref().map(|bytes| table(bytes)) };
                    // SAFETY: 66 bytes can be read.
                    (found_a, found_b) = unsafe { (tables.found(p), tables.found(p.add(32))) };
                    let any = _mm256_or_si256(found_a, found_b);
                    if _mm256_testz_si256(any, any) != 0 {
                        let from = base + BLOCK;
                        base = match window.tables {
                            Way::ByLowHalf => skip_coarse::<0>(&groups.coarse, text, from),
                            Way::ByUpperBits => skip_coarse::<2>(&groups.coarse, text, from),
                            Way::Fine => tables.skip(text, from),
                        };
                        window.note(base > from);
                        continue;
                    }
                }
            }
        }
        let mut bits = nonzero(found_a, found_b);
        let beyond = u64::from(_mm256_movemask_epi8(a) as u32) | u64::from(_mm256_movemask_epi8(b) as u32) << 32;
        if bits != 0
            && let Some((before, _)) = &starts.before
        {
            let before = table(&before.low);
            let a = _mm256_and_si256(_mm256_shuffle_epi8(before, a), high_a);
            let b = _mm256_and_si256(_mm256_shuffle_epi8(before, b), high_b);
            bits &= (nonzero(a, b) | beyond) << 1 | u64::from(starts.may_follow(program, text, base));
        }
        let mut certain = false;
        let open = bits & (beyond | beyond << 1);
        if starts.exact
            && more_than_two(open)
            && let Some(found) = by_kinds(starts, program, text, base)
        {
            (bits, certain) = (found, true);
        }
        if bits != 0 {
            window.set(base, base + BLOCK, bits);
            window.certain = certain;
            return;
        }
        base += BLOCK;
    }
    window.set(base, base, 0);
}

/// Out of the way of what is faster.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn by_kinds(starts: &Starts, program: &Program, text: &[u8], base: usize) -> Option<u64> {
    let by_kinds = starts.by_kinds.get_or_init(|| ByKinds::new(starts, program));
    by_kinds.as_ref()?.bits(starts, program, text, base)
}

/// Goes on where there are no members of ASCII, and if `BEYOND`, nothing beyond it, four vectors at a time.
#[target_feature(enable = "avx2")]
fn skip<const BEYOND: bool>(first: __m256i, halves: __m256i, text: &[u8], from: usize) -> usize {
    let beyond = _mm256_set1_epi8(i8::MIN);
    let mut base = from;
    while let Some(block) = text.get(base..base + 2 * BLOCK) {
        let mut any = _mm256_setzero_si256();
        for part in block.chunks_exact(32) {
            // SAFETY: `part` has 32 bytes; unaligned loads are allowed.
            let v = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
            let found = _mm256_and_si256(_mm256_shuffle_epi8(first, v), _mm256_shuffle_epi8(halves, upper(v)));
            any = _mm256_or_si256(any, found);
            any = if BEYOND { _mm256_or_si256(any, _mm256_and_si256(v, beyond)) } else { any };
        }
        if _mm256_testz_si256(any, any) == 0 {
            break;
        }
        base += 2 * BLOCK;
    }
    base
}

/// The same where members are all bytes of a range.
#[target_feature(enable = "avx2")]
fn skip_range<const BEYOND: bool>((least, greatest): (u8, u8), text: &[u8], from: usize) -> usize {
    // The greatest becomes the greatest of all signed bytes, and what is beyond it the least ones.
    let shift = _mm256_set1_epi8((127 - greatest) as i8);
    let below = _mm256_set1_epi8((127 - (greatest - least)) as i8 - 1);
    let mut base = from;
    while let Some(block) = text.get(base..base + 2 * BLOCK) {
        let mut any = _mm256_setzero_si256();
        for part in block.chunks_exact(32) {
            // SAFETY: `part` has 32 bytes; unaligned loads are allowed.
            let v = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
            any = _mm256_or_si256(any, _mm256_cmpgt_epi8(_mm256_add_epi8(v, shift), below));
            any = if BEYOND { _mm256_or_si256(any, v) } else { any };
        }
        // Members, and bytes beyond ASCII, have their highest bit set.
        if _mm256_movemask_epi8(any) != 0 {
            break;
        }
        base += 2 * BLOCK;
    }
    base
}

/// Goes on where the coarse tables find nothing; the second byte is looked up without its last `SHIFT` bits.
#[target_feature(enable = "avx2")]
fn skip_coarse<const SHIFT: i32>(coarse: &[[u8; 16]; 4], text: &[u8], from: usize) -> usize {
    let (low, high) = (table(&coarse[0]), table(&coarse[1]));
    let second = table(&coarse[if SHIFT == 0 { 2 } else { 3 }]);
    let nibble = _mm256_set1_epi8(15);
    let mut base = from;
    // A byte more, for the second one of the last.
    while let Some(block) = text.get(base..base + 2 * BLOCK + 1) {
        let mut any = _mm256_setzero_si256();
        for at in (0..2 * BLOCK).step_by(32) {
            // SAFETY: `block` has 129 bytes; unaligned loads are allowed.
            let [u, v] = unsafe { [0, 1].map(|place| _mm256_loadu_si256(block.as_ptr().add(at + place).cast())) };
            let v = if SHIFT == 0 { v } else { _mm256_srli_epi16::<SHIFT>(v) };
            let first = _mm256_shuffle_epi8(low, _mm256_and_si256(u, nibble));
            let first = _mm256_and_si256(first, _mm256_shuffle_epi8(high, upper(u)));
            let second = _mm256_shuffle_epi8(second, _mm256_and_si256(v, nibble));
            any = _mm256_or_si256(any, _mm256_and_si256(first, second));
        }
        if _mm256_testz_si256(any, any) == 0 {
            break;
        }
        base += 2 * BLOCK;
    }
    base
}

/// What tells members of one byte, and of several.
struct Tables {
    first: __m256i,
    halves: __m256i,
    fine: [__m256i; 6],
}

impl Tables {
    /// Which of 32 bytes are members of one byte, or may begin one of several since the first three bytes are of one group.
    ///
    /// # Safety
    /// From `p` on 34 bytes can be read.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn found(&self, p: *const u8) -> __m256i {
        // SAFETY: the last byte read is that 33 places behind `p`; unaligned loads are allowed.
        let [u, v, w] = unsafe { [0, 1, 2].map(|place| _mm256_loadu_si256(p.add(place).cast())) };
        let own = |place: usize, v: __m256i| {
            let lower = _mm256_and_si256(v, _mm256_set1_epi8(15));
            let (low, high) = (self.fine[2 * place], self.fine[2 * place + 1]);
            _mm256_and_si256(_mm256_shuffle_epi8(low, lower), _mm256_shuffle_epi8(high, upper(v)))
        };
        let several = _mm256_and_si256(_mm256_and_si256(own(0, u), own(1, v)), own(2, w));
        let one = _mm256_and_si256(_mm256_shuffle_epi8(self.first, u), _mm256_shuffle_epi8(self.halves, upper(u)));
        _mm256_or_si256(one, several)
    }

    /// Goes on without members.
    #[target_feature(enable = "avx2")]
    fn skip(&self, text: &[u8], from: usize) -> usize {
        let mut base = from;
        while let Some(block) = text.get(base..base + BLOCK + 2) {
            let p = block.as_ptr();
            // SAFETY: the block has 66 bytes.
            let any = unsafe { _mm256_or_si256(self.found(p), self.found(p.add(32))) };
            if _mm256_testz_si256(any, any) == 0 {
                break;
            }
            base += BLOCK;
        }
        base
    }
}
