//! The alphabet of one pattern: symbols grouped into the few kinds that the pattern can tell apart.
//!
//! Every engine works on *kinds*. `\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+` has five of them, whatever the size of the
//! Unicode tables behind it: letters, digits, the space, other white space, the rest. A kind is found by one look into
//! a table for ASCII and by two for everything else.

use std::collections::HashMap;

use crate::symset::SymSet;

/// Number of a kind.
pub type Kind = u16;

const BLOCK_BITS: u32 = 7;
const BLOCK: usize = 1 << BLOCK_BITS;
const INDEX_LEN: usize = 0x11_0000 >> BLOCK_BITS;

/// A set of kinds; bit `edge` stands for the beginning or end of the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KindSet(Box<[u64]>);

impl KindSet {
    fn new(kinds: usize) -> Self {
        KindSet(vec![0; kinds / 64 + 1].into())
    }

    fn insert(&mut self, kind: usize) {
        self.0[kind >> 6] |= 1 << (kind & 63);
    }

    /// Membership.
    #[inline]
    pub fn contains(&self, kind: Kind) -> bool {
        self.0[usize::from(kind >> 6)] >> (kind & 63) & 1 != 0
    }
}

/// Kinds of symbols, and how they are read off a text.
#[derive(Debug, Clone)]
pub struct Alphabet {
    /// Symbols are single bytes rather than characters.
    pub bytes: bool,
    /// Texts are UTF-8, and positions lie between characters.
    pub valid: bool,
    /// Number of kinds, the edge of the text not counted.
    pub len: usize,
    /// The kind of a byte that is no part of valid UTF-8.
    pub invalid: Kind,
    /// Kinds of single-byte symbols.
    pub single: [Kind; 256],
    index: Box<[u16]>,
    blocks: Box<[Kind]>,
    /// For each set given to [`Alphabet::new`], the kinds in it.
    members: Vec<KindSet>,
}

impl Alphabet {
    /// Groups symbols so that each of `sets` is a union of kinds. At most 65,000 kinds can arise from programs within
    /// the size limit, as every kind needs a range end of its own; `None` beyond that.
    pub fn new(sets: &[SymSet], bytes: bool) -> Option<Self> {
        let limit = if bytes { 0x100 } else { 0x11_0000 };
        let mut events: Vec<(u32, usize)> = Vec::new();
        for (id, set) in sets.iter().enumerate() {
            for &(lo, hi) in set.ranges() {
                if lo < limit {
                    events.push((lo, id));
                    events.push((hi.min(limit - 1) + 1, id));
                }
            }
        }
        events.sort_unstable();

        let mut current = vec![0u64; sets.len() / 64 + 1];
        let mut kinds: HashMap<Vec<u64>, Kind> = HashMap::new();
        let mut spans: Vec<(u32, u32, Kind)> = Vec::new();
        let mut start = 0;
        let mut next_event = 0;
        while start < limit {
            while next_event < events.len() && events[next_event].0 == start {
                let id = events[next_event].1;
                current[id >> 6] ^= 1 << (id & 63);
                next_event += 1;
            }
            let end = events.get(next_event).map_or(limit, |e| e.0.min(limit));
            let fresh = kinds.len();
            if fresh >= 65_000 {
                return None;
            }
            let kind = match kinds.get(&current) {
                Some(kind) => *kind,
                None => *kinds.entry(current.clone()).or_insert(fresh as Kind),
            };
            spans.push((start, end, kind));
            start = end;
        }
        // Invalid bytes are a kind of their own, outside of every set.
        let invalid = kinds.len() as Kind;
        let len = kinds.len() + 1;
        let mut members = vec![KindSet::new(len); sets.len()];
        for (signature, kind) in &kinds {
            for (id, set) in members.iter_mut().enumerate() {
                if signature[id >> 6] >> (id & 63) & 1 != 0 {
                    set.insert(usize::from(*kind));
                }
            }
        }

        let mut single = [invalid; 256];
        for (byte, kind) in single.iter_mut().enumerate().take(if bytes { 256 } else { 128 }) {
            let at = spans.partition_point(|s| s.1 <= byte as u32);
            *kind = spans[at].2;
        }
        let (index, blocks) = if bytes { (Box::default(), Box::default()) } else { tables(&spans) };
        Some(Alphabet { bytes, valid: false, len, invalid, single, index, blocks, members })
    }

    /// The number that stands for the beginning and the end of the text.
    pub fn edge(&self) -> Kind {
        self.len as Kind
    }

    /// The kinds of set number `id`, with the invalid kind and the edge added as asked.
    pub fn kinds_of(&self, id: usize, invalid: bool, edge: bool) -> KindSet {
        let mut set = self.members[id].clone();
        if invalid {
            set.insert(usize::from(self.invalid));
        }
        if edge {
            set.insert(self.len);
        }
        set
    }

