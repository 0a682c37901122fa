//! A bounded cache from short pieces to their ids.

use crate::hash;

/// Pieces of at most this many bytes are cached.
pub(crate) const MAX_PIECE: usize = 15;
/// Up to this many ids lie in the bucket itself.
pub(crate) const INLINE: usize = 3;
/// All others lie in a list of at most this many.
const MAX_LIST: usize = 1 << 16;

/// Two entries of 32 bytes: the key in two words (the piece, padded with zeros, its length in the last byte), then up
/// to three ids and their number. One bucket is one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket([[u64; 4]; 2]);

const SMALL: usize = 1 << 10;
const LARGE: usize = 1 << 15;

/// Short pieces and their ids: buckets, two-way, the newer entry first; 64 KiB at first, 2 MiB when a text turns out to be
/// long.
#[derive(Debug, Default)]
pub(crate) struct PieceCache {
    buckets: Vec<Bucket>,
    /// Ids of pieces that have more than [`INLINE`]; their entries hold the place. Full means full: it never shrinks.
    list: Vec<u32>,
    inserted: usize,
}

/// The key of a piece.
pub(crate) type Key = [u64; 2];

/// What is kept of 16 bytes of text for a piece of each length, so that no branch depends on it.
const MASKS: [Key; MAX_PIECE + 1] = {
    let mut masks = [[0; 2]; MAX_PIECE + 1];
    let mut len = 1;
    while len <= MAX_PIECE {
        masks[len][0] = if len < 8 { u64::MAX >> (64 - 8 * len) } else { u64::MAX };
        masks[len][1] = if len > 8 { u64::MAX >> (128 - 8 * len) } else { 0 };
        len += 1;
    }
    masks
};

/// The key of `text[start..end]`, which has 1 to [`MAX_PIECE`] bytes.
#[inline(always)]
pub(crate) fn key(text: &[u8], start: usize, end: usize) -> Key {
    let len = end - start;
    let (a, b) = if start + 16 <= text.len() {
        (hash::load8(text, start), hash::load8(text, start + 8))
    } else {
        let mut padded = [0; 16];
        padded[..len].copy_from_slice(&text[start..end]);
        (hash::load8(&padded, 0), hash::load8(&padded, 8))
    };
    let mask = MASKS[len];
    [a & mask[0], (b & mask[1]) | (len as u64) << 56]
}

/// Ids found in a bucket itself: the first `n` of them count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Few {
    pub ids: [u32; INLINE],
    pub n: usize,
}

impl PieceCache {
    #[inline(always)]
    fn bucket(&self, key: Key) -> usize {
        hash::words(key[0], key[1]) as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn entry(&self, key: Key) -> Option<&[u64; 4]> {
        // An empty cache has no bucket.
        let Bucket(entries) =
            self.buckets.get(hash::words(key[0], key[1]) as usize & self.buckets.len().wrapping_sub(1))?;
        let same = |entry: &[u64; 4]| (entry[0] ^ key[0]) | (entry[1] ^ key[1]) == 0;
        let (first, second) = (same(&entries[0]), same(&entries[1]));
        // Which of the two it is decides an address, not a branch.
        (first | second).then(|| &entries[usize::from(!first)])
    }

    /// The ids of `text[start..end]`, if they are known and few. A piece in the last bytes of the text is not looked for.
    #[inline(always)]
    pub(crate) fn few(&self, text: &[u8], start: usize, end: usize) -> Option<Few> {
        if end.wrapping_sub(start).wrapping_sub(1) >= MAX_PIECE || start + 16 > text.len() {
            return None;
        }
        let entry = self.entry(key(text, start, end))?;
        let n = (entry[3] >> 32) as usize;
        (n <= INLINE).then_some(Few { ids: [entry[2] as u32, (entry[2] >> 32) as u32, entry[3] as u32], n })
    }

    /// Calls `found` with the ids of a piece, if they are known.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key, found: impl FnOnce(&[u32])) -> bool {
        let Some(entry) = self.entry(key) else {
            return false;
        };
        let n = (entry[3] >> 32) as usize;
        if n <= INLINE {
            found(&[entry[2] as u32, (entry[2] >> 32) as u32, entry[3] as u32][..n]);
        } else {
            let at = entry[2] as usize;
            found(&self.list[at..at + n]);
        }
        true
    }

    /// Remembers a piece; the older entry of its bucket goes.
    pub(crate) fn insert(&mut self, key: Key, ids: &[u32]) {
        if ids.len() > INLINE && self.list.len() + ids.len() > MAX_LIST {
            return;
        }
        self.inserted += 1;
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket([[0; 4]; 2]); SMALL];
        } else if self.buckets.len() == SMALL && self.inserted > 2 * SMALL {
            let old = std::mem::replace(&mut self.buckets, vec![Bucket([[0; 4]; 2]); LARGE]);
            for entry in old.iter().flat_map(|b| b.0.iter().rev()).filter(|e| e[1] != 0) {
                let at = self.bucket([entry[0], entry[1]]);
                self.buckets[at].0[1] = self.buckets[at].0[0];
                self.buckets[at].0[0] = *entry;
            }
        }
        let id = |i: usize| u64::from(ids.get(i).copied().unwrap_or(0));
        let mut entry = [key[0], key[1], id(0) | id(1) << 32, id(2) | (ids.len() as u64) << 32];
        if ids.len() > INLINE {
            entry[2] = self.list.len() as u64;
            self.list.extend_from_slice(ids);
        }
        let at = self.bucket(key);
        let bucket = &mut self.buckets[at].0;
        bucket[1] = bucket[0];
        bucket[0] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_exactly_when_pieces_differ() {
        let text = b"\0\0abcabcabc\0\0abcdefghijklmnopqrstuvwxyz\0";
        let mut seen = std::collections::HashMap::new();
        for start in 0..text.len() {
            for end in start + 1..=(start + MAX_PIECE).min(text.len()) {
                let piece = text[start..end].to_vec();
                let k = key(text, start, end);
                assert_eq!(seen.entry(k).or_insert_with(|| piece.clone()), &piece);
            }
        }
    }

    #[test]
    fn what_it_returns_is_what_was_put_in() {
        let mut cache = PieceCache::default();
        let ids_of = |i: u32| (i..i + 1 + i % 5).collect::<Vec<u32>>();
        let get = |cache: &PieceCache, i: u32| {
            let mut ids = None;
            cache.get(key(&i.to_le_bytes(), 0, 4), |found| ids = Some(found.to_vec()));
            ids
        };
        for i in 0..200_000u32 {
            cache.insert(key(&i.to_le_bytes(), 0, 4), &ids_of(i));
            // Once the list is full, longer results are not kept.
            if i % 5 < 3 || i < 30_000 {
                assert_eq!(get(&cache, i), Some(ids_of(i)));
            }
        }
        for i in 0..200_000u32 {
            assert!(get(&cache, i).is_none_or(|ids| ids == ids_of(i)));
            let padded = [&i.to_le_bytes()[..], b"abcdefghijkl"].concat();
            assert_eq!(
                cache.few(&padded, 0, 4).map(|f| f.ids[..f.n].to_vec()),
                get(&cache, i).filter(|ids| ids.len() <= INLINE)
            );
        }
        assert!(cache.buckets.len() * size_of::<Bucket>() <= 2 << 20 && cache.list.len() <= MAX_LIST);
    }
}
