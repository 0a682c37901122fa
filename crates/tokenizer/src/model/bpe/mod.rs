//! Byte-pair encoding (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>), over bytes or over characters.
//!
//! - `rules`: which pairs merge: a list of pairs, or any pair whose bytes are a token (by id or by score)
//! - `merge`: the merge loop
//! - `short`: the same for pieces of a few bytes
//! - `cuts`: where the characters of a piece have nothing to do with one another
//! - `greedy`: long pieces, token by token
//! - `tables`: what that knows of the vocabulary
//! - `block`: pieces on their way
//! - `cache`: pieces and their ids
//! - `encode`: from pieces to ids by way of all these
//! - `emit`: what becomes of merged symbols

pub(crate) mod block;
pub(crate) mod cache;
mod cuts;
mod emit;
mod encode;
pub(crate) mod greedy;
pub(crate) mod merge;
pub(crate) mod rules;
pub(crate) mod short;
pub(crate) mod tables;

use super::Scratch;
use crate::error::Result;
use crate::rng::Rng;
use crate::trie::Trie;
use crate::vocab::{NONE, Vocab};
use cuts::Cuts;
use merge::{MergeBuffers, Symbol};
pub use rules::MergeRule;
use rules::{Below, Concat, ConcatRules, PairRules, Rules};
use std::sync::{Arc, OnceLock};
use tables::Tables;

/// What becomes of text for which the vocabulary has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// [`crate::Error::NoToken`].
    Refuse,
    /// It is left out, as Hugging Face's BPE does when `unk_token` is null.
    Drop,
    /// This id stands for it; neighbours become one token when `fuse` is set.
    Token {
        /// The unknown token.
        id: u32,
        /// One token for a run of unknown characters.
        fuse: bool,
    },
}

/// What merging starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Bytes: GPT-2, tiktoken.
    Bytes,
    /// Unicode characters: SentencePiece and the original BPE.
    Chars,
}

#[derive(Clone, Debug)]
enum RuleSet {
    Pairs(PairRules),
    Concat(ConcatRules),
}

/// A BPE model: vocabulary, merges, and what happens around them.
#[derive(Clone, Debug)]
pub struct Bpe {
    vocab: Vocab,
    rules: RuleSet,
    alphabet: Alphabet,
    unknown: Unknown,
    /// Single-byte tokens; of the alphabet itself, or `<0x..>` tokens when `byte_fallback` is set.
    bytes: Box<[u32; 256]>,
    byte_fallback: bool,
    /// A piece that is a token is that token, whatever the merges say.
    whole_first: bool,
    prefix: String,
    suffix: String,
    /// `▁` starts a word: no token continues across it, so a text can be cut there without changing the result.
    cut_at_marker: bool,
    /// Pieces that may be formed on the way but are not given out (SentencePiece's UNUSED): what they are made of.
    unused: crate::hash::FastMap<u32, Vec<u32>>,
    /// Pieces that are tokens wherever they stand and merge with nothing (SentencePiece's user-defined symbols).
    frozen: Option<Trie>,
    /// Bytes without affixes, all of them tokens, whose ranks are the ids; and a piece that is a token is that token.
    plain: bool,
    /// Made when the first pieces come that need them.
    tables: OnceLock<Arc<Tables>>,
    cuts: OnceLock<Arc<Cuts>>,
}

/// SentencePiece's mark for a space, U+2581.
pub(crate) const MARKER: &str = "\u{2581}";

/// Settings of a [`Bpe`] beside its vocabulary and merges.
#[derive(Clone, Debug)]
pub struct BpeConfig {
    /// What merging starts from.
    pub alphabet: Alphabet,
    /// What becomes of text without a token.
    pub unknown: Unknown,
    /// Text without a token becomes `<0x..>` tokens, one for each byte.
    pub byte_fallback: bool,
    /// A piece that is a token is that token, whatever the merges say (`ignore_merges`).
    pub whole_first: bool,
    /// Put before every symbol of a piece but the first (`continuing_subword_prefix`).
    pub prefix: String,
    /// Put after the last symbol of a piece (`end_of_word_suffix`).
    pub suffix: String,
}

impl Default for BpeConfig {
    fn default() -> Self {
        Self {
            alphabet: Alphabet::Bytes,
            unknown: Unknown::Refuse,
            byte_fallback: false,
            whole_first: false,
            prefix: String::new(),
            suffix: String::new(),
        }
    }
}

