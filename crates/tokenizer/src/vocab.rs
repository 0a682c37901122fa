//! The vocabulary: byte strings by id, ids by byte string.

use crate::error::{Error, Result};
use crate::hash;
use crate::key::{self, Key};
use crate::lines::Lines;

/// No token; also the largest id is below it.
pub(crate) const NONE: u32 = u32::MAX;

/// Bytes after the last token, so that short tokens can be copied with one load of this size.
const PADDING: usize = 16;

/// Slots for a number of entries: a third stay empty. Tables are no larger than they have to be, as what matters is that they
/// stay in the cache of the processor.
fn table_size(entries: usize) -> usize {
    entries + entries / 2 + 2
}

/// The slot of a hash among `slots`.
#[inline(always)]
fn slot_of(h: u64, slots: usize) -> usize {
    ((u128::from(h) * slots as u128) >> 64) as usize
}

/// Entries that are put into the table together.
const GROUP: usize = 16;

/// The key of a string that is not empty, if it has one.
#[inline(always)]
fn short_key(s: &[u8]) -> Option<Key> {
    (s.len().wrapping_sub(1) < key::LONGEST).then(|| key::of(s))
}

/// Marks an id without a token.
const HOLE: u32 = 1 << 31;

/// Byte strings by id and ids by byte string.
///
/// All strings lie in one block in the order of their ids. Those that have a key, which are nearly all, have a table that holds
/// them whole, so that a lookup touches one cache line; for the others it touches one slot of 8 bytes (32 bits of hash, 32
/// bits of id) and, when these bits agree, the string itself.
#[derive(Clone, Debug, Default)]
pub struct Vocab {
    blob: Vec<u8>,
    /// Where each id's string begins in `blob`, with [`HOLE`] for an id without one, and the end of the last.
    starts: Vec<u32>,
    short: Lines,
    slots: Vec<u64>,
    /// A bit for the hash of each string: most questions about strings that are not there end here, in a table that stays
    /// in the cache of the processor.
    filter: Vec<u64>,
    len: usize,
    longest: usize,
}

impl Vocab {
    /// Builds a vocabulary from `(id, bytes)` pairs in any order. Ids may have holes.
    ///
    /// # Errors
    /// When two entries share an id, or an id is far beyond the number of entries (a file of a few bytes must not ask
    /// for gigabytes), or the strings exceed 2 GiB. Two ids may share a string: the first one in the list is found by it.
    pub fn new<B: AsRef<[u8]>>(format: &'static str, entries: impl IntoIterator<Item = (u32, B)>) -> Result<Self> {
        let entries: Vec<(u32, B)> = entries.into_iter().collect();
        let max_id = entries.iter().map(|e| e.0).max().map_or(0, |m| m as usize + 1);
        let limit = entries.len() * 16 + (1 << 20);
        if max_id > limit {
            return Err(Error::malformed(
                format,
                format!("id {} in a vocabulary of {} tokens; at most {limit} is accepted", max_id - 1, entries.len()),
            ));
        }
        let total: usize = entries.iter().map(|e| e.1.as_ref().len()).sum();
        if total >= HOLE as usize {
            return Err(Error::malformed(format, format!("the tokens have {total} bytes; 2 GiB is the limit")));
        }
        let short = entries.iter().filter(|e| short_key(e.1.as_ref()).is_some()).count();
        let mut vocab = Self {
            blob: Vec::with_capacity(total + PADDING),
            starts: Vec::with_capacity(max_id + 1),
            short: Lines::new(short),
            slots: vec![0; table_size(entries.len() - short)],
            filter: vec![0; (entries.len() / 8).next_power_of_two().clamp(8, 1 << 15)],
            len: entries.len(),
            longest: 0,
        };
        vocab.fill_blob(format, &entries)?;
        // A few at a time, so that memory is on its way when it is asked for.
        for entries in entries.chunks(GROUP) {
            let mut keys = [([0; 2], 0); GROUP];
            for ((id, token), slot) in entries.iter().zip(&mut keys) {
                let token = token.as_ref();
                vocab.longest = vocab.longest.max(token.len());
                let h = if let Some(key) = short_key(token) {
                    let h = key::hash_of(key);
                    *slot = (key, vocab.short.home(h));
                    vocab.short.fetch(slot.1);
                    h
                } else {
                    let h = hash::bytes(token);
                    vocab.insert_long(h, *id);
                    h
                };
                let (word, bit) = vocab.filter_bit(h);
                vocab.filter[word] |= bit;
            }
            for ((id, _), (key, home)) in entries.iter().zip(keys).filter(|(_, (key, _))| key[1] != 0) {
                vocab.short.insert(key, home, *id);
            }
        }
        Ok(vocab)
    }

