//! A bounded cache from short pieces to their ids.

use crate::hash;

/// Pieces of at most this many bytes are cached.
pub(crate) const MAX_PIECE: usize = 15;
/// Up to this many ids lie in the bucket itself.
const INLINE: usize = 3;
/// All others lie in a list of at most this many.
const MAX_LIST: usize = 1 << 16;

/// The key in two words (the piece, padded with zeros, its length in the last byte), then up to three ids and their number.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    key: Key,
    ids: [u32; INLINE + 1],
}

/// Two entries of 32 bytes are one cache line; the newer one comes first.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket([Entry; 2]);

const EMPTY: Bucket = Bucket([Entry { key: [0; 2], ids: [0; INLINE + 1] }; 2]);

const SMALL: usize = 1 << 10;
const LARGE: usize = 1 << 15;

/// Short pieces and their ids, two-way: 64 KiB at first, 2 MiB when a text turns out to be long.
///
/// Whether a piece is one token or three makes no difference on the way of a hit: always as many bytes are copied. What
/// branches is only that a piece is too long or unknown, so that ordinary text runs without surprises.
#[derive(Debug, Default)]
pub(crate) struct PieceCache {
    buckets: Vec<Bucket>,
    /// Ids of pieces that have more than [`INLINE`]; their entries hold the place. Full means full: it never shrinks.
    list: Vec<u32>,
    inserted: usize,
}

/// The key of a piece.
pub(crate) type Key = [u64; 2];

/// Set in the keys of entries whose ids lie in the list.
const LISTED: u64 = 1 << 63;

/// Which bytes of a key belong to a piece of each length, and the length.
const MASKS: [[u64; 3]; MAX_PIECE + 1] = {
    let mut masks = [[0; 3]; MAX_PIECE + 1];
    let mut len = 1;
    while len <= MAX_PIECE {
        masks[len] = if len <= 8 {
            [u64::MAX >> (64 - 8 * len), 0, (len as u64) << 56]
        } else {
            [u64::MAX, u64::MAX >> (128 - 8 * len), (len as u64) << 56]
        };
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
    let [low, high, tag] = MASKS[len];
    [a & low, b & high | tag]
}

/// The number of the bucket of a key among `count`, a power of two.
#[inline(always)]
fn bucket(key: Key, count: usize) -> usize {
    hash::words(key[0], key[1]) as usize & (count - 1)
}

impl PieceCache {
    /// The ids of `text[start..end]` and behind them, as the last of four, their number: if they are known, and there
    /// are at most three. A piece in the last bytes of the text is not looked for.
    #[inline(always)]
    pub(crate) fn few(&self, text: &[u8], start: usize, end: usize) -> Option<&[u32; INLINE + 1]> {
        let len = end.wrapping_sub(start);
        if len.wrapping_sub(1) >= MAX_PIECE || start + 16 > text.len() || self.buckets.is_empty() {
            return None;
        }
        let [low, high, tag] = MASKS[len];
        let key = [hash::load8(text, start) & low, hash::load8(text, start + 8) & high | tag];
        let Bucket([first, second]) = &self.buckets[bucket(key, self.buckets.len())];
        let entry = if first.key == key { first } else { second };
        (entry.key == key).then_some(&entry.ids)
    }

    /// Calls `found` with the ids of a piece, if they are known.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key, found: impl FnOnce(&[u32])) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let Bucket(entries) = &self.buckets[bucket(key, self.buckets.len())];
        for entry in entries {
            if entry.key == key {
                found(&entry.ids[..entry.ids[INLINE] as usize]);
                return true;
            }
            if entry.key == [key[0], key[1] | LISTED] {
                let (at, n) = (entry.ids[0] as usize, entry.ids[INLINE] as usize);
                found(&self.list[at..at + n]);
                return true;
            }
        }
        false
    }

    /// Remembers a piece; the older entry of its bucket goes. True when the table has grown.
    pub(crate) fn insert(&mut self, key: Key, ids: &[u32]) -> bool {
        let listed = ids.len() > INLINE;
        if listed && self.list.len() + ids.len() > MAX_LIST {
            return false;
        }
        let grown = self.make_room();
        let mut entry = Entry { key, ids: [0; INLINE + 1] };
        entry.ids[INLINE] = ids.len() as u32;
        if listed {
            entry.key[1] |= LISTED;
            entry.ids[0] = self.list.len() as u32;
            self.list.extend_from_slice(ids);
        } else {
            entry.ids[..ids.len()].copy_from_slice(ids);
        }
        let count = self.buckets.len();
        let Bucket(entries) = &mut self.buckets[bucket(key, count)];
        *entries = [entry, entries[0]];
        grown
    }

    /// Remembers a piece that is one token where that takes nothing's place.
    pub(crate) fn offer(&mut self, key: Key, id: u32) {
        let count = self.buckets.len();
        let Bucket([first, second]) = &mut self.buckets[bucket(key, count)];
        let entry = Entry { key, ids: [id, 0, 0, 1] };
        if first.key[1] == 0 {
            *first = entry;
        } else if second.key[1] == 0 && first.key != key {
            *second = entry;
        }
    }

    fn make_room(&mut self) -> bool {
        self.inserted += 1;
        if self.buckets.is_empty() {
            self.buckets = vec![EMPTY; SMALL];
        } else if self.buckets.len() == SMALL && self.inserted > SMALL {
            let old = std::mem::replace(&mut self.buckets, vec![EMPTY; LARGE]);
            for entry in old.iter().flat_map(|b| b.0.iter().rev()).filter(|e| e.key[1] != 0) {
                let Bucket(entries) = &mut self.buckets[bucket([entry.key[0], entry.key[1] & !LISTED], LARGE)];
                *entries = [*entry, entries[0]];
            }
            return true;
        }
        false
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
            let padded = [&i.to_le_bytes()[..], b"xyzwxyzwxyzw"].concat();
            let few = cache.few(&padded, 0, 4).map(|ids| &ids[..ids[INLINE] as usize]);
            assert_eq!(few.map(<[u32]>::to_vec), get(&cache, i).filter(|ids| ids.len() <= INLINE));
        }
        assert!(cache.buckets.len() * size_of::<Bucket>() <= 2 << 20 && cache.list.len() <= MAX_LIST);
    }

    #[test]
    fn an_offer_takes_nothing_away() {
        let mut cache = PieceCache::default();
        let piece = |i: u32| key(&i.to_le_bytes(), 0, 4);
        let mut grown = 0;
        for i in 0..3000 {
            grown += usize::from(cache.insert(piece(i), &[i, i]));
        }
        assert_eq!(grown, 1);
        let known = |cache: &PieceCache, i| {
            let mut ids = Vec::new();
            cache.get(piece(i), |found| ids = found.to_vec());
            ids
        };
        let before: Vec<_> = (0..3000).map(|i| known(&cache, i)).collect();
        (0..100_000).for_each(|i| cache.offer(piece(i), 7));
        let lost = (0..3000).filter(|&i| !before[i as usize].is_empty() && known(&cache, i) != [i, i]).count();
        assert_eq!(lost, 0);
        assert_eq!(known(&cache, 3001), [7]);
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
