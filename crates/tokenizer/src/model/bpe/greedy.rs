//! Long pieces of a byte-level model, token by token instead of merge by merge.
//!
//! A sequence of tokens is what the merge loop makes of a text exactly when each two neighbours, merged alone, stay those
//! two (see `merge`). So the text can be read from the left: take the longest token that stays apart from the one before,
//! and where none does, go back and take a shorter one. As that sequence is unique for every beginning of the text, a
//! position from which it was necessary to go back need not be looked at again, and the whole is linear. (This way of
//! encoding is that of the `bpe` crate of GitHub's rust-gems.) Which two tokens stay apart is remembered: there are few such
//! questions in a text.

use super::merge::{MergeBuffers, Symbol, run};
use super::rules::Rules;
use crate::hash;
use crate::vocab::Vocab;

/// Shorter pieces are merged faster than they are read.
pub(crate) const LEAST: usize = 24;

/// Tokens of at least this length share a bit.
const LONG: usize = 63;

/// Which lengths the tokens have that begin with three bytes, by a hash of the three.
#[derive(Clone, Debug)]
pub(crate) struct Lengths(Box<[u64]>);

const SLOTS: usize = 1 << 16;

#[inline(always)]
fn slot(a: u8, b: u8, c: u8) -> usize {
    let bytes = u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16;
    (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & (SLOTS - 1)
}

impl Lengths {
    pub(crate) fn new(vocab: &Vocab) -> Self {
        let mut masks = vec![0; SLOTS].into_boxed_slice();
        for (_, token) in vocab.iter() {
            if let [a, b, c, ..] = *token {
                masks[slot(a, b, c)] |= 1 << token.len().min(LONG);
            }
        }
        Self(masks)
    }

    /// The longest token of at most `most` bytes that `text` begins with: its length and id.
    #[inline]
    fn longest(&self, vocab: &Vocab, bytes: &[u32; 256], text: &[u8], most: usize) -> Option<(usize, u32)> {
        let most = most.min(text.len());
        if let ([a, b, c, ..], 3..) = (text, most) {
            let mut mask = self.0[slot(*a, *b, *c)];
            if most < LONG {
                mask &= (2 << most) - 1;
            } else if mask >> LONG != 0 {
                let found =
                    (LONG..=most.min(vocab.longest())).rev().find_map(|len| Some((len, vocab.id(&text[..len])?)));
                if found.is_some() {
                    return found;
                }
            }
            mask &= (1 << LONG) - 1;
            while mask != 0 {
                let len = 63 - mask.leading_zeros() as usize;
                if let Some(id) = vocab.id(&text[..len]) {
                    return Some((len, id));
                }
                mask ^= 1 << len;
            }
        }
        if most >= 2
            && let Some(id) = vocab.id(&text[..2])
        {
            return Some((2, id));
        }
        (most >= 1).then(|| (1, bytes[usize::from(text[0])]))
    }
}

/// Buffers, kept between pieces.
#[derive(Debug, Default)]
pub(crate) struct GreedyBuffers {
    /// Positions from which it was necessary to go back, one bit each.
    dead: Vec<u64>,
    /// Two neighbours under test.
    pair: MergeBuffers,
    /// Two ids and whether they stay apart, direct-mapped; see [`Apart`].
    apart: Vec<u64>,
}

const PAIRS: usize = 1 << 14;

/// What reading needs to know of the model.
pub(crate) struct Reader<'a, R> {
    pub rules: &'a R,
    pub vocab: &'a Vocab,
    pub bytes: &'a [u32; 256],
    pub lengths: &'a Lengths,
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
        while at < piece.len() {
            let Some((len, id)) = self.lengths.longest(self.vocab, self.bytes, &piece[at..], most) else {
                // No token goes on from here.
                let Some(last) = tokens.pop() else {
                    return false;
                };
                buffers.dead[at / 64] |= 1 << (at % 64);
                let start = last.start as usize;
                (at, most) = (start, at - start - 1);
                continue;
            };
            let end = at + len;
            let dead = buffers.dead[end / 64] >> (end % 64) & 1 != 0;
            if !dead && tokens.last().is_none_or(|last| self.apart(piece, *last, at, end, id, buffers)) {
                tokens.push(Symbol::new(at, id));
                (at, most) = (end, usize::MAX);
            } else {
                most = len - 1;
            }
        }
        tokens.len() > 1
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
        let key = u64::from(last.id) << 31 | u64::from(id);
        let slot = hash::pair(last.id, id) as usize & (PAIRS - 1);
        let entry = buffers.apart[slot];
        if entry >> 1 == key {
            return entry & 1 != 0;
        }
        let text = &piece[last.start as usize..end];
        let symbols = &mut buffers.pair.symbols;
        symbols.clear();
        symbols.extend(text.iter().enumerate().map(|(i, &b)| Symbol::new(i, self.bytes[usize::from(b)])));
        run(self.rules, text, &mut buffers.pair);
        let apart = matches!(buffers.pair.symbols[..], [a, b] if a.id == last.id && b.id == id
            && (last.start + b.start) as usize == middle);
        buffers.apart[slot] = key << 1 | u64::from(apart);
        apart
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
            let vocab = vocabulary(&mut rng, letters, 10 + 3 * round as usize);
            let rules = ConcatRules::by_id(&vocab);
            let rules = Concat { rules: &rules, vocab: &vocab };
            let bytes = std::array::from_fn(|b| b as u32);
            let lengths = Lengths::new(&vocab);
            let reader = Reader { rules: &rules, vocab: &vocab, bytes: &bytes, lengths: &lengths };
            let mut buffers = GreedyBuffers::default();
            for n in [2, 3, 25, 60, 90, 400] {
                let text: Vec<u8> = (0..n).map(|_| (rng.next_u64() % letters) as u8).collect();
                let symbols = text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))).collect();
                let mut merged = MergeBuffers { symbols, ..Default::default() };
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
}