    /// The kind of a character.
    #[inline]
    pub fn kind_of(&self, symbol: u32) -> Kind {
        let block = usize::from(self.index[(symbol >> BLOCK_BITS) as usize]);
        self.blocks[block * BLOCK + (symbol as usize & (BLOCK - 1))]
    }

    /// The kinds of 64 characters at a time, those that several share once; [`Alphabet::row_of`] numbers them.
    pub fn rows(&self) -> impl Iterator<Item = &[Kind]> {
        self.blocks.chunks(BLOCK / 2)
    }

    /// Which of the [`Alphabet::rows`] is that of the 64 characters which have `prefix` before their last six bits.
    pub fn row_of(&self, prefix: u32) -> usize {
        2 * usize::from(self.index[prefix as usize / 2]) + prefix as usize % 2
    }

    /// The kinds that symbols beyond ASCII have, and unless text is `valid`, that of invalid bytes.
    pub fn kinds_beyond_ascii(&self, valid: bool) -> Vec<Kind> {
        let mut found = vec![false; self.len + 1];
        found[usize::from(self.invalid)] = !valid && !self.bytes;
        // The first block is that of ASCII, and its like beyond has the same kinds.
        let mut blocks = vec![false; self.blocks.len() / BLOCK];
        self.index.iter().skip(1).for_each(|&block| blocks[usize::from(block)] = true);
        let kinds = self.blocks.chunks(BLOCK).zip(blocks).filter(|(_, used)| *used).flat_map(|(kinds, _)| kinds);
        let bytes = self.bytes.then_some(&self.single[128..]).into_iter().flatten();
        kinds.chain(bytes).for_each(|&kind| found[usize::from(kind)] = true);
        (0..self.len as Kind).filter(|&kind| found[usize::from(kind)]).collect()
    }

    /// The symbol at `at`: its kind and its length in bytes. `None` at the end.
    #[inline]
    pub fn next(&self, text: &[u8], at: usize) -> Option<(Kind, usize)> {
        let byte = *text.get(at)?;
        if byte < 0x80 || self.bytes {
            return Some((self.single[usize::from(byte)], 1));
        }
        Some(self.next_multi(text, at))
    }

    #[inline]
    pub(crate) fn next_multi(&self, text: &[u8], at: usize) -> (Kind, usize) {
        match if self.valid { decode_valid(text, at) } else { decode(text, at) } {
            Some((symbol, len)) => (self.kind_of(symbol), len),
            None => (self.invalid, 1),
        }
    }

    /// The kind at `at`, or the edge.
    #[inline]
    pub fn kind_after(&self, text: &[u8], at: usize) -> Kind {
        self.next(text, at).map_or(self.edge(), |n| n.0)
    }

    /// The symbol before `at`: its kind and its length.
    #[inline]
    pub fn prev(&self, text: &[u8], at: usize) -> Option<(Kind, usize)> {
        let last = *text.get(at.checked_sub(1)?)?;
        if last < 0x80 || self.bytes {
            return Some((self.single[usize::from(last)], 1));
        }
        if self.valid {
            let len = (2..4.min(at)).find(|&len| text[at - len] & 0xC0 != 0x80).unwrap_or(4.min(at));
            return Some((self.next_multi(text, at - len).0, len));
        }
        for len in 2..=4.min(at) {
            if let Some((symbol, found)) = decode(text, at - len)
                && found == len
            {
                return Some((self.kind_of(symbol), len));
            }
        }
        Some((self.invalid, 1))
    }

    /// The kind before `at`, or the edge.
    #[inline]
    pub fn kind_before(&self, text: &[u8], at: usize) -> Kind {
        self.prev(text, at).map_or(self.edge(), |n| n.0)
    }

    /// Bytes held by the tables.
    pub fn memory(&self) -> usize {
        2 * (self.index.len() + self.blocks.len() + 256)
    }
}

/// As [`decode`], for a character beyond ASCII in text that is UTF-8.
#[inline]
fn decode_valid(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let bits = |byte: u8| u32::from(byte & 0x3F);
    match text[at..] {
        [a @ 0xE0..=0xEF, b, c, ..] => Some((u32::from(a & 0x0F) << 12 | bits(b) << 6 | bits(c), 3)),
        [a @ 0xC2..=0xDF, b, ..] => Some((u32::from(a & 0x1F) << 6 | bits(b), 2)),
        [a @ 0xF0..=0xF4, b, c, d, ..] => Some((u32::from(a & 0x07) << 18 | bits(b) << 12 | bits(c) << 6 | bits(d), 4))
            .filter(|found| found.0 < 0x11_0000),
        _ => None,
    }
}

