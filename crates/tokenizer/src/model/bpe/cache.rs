//! Bounded caches from pieces to their ids.

use crate::key::{Key, hash_of};
use cupola_regex::hint::prefetch;
use std::hint::select_unpredictable;

/// Up to this many ids lie in the entry itself.
pub(crate) const INLINE: usize = 3;
/// All others lie in a list of at most this many.
const MAX_LIST: usize = 1 << 16;

/// A piece and its ids, or where they lie in the list when there are more than [`INLINE`]. No piece that is not empty has the key
/// zero.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Entry {
    key: Key,
    /// The ids, and how many there are.
    ids: [u32; INLINE + 1],
}

impl Entry {
    #[inline(always)]
    fn has(&self, key: Key) -> bool {
        (self.key[0] ^ key[0]) | (self.key[1] ^ key[1]) == 0
    }

    #[inline(always)]
    fn n(&self) -> usize {
        self.ids[INLINE] as usize
    }
}

/// Two entries, the newer one first: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket([Entry; 2]);

/// Buckets at first, and where a text turns out to have more different pieces: 64 KiB to 2 MiB.
const SIZES: [usize; 4] = [1 << 10, 1 << 12, 1 << 14, 1 << 15];

/// Short pieces and their ids.
#[derive(Debug, Default)]
pub(crate) struct PieceCache {
    buckets: Vec<Bucket>,
    /// Ids of pieces that have more than [`INLINE`].
    list: Vec<u32>,
    inserted: usize,
}

impl PieceCache {
    /// Makes room for the first entries.
    #[inline]
    pub(crate) fn prepare(&mut self) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); SIZES[0]];
        }
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> Option<&Bucket> {
        self.buckets.get(hash as usize & self.buckets.len().wrapping_sub(1))
    }

    /// Has the processor fetch the place of a hash, for a question that will come soon.
    #[inline(always)]
    pub(crate) fn fetch(&self, hash: u64) {
        if let Some(bucket) = self.bucket(hash) {
            prefetch(bucket);
        }
    }

    /// The ids of a piece and how many of them count: none where it is not found at first sight. There is no branch for what is
    /// found.
    #[inline(always)]
    pub(crate) fn look(&self, key: Key, hash: u64) -> ([u32; INLINE + 1], usize) {
        let Some(Bucket(entries)) = self.bucket(hash) else {
            return ([0; INLINE + 1], 0);
        };
        // The first eight bytes tell most pieces apart.
        let entry = &entries[usize::from(entries[0].key[0] != key[0])];
        let there = entry.has(key) & (entry.n() <= INLINE);
        (entry.ids, select_unpredictable(there, entry.n(), 0))
    }

    /// The ids of a piece, if it is known; also of one that had to give way to others of its bucket.
    #[inline]
    pub(crate) fn find(&self, key: Key, hash: u64) -> Option<&[u32]> {
        let Bucket(entries) = self.bucket(hash)?;
        let entry = entries.iter().find(|entry| entry.has(key)).or_else(|| {
            // Only out of a full bucket something moves.
            let Bucket(beside) = self.bucket(hash ^ 1).filter(|_| entries[1].key[1] != 0)?;
            beside.iter().find(|entry| entry.has(key))
        })?;
        let n = entry.n();
        if n <= INLINE {
            return Some(&entry.ids[..n]);
        }
        let at = entry.ids[0] as usize;
        Some(&self.list[at..at + n])
    }

    /// Remembers a piece. The older entry of its bucket moves to the bucket beside it, in the place of the older one there.
    pub(crate) fn insert(&mut self, key: Key, hash: u64, ids: &[u32]) {
        if ids.len() > INLINE && self.list.len() + ids.len() > MAX_LIST {
            // The list is full: everything begins anew, so that what the text at hand repeats has a place.
            self.list.clear();
            self.buckets.fill(Bucket::default());
            self.inserted = 0;
        }
        self.count_one();
        let mut entry = Entry { key, ids: [0, 0, 0, ids.len() as u32] };
        if ids.len() > INLINE {
            entry.ids[0] = self.list.len() as u32;
            self.list.extend_from_slice(ids);
        } else {
            entry.ids[..ids.len()].copy_from_slice(ids);
        }
        self.put(entry, hash);
    }

    /// Remembers a piece that is a token, if it is not known.
    #[inline]
    pub(crate) fn insert_token(&mut self, key: Key, hash: u64, id: u32) {
        if self.bucket(hash).is_some_and(|Bucket(entries)| !entries[0].has(key) && !entries[1].has(key)) {
            self.count_one();
            self.put(Entry { key, ids: [id, 0, 0, 1] }, hash);
        }
    }

    #[inline]
    fn count_one(&mut self) {
        self.inserted += 1;
        if self.inserted > self.buckets.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let Some(&larger) = SIZES.iter().find(|size| **size > self.buckets.len()) else {
            return;
        };
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::default(); larger]);
        for entry in old.iter().flat_map(|b| b.0.iter().rev()).filter(|e| e.key[1] != 0) {
            self.put(*entry, hash_of(entry.key));
        }
    }

    #[inline]
    fn put(&mut self, entry: Entry, hash: u64) {
        let mask = self.buckets.len() - 1;
        let Bucket(entries) = &mut self.buckets[hash as usize & mask];
        let gone = entries[1];
        entries[1] = entries[0];
        entries[0] = entry;
        // One that had moved here does not move on.
        if gone.key[1] != 0 && (hash_of(gone.key) ^ hash) as usize & mask == 0 {
            self.buckets[(hash ^ 1) as usize & mask].0[1] = gone;
        }
    }
}

