//! Long pieces of a byte-level model, token by token instead of merge by merge.
//!
//! A sequence of tokens is what the merge loop makes of a text exactly when each two neighbours, merged alone, stay those
//! two (see `merge`). So the text can be read from the left: take the longest token that stays apart from the one before,
//! and where none does, go back and take a shorter one. As that sequence is unique for every beginning of the text, a
//! position from which it was necessary to go back need not be looked at again, and the whole is linear. (This way of
//! encoding is that of the `bpe` crate of GitHub's rust-gems.) Which two tokens stay apart is remembered: there are few such
//! questions in a text.

use super::merge::{MergeBuffers, Symbol, run};
use super::rules::{Below, Rules};
use super::tables::{Tables, UNASKED};
use crate::hash;
use crate::vocab::{NONE, Vocab};
use std::sync::atomic::Ordering;

/// Shorter pieces are merged faster than they are read.
pub(crate) const LEAST: usize = 20;

/// The tables that reading needs are made when so many pieces have come that could have been read, or one of so many bytes:
/// a few short texts are encoded before they would be ready.
pub(crate) const PATIENCE: u32 = 100;
pub(crate) const AT_ONCE: usize = 512;

/// Vocabularies with longer tokens are left to the merge loop: each length is tried at each place.
pub(crate) const LONGEST: usize = 512;

/// Halves of what was not merged from two.
const NO_HALVES: u64 = u64::MAX - 1;

/// Buffers, kept between pieces.
#[derive(Debug, Default)]
pub(crate) struct GreedyBuffers {
    /// Positions from which it was necessary to go back, one bit each.
    dead: Vec<u64>,
    /// Two neighbours under test.
    pair: MergeBuffers,
    /// Two ids and whether they stay apart, direct-mapped; see [`Apart`].
    apart: Vec<u64>,
    /// Tokens that were looked for.
    #[cfg(test)]
    steps: u64,
}

const PAIRS: usize = 1 << 13;

/// What reading needs to know of the model.
pub(crate) struct Reader<'a, R> {
    pub rules: &'a R,
    pub vocab: &'a Vocab,
    pub bytes: &'a [u32; 256],
    pub tables: &'a Tables,
    /// Tokens of two bytes, where the rank of a token is its id.
    pub first: Option<&'a [u32]>,
}

