//! The precompiled character map of SentencePiece: executed as it is, not replaced by a Unicode normal form.
//!
//! The blob is the length of a double-array trie (little-endian `u32`), the trie's units (`u32` each, in the layout of
//! Darts-clone) and a block of NUL-terminated replacement strings. A key's value is an offset into that block.

use crate::error::{Error, Result};

/// A precompiled character map.
#[derive(Clone, Debug)]
pub struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
    raw: Vec<u8>,
}

const FORMAT: &str = "precompiled character map";

// The bit fields of a Darts-clone unit.
fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}
fn value(unit: u32) -> u32 {
    unit & ((1 << 31) - 1)
}
fn label(unit: u32) -> u32 {
    unit & ((1 << 31) | 0xff)
}
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & (1 << 9)) >> 6)
}

impl Charsmap {
    /// Reads the blob.
    ///
    /// # Errors
    /// When the blob is shorter than it says, or its replacements are not UTF-8.
    pub fn new(raw: &[u8]) -> Result<Self> {
        let size = raw.first_chunk::<4>().map(|b| u32::from_le_bytes(*b) as usize);
        let Some((units, replacements)) = size.and_then(|n| raw.get(4..)?.split_at_checked(n)) else {
            return Err(Error::malformed(FORMAT, format!("{} bytes, shorter than its trie", raw.len())));
        };
        if units.is_empty() || !units.len().is_multiple_of(4) {
            return Err(Error::malformed(FORMAT, format!("a trie of {} bytes, not a multiple of 4", units.len())));
        }
        if let Err(e) = std::str::from_utf8(replacements) {
            return Err(Error::malformed(FORMAT, format!("the replacements are not UTF-8: {e}")));
        }
        let units = units.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Self { units, replacements: replacements.to_vec(), raw: raw.to_vec() })
    }

    /// The blob.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Length of the longest key that `text` starts with, and its replacement.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let mut at = offset(self.units[0]) as usize;
        let mut best = None;
        for (i, &byte) in text.iter().enumerate() {
            if byte == 0 {
                break;
            }
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if label(unit) != u32::from(byte) {
                break;
            }
            at ^= offset(unit) as usize;
            if has_leaf(unit)
                && let Some(&leaf) = self.units.get(at)
            {
                best = Some((i + 1, value(leaf) as usize));
            }
        }
        let (len, start) = best?;
        let tail = self.replacements.get(start..)?;
        let end = tail.iter().position(|&b| b == 0).unwrap_or(tail.len());
        Some((len, std::str::from_utf8(&tail[..end]).ok()?))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A character map with one-byte keys, laid out by hand: the root, its 256 children, their leaves.
    pub(crate) fn single_byte_map(entries: &[(u8, &str)]) -> Vec<u8> {
        let mut units = vec![0u32; 1024];
        // The root's children are at 256 ^ byte.
        units[0] = 256 << 10;
        let mut block = Vec::new();
        for &(byte, replacement) in entries {
            let child = 256 ^ usize::from(byte);
            // The child's leaf is at child ^ 512.
            units[child] = 512 << 10 | 1 << 8 | u32::from(byte);
            units[child ^ 512] = 1 << 31 | block.len() as u32;
            block.extend_from_slice(replacement.as_bytes());
            block.push(0);
        }
        let mut raw = (units.len() as u32 * 4).to_le_bytes().to_vec();
        raw.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        raw.extend(block);
        raw
    }

    #[test]
    fn the_trie_is_followed() {
        let map = Charsmap::new(&single_byte_map(&[(b'A', "a"), (b'\t', " "), (b'x', "")])).unwrap();
        assert_eq!(map.longest(b"Ab"), Some((1, "a")));
        assert_eq!(map.longest(b"\t"), Some((1, " ")));
        assert_eq!(map.longest(b"xyz"), Some((1, "")));
        assert_eq!(map.longest(b"bA"), None);
        assert_eq!(map.longest(b""), None);
    }

    #[test]
    fn damaged_maps_never_panic() {
        let good = single_byte_map(&[(b'A', "a"), (b'b', "ccc")]);
        let mut rng = crate::rng::Rng::new(1);
        for cut in 0..64 {
            let _ = Charsmap::new(&good[..good.len() - cut]);
        }
        for _ in 0..3000 {
            let mut bad = good.clone();
            for _ in 0..8 {
                let at = rng.next_u64() as usize % bad.len();
                bad[at] = rng.next_u64() as u8;
            }
            if let Ok(map) = Charsmap::new(&bad) {
                for text in [&b"Abb"[..], b"bA\xff", b"\x01\x02\x03"] {
                    let _ = map.longest(text);
                }
            }
        }
    }
}
