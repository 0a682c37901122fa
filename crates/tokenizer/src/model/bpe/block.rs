//! Pieces on their way to ids, a block of them at a time. Memory is asked for one block before it is needed, as it answers many
//! questions at once nearly as soon as one.

use super::cache::{INLINE, PieceCache};
use crate::key::{self, Key};
use crate::model::Sink;
use crate::model::sink::FEW;
use std::hint::select_unpredictable;

/// Pieces of a block.
pub(crate) const PIECES: usize = 32;

/// Room for the ids of so many pieces.
const ROOM: usize = (INLINE * PIECES).next_power_of_two();

/// Pieces of a text and what is known of them.
#[derive(Debug)]
pub(crate) struct Block {
    /// Keys and their hashes; for a piece that is too long for one, those of the empty piece, which is never found.
    keys: [Key; PIECES],
    hashes: [u64; PIECES],
    len: usize,
    /// The ids of the pieces that were found, and room for what is written too much.
    ids: [u32; ROOM + FEW],
    found: usize,
    /// Those that were not found: which piece, and how many ids come before it.
    missed: [(u16, u16); PIECES],
    misses: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            keys: [[0; 2]; PIECES],
            hashes: [0; PIECES],
            len: 0,
            ids: [0; ROOM + FEW],
            found: 0,
            missed: [(0, 0); PIECES],
            misses: 0,
        }
    }
}

impl Block {
    /// Reads the pieces between `from` and each of the borders `base + ends`, of which there are at most [`PIECES`].
    #[inline(never)]
    pub(super) fn read(&mut self, text: &[u8], from: usize, (base, ends): (usize, &[u32]), cache: &PieceCache) {
        let ends = &ends[..ends.len().min(PIECES)];
        let mut start = from;
        for (i, &end) in ends.iter().enumerate() {
            let end = base + end as usize;
            let len = end - start;
            let key = key::of_part(text, start, select_unpredictable(len > key::LONGEST, 0, len));
            let hash = key::hash_of(key);
            cache.fetch(hash);
            (self.keys[i], self.hashes[i]) = (key, hash);
            start = end;
        }
        self.len = ends.len();
    }

    /// Looks all pieces up: no branch for whether one is known and how many ids it has.
    #[inline(never)]
    pub(super) fn look_up(&mut self, cache: &PieceCache) {
        let (mut found, mut misses) = (0, 0);
        for i in 0..self.len.min(PIECES) {
            let (ids, n) = cache.look(self.keys[i], self.hashes[i]);
            // What is not to stay is overwritten.
            self.ids[found % ROOM..][..INLINE + 1].copy_from_slice(&ids);
            self.missed[misses % PIECES] = (i as u16, found as u16);
            found += n;
            misses += usize::from(n == 0);
        }
        (self.found, self.misses) = (found, misses);
    }

    /// Hashes of the pieces that were not found.
    pub(super) fn missed_hashes(&self) -> impl Iterator<Item = u64> {
        self.missed[..self.misses].iter().map(|&(piece, _)| self.hashes[usize::from(piece)])
    }

    /// Number of pieces that were not found.
    #[inline]
    pub(super) fn misses(&self) -> usize {
        self.misses
    }

    /// One of the pieces that were not found: its number, its key and the hash of that. The ids of those before it are given out.
    #[inline]
    pub(super) fn missed<S: Sink>(&self, which: usize, sink: &mut S) -> (usize, (Key, u64)) {
        let (piece, before) = self.missed[which];
        sink.some(&self.ids, self.given(which), usize::from(before));
        let piece = usize::from(piece);
        (piece, (self.keys[piece], self.hashes[piece]))
    }

    /// Gives out the ids of the pieces behind the last that was not found.
    #[inline]
    pub(super) fn rest<S: Sink>(&self, sink: &mut S) {
        sink.some(&self.ids, self.given(self.misses), self.found);
    }

    /// How many ids come before the pieces that follow one that was not found.
    #[inline]
    fn given(&self, misses: usize) -> usize {
        if misses == 0 { 0 } else { usize::from(self.missed[misses - 1].1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_as_they_were_put_in_and_long_ones_never() {
        let text = b"one, a word of fifteen letters: fifteen_letters fifteen_letters_and_more one";
        let ends: [u32; 14] = [3, 4, 6, 11, 14, 22, 30, 31, 32, 47, 48, 72, 73, 76];
        let pieces = |i: usize| &text[if i == 0 { 0 } else { ends[i - 1] as usize }..ends[i] as usize];
        let mut cache = PieceCache::default();
        cache.prepare();
        for (id, piece) in [(1, &b"one"[..]), (2, b" word"), (9, b"fifteen_letters"), (4, b" fifteen")] {
            let ids: Vec<u32> = (id..id + id % 5).collect();
            let key = key::of(piece);
            cache.insert(key, key::hash_of(key), &ids);
        }
        let mut block = Block::default();
        for from in [0, 5, 10] {
            let base = if from == 0 { 0 } else { ends[from - 1] as usize };
            let there: Vec<u32> = ends[from..].iter().map(|end| end - base as u32).collect();
            block.read(text, base, (base, &there), &cache);
            block.look_up(&cache);
            let mut got: Vec<u32> = Vec::new();
            for which in 0..block.misses() {
                let (piece, (key, hash)) = block.missed(which, &mut got);
                let piece = pieces(from + piece);
                assert!(piece.len() > key::LONGEST || key == key::of(piece) && hash == key::hash_of(key));
                got.push(1000 + piece.len() as u32);
            }
            block.rest(&mut got);
            let want = (from..ends.len()).flat_map(|i| match pieces(i) {
                b"one" => vec![1],
                b" word" => vec![2, 3],
                // Those with more than three ids are not found at first sight.
                piece => vec![1000 + piece.len() as u32],
            });
            assert_eq!(got, want.collect::<Vec<_>>());
            assert_eq!(block.missed_hashes().count(), block.misses());
        }
    }
}
