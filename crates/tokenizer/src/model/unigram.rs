//! The unigram language model (Kudo 2018, <https://arxiv.org/abs/1804.10959>): the segmentation with the largest sum
//! of token scores, found by dynamic programming from left to right.

use super::bpe::Unknown;
use super::{Scratch, Sink};
use crate::error::{Error, Result, excerpt};
use crate::rng::Rng;
use crate::trie::Trie;
use crate::vocab::{NONE, Vocab};

/// The score of an unknown character is this much below the smallest score of the vocabulary.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A unigram language model over tokens.
#[derive(Clone, Debug)]
pub struct Unigram {
    vocab: Vocab,
    scores: Vec<f64>,
    trie: Trie,
    unknown: Unknown,
    unknown_score: f64,
    bytes: Option<Box<[u32; 256]>>,
    single: bool,
}

/// Settings of a [`Unigram`] beside vocabulary and scores.
#[derive(Clone, Debug)]
pub struct UnigramConfig {
    /// What becomes of characters without a token.
    pub unknown: Unknown,
    /// Characters without a token become `<0x..>` tokens, one for each byte.
    pub byte_fallback: bool,
    /// The smallest score of an ordinary token, if it is not the smallest one of all scores.
    pub min_score: Option<f64>,
    /// Add up in single precision, as SentencePiece does; Hugging Face adds in double. They choose differently where
    /// two segmentations are equal up to rounding.
    pub single_precision: bool,
}

/// The best way to each byte position.
#[derive(Debug, Default)]
pub(crate) struct Lattice {
    best: Vec<Step>,
    path: Vec<(u32, u32, u32)>,
    edges: Vec<Edge>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    score: f64,
    start: u32,
    id: u32,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    start: u32,
    end: u32,
    id: u32,
    score: f64,
}

impl Unigram {
    /// A model from its vocabulary and the score (log probability) of each id. Ids without a score are never chosen:
    /// control tokens, byte tokens, unused ones.
    ///
    /// # Errors
    /// When a score is not finite.
    pub fn new(format: &'static str, vocab: Vocab, scores: &[Option<f64>], config: UnigramConfig) -> Result<Self> {
        for (id, score) in scores.iter().enumerate() {
            if score.is_some_and(|s| !s.is_finite()) {
                return Err(Error::malformed(format, format!("the score of token {id} is not finite")));
            }
        }
        let chosen = |id: u32| scores.get(id as usize).copied().flatten().is_some();
        let trie =
            Trie::new(vocab.iter().filter(|(id, token)| chosen(*id) && !token.is_empty()).map(|(id, t)| (t, id)));
        let smallest = scores.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let smallest = config.min_score.unwrap_or(if smallest.is_finite() { smallest } else { 0.0 });
        let bytes = config.byte_fallback.then(|| super::bpe::fallback_bytes(&vocab));
        let mut dense = vec![0.0; vocab.id_bound()];
        for (slot, score) in dense.iter_mut().zip(scores) {
            *slot = score.unwrap_or(0.0);
        }
        Ok(Self {
            vocab,
            scores: dense,
            trie,
            unknown: config.unknown,
            unknown_score: smallest - UNKNOWN_PENALTY,
            bytes,
            single: config.single_precision,
        })
    }

    /// Byte strings and ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The score of an id, 0 for ids that are never chosen.
    pub fn score(&self, id: u32) -> Option<f64> {
        self.scores.get(id as usize).copied()
    }

    /// What becomes of characters without a token.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// True when characters without a token become byte tokens.
    pub fn byte_fallback(&self) -> bool {
        self.bytes.is_some()
    }

    /// Calls `edge(length, id, score)` for everything that may start the text: its tokens and, where its first
    /// character is no token, that character as an unknown one ([`NONE`]).
    #[inline]
    fn edges(&self, text: &str, mut edge: impl FnMut(usize, u32, f64)) {
        let width = text.chars().next().map_or(0, char::len_utf8);
        let mut has_single = false;
        self.trie.prefixes(text.as_bytes(), |len, id| {
            has_single |= len == width;
            edge(len, id, self.scores[id as usize]);
        });
        if !has_single {
            edge(width, NONE, self.unknown_score);
        }
    }

    fn add(&self, a: f64, b: f64) -> f64 {
        if self.single { f64::from(a as f32 + b as f32) } else { a + b }
    }

    pub(crate) fn encode_piece<S: Sink>(
        &self,
        text: &str,
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let piece = &text[start..end];
        if piece.is_empty() {
            return Ok(());
        }
        let Scratch { lattice, alpha, .. } = scratch;
        match alpha {
            None => self.viterbi(piece, lattice),
            Some((alpha, rng)) => self.sample(piece, lattice, f64::from(*alpha), rng),
        }
        self.emit(piece, start, &lattice.path, sink)
    }

    fn viterbi(&self, piece: &str, lattice: &mut Lattice) {
        let best = &mut lattice.best;
        best.clear();
        best.resize(piece.len() + 1, Step { score: 0.0, start: NONE, id: NONE });
        for (at, _) in piece.char_indices() {
            let here = best[at].score;
            self.edges(&piece[at..], |len, id, score| {
                let step = &mut best[at + len];
                let score = self.add(here, score);
                if step.start == NONE || score > step.score {
                    *step = Step { score, start: at as u32, id };
                }
            });
        }
        lattice.path.clear();
        let mut at = piece.len();
        while at > 0 {
            let step = best[at];
            lattice.path.push((step.start, at as u32, step.id));
            at = step.start as usize;
        }
        lattice.path.reverse();
    }

