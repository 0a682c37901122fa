//! What is known of a vocabulary before a long piece is read: which lengths tokens have that begin in some way.

use crate::hash;
use crate::vocab::{NONE, Vocab};
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens of at least this many bytes are found by their first eight.
const FAR: usize = 8;
/// Tokens of at least this length share a bit.
const LONG: usize = 31;
const SLOTS: usize = 1 << 16;

/// What is known of the vocabulary.
#[derive(Debug)]
pub(crate) struct Tables {
    /// For each character of three bytes, the lengths from 3 to 7 of tokens that begin with it, as bits, bit 0 for longer ones,
    /// and above eight bits the id and one of the token that it is by itself.
    three: Box<[u32]>,
    /// The same for characters of four bytes, by a hash: the character, or [`SHARED`], and that.
    four: Box<[[u32; 2]]>,
    /// All other tokens, by a hash of their first three bytes: bit 3 for tokens of three, bit 0 for longer ones. Of those, by a
    /// hash of four bytes, the lengths from 4 to 7, and bit 0 again.
    other: Box<[u8]>,
    other_four: Box<[u8]>,
    /// For eight bytes that tokens begin with, by a hash: eight more bits of it, or [`ANY`] where several share the place, and
    /// the lengths from 8 on.
    far: Box<[u32]>,
    /// Tokens that merges lead to, as far as that has been found out.
    made: Box<[AtomicU64]>,
    /// The two halves that each token was merged from, and the length of the left one; worked out when they are asked for.
    pub(super) halves: Box<[AtomicU64]>,
}

/// Halves that nobody has asked for.
pub(super) const UNASKED: u64 = u64::MAX;

/// Several beginnings share a place.
const ANY: u32 = 0;
const LENGTHS: u32 = 0xFF_FFFF;

/// Several characters share a place; the lengths are those of all of them.
const SHARED: u32 = u32::MAX;

/// The place of a character among those of three bytes.
#[inline(always)]
fn three(a: u8, b: u8, c: u8) -> usize {
    usize::from(a & 0xF) << 12 | usize::from(b & 0x3F) << 6 | usize::from(c & 0x3F)
}

#[inline(always)]
fn four(bytes: u32) -> usize {
    (bytes.wrapping_mul(0x9e37_79b1) >> 19) as usize
}