impl<R: Rules> Reader<'_, R> {
    /// Reads the tokens of a piece. False when it cannot be read: then there is a token that no merges lead to, and the
    /// merge loop has to decide. Ids have at most 31 bits.
    pub(crate) fn read(&self, piece: &[u8], tokens: &mut Vec<Symbol>, buffers: &mut GreedyBuffers) -> bool {
        if buffers.apart.is_empty() {
            // No two ids have this key.
            buffers.apart = vec![u64::MAX; PAIRS];
        }
        buffers.dead.clear();
        buffers.dead.resize(piece.len() / 64 + 1, 0);
        tokens.clear();
        let (mut at, mut most) = (0, usize::MAX);
        'next: while at < piece.len() {
            let mut lengths = self.tables.lengths(self.vocab, &piece[at..], most);
            while let Some((len, id)) =
                lengths.next(self.vocab, self.first.unwrap_or_default(), self.bytes, &piece[at..])
            {
                #[cfg(test)]
                {
                    buffers.steps += 1;
                }
                let end = at + len;
                let dead = buffers.dead[end / 64] >> (end % 64) & 1 != 0;
                let fits = !dead
                    && match tokens.last() {
                        None => self.can_be_made(id, &piece[..end], buffers),
                        Some(last) => self.apart(piece, *last, at, end, id, buffers),
                    };
                if fits {
                    tokens.push(Symbol::new(at, id));
                    (at, most) = (end, usize::MAX);
                    continue 'next;
                }
            }
            // No token goes on from here.
            let Some(last) = tokens.pop() else {
                return false;
            };
            buffers.dead[at / 64] |= 1 << (at % 64);
            let start = last.start as usize;
            (at, most) = (start, at - start - 1);
        }
        tokens.len() > 1
    }

    /// Whether merges lead to a token. Of two that have been found to stay apart that is known.
    fn can_be_made(&self, id: u32, text: &[u8], buffers: &mut GreedyBuffers) -> bool {
        if text.len() == 1 || self.tables.is_made(id) {
            return true;
        }
        let mut made = self.first.is_some() && self.halves(id, text, buffers).is_some();
        if !made {
            self.merge(self.rules, text, buffers);
            made = matches!(buffers.pair.symbols[..], [one] if one.id == id);
        }
        if made {
            self.tables.set_made(id);
        }
        made
    }

    /// Whether two neighbours stay apart: `last`, which ends at `middle`, and the token `id` from there to `end`.
    #[inline]
    fn apart(
        &self,
        piece: &[u8],
        last: Symbol,
        middle: usize,
        end: usize,
        id: u32,
        buffers: &mut GreedyBuffers,
    ) -> bool {
        let places = [last.start as usize, middle, end];
        let key = u64::from(last.id) << 31 | u64::from(id);
        let slot = hash::pair(last.id, id) as usize & (PAIRS - 1);
        let entry = buffers.apart[slot];
        if entry >> 1 == key {
            return entry & 1 != 0;
        }
        let halves = self.first.and_then(|first| self.stay_apart(piece, places, [last.id, id], first, buffers));
        let apart = halves.unwrap_or_else(|| {
            let text = &piece[last.start as usize..end];
            self.merge(self.rules, text, buffers);
            matches!(buffers.pair.symbols[..], [a, b] if a.id == last.id && b.id == id
                && (last.start + b.start) as usize == middle)
        });
        buffers.apart[slot] = key << 1 | u64::from(apart);
        apart
    }

    /// Merges a text from its bytes; the tokens are in `buffers.pair.symbols`.
    fn merge<S: Rules>(&self, rules: &S, text: &[u8], buffers: &mut GreedyBuffers) {
        let symbols = &mut buffers.pair.symbols;
        symbols.clear();
        symbols.extend(text.iter().enumerate().map(|(i, &b)| Symbol::new(i, self.bytes[usize::from(b)])));
        run(rules, text, &mut buffers.pair);
    }

    /// The two halves that a token was merged from, and the length of the left one. There are none when no merges lead to it, or
    /// only merges of higher ranks than its own. Ids of models that have halves are below [`super::short::ID_BOUND`].
    #[inline]
    fn halves(&self, id: u32, text: &[u8], buffers: &mut GreedyBuffers) -> Option<(u32, u32, usize)> {
        if let &[a, b] = text {
            return Some((self.bytes[usize::from(a)], self.bytes[usize::from(b)], 1));
        }
        let mut known = self.tables.halves[id as usize].load(Ordering::Relaxed);
        if known == UNASKED {
            known = self.find_halves(id, text, buffers);
        }
        let half = |at: u32| (known >> at) as u32 & (super::short::ID_BOUND as u32 - 1);
        (known != NO_HALVES).then_some((half(37), half(10), known as usize & 1023))
    }

    #[inline(never)]
    fn find_halves(&self, id: u32, text: &[u8], buffers: &mut GreedyBuffers) -> u64 {
        self.merge(&Below { rules: self.rules, rank: id }, text, buffers);
        let found = match buffers.pair.symbols[..] {
            [a, b] if a.id != NONE && b.id != NONE => {
                u64::from(a.id) << 37 | u64::from(b.id) << 10 | u64::from(b.start)
            }
            _ => NO_HALVES,
        };
        // Whoever else works it out finds the same.
        self.tables.halves[id as usize].store(found, Ordering::Relaxed);
        found
    }

    /// Whether two neighbours stay apart, from their halves: back through the history of the symbols to the left and to the
    /// right of where the two meet, at no time may those two have been the next merge. `None` when a token has no halves.
    ///
    /// While two symbols meet there, the next merge to touch one of them has the rank of what it makes. The pair of the
    /// two comes first if its rank is smaller, and, being further to the left, also if it is equal and the other merge lies
    /// on the right.
    fn stay_apart(
        &self,
        piece: &[u8],
        [start, middle, end]: [usize; 3],
        [mut left, mut right]: [u32; 2],
        first: &[u32],
        buffers: &mut GreedyBuffers,
    ) -> Option<bool> {
        let (mut from, mut to) = (start, end);
        let mut next = u64::MAX;
        loop {
            #[cfg(test)]
            {
                buffers.steps += 1;
            }
            let (one, other) = (middle - from == 1, to - middle == 1);
            let pair = if one && other {
                first[usize::from(piece[from]) << 8 | usize::from(piece[middle])]
            } else {
                self.vocab.id_of_part(piece, from, to - from).unwrap_or(NONE)
            };
            if pair != NONE && 2 * u64::from(pair) < next {
                return Some(false);
            }
            if one && other {
                return Some(true);
            }
            // Undo the later of the two merges. Even numbers are ranks on the left; one more lets an equal rank pass first.
            if other || !one && left > right {
                next = 2 * u64::from(left);
                let (_, half, len) = self.halves(left, &piece[from..middle], buffers)?;
                (left, from) = (half, from + len);
            } else {
                next = 2 * u64::from(right) + 1;
                let (half, _, len) = self.halves(right, &piece[middle..to], buffers)?;
                (right, to) = (half, middle + len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Concat, ConcatRules};
    use super::*;
    use crate::rng::Rng;

    /// A vocabulary of all bytes and of random merges over a few letters.
    fn vocabulary(rng: &mut Rng, letters: u64, size: usize) -> Vocab {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
        while tokens.len() < 256 + size {
            let mut pick = || {
                let n = tokens.len() - 256 + letters as usize;
                let i = rng.next_u64() as usize % n;
                tokens[if i < letters as usize { i } else { 256 + i - letters as usize }].clone()
            };
            let new = [pick(), pick()].concat();
            if new.len() < 90 && !tokens.contains(&new) {
                tokens.push(new);
            }
        }
        Vocab::new("test", tokens.iter().enumerate().map(|(i, t)| (i as u32, t))).unwrap()
    }

    #[test]
    fn reading_gives_what_merging_gives() {
        let mut rng = Rng::new(3);
        let mut read = 0;
        for round in 0..120 {
            let letters = 1 + round % 4;
            // One letter makes few different tokens.
            let size = if letters == 1 { 10 + round as usize / 4 } else { 10 + 3 * round as usize };
            let vocab = vocabulary(&mut rng, letters, size);
            let concat = ConcatRules::by_id(&vocab);
            let rules = Concat { rules: &concat, vocab: &vocab };
            let bytes = std::array::from_fn(|b| b as u32);
            let tables = Tables::new(&vocab);
            // From the halves, and by merging each two neighbours.
            let by_id = (round % 3 != 0).then_some(&concat.first[..]);
            let reader = Reader { rules: &rules, vocab: &vocab, bytes: &bytes, tables: &tables, first: by_id };
            let mut buffers = GreedyBuffers::default();
            for n in [2, 3, 25, 60, 90, 400] {
                let text: Vec<u8> = (0..n).map(|_| (rng.next_u64() % letters) as u8).collect();
                let mut merged = MergeBuffers::default();
                merged.symbols.extend(text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))));
                run(&rules, &text, &mut merged);
                let mut tokens = Vec::new();
                let view = |symbols: &[Symbol]| symbols.iter().map(|s| (s.start, s.id)).collect::<Vec<_>>();
                if reader.read(&text, &mut tokens, &mut buffers) {
                    read += 1;
                    assert_eq!(view(&tokens), view(&merged.symbols), "{text:?}");
                } else {
                    assert_eq!(merged.symbols.len(), 1, "only one token alone is left to merging: {text:?}");
                }
            }
        }
        assert!(read > 400, "{read} texts were read");
    }

    /// Rules that count how often they are asked.
    #[cfg(feature = "vocabularies")]
    struct Counted<R>(R, std::cell::Cell<u64>);

    #[cfg(feature = "vocabularies")]
    impl<R: Rules> Rules for Counted<R> {
        fn merge(&self, left: u32, right: u32, text: &[u8]) -> super::super::rules::Merge {
            self.1.set(self.1.get() + 1);
            self.0.merge(left, right, text)
        }
    }

    #[test]
    #[cfg(feature = "vocabularies")]
    fn one_piece_of_a_real_vocabulary_takes_linear_time() {
        for name in ["cl100k_base", "o200k_base"] {
            let tokenizer = crate::Tokenizer::named(name).unwrap();
            let crate::model::Model::Bpe(bpe) = tokenizer.model() else { panic!("{name} is not BPE") };
            let (vocab, bytes) = (bpe.vocab(), &*bpe.bytes);
            let super::super::RuleSet::Concat(concat) = &bpe.rules else { panic!("{name} has a list of merges") };
            let tables = Tables::new(vocab);
            let mut rng = Rng::new(5);
            let letters: String = (0..1 << 20).map(|_| char::from(b'a' + (rng.next_u64() % 26) as u8)).collect();
            let units = ["a", " ", "ab", "=-", "中文", "e\u{301}", "😀", &letters];
            for unit in units {
                let work = |size: usize| {
                    let rules = &Counted(Concat { rules: concat, vocab }, std::cell::Cell::new(0));
                    let mut buffers = GreedyBuffers::default();
                    let text: Vec<u8> =
                        unit.bytes().cycle().take(size / unit.len().min(size) * unit.len().min(size)).collect();
                    let reader = Reader { rules, vocab, bytes, tables: &tables, first: Some(&concat.first) };
                    assert!(reader.read(&text, &mut Vec::new(), &mut buffers), "{name}: {unit:.9?}");
                    buffers.steps + rules.1.get()
                };
                let (small, large) = (work(1 << 14), work(1 << 20));
                assert!(small > 100 && large <= 80 * small, "{name}: {unit:.9?} took {small} steps and then {large}");
            }
        }
    }
}
