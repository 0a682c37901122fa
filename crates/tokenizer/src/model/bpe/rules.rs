//! Which two neighbours may become one token, and how soon.

use crate::error::{Error, Result};
use crate::hash;
use crate::vocab::{NONE, Vocab};
use std::cell::Cell;

/// A merge that is possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Smaller ranks are applied first.
    pub rank: u32,
    /// The token that results.
    pub id: u32,
}

impl Merge {
    pub(crate) const NONE: Self = Self { rank: NONE, id: NONE };
}

/// A lookup from two neighbouring symbols to their merge. `text` is the bytes of both symbols together.
pub(crate) trait Rules {
    fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge;
}

/// One merge rule: the pair, and what it becomes. The place in the list is the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeRule {
    /// Id of the left half.
    pub left: u32,
    /// Id of the right half.
    pub right: u32,
    /// Id of the whole.
    pub id: u32,
}

/// An explicit list of merges, as in a `tokenizer.json`.
#[derive(Clone, Debug)]
pub(crate) struct PairRules {
    /// `(left << 32 | right, rank, id)`; an empty slot has `id == NONE`.
    slots: Vec<(u64, u32, u32)>,
    pub list: Vec<MergeRule>,
    /// Merges of two single bytes by `left byte << 8 | right byte`, for byte-level alphabets: no probe for the first round.
    first: Vec<Merge>,
}

impl PairRules {
    /// `bytes` are the ids of the 256 single bytes when the alphabet is bytes.
    pub(crate) fn new(list: Vec<MergeRule>, bytes: Option<&[u32; 256]>) -> Self {
        let size = (list.len() * 2).next_power_of_two().max(16);
        let mut rules = Self { slots: vec![(0, NONE, NONE); size], list, first: Vec::new() };
        for rank in 0..rules.list.len() {
            let MergeRule { left, right, id } = rules.list[rank];
            let key = u64::from(left) << 32 | u64::from(right);
            let mut at = hash::pair(left, right) as usize & (size - 1);
            while rules.slots[at].2 != NONE && rules.slots[at].0 != key {
                at = (at + 1) & (size - 1);
            }
            // A pair that is listed twice keeps its last rank, as a dictionary that is filled in order does.
            rules.slots[at] = (key, rank as u32, id);
        }
        if let Some(bytes) = bytes {
            let mut of_id = hash::FastMap::default();
            for (byte, &id) in bytes.iter().enumerate() {
                if id != NONE {
                    of_id.insert(id, byte);
                }
            }
            rules.first = vec![Merge::NONE; 1 << 16];
            for rule in &rules.list {
                if let (Some(l), Some(r)) = (of_id.get(&rule.left), of_id.get(&rule.right)) {
                    rules.first[l << 8 | r] = rules.probe(rule.left, rule.right);
                }
            }
        }
        rules
    }

    #[inline]
    pub(crate) fn probe(&self, left: u32, right: u32) -> Merge {
        let key = u64::from(left) << 32 | u64::from(right);
        let mask = self.slots.len() - 1;
        let mut at = hash::pair(left, right) as usize & mask;
        loop {
            let (k, rank, id) = self.slots[at];
            if id == NONE {
                return Merge::NONE;
            }
            if k == key {
                return Merge { rank, id };
            }
            at = (at + 1) & mask;
        }
    }
}

impl Rules for PairRules {
    #[inline]
    fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge {
        if let (&[a, b], false) = (text, self.first.is_empty()) {
            return self.first[usize::from(a) << 8 | usize::from(b)];
        }
        self.probe(left, right)
    }
}

/// Any two neighbours whose bytes together are a token may merge; the token's rank says how soon.
#[derive(Clone, Debug)]
pub(crate) struct ConcatRules {
    /// Rank by id; empty when the rank is the id, as in `.tiktoken` files.
    ranks: Vec<u32>,
    /// Tokens of two bytes by `left byte << 8 | right byte`, where the rank is the id.
    pub(super) first: Vec<u32>,
}

impl ConcatRules {
    /// Ranks are ids.
    pub(crate) fn by_id(vocab: &Vocab) -> Self {
        let mut rules = Self { ranks: Vec::new(), first: Vec::new() };
        rules.fill_first(vocab);
        rules
    }