#[inline(always)]
fn other(a: u8, b: u8, c: u8) -> usize {
    let bytes = u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16;
    (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & (SLOTS - 1)
}

#[inline(always)]
fn other_four(bytes: u32) -> usize {
    (u64::from(bytes).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 47) as usize & (2 * SLOTS - 1)
}

#[inline(always)]
fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The place of eight bytes and their tag.
#[inline(always)]
fn far(bytes: u64) -> (usize, u32) {
    let h = hash::words(bytes, 1);
    (h as usize & (SLOTS - 1), ((h >> 32) as u32 | 1) << 24)
}

impl Tables {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut tables = Self {
            three: vec![0; SLOTS].into(),
            four: vec![[0; 2]; 1 << 13].into(),
            other: vec![0; SLOTS].into(),
            other_four: vec![0; 2 * SLOTS].into(),
            far: vec![0; SLOTS].into(),
            made: (0..vocab.id_bound().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            halves: (0..vocab.id_bound()).map(|_| AtomicU64::new(UNASKED)).collect(),
        };
        for (id, token) in vocab.iter() {
            tables.add(token);
            // A character that is a token by itself; of repeated tokens the one that a lookup finds.
            let entry = match *token {
                [a @ 0xE0..=0xEF, b, c] if continues(b) && continues(c) => &mut tables.three[three(a, b, c)],
                [0xF0..=0xFF, _, _, _] => {
                    let key = hash::load4(token, 0) as u32;
                    let [found, entry] = &mut tables.four[four(key)];
                    if *found != key {
                        continue;
                    }
                    entry
                }
                _ => continue,
            };
            if id < u32::MAX >> 8 && vocab.id(token) == Some(id) {
                *entry = *entry & 0xFF | (id + 1) << 8;
            }
        }
        // Where a place came to be shared after an id had been put there.
        tables.four.iter_mut().filter(|[key, _]| *key == SHARED).for_each(|[_, entry]| *entry &= 0xFF);
        tables
    }

    fn add(&mut self, token: &[u8]) {
        let [a, b, rest @ ..] = token else {
            return;
        };
        if let [c, ..] = rest {
            let near = if token.len() < FAR { 1 << token.len() } else { 1 };
            if a & 0xF0 == 0xE0 {
                self.three[three(*a, *b, *c)] |= u32::from(near);
            } else if *a >= 0xF0 && token.len() >= 4 {
                let key = hash::load4(token, 0) as u32;
                let [found, entry] = &mut self.four[four(key)];
                *found = if *found == 0 || *found == key { key } else { SHARED };
                *entry |= u32::from(near);
            } else if token.len() == 3 {
                self.other[other(*a, *b, *c)] |= near;
            } else {
                self.other[other(*a, *b, *c)] |= 1;
                self.other_four[other_four(hash::load4(token, 0) as u32)] |= near;
            }
        }
        if token.len() >= FAR {
            let (place, tag) = far(hash::load8(token, 0));
            let entry = &mut self.far[place];
            let tag = if *entry == 0 || *entry & !LENGTHS == tag { tag } else { ANY };
            *entry = tag | *entry & LENGTHS | 1 << (token.len().min(LONG) - FAR);
        }
    }

    /// Whether it is known that merges lead to a token.
    #[inline]
    pub(super) fn is_made(&self, id: u32) -> bool {
        self.made[id as usize / 64].load(Ordering::Relaxed) >> (id % 64) & 1 != 0
    }

    pub(super) fn set_made(&self, id: u32) {
        self.made[id as usize / 64].fetch_or(1 << (id % 64), Ordering::Relaxed);
    }

    /// The lengths of tokens of at most `most` bytes that `text` may begin with.
    #[inline]
    pub(super) fn lengths(&self, vocab: &Vocab, text: &[u8], most: usize) -> Lengths {
        let most = most.min(text.len());
        // One and two bytes are always asked for.
        let mut lengths = Lengths { long: 0, far: 0, near: 6 & ((2 << most.min(FAR - 1)) - 1), whole: None };
        let ([a, b, c, ..], 3..) = (text, most) else {
            return lengths;
        };
        let near = match text {
            [0xE0..=0xEF, ..] => {
                let entry = self.three[three(*a, *b, *c)];
                if entry >> 8 != 0 && continues(*b) && continues(*c) {
                    lengths.whole = Some((3, (entry >> 8) - 1));
                }
                entry
            }
            [0xF0..=0xFF, _, _, _, ..] => {
                let key = hash::load4(text, 0) as u32;
                let [found, entry] = self.four[four(key)];
                let entry = if found == key || found == SHARED { entry } else { 0 };
                if entry >> 8 != 0 {
                    lengths.whole = Some((4, (entry >> 8) - 1));
                }
                entry | u32::from(self.other[other(*a, *b, *c)] & 1 << 3)
            }
            _ => {
                let three = self.other[other(*a, *b, *c)];
                let four = if three & 1 != 0 && most > 3 {
                    self.other_four[other_four(hash::load4(text, 0) as u32)]
                } else {
                    0
                };
                u32::from(four | three & 1 << 3)
            }
        };
        lengths.near |= near & 0xF8 & ((2 << most.min(FAR - 1)) - 1);
        if near & 1 != 0 && most >= FAR {
            let (place, tag) = far(hash::load8(text, 0));
            let entry = self.far[place];
            if entry & !LENGTHS == tag || entry & !LENGTHS == ANY {
                let below = if most < LONG { (2 << (most - FAR)) - 1 } else { (1 << (LONG - FAR)) - 1 };
                lengths.far = entry & LENGTHS & below & ((1 << (LONG - FAR)) - 1);
                if entry & LENGTHS >> (LONG - FAR) << (LONG - FAR) != 0 && most >= LONG {
                    lengths.long = most.min(vocab.longest());
                }
            }
        }
        lengths
    }

    /// The longest token of at most `most` bytes that `text` begins with: its length and id.
    #[cfg(test)]
    fn longest(&self, vocab: &Vocab, bytes: &[u32; 256], text: &[u8], most: usize) -> Option<(usize, u32)> {
        self.lengths(vocab, text, most).next(vocab, &[], bytes, text)
    }
}

/// Lengths of tokens that a text may begin with.
pub(super) struct Lengths {
    /// All from [`LONG`] up to this one.
    long: usize,
    /// Bits for those from [`FAR`] on, and for those below.
    far: u32,
    near: u32,
    /// The length and id of the character that the text begins with, if it is a token.
    whole: Option<(usize, u32)>,
}

impl Lengths {
    /// The length and id of the longest token that has not been given out. `first` holds the tokens of two bytes, where there is
    /// such a table, `bytes` those of one.
    #[inline]
    pub(super) fn next(
        &mut self,
        vocab: &Vocab,
        first: &[u32],
        bytes: &[u32; 256],
        text: &[u8],
    ) -> Option<(usize, u32)> {
        while self.long >= LONG {
            let len = self.long;
            self.long -= 1;
            if let Some(id) = vocab.id(&text[..len]) {
                return Some((len, id));
            }
        }
        while self.far != 0 {
            let len = FAR + self.far.ilog2() as usize;
            self.far ^= 1 << (len - FAR);
            if let Some(id) = vocab.id_of_part(text, 0, len) {
                return Some((len, id));
            }
        }
        while self.near != 0 {
            let len = self.near.ilog2() as usize;
            self.near ^= 1 << len;
            let id = match (len, self.whole) {
                (1, _) => Some(bytes[usize::from(text[0])]),
                (_, Some((whole, id))) if whole == len => Some(id),
                (2, _) if !first.is_empty() => {
                    Some(first[usize::from(text[0]) << 8 | usize::from(text[1])]).filter(|id| *id != NONE)
                }
                _ => vocab.id_of_part(text, 0, len),
            };
            if let Some(id) = id {
                return Some((len, id));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_longest_token_is_found() {
        let rng = std::cell::RefCell::new(Rng::new(9));
        let parts = ["中", "文", "字", "😀", "😂", "é", "ж", "a", "bc", " ", "\u{301}", "the", "\u{4e2e}"];
        let pick = |n: usize| rng.borrow_mut().next_u64() as usize % n;
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        for _ in 0..600 {
            let token: Vec<u8> = (0..1 + pick(5)).flat_map(|_| parts[pick(parts.len())].bytes()).collect();
            // Some begin or end inside a character.
            let (from, to) = (pick(3).min(token.len() - 1), token.len() - pick(3).min(token.len() - 1));
            if from < to && !tokens.contains(&token[from..to].to_vec()) {
                tokens.push(token[from..to].to_vec());
            }
        }
        tokens.push("中文".repeat(9).into_bytes());
        let vocab = Vocab::new("test", tokens.iter().enumerate().map(|(i, t)| (i as u32, t))).unwrap();
        let tables = Tables::new(&vocab);
        let bytes = std::array::from_fn(|b| b as u32);
        for _ in 0..300 {
            let text: Vec<u8> =
                (0..30).flat_map(|_| parts[pick(if pick(4) == 0 { 2 } else { parts.len() })].bytes()).collect();
            for at in 0..text.len() {
                let most = 1 + pick(80);
                let known = |len: &usize| vocab.id(&text[at..at + len]).is_some();
                let want = (1..=most.min(text.len() - at)).rev().find(known).unwrap();
                let id = vocab.id(&text[at..at + want]).unwrap();
                assert_eq!(tables.longest(&vocab, &bytes, &text[at..], most), Some((want, id)));
            }
        }
    }
}