    /// Strings in the order of their ids.
    fn fill_blob<B: AsRef<[u8]>>(&mut self, format: &'static str, entries: &[(u32, B)]) -> Result<()> {
        let mut last = None;
        if entries.is_sorted_by_key(|e| e.0) {
            entries.iter().try_for_each(|entry| self.add(format, entry, &mut last))?;
        } else {
            let mut order: Vec<&(u32, B)> = entries.iter().collect();
            order.sort_by_key(|entry| entry.0);
            order.into_iter().try_for_each(|entry| self.add(format, entry, &mut last))?;
        }
        let end = self.blob.len();
        self.starts.push(end as u32);
        self.blob.resize(end + PADDING, 0);
        Ok(())
    }

    /// Appends a string whose id is not below that of the last one.
    fn add<'e, B: AsRef<[u8]>>(
        &mut self,
        format: &'static str,
        entry: &'e (u32, B),
        last: &mut Option<&'e (u32, B)>,
    ) -> Result<()> {
        let (id, token) = (entry.0, entry.1.as_ref());
        if let Some((_, first)) = last.filter(|last| last.0 == id) {
            let [first, second] = [first.as_ref(), token].map(String::from_utf8_lossy);
            return Err(Error::malformed(format, format!("id {id} belongs to {first:?} and to {second:?}")));
        }
        *last = Some(entry);
        let start = self.blob.len() as u32;
        if self.starts.len() < id as usize {
            self.starts.resize(id as usize, start | HOLE);
        }
        self.starts.push(start);
        self.blob.extend_from_slice(token);
        Ok(())
    }

    fn insert_long(&mut self, h: u64, id: u32) {
        let mut at = slot_of(h, self.slots.len());
        while self.slots[at] != 0 {
            let slot = self.slots[at];
            if (slot >> 32) as u32 == h as u32 && self.bytes(slot as u32 - 1) == self.bytes(id) {
                return;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        self.slots[at] = h << 32 | u64::from(id + 1);
    }

    /// The word of the filter and the bit in it.
    #[inline(always)]
    fn filter_bit(&self, h: u64) -> (usize, u64) {
        ((h >> 16) as usize & (self.filter.len() - 1), 1 << (h >> 10 & 63))
    }

    /// Whether one of the strings may have this hash; most of those that are not there are known by that.
    #[inline(always)]
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let (word, bit) = self.filter_bit(hash);
        self.filter[word] & bit != 0
    }

    /// Has the processor fetch the place of a hash, for a question that will come soon.
    #[inline(always)]
    pub(crate) fn fetch(&self, hash: u64) {
        self.short.fetch(self.short.home(hash));
    }

    /// The id of a string with this key and hash, if it is in the first place where it can be. The key of the empty string is no
    /// string's.
    #[inline(always)]
    pub(crate) fn id_at_home(&self, key: Key, hash: u64) -> Option<u32> {
        self.short.at_home(key, self.short.home(hash)).filter(|_| key[1] != 0)
    }

    /// The id of a string that has a key, with the hash of the key; the filter is not asked.
    #[inline(always)]
    pub(crate) fn id_of_key(&self, key: Key, hash: u64) -> Option<u32> {
        self.short.find(key, self.short.home(hash))
    }

    /// [`Vocab::id`] of `text[start..start + len]`.
    #[inline(always)]
    pub(crate) fn id_of_part(&self, text: &[u8], start: usize, len: usize) -> Option<u32> {
        if len.wrapping_sub(1) >= key::LONGEST {
            return self.id(&text[start..start + len]);
        }
        let key = key::of_part(text, start, len);
        let hash = key::hash_of(key);
        if self.may_have(hash) { self.id_of_key(key, hash) } else { None }
    }

    /// The id of a byte string.
    #[inline]
    pub fn id(&self, token: &[u8]) -> Option<u32> {
        if token.len() > self.longest || self.slots.is_empty() {
            return None;
        }
        if let Some(key) = short_key(token) {
            let hash = key::hash_of(key);
            return if self.may_have(hash) { self.id_of_key(key, hash) } else { None };
        }
        let h = hash::bytes(token);
        if !self.may_have(h) {
            return None;
        }
        let mut at = slot_of(h, self.slots.len());
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == h as u32 {
                let id = slot as u32 - 1;
                if self.bytes(id) == Some(token) {
                    return Some(id);
                }
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Where the string of an id begins and ends; `None` for an id outside the vocabulary and for a hole in it.
    #[inline(always)]
    fn span(&self, id: u32) -> Option<(usize, usize)> {
        let &[start, end] = self.starts.get(id as usize..)?.first_chunk()?;
        (start & HOLE == 0).then_some((start as usize, (end & !HOLE) as usize))
    }

    /// The bytes of an id; `None` for an id outside the vocabulary and for a hole in it.
    #[inline]
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let (start, end) = self.span(id)?;
        self.blob.get(start..end)
    }

    /// Length in bytes of a token that is known to exist; 0 for one that does not.
    #[inline]
    pub(crate) fn token_len(&self, id: u32) -> usize {
        self.bytes(id).map_or(0, <[u8]>::len)
    }

    /// The bytes of all ids after one another; `None` when one of them is not in the vocabulary.
    pub(crate) fn join(&self, ids: &[u32]) -> Option<Vec<u8>> {
        // A token of a common vocabulary has four or five bytes of text.
        let mut out = Vec::with_capacity(5 * ids.len() + PADDING);
        for &id in ids {
            let (start, end) = self.span(id)?;
            if end - start <= PADDING {
                // One copy of a fixed length, and what is too much goes.
                let len = out.len() + end - start;
                out.extend_from_slice(&self.blob[start..start + PADDING]);
                out.truncate(len);
            } else {
                out.extend_from_slice(&self.blob[start..end]);
            }
        }
        Some(out)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the largest id; equals [`Vocab::len`] when ids have no holes.
    pub fn id_bound(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Length in bytes of the longest token.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Ids and bytes, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.id_bound() as u32).filter_map(|id| self.bytes(id).map(|b| (id, b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_token_of_every_length_and_no_other() {
        let tokens: Vec<Vec<u8>> = (0..300usize).map(|i| (0..i % 40).map(|k| (i * 7 + k) as u8).collect()).collect();
        let zeros = [1, 2, 5, 8, 9, 15, 16].map(|n| vec![0; n]);
        let mut unique: Vec<Vec<u8>> = tokens.into_iter().chain(zeros).collect();
        unique.sort();
        unique.dedup();
        let vocab = Vocab::new("test", unique.iter().enumerate().map(|(i, t)| (i as u32 * 2, t))).unwrap();
        for (i, token) in unique.iter().enumerate() {
            assert_eq!(vocab.id(token), Some(i as u32 * 2));
            if (1..16).contains(&token.len()) {
                let key = key::of(token);
                let hash = key::hash_of(key);
                assert!(vocab.may_have(hash));
                assert_eq!(vocab.id_of_key(key, hash), Some(i as u32 * 2));
                assert_eq!(vocab.id_of_part(token, 0, token.len()), Some(i as u32 * 2));
            }
            assert_eq!(vocab.bytes(i as u32 * 2), Some(&token[..]));
            assert_eq!(vocab.bytes(i as u32 * 2 + 1), None);
            let mut other = token.clone();
            other.push(1);
            if !unique.contains(&other) {
                assert_eq!(vocab.id(&other), None);
            }
        }
    }

    #[test]
    fn a_huge_id_and_a_repeated_id_are_refused() {
        let huge = Vocab::new("test", [(4_000_000_000, "a")]).unwrap_err().to_string();
        assert!(huge.contains("4000000000"), "{huge}");
        let twice = Vocab::new("test", [(1, "a"), (1, "b")]).unwrap_err().to_string();
        assert!(twice.contains("\"a\"") && twice.contains("\"b\""), "{twice}");
    }
}