/// Decodes the character at `at`; `None` when the bytes there are no valid UTF-8.
#[inline]
pub fn decode(text: &[u8], at: usize) -> Option<(u32, usize)> {
    let rest = &text[at..];
    let first = u32::from(*rest.first()?);
    let tail = |i: usize| rest.get(i).map(|&b| u32::from(b)).filter(|b| b & 0xC0 == 0x80).map(|b| b & 0x3F);
    match first {
        0..0x80 => Some((first, 1)),
        0xC2..0xE0 => Some(((first & 0x1F) << 6 | tail(1)?, 2)),
        0xE0..0xF0 => {
            let symbol = (first & 0x0F) << 12 | tail(1)? << 6 | tail(2)?;
            (symbol >= 0x800 && !(0xD800..0xE000).contains(&symbol)).then_some((symbol, 3))
        }
        0xF0..0xF5 => {
            let symbol = (first & 0x07) << 18 | tail(1)? << 12 | tail(2)? << 6 | tail(3)?;
            (0x1_0000..0x11_0000).contains(&symbol).then_some((symbol, 4))
        }
        _ => None,
    }
}

/// Two-stage table over all code points; equal blocks are stored once.
fn tables(spans: &[(u32, u32, Kind)]) -> (Box<[u16]>, Box<[Kind]>) {
    let mut index = Vec::with_capacity(INDEX_LEN);
    let mut blocks: Vec<Kind> = Vec::new();
    let mut known: HashMap<[Kind; BLOCK], u16> = HashMap::new();
    let mut span = 0;
    for number in 0..INDEX_LEN as u32 {
        let (from, to) = (number << BLOCK_BITS, (number + 1) << BLOCK_BITS);
        while spans[span].1 <= from {
            span += 1;
        }
        if spans[span].1 >= to && number > 0 && spans[span].0 <= from - BLOCK as u32 {
            // The whole block is as uniform as the one before it.
            let last = index[index.len() - 1];
            index.push(last);
            continue;
        }
        let mut block = [0; BLOCK];
        let mut inner = span;
        for (offset, kind) in block.iter_mut().enumerate() {
            let symbol = from + offset as u32;
            while spans[inner].1 <= symbol {
                inner += 1;
            }
            *kind = spans[inner].2;
        }
        let id = *known.entry(block).or_insert_with(|| {
            blocks.extend_from_slice(&block);
            (blocks.len() / BLOCK - 1) as u16
        });
        index.push(id);
    }
    (index.into(), blocks.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unicode;

    #[test]
    fn kinds_follow_the_sets() {
        let sets = [unicode::perl('w'), unicode::perl('s'), SymSet::single(0x20), SymSet::new(vec![(0x61, 0x66)])];
        let alphabet = Alphabet::new(&sets, false).unwrap();
        // a to f, other word characters, the space, other white space, the rest, invalid bytes.
        assert_eq!(alphabet.len, 6);
        for symbol in (0..0x3000).chain(0x1F600..0x1F700).chain(0x10FF00..0x110000) {
            for (id, set) in sets.iter().enumerate() {
                let kinds = alphabet.kinds_of(id, false, false);
                assert_eq!(kinds.contains(alphabet.kind_of(symbol)), set.contains(symbol), "{symbol:x} in set {id}");
            }
        }
    }

    #[test]
    fn decoding_agrees_with_the_standard_library() {
        let mut text = b"a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80".to_vec();
        text.extend(b"\x80\xC3\xE4\xB8\xED\xA0\x80\xF4\x90\x80\x80\xC0\x80\xF0\x82\x82\xAC\xFF");
        for at in 0..text.len() {
            let expected = (1..=4).filter(|n| at + n <= text.len()).find_map(|n| {
                let s = std::str::from_utf8(&text[at..at + n]).ok()?;
                s.chars().next().map(|c| (u32::from(c), n))
            });
            assert_eq!(decode(&text, at), expected, "at {at}");
        }
        let alphabet = Alphabet::new(&[SymSet::single(0x4E2D)], false).unwrap();
        let valid = Alphabet { valid: true, ..alphabet.clone() };
        let good = "aé中😀ſ\u{7FF}\u{800}\u{FFFF}\u{10FFFF}";
        for (at, c) in good.char_indices() {
            assert_eq!(valid.next(good.as_bytes(), at), alphabet.next(good.as_bytes(), at), "{c:?}");
            let end = at + c.len_utf8();
            assert_eq!(valid.prev(good.as_bytes(), end), alphabet.prev(good.as_bytes(), end), "{c:?}");
        }
        let mut at = 0;
        while let Some((kind, len)) = alphabet.next(&text, at) {
            assert_eq!(alphabet.prev(&text, at + len), Some((kind, len)), "before {}", at + len);
            at += len;
        }
    }
}