/// Bits of [`Seen`], and how many hashes are noted before it forgets.
const SEEN: usize = 1 << 18;

/// What has come before, told by hashes, most of the time rightly. Pieces that are cut before they are encoded are remembered when
/// they come again: most never do, and remembering costs as much as encoding.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    bits: Vec<u64>,
    noted: usize,
}

impl Seen {
    /// Whether a hash has come before.
    pub(crate) fn note(&mut self, hash: u64) -> bool {
        if self.noted == 0 {
            self.bits.clear();
            self.bits.resize(SEEN / 64, 0);
        }
        self.noted = (self.noted + 1) % (SEEN / 4);
        let word = &mut self.bits[(hash >> 6) as usize % (SEEN / 64)];
        let before = *word;
        *word |= 1 << (hash & 63);
        before == *word
    }
}

/// Pieces of up to this many bytes, and too long for a key, have a cache of their own.
pub(crate) const MAX_LONG: usize = 64;

/// What the cache of long pieces holds: places, bytes of pieces, and ids. When one of them is used up, everything goes.
#[derive(Clone, Copy, Debug)]
struct Room {
    slots: usize,
    bytes: usize,
    ids: usize,
}

/// 1.4 MB.
const LITTLE: Room = Room { slots: 1 << 14, bytes: 512 << 10, ids: 128 << 10 };
/// 5.5 MB, for texts that are as long themselves.
const MUCH: Room = Room { slots: 1 << 16, bytes: 2 << 20, ids: 512 << 10 };
/// Texts of at least this many bytes may use [`MUCH`].
const LONG_TEXT: usize = 512 << 10;

#[derive(Clone, Copy, Debug, Default)]
struct LongEntry {
    hash: u64,
    piece: u32,
    ids: u32,
    len: u16,
    n: u16,
}

