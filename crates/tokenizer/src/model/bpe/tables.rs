//! What is known of a vocabulary before a long piece is read: which lengths tokens have that begin in some way, and which
//! neighbours cannot have anything to do with one another.

use crate::hash;
use crate::vocab::Vocab;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens of at least this many bytes are found by their first eight.
const FAR: usize = 8;
/// Tokens of at least this length share a bit.
const LONG: usize = 31;
const SLOTS: usize = 1 << 16;
/// Two bytes on each side of a border: bits of the filter for them.
const JOINS: usize = 1 << 20;

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
    /// Pairs of bytes that a token begins with, and that one ends with.
    starts: Box<[u64]>,
    ends: Box<[u64]>,
    /// A filter for four bytes inside tokens of which the third begins a character of several bytes.
    joins: Box<[u64]>,
    /// Tokens that merges lead to, as far as that has been found out.
    made: Box<[AtomicU64]>,
    /// The two halves that each token was merged from, `left << 32 | right`; worked out when they are asked for.
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

#[inline(always)]
fn pair(a: u8, b: u8) -> (usize, u64) {
    let place = usize::from(a) << 8 | usize::from(b);
    (place / 64, 1 << (place % 64))
}

#[inline(always)]
fn join(four: u32) -> (usize, u64) {
    let h = u64::from(four).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    (h as usize / 64, 1 << (h % 64))
}

impl Tables {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let words = |n: usize| vec![0u64; n].into_boxed_slice();
        let mut tables = Self {
            three: vec![0; SLOTS].into(),
            four: vec![[0; 2]; 1 << 13].into(),
            other: vec![0; SLOTS].into(),
            other_four: vec![0; 2 * SLOTS].into(),
            far: vec![0; SLOTS].into(),
            starts: words(1 << 10),
            ends: words(1 << 10),
            joins: words(JOINS / 64),
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
        let (word, bit) = pair(*a, *b);
        self.starts[word] |= bit;
        let [y, z] = token[token.len() - 2..] else {
            return;
        };
        let (word, bit) = pair(y, z);
        self.ends[word] |= bit;
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
        for four in token.windows(4).filter(|four| four[2] >= 0xC0) {
            let (word, bit) = join(u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            self.joins[word] |= bit;
        }
    }

    /// Whether no token can lie across the border at `middle` of two tokens, one from `start` on, the other up to `end`. A
    /// token that does has one byte on one of the sides, and begins or ends with those at the border, or at least two on
    /// both. Only asked where a character of several bytes begins; else the answer is no.
    #[inline]
    pub(super) fn no_token_across(&self, text: &[u8], [start, middle, end]: [usize; 3]) -> bool {
        let (last, first) = (text[middle - 1], text[middle]);
        if first < 0xC0 {
            return false;
        }
        let (word, bit) = pair(last, first);
        if (self.starts[word] | self.ends[word]) & bit != 0 {
            return false;
        }
        if middle - start < 2 || end - middle < 2 {
            return true;
        }
        let (word, bit) = join(u32::from_le_bytes([text[middle - 2], last, first, text[middle + 1]]));
        self.joins[word] & bit == 0
    }

    /// Whether it is known that merges lead to a token.
    #[inline]
    pub(super) fn is_made(&self, id: u32) -> bool {
        self.made[id as usize / 64].load(Ordering::Relaxed) >> (id % 64) & 1 != 0
    }

    pub(super) fn set_made(&self, id: u32) {
        self.made[id as usize / 64].fetch_or(1 << (id % 64), Ordering::Relaxed);
    }

    /// The longest token of at most `most` bytes that `text` begins with: its length and id.
    #[inline]
    pub(super) fn longest(&self, vocab: &Vocab, bytes: &[u32; 256], text: &[u8], most: usize) -> Option<(usize, u32)> {
        let most = most.min(text.len());
        if let ([a, b, c, ..], 3..) = (text, most) {
            let near = match text {
                [0xE0..=0xEF, ..] => self.three[three(*a, *b, *c)],
                [0xF0..=0xFF, _, _, _, ..] => {
                    let key = hash::load4(text, 0) as u32;
                    let [found, entry] = self.four[four(key)];
                    let four = if found == key || found == SHARED { entry } else { 0 };
                    four | u32::from(self.other[other(*a, *b, *c)] & 1 << 3)
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
            if near & 1 != 0
                && most >= FAR
                && let Some(found) = self.longest_far(vocab, text, most)
            {
                return Some(found);
            }
            let mut lengths = near & 0xF8 & ((2 << most.min(FAR - 1)) - 1);
            let whole = if *a >= 0xF0 { 4 } else { 3 };
            while lengths != 0 {
                let len = lengths.ilog2() as usize;
                lengths ^= 1 << len;
                if len == whole && near >> 8 != 0 && (whole == 4 || continues(*b) && continues(*c)) {
                    return Some((len, (near >> 8) - 1));
                }
                // The last one is nearly always there, for the others it pays to ask the filter.
                let token = &text[..len];
                if let Some(id) = if lengths == 0 { vocab.id_of_short(token) } else { vocab.id(token) } {
                    return Some((len, id));
                }
            }
        }
        if most >= 2
            && let Some(id) = vocab.id(&text[..2])
        {
            return Some((2, id));
        }
        (most >= 1).then(|| (1, bytes[usize::from(text[0])]))
    }

    /// Among tokens of at least [`FAR`] bytes.
    #[inline]
    fn longest_far(&self, vocab: &Vocab, text: &[u8], most: usize) -> Option<(usize, u32)> {
        let (place, tag) = far(hash::load8(text, 0));
        let entry = self.far[place];
        if entry & !LENGTHS != tag && entry & !LENGTHS != ANY {
            return None;
        }
        let mut lengths = entry & LENGTHS;
        if most < LONG {
            lengths &= (2 << (most - FAR)) - 1;
        } else if lengths >> (LONG - FAR) != 0 {
            let found = (LONG..=most.min(vocab.longest())).rev().find_map(|len| Some((len, vocab.id(&text[..len])?)));
            if found.is_some() {
                return found;
            }
        }
        lengths &= (1 << (LONG - FAR)) - 1;
        while lengths != 0 {
            let len = FAR + lengths.ilog2() as usize;
            if let Some(id) = vocab.id(&text[..len]) {
                return Some((len, id));
            }
            lengths ^= 1 << (len - FAR);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_longest_token_is_found_and_none_lies_across_where_that_is_said() {
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
        let mut apart = 0;
        for _ in 0..300 {
            let text: Vec<u8> =
                (0..30).flat_map(|_| parts[pick(if pick(4) == 0 { 2 } else { parts.len() })].bytes()).collect();
            for at in 0..text.len() {
                let most = 1 + pick(80);
                let known = |len: &usize| vocab.id(&text[at..at + len]).is_some();
                let want = (1..=most.min(text.len() - at)).rev().find(known).unwrap();
                let id = vocab.id(&text[at..at + want]).unwrap();
                assert_eq!(tables.longest(&vocab, &bytes, &text[at..], most), Some((want, id)));
                let (start, end) = (at.saturating_sub(1 + pick(7)), (at + 1 + pick(7)).min(text.len()));
                if start < at && tables.no_token_across(&text, [start, at, end]) {
                    apart += 1;
                    for from in start..at {
                        for to in at + 1..=end {
                            assert_eq!(vocab.id(&text[from..to]), None);
                        }
                    }
                }
            }
        }
        assert!(apart > 50, "{apart}");
    }
}
