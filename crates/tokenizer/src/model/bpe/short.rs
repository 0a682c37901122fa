//! The merge loop for pieces that have a key, where ranks are ids.
//!
//! Which parts of the piece are tokens is asked for all of them at once: the questions do not wait for one another, and most are
//! answered by the filter of the vocabulary. Then everything that the loop needs lies in a small table.

use crate::hash;
use crate::key::{self, Key};
use crate::vocab::{NONE, Vocab};

/// Ids have to be below: a rank and a place share a number.
pub(super) const ID_BOUND: usize = 1 << 27;

/// Places of a piece, one of them for its end.
const N: usize = 16;

/// More than there are parts of at least three bytes.
const PARTS: usize = 128;

/// These parts as start and length, ordered by their ends, so that those of a shorter piece come first.
const PLACES: [(u8, u8); PARTS] = {
    let mut places = [(0, 0); PARTS];
    let (mut i, mut end) = (0, 3);
    while end < N {
        let mut start = 0;
        while start + 3 <= end {
            places[i] = (start as u8, (end - start) as u8);
            (i, start) = (i + 1, start + 1);
        }
        end += 1;
    }
    places
};

/// No merge.
const NEVER: i32 = i32::MAX;

/// Buffers, kept between pieces.
#[derive(Debug)]
pub(crate) struct ShortBuffers {
    /// By start and length, what a part would become: `id << 4 | start`. [`NEVER`] throughout between pieces.
    made: [[i32; N]; N],
    /// Hashes of parts that may be tokens, and `start << 4 | length`.
    parts: [(u64, usize); PARTS],
}

impl Default for ShortBuffers {
    fn default() -> Self {
        Self { made: [[NEVER; N]; N], parts: [(0, 0); PARTS] }
    }
}

/// What has to be known of a model.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub vocab: &'a Vocab,
    /// Tokens of two bytes and of one.
    pub first: &'a [u32],
    pub bytes: &'a [u32; 256],
}

/// The tokens of a piece.
pub(super) struct Tokens {
    ids: [u32; N],
    n: usize,
    /// A bit for each place where a token starts, and for the end.
    pub places: u32,
}

impl Tokens {
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids[..self.n]
    }
}

/// The least of all numbers; a loop that becomes vector instructions.
#[inline(always)]
fn least(ranks: &[i32; N]) -> i32 {
    ranks.iter().fold(NEVER, |least, &rank| least.min(rank))
}

impl ShortBuffers {
    /// Merges a piece; one that is a token only if merges lead there.
    pub(super) fn merge(&mut self, known: Known<'_>, key: Key) -> Tokens {
        let Known { vocab, first, bytes } = known;
        let n = (key[1] >> key::LEN_AT) as usize;
        let mut text = [0; 2 * N];
        text[..8].copy_from_slice(&key[0].to_le_bytes());
        text[8..15].copy_from_slice(&key[1].to_le_bytes()[..7]);

        let mut found = 0;
        for &(start, len) in &PLACES[..n.saturating_sub(1) * n.saturating_sub(2) / 2] {
            let (start, len) = (usize::from(start) & 15, usize::from(len) & 15);
            let hash = key::hash_of(key::of_word(hash::load16(&text[start..]), len));
            self.parts[found % PARTS] = (hash, start << 4 | len);
            found += usize::from(vocab.may_have(hash));
        }
        let parts = &self.parts[..found % PARTS];
        parts.iter().for_each(|&(hash, _)| vocab.fetch(hash));
        for &(hash, part) in parts {
            let (start, len) = (part >> 4 & 15, part & 15);
            if let Some(id) = vocab.id_of_key(key::of_word(hash::load16(&text[start..]), len), hash) {
                self.made[start][len] = (id << 4) as i32 | start as i32;
            }
        }

        let mut ids = [0; N];
        let mut ranks = [NEVER; N];
        for i in 0..n {
            ids[i & 15] = bytes[usize::from(text[i])];
        }
        for i in 0..n.saturating_sub(1) {
            let id = first[usize::from(text[i]) << 8 | usize::from(text[i + 1])];
            ranks[i & 15] = if id == NONE { NEVER } else { (id << 4) as i32 | i as i32 };
        }
        let mut places = (2u32 << n) - 1;
        // The place after `at`, which is not the end.
        let after = |places: u32, at: usize| at + 1 + (places >> (at + 1)).trailing_zeros() as usize;
        loop {
            let rank = least(&ranks);
            if rank == NEVER {
                break;
            }
            let at = rank as usize & 15;
            ids[at] = rank as u32 >> 4;
            let gone = after(places, at);
            places &= !(1 << gone);
            ranks[gone & 15] = NEVER;
            let end = after(places, at);
            let next = self.made[at][(after(places, end) - at) & 15];
            ranks[at] = if end < n { next } else { NEVER };
            let before = places & ((1 << at) - 1);
            if before != 0 {
                let before = before.ilog2() as usize;
                ranks[before & 15] = self.made[before & 15][(end - before) & 15];
            }
        }

        for &(_, part) in parts {
            self.made[part >> 4 & 15][part & 15] = NEVER;
        }
        let mut tokens = Tokens { ids: [0; N], n: 0, places };
        let mut rest = places & !(1 << n);
        while rest != 0 {
            tokens.ids[tokens.n & 15] = ids[rest.trailing_zeros() as usize & 15];
            tokens.n += 1;
            rest &= rest - 1;
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{MergeBuffers, Symbol, run};
    use super::super::rules::{Concat, ConcatRules};
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn gives_what_the_merge_loop_gives() {
        let mut rng = Rng::new(8);
        let bytes = std::array::from_fn(|b| b as u32);
        let mut short = ShortBuffers::default();
        let mut several = 0;
        for round in 0..60u64 {
            let letters = 2 + round % 4;
            let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
            for _ in 0..20 + 8 * round {
                let token: Vec<u8> = (0..2 + rng.next_u64() % 7).map(|_| (rng.next_u64() % letters) as u8).collect();
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
            }
            let vocab = Vocab::new("test", tokens.iter().enumerate().map(|(i, t)| (i as u32, t))).unwrap();
            let rules = ConcatRules::by_id(&vocab);
            for n in 1..=15 {
                for _ in 0..20 {
                    let text: Vec<u8> = (0..n).map(|_| (rng.next_u64() % letters) as u8).collect();
                    if vocab.id(&text).is_some() {
                        continue;
                    }
                    let mut merged = MergeBuffers::default();
                    merged.symbols.extend(text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))));
                    run(&Concat { rules: &rules, vocab: &vocab }, &text, &mut merged);
                    let known = Known { vocab: &vocab, first: &rules.first, bytes: &bytes };
                    let tokens = short.merge(known, key::of(&text));
                    let want: Vec<u32> = merged.symbols.iter().map(|s| s.id).collect();
                    assert_eq!(tokens.ids(), want, "{text:?}");
                    let places = merged.symbols.iter().fold(1 << n, |places, s| places | 1 << s.start);
                    assert_eq!(tokens.places, places, "{text:?}");
                    several += usize::from(want.len() > 2 && want.len() < n);
                }
            }
        }
        assert!(several > 3000, "{several}");
    }
}
