//! Keys of short byte strings: the string itself in two words, so that equal keys mean equal strings.

use crate::hash;

/// Strings of at most this many bytes have a key.
pub(crate) const LONGEST: usize = 15;

/// The bytes, padded with zeros, and their number in the last four bits.
pub(crate) type Key = [u64; 2];

/// Where the number of bytes stands in the second word.
pub(crate) const LEN_AT: u32 = 60;

/// Which bytes of a key belong to a string of each length.
const MASKS: [u128; 16] = {
    let mut masks = [0; 16];
    let mut len = 1;
    while len < 16 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The key of the first `len` of 16 bytes.
#[inline(always)]
pub(crate) fn of_word(bytes: u128, len: usize) -> Key {
    let key = bytes & MASKS[len & 15] | (len as u128) << (64 + LEN_AT);
    [key as u64, (key >> 64) as u64]
}

/// The key of `text[start..start + len]`, which has at most [`LONGEST`] bytes.
#[inline(always)]
pub(crate) fn of_part(text: &[u8], start: usize, len: usize) -> Key {
    let bytes = match text.get(start..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u128::from_le_bytes(*bytes),
        None => last_bytes(text, start),
    };
    of_word(bytes, len)
}

/// The key of a string of at most [`LONGEST`] bytes. Loads overlap in equal bytes.
#[inline(always)]
pub(crate) fn of(s: &[u8]) -> Key {
    let n = s.len();
    let low = match n {
        0 => 0,
        1..=3 => u64::from(s[0]) | u64::from(s[n / 2]) << (8 * (n / 2)) | u64::from(s[n - 1]) << (8 * (n - 1)),
        4..=7 => hash::load4(s, 0) | hash::load4(s, n - 4) << (8 * (n - 4)),
        _ => hash::load8(s, 0),
    };
    let high = if n > 8 { hash::load8(s, n - 8) >> (8 * (16 - n)) } else { 0 };
    [low, high | (n as u64) << LEN_AT]
}

/// The hash of a key.
#[inline(always)]
pub(crate) fn hash_of(key: Key) -> u64 {
    hash::words(key[0], key[1])
}

/// The bytes from `start` on, of which there are fewer than 16.
#[inline]
fn last_bytes(text: &[u8], start: usize) -> u128 {
    match text.last_chunk::<16>() {
        Some(last) => u128::from_le_bytes(*last) >> (8 * (start + 16 - text.len())),
        None => {
            let mut padded = [0; 16];
            padded[..text.len()].copy_from_slice(text);
            u128::from_le_bytes(padded) >> (8 * start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_exactly_when_strings_differ() {
        let text = b"\0\0abcabcabc\0\0abcdefghijklmnopqrstuvwxyz\0";
        let mut seen = std::collections::HashMap::new();
        for text in [&text[..], &text[..14]] {
            for start in 0..text.len() {
                for end in start + 1..=(start + LONGEST).min(text.len()) {
                    let piece = text[start..end].to_vec();
                    let k = of_part(text, start, end - start);
                    assert_eq!(seen.entry(k).or_insert_with(|| piece.clone()), &piece);
                    assert_eq!(of(&piece), k);
                    let mut padded = piece.clone();
                    padded.resize(40, 7);
                    assert_eq!(of_part(&padded, 0, piece.len()), k);
                }
            }
        }
    }
}