    /// Draws a segmentation with probability proportional to `exp(alpha * score)`: a forward sum, then a walk back.
    fn sample(&self, piece: &str, lattice: &mut Lattice, alpha: f64, rng: &mut Rng) {
        let Lattice { best, path, edges } = lattice;
        best.clear();
        best.resize(piece.len() + 1, Step { score: f64::NEG_INFINITY, start: NONE, id: NONE });
        best[0].score = 0.0;
        edges.clear();
        for (at, _) in piece.char_indices() {
            let here = best[at].score;
            self.edges(&piece[at..], |len, id, score| {
                let total = here + alpha * score;
                edges.push(Edge { start: at as u32, end: (at + len) as u32, id, score: total });
                let sum = &mut best[at + len].score;
                let (high, low) = if *sum > total { (*sum, total) } else { (total, *sum) };
                *sum = high + (low - high).exp().ln_1p();
            });
        }
        edges.sort_by_key(|e| e.end);
        path.clear();
        let mut at = piece.len() as u32;
        while at > 0 {
            let from = edges.partition_point(|e| e.end < at);
            let to = edges.partition_point(|e| e.end <= at);
            let total = best[at as usize].score;
            let mut left = rng.unit_f64();
            let mut chosen = edges[to - 1];
            for &edge in &edges[from..to] {
                left -= (edge.score - total).exp();
                if left < 0.0 {
                    chosen = edge;
                    break;
                }
            }
            path.push((chosen.start, chosen.end, chosen.id));
            at = chosen.start;
        }
        path.reverse();
    }

    fn emit<S: Sink>(&self, piece: &str, offset: usize, path: &[(u32, u32, u32)], sink: &mut S) -> Result<()> {
        let mut open: Option<(usize, usize)> = None;
        for &(from, to, id) in path {
            let (from, to) = (from as usize, to as usize);
            let bytes = &piece.as_bytes()[from..to];
            let fallback = match &self.bytes {
                Some(ids) if id == NONE && bytes.iter().all(|&b| ids[usize::from(b)] != NONE) => Some(ids),
                _ => None,
            };
            if id == NONE && fallback.is_none() && matches!(self.unknown, Unknown::Token { fuse: true, .. }) {
                open = Some((open.map_or(from, |o| o.0), to));
                continue;
            }
            if let Some((from, to)) = open.take() {
                self.unknown_text(piece, from, to, offset, sink)?;
            }
            match fallback {
                Some(ids) => {
                    for (k, &b) in bytes.iter().enumerate() {
                        sink.token(ids[usize::from(b)], offset + from + k, offset + from + k + 1);
                    }
                }
                None if id == NONE => self.unknown_text(piece, from, to, offset, sink)?,
                None => sink.token(id, offset + from, offset + to),
            }
        }
        match open {
            Some((from, to)) => self.unknown_text(piece, from, to, offset, sink),
            None => Ok(()),
        }
    }

    fn unknown_text<S: Sink>(&self, piece: &str, from: usize, to: usize, offset: usize, sink: &mut S) -> Result<()> {
        match self.unknown {
            Unknown::Token { id, .. } => sink.token(id, offset + from, offset + to),
            Unknown::Drop => {}
            Unknown::Refuse => {
                return Err(Error::NoToken { text: excerpt(&piece[from..to]), offset: offset + from });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(fuse: bool) -> Unigram {
        let tokens = ["<unk>", "a", "b", "ab", "abb", "c"];
        let scores = [None, Some(-2.0), Some(-3.0), Some(-3.5), Some(-9.0), Some(-1.0)];
        let vocab = Vocab::new("test", tokens.iter().enumerate().map(|(i, t)| (i as u32, t))).unwrap();
        let unknown = Unknown::Token { id: 0, fuse };
        let config = UnigramConfig { unknown, byte_fallback: false, min_score: None, single_precision: false };
        Unigram::new("test", vocab, &scores, config).unwrap()
    }

    fn encode(model: &Unigram, text: &str, scratch: &mut Scratch) -> Vec<u32> {
        let mut ids = Vec::new();
        model.encode_piece(text, 0, text.len(), scratch, &mut ids).unwrap();
        ids
    }

    #[test]
    fn the_best_segmentation_wins_over_the_longest_match() {
        let mut scratch = Scratch::default();
        assert_eq!(encode(&model(true), "abb", &mut scratch), [3, 2]);
        assert_eq!(encode(&model(true), "cabc", &mut scratch), [5, 3, 5]);
    }

    #[test]
    fn unknown_characters_are_fused_on_request() {
        let mut scratch = Scratch::default();
        assert_eq!(encode(&model(true), "aéüb", &mut scratch), [1, 0, 2]);
        assert_eq!(encode(&model(false), "aéüb", &mut scratch), [1, 0, 0, 2]);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        // "ab" is [a, b] with exp(-5) or [ab] with exp(-3.5).
        let expected = (-3.5f64).exp() / ((-3.5f64).exp() + (-5.0f64).exp());
        let mut scratch = Scratch { alpha: Some((1.0, Rng::new(3))), ..Default::default() };
        let model = model(true);
        let n = 20_000;
        let whole = (0..n).filter(|_| encode(&model, "ab", &mut scratch) == [3]).count();
        let share = whole as f64 / f64::from(n);
        assert!((share - expected).abs() < 0.012, "{share} against {expected}");
    }
}