impl Bpe {
    /// A model with an explicit list of merges, in order of rank.
    pub fn from_merges(vocab: Vocab, merges: Vec<MergeRule>, config: BpeConfig) -> Self {
        let bytes = single_bytes(&vocab);
        let plain = config.prefix.is_empty() && config.suffix.is_empty() && config.alphabet == Alphabet::Bytes;
        let rules = PairRules::new(merges, plain.then_some(&bytes));
        Self::build(vocab, RuleSet::Pairs(rules), bytes, config)
    }

    /// A byte-level model whose ranks are its ids, as in `.tiktoken` files: any two neighbours that are a token
    /// together may merge.
    pub fn from_ranks(vocab: Vocab) -> Self {
        let bytes = single_bytes(&vocab);
        let rules = RuleSet::Concat(ConcatRules::by_id(&vocab));
        Self::build(vocab, rules, bytes, BpeConfig { whole_first: true, ..BpeConfig::default() })
    }

    /// A model over characters whose merges are ordered by the score of the token they make, as SentencePiece's. An
    /// id without a score never results from a merge; ids in `unused` may, but are given out as their parts.
    ///
    /// # Errors
    /// When a score is not a number.
    pub fn from_scores(
        vocab: Vocab,
        scores: &[Option<f32>],
        unused: &[u32],
        unknown: Unknown,
        byte_fallback: bool,
        format: &'static str,
    ) -> Result<Self> {
        let bytes = single_bytes(&vocab);
        let rules = RuleSet::Concat(ConcatRules::by_score(&vocab, scores, format)?);
        let config = BpeConfig { alphabet: Alphabet::Chars, unknown, byte_fallback, ..BpeConfig::default() };
        let mut model = Self::build(vocab, rules, bytes, config);
        for &id in unused {
            let parts = model.parts(id);
            // A piece that nothing was merged into is given out as it is.
            if parts != [id] {
                model.unused.insert(id, parts);
            }
        }
        Ok(model)
    }

    fn build(vocab: Vocab, rules: RuleSet, bytes: Box<[u32; 256]>, config: BpeConfig) -> Self {
        let BpeConfig { alphabet, unknown, byte_fallback, whole_first, prefix, suffix } = config;
        let bytes = if byte_fallback { fallback_bytes(&vocab) } else { bytes };
        let mark = MARKER.as_bytes();
        // A token with the marker after something else would join two words.
        let crosses = |token: &[u8]| {
            (1..token.len().saturating_sub(2)).any(|i| token[i..].starts_with(mark) && !token[..i].ends_with(mark))
        };
        let cut_at_marker = alphabet == Alphabet::Chars
            && prefix.is_empty()
            && suffix.is_empty()
            && !whole_first
            && vocab.id(mark).is_some()
            && !vocab.iter().any(|(_, token)| crosses(token));
        let plain = matches!(&rules, RuleSet::Concat(rules) if rules.is_by_id())
            && alphabet == Alphabet::Bytes
            && prefix.is_empty()
            && suffix.is_empty()
            && whole_first
            && !bytes.contains(&NONE)
            && vocab.id_bound() < short::ID_BOUND;
        let (unused, frozen) = (crate::hash::FastMap::default(), None);
        Self {
            frozen,
            vocab,
            rules,
            alphabet,
            unknown,
            bytes,
            byte_fallback,
            whole_first,
            prefix,
            suffix,
            cut_at_marker,
            unused,
            plain,
            tables: OnceLock::new(),
            cuts: OnceLock::new(),
        }
    }

    /// Whether there are pieces that are found before anything is merged.
    pub(crate) fn has_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// These tokens are found wherever they stand, the longest first, and merge with nothing.
    #[must_use]
    pub fn with_frozen(mut self, ids: &[u32]) -> Self {
        let entries = ids.iter().filter_map(|&id| Some((self.vocab.bytes(id)?, id)));
        self.plain &= ids.is_empty();
        self.frozen = (!ids.is_empty()).then(|| Trie::new(entries));
        self
    }

    /// Byte strings and ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// What merging starts from.
    pub fn alphabet(&self) -> Alphabet {
        self.alphabet
    }

    /// The settings beside vocabulary and merges.
    pub fn config(&self) -> BpeConfig {
        BpeConfig {
            alphabet: self.alphabet,
            unknown: self.unknown,
            byte_fallback: self.byte_fallback,
            whole_first: self.whole_first,
            prefix: self.prefix.clone(),
            suffix: self.suffix.clone(),
        }
    }