    /// Higher scores first; equal scores have equal ranks. Ids without a score never result from a merge.
    ///
    /// # Errors
    /// When a score is not a number.
    pub(crate) fn by_score(vocab: &Vocab, scores: &[Option<f32>], format: &'static str) -> Result<Self> {
        let mut order: Vec<(f32, usize)> =
            scores.iter().enumerate().filter_map(|(id, score)| score.map(|s| (s, id))).collect();
        if let Some((score, id)) = order.iter().find(|(score, _)| score.is_nan()) {
            return Err(Error::malformed(format, format!("the score of token {id} is {score}")));
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut ranks = vec![NONE; vocab.id_bound().max(scores.len())];
        let mut rank = 0;
        for (i, &(score, id)) in order.iter().enumerate() {
            if i > 0 && score != order[i - 1].0 {
                rank = i as u32;
            }
            ranks[id] = rank;
        }
        Ok(Self { ranks, first: Vec::new() })
    }

    fn fill_first(&mut self, vocab: &Vocab) {
        self.first = vec![NONE; 1 << 16];
        for (id, token) in vocab.iter() {
            // The first id of a repeated token is the one that a lookup finds.
            if let &[a, b] = token
                && vocab.id(token) == Some(id)
            {
                self.first[usize::from(a) << 8 | usize::from(b)] = id;
            }
        }
    }

    /// Whether the rank of a token is its id.
    pub(crate) fn is_by_id(&self) -> bool {
        self.ranks.is_empty()
    }

    #[inline]
    pub(crate) fn rank(&self, id: u32) -> u32 {
        if self.ranks.is_empty() { id } else { self.ranks[id as usize] }
    }
}

/// [`ConcatRules`] together with the vocabulary they look into.
pub(crate) struct Concat<'a> {
    pub rules: &'a ConcatRules,
    pub vocab: &'a Vocab,
}

impl Rules for Concat<'_> {
    #[inline]
    fn merge(&self, _: u32, _: u32, text: &[u8]) -> Merge {
        if let (&[a, b], false) = (text, self.rules.first.is_empty()) {
            let id = self.rules.first[usize::from(a) << 8 | usize::from(b)];
            return Merge { rank: id, id };
        }
        match self.vocab.id(text) {
            Some(id) => match self.rules.rank(id) {
                NONE => Merge::NONE,
                rank => Merge { rank, id },
            },
            None => Merge::NONE,
        }
    }
}

/// [`Concat`] behind a small table of pairs that have been asked for. A miss of the vocabulary's tables goes to memory two
/// or three times; the few thousand pairs that most of a text consists of stay in the cache of the processor here.
pub(crate) struct Remembered<'a> {
    pub rules: Concat<'a>,
    pub pairs: &'a PairCache,
}

/// Pairs of ids and the token they make, direct-mapped: 21 bits of each id, 22 of the result.
#[derive(Debug, Default)]
pub(crate) struct PairCache(Vec<Cell<u64>>);

const PAIRS: usize = 1 << 14;
const PAIR_BITS: u32 = 21;
const RESULT: u64 = (1 << 22) - 1;

impl PairCache {
    /// Makes room; false when the ids of a vocabulary do not fit.
    pub(crate) fn serves(&mut self, id_bound: usize) -> bool {
        let fits = id_bound < 1 << PAIR_BITS;
        if fits && self.0.is_empty() {
            // No pair of ids has this key.
            self.0 = vec![Cell::new(u64::MAX); PAIRS];
        }
        fits
    }
}

impl Rules for Remembered<'_> {
    #[inline]
    fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge {
        if left == NONE || right == NONE {
            return self.rules.merge(left, right, text);
        }
        let key = u64::from(left) << PAIR_BITS | u64::from(right);
        let slot = &self.pairs.0[hash::pair(left, right) as usize & (PAIRS - 1)];
        let entry = slot.get();
        if entry >> 22 == key {
            return match entry & RESULT {
                RESULT => Merge::NONE,
                id => Merge { rank: self.rules.rules.rank(id as u32), id: id as u32 },
            };
        }
        let merge = self.rules.merge(left, right, text);
        let result = if merge.id == NONE { RESULT } else { u64::from(merge.id) };
        slot.set(key << 22 | result);
        merge
    }
}

/// Only merges below a rank; with the rank of a token it gives the two halves that the token is made of.
pub(crate) struct Below<'a, R> {
    pub rules: &'a R,
    pub rank: u32,
}

impl<R: Rules> Rules for Below<'_, R> {
    fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge {
        let merge = self.rules.merge(left, right, text);
        if merge.rank < self.rank { merge } else { Merge::NONE }
    }
}
