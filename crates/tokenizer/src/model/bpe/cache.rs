//! A bounded cache from short pieces to their ids.

use crate::hash;

/// Pieces of at most this many bytes are cached.
pub(crate) const MAX_PIECE: usize = 15;
/// Up to this many ids lie in the bucket itself.
const INLINE: usize = 3;
/// All others lie in a list of at most this many.
const MAX_LIST: usize = 1 << 16;

/// Two entries of 32 bytes: the key in two words (the piece, padded with zeros, its length in the last byte), then up
/// to three ids and their number. One bucket is one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket([[u64; 4]; 2]);

const SMALL: usize = 1 << 10;
const LARGE: usize = 1 << 15;

/// Pieces of up to this many bytes that are one token have a table of their own.
const MAX_WORD: usize = 7;
const WORDS: usize = 1 << 15;

/// Short pieces and their ids.
///
/// Most pieces are one token of a few bytes; a dense table of 16-byte entries (512 KiB, direct-mapped) holds them, so
/// that the words of a text stay in the second-level cache. All others have buckets, two-way, the newer entry first:
/// 64 KiB at first, 2 MiB when a text turns out to be long.
#[derive(Debug, Default)]
pub(crate) struct PieceCache {
    words: Vec<[u64; 2]>,
    buckets: Vec<Bucket>,
    /// Ids of pieces that have more than [`INLINE`]; their entries hold the place. Full means full: it never shrinks.
    list: Vec<u32>,
    inserted: usize,
}

/// The key of a piece.
pub(crate) type Key = [u64; 2];

/// The key of `text[start..end]`, which has 1 to [`MAX_PIECE`] bytes.
#[inline(always)]
pub(crate) fn key(text: &[u8], start: usize, end: usize) -> Key {
    let len = end - start;
    let tag = (len as u64) << 56;
    let (a, b) = if start + 16 <= text.len() {
        (hash::load8(text, start), hash::load8(text, start + 8))
    } else {
        let mut padded = [0; 16];
        padded[..len].copy_from_slice(&text[start..end]);
        (hash::load8(&padded, 0), hash::load8(&padded, 8))
    };
    if len <= 8 { [a & (u64::MAX >> (64 - 8 * len)), tag] } else { [a, (b & (u64::MAX >> (128 - 8 * len))) | tag] }
}

/// A key of at most seven bytes and its length is one word.
#[inline(always)]
fn word_slot(key: u64) -> usize {
    hash::words(key, 0) as usize & (WORDS - 1)
}

impl PieceCache {
    #[inline(always)]
    fn bucket(&self, key: Key) -> usize {
        hash::words(key[0], key[1]) as usize & (self.buckets.len() - 1)
    }

    /// The id of `text[start..end]`, if it is one token of at most [`MAX_WORD`] bytes that has been seen. A piece in
    /// the last bytes of the text is not looked for.
    #[inline(always)]
    pub(crate) fn word(&self, text: &[u8], start: usize, end: usize) -> Option<u32> {
        let len = end.wrapping_sub(start);
        if len.wrapping_sub(1) >= MAX_WORD || start + 8 > text.len() {
            return None;
        }
        let key = (hash::load8(text, start) & (u64::MAX >> (64 - 8 * len))) | (len as u64) << 56;
        let entry = self.words.get(word_slot(key))?;
        (entry[0] == key).then_some(entry[1] as u32)
    }

    /// Calls `found` with the ids of a piece, if they are known.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key, found: impl FnOnce(&[u32])) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let Bucket(entries) = &self.buckets[self.bucket(key)];
        let Some(entry) = entries.iter().find(|e| e[0] == key[0] && e[1] == key[1]) else {
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

    /// Puts a piece into the table of words, if it is short enough.
    #[inline]
    pub(crate) fn promote(&mut self, key: Key, id: u32) {
        if key[1] >> 56 <= MAX_WORD as u64 {
            if self.words.is_empty() {
                self.words = vec![[0; 2]; WORDS];
            }
            let key = key[0] | key[1];
            self.words[word_slot(key)] = [key, u64::from(id)];
        }
    }

    /// Remembers a piece; the older entry of its bucket goes.
    pub(crate) fn insert(&mut self, key: Key, ids: &[u32]) {
        if let &[id] = ids {
            self.promote(key, id);
        }
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

/// Pieces of up to this many bytes, and longer than [`MAX_PIECE`], have a cache of their own.
pub(crate) const MAX_LONG: usize = 64;

const LONG_SLOTS: usize = 1 << 14;
/// Bytes of pieces, and ids, that are held at once; then everything goes.
const LONG_BYTES: usize = 512 << 10;
const LONG_IDS: usize = 128 << 10;

#[derive(Clone, Copy, Debug, Default)]
struct LongEntry {
    hash: u64,
    piece: u32,
    ids: u32,
    len: u16,
    n: u16,
}

/// Long words and their ids, as languages have them whose characters take several bytes. At most 1.4 MB.
#[derive(Debug, Default)]
pub(crate) struct LongCache {
    slots: Vec<LongEntry>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

impl LongCache {
    /// The ids of a piece, if they are known.
    #[inline]
    pub(crate) fn get(&self, piece: &[u8]) -> Option<&[u32]> {
        let hash = hash::bytes(piece);
        let entry = self.slots.get(hash as usize & (LONG_SLOTS - 1))?;
        let (at, len) = (entry.piece as usize, usize::from(entry.len));
        if entry.hash != hash || self.bytes.get(at..at + len) != Some(piece) {
            return None;
        }
        self.ids.get(entry.ids as usize..entry.ids as usize + usize::from(entry.n))
    }

    /// Remembers a piece of at most [`MAX_LONG`] bytes, in the place of one with the same slot.
    pub(crate) fn insert(&mut self, piece: &[u8], ids: &[u32]) {
        if self.slots.is_empty() || self.bytes.len() + piece.len() > LONG_BYTES || self.ids.len() + ids.len() > LONG_IDS
        {
            self.slots.clear();
            self.slots.resize(LONG_SLOTS, LongEntry::default());
            self.bytes.clear();
            self.ids.clear();
        }
        let hash = hash::bytes(piece);
        self.slots[hash as usize & (LONG_SLOTS - 1)] = LongEntry {
            hash,
            piece: self.bytes.len() as u32,
            ids: self.ids.len() as u32,
            len: piece.len() as u16,
            n: ids.len() as u16,
        };
        self.bytes.extend_from_slice(piece);
        self.ids.extend_from_slice(ids);
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
            let padded = [&i.to_le_bytes()[..], b"xyzw"].concat();
            let word = cache.word(&padded, 0, 4);
            assert!(word.is_none_or(|id| (id, i % 5) == (i, 0)));
        }
        assert!(cache.buckets.len() * size_of::<Bucket>() <= 2 << 20 && cache.list.len() <= MAX_LIST);
    }

    #[test]
    fn long_pieces_come_back_and_memory_is_bounded() {
        let mut cache = LongCache::default();
        let piece = |i: u32| [&i.to_le_bytes()[..], &[7; 30][..]].concat();
        for i in 0..60_000 {
            assert_eq!(cache.get(&piece(i)), None);
            cache.insert(&piece(i), &[i, 1, 2]);
            assert_eq!(cache.get(&piece(i)), Some(&[i, 1, 2][..]));
            assert!(cache.bytes.len() <= LONG_BYTES && cache.ids.len() <= LONG_IDS);
        }
        for i in 0..60_000 {
            assert!(cache.get(&piece(i)).is_none_or(|ids| ids == [i, 1, 2]));
        }
        assert_eq!(LongCache::default().get(&[1; 20]), None);
    }
}