    /// The merges in order of rank. For a model made from ranks or scores they are worked out: each token is split
    /// into the two tokens that the merges below its own rank leave.
    pub fn merges(&self) -> Vec<MergeRule> {
        let rules = match &self.rules {
            RuleSet::Pairs(rules) => return rules.list.clone(),
            RuleSet::Concat(rules) => rules,
        };
        let mut ranked: Vec<(u32, MergeRule)> = Vec::new();
        for (id, token) in self.vocab.iter() {
            if self.vocab.id(token) != Some(id) || rules.rank(id) == NONE {
                continue;
            }
            if let [left, right] = self.parts(id)[..]
                && left != NONE
                && right != NONE
            {
                ranked.push((rules.rank(id), MergeRule { left, right, id }));
            }
        }
        ranked.sort_by_key(|(rank, rule)| (*rank, rule.id));
        ranked.into_iter().map(|(_, rule)| rule).collect()
    }

    /// The tokens that the merges below a token's own rank make of its bytes.
    fn parts(&self, id: u32) -> Vec<u32> {
        let Some(token) = self.vocab.bytes(id) else {
            return Vec::new();
        };
        let mut scratch = Scratch::default();
        self.fill_symbols(token, &mut scratch.merge.symbols);
        match &self.rules {
            RuleSet::Pairs(rules) => merge::run(rules, token, &mut scratch.merge),
            RuleSet::Concat(rules) => {
                let below = Below { rules: &Concat { rules, vocab: &self.vocab }, rank: rules.rank(id) };
                merge::run(&below, token, &mut scratch.merge);
            }
        }
        scratch.merge.symbols.iter().map(|s| s.id).collect()
    }

    fn merge<R: Rules>(rules: &R, piece: &[u8], buffers: &mut MergeBuffers, dropout: &mut Option<(f32, Rng)>) {
        match dropout {
            None => merge::run(rules, piece, buffers),
            Some((p, rng)) => merge::run_dropout(rules, piece, buffers, *p, rng),
        }
    }

    /// What merging short pieces of a plain model has to know.
    fn known(&self) -> short::Known<'_> {
        let first = match &self.rules {
            RuleSet::Concat(rules) => &rules.first[..],
            RuleSet::Pairs(_) => &[],
        };
        short::Known { vocab: &self.vocab, first, bytes: &self.bytes }
    }

    fn whole(&self, piece: &[u8]) -> Option<u32> {
        if self.suffix.is_empty() {
            self.vocab.id(piece)
        } else {
            self.vocab.id(&[piece, self.suffix.as_bytes()].concat())
        }
    }

    fn fill_symbols(&self, piece: &[u8], symbols: &mut Vec<Symbol>) {
        self.split_symbols(piece, symbols);
        // What is left out is gone before merging: its neighbours may merge across it, as in the reference.
        if self.unknown == Unknown::Drop && !self.byte_fallback {
            symbols.retain(|s| s.id != NONE);
        }
    }

    fn split_symbols(&self, piece: &[u8], symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let affixes = !self.prefix.is_empty() || !self.suffix.is_empty();
        match self.alphabet {
            Alphabet::Bytes if !affixes => {
                symbols.extend(piece.iter().enumerate().map(|(i, &b)| Symbol::new(i, self.bytes[usize::from(b)])));
            }
            _ => {
                let mut at = 0;
                while at < piece.len() {
                    let len = match self.alphabet {
                        Alphabet::Bytes => 1,
                        Alphabet::Chars => char_len(piece[at]).min(piece.len() - at),
                    };
                    let unit = &piece[at..at + len];
                    let id = if affixes {
                        let before = if at > 0 { self.prefix.as_bytes() } else { b"" };
                        let after = if at + len == piece.len() { self.suffix.as_bytes() } else { b"" };
                        self.vocab.id(&[before, unit, after].concat())
                    } else {
                        self.vocab.id(unit)
                    };
                    symbols.push(Symbol::new(at, id.unwrap_or(NONE)));
                    at += len;
                }
            }
        }
    }
}

/// Length of the UTF-8 character that starts with this byte; 1 for a byte that starts none.
fn char_len(lead: u8) -> usize {
    match lead {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    }
}

fn single_bytes(vocab: &Vocab) -> Box<[u32; 256]> {
    let mut ids = Box::new([NONE; 256]);
    for b in 0..=255u8 {
        ids[usize::from(b)] = vocab.id(&[b]).unwrap_or(NONE);
    }
    ids
}

pub(crate) fn fallback_bytes(vocab: &Vocab) -> Box<[u32; 256]> {
    let mut ids = Box::new([NONE; 256]);
    for b in 0..=255u8 {
        ids[usize::from(b)] = vocab.id(format!("<0x{b:02X}>").as_bytes()).unwrap_or(NONE);
    }
    ids
}