/// Long words and their ids, as languages have them whose characters take several bytes.
#[derive(Debug, Default)]
pub(crate) struct LongCache {
    slots: Vec<LongEntry>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

impl LongCache {
    #[inline]
    fn slot(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    /// The ids of a piece with a hash, if they are known.
    #[inline]
    pub(crate) fn get(&self, piece: &[u8], hash: u64) -> Option<&[u32]> {
        let entry = self.slots.get(self.slot(hash))?;
        let (at, len) = (entry.piece as usize, usize::from(entry.len));
        if entry.hash != hash || self.bytes.get(at..at + len) != Some(piece) {
            return None;
        }
        self.ids.get(entry.ids as usize..entry.ids as usize + usize::from(entry.n))
    }

    /// Remembers a piece of at most [`MAX_LONG`] bytes out of a text of `text` bytes, in the place of one with the same slot.
    pub(crate) fn insert(&mut self, piece: &[u8], hash: u64, ids: &[u32], text: usize) {
        let room = if self.slots.len() > LITTLE.slots { MUCH } else { LITTLE };
        if self.slots.is_empty() || self.bytes.len() + piece.len() > room.bytes || self.ids.len() + ids.len() > room.ids
        {
            if text >= LONG_TEXT && self.slots.len() == LITTLE.slots {
                let old = std::mem::replace(&mut self.slots, vec![LongEntry::default(); MUCH.slots]);
                for entry in old.into_iter().filter(|entry| entry.len > 0) {
                    let slot = self.slot(entry.hash);
                    self.slots[slot] = entry;
                }
            } else {
                self.slots.clear();
                self.slots.resize(room.slots, LongEntry::default());
                self.bytes.clear();
                self.ids.clear();
            }
        }
        let slot = self.slot(hash);
        self.slots[slot] = LongEntry {
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
    use crate::hash;
    use crate::key;

    #[test]
    fn what_it_returns_is_what_was_put_in() {
        let mut cache = PieceCache::default();
        cache.prepare();
        let ids_of = |i: u32| (i..i + 1 + i % 5).collect::<Vec<u32>>();
        let get = |cache: &PieceCache, i: u32| {
            let key = key::of(&i.to_le_bytes());
            let found = cache.find(key, hash_of(key)).map(<[u32]>::to_vec);
            let (ids, n) = cache.look(key, hash_of(key));
            assert!(n == 0 || found.as_deref() == Some(&ids[..n]));
            found
        };
        for i in 0..200_000u32 {
            let key = key::of(&i.to_le_bytes());
            match ids_of(i)[..] {
                [id] => cache.insert_token(key, hash_of(key), id),
                _ => cache.insert(key, hash_of(key), &ids_of(i)),
            }
            assert_eq!(get(&cache, i), Some(ids_of(i)));
            if i == 20_000 {
                // Fewer than there was room for at any time: nearly all are still there.
                let known = (0..i).filter(|&i| get(&cache, i).is_some()).count();
                assert!(known > 18_000, "{known}");
            }
        }
        for i in 0..200_000u32 {
            assert!(get(&cache, i).is_none_or(|ids| ids == ids_of(i)));
        }
        assert!(cache.buckets.len() == SIZES[3] && cache.list.len() <= MAX_LIST);
    }

    #[test]
    fn what_comes_again_has_been_seen_and_little_else() {
        let mut seen = Seen::default();
        let hash = |i: u32| hash_of(key::of(&i.to_le_bytes()));
        let wrong = (0..10_000).filter(|&i| seen.note(hash(i))).count();
        assert!(wrong < 400, "{wrong}");
        assert!((0..10_000).all(|i| seen.note(hash(i))));
        // At some time it forgets.
        for _ in 0..SEEN {
            seen.note(0);
        }
        assert!((0..10_000).filter(|&i| seen.note(hash(i))).count() < 400);
    }

    #[test]
    fn long_pieces_are_known_by_their_bytes() {
        for text in [1000, LONG_TEXT] {
            let mut cache = LongCache::default();
            assert_eq!(cache.get(b"0123456789abcdef0", 1), None);
            let piece = |i: u32| format!("a word of many letters and number {i}").into_bytes();
            let ids_of = |i: u32| (i..i + i % 9).collect::<Vec<u32>>();
            for i in 0..60_000 {
                cache.insert(&piece(i), hash::bytes(&piece(i)), &ids_of(i), text);
                assert_eq!(cache.get(&piece(i), hash::bytes(&piece(i))), Some(&ids_of(i)[..]));
            }
            for i in 0..60_000 {
                assert!(cache.get(&piece(i), hash::bytes(&piece(i))).is_none_or(|ids| ids == ids_of(i)));
            }
            let room = if text < LONG_TEXT { LITTLE } else { MUCH };
            assert!(cache.bytes.len() <= room.bytes && cache.ids.len() <= room.ids && cache.slots.len() == room.slots);
        }
    }
}
