//! Training the unigram language model (Kudo 2018, <https://arxiv.org/abs/1804.10959>).
//!
//! Frequent substrings are the seeds. Then, in turn: expected counts under the present probabilities (EM, with the
//! digamma correction of a variational prior, as in SentencePiece), and removal of the quarter of the pieces that the
//! likelihood misses least.

use super::Progress;
use super::expectation::Pieces;
use super::lattice::Lattice;
use super::scripts::Scripts;
use super::words::{self, Count};
use crate::added::AddedToken;
use crate::decode::{DecodeStep, Decoder};
use crate::error::{Error, Result};
use crate::hash::FastMap;
use crate::model::bpe::Unknown;
use crate::model::unigram::UnigramConfig;
use crate::model::{Model, Unigram};
use crate::normalize::{Form, Normalizer};
use crate::split::{Metaspace, PreTokenizer, PrependScheme, Step};
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::path::Path;

/// Pieces that are expected less often go.
const LEAST_EXPECTED: f64 = 0.5;
/// Longer words are trained in parts of this many characters; it bounds the range of the sums.
const LONGEST_WORD: usize = 32;

/// Trains a unigram model. Special tokens get the first ids, then pieces by falling probability.
#[derive(Clone, Debug)]
pub struct UnigramTrainer {
    /// Number of tokens, with the special ones.
    pub vocab_size: usize,
    /// Special tokens.
    pub special_tokens: Vec<String>,
    /// The special token for characters outside the vocabulary.
    pub unknown_token: String,
    /// Characters that are tokens even if the text does not have them.
    pub initial_alphabet: Vec<char>,
    /// A piece has at most this many characters.
    pub max_piece_length: usize,
    /// Pieces keep to one script, so that a word and the mark behind it are two.
    pub split_by_script: bool,
    /// A seed has to occur so often in the text.
    pub min_frequency: u64,
    /// Number of seeds at most.
    pub seed_size: usize,
    /// What is kept in each round.
    pub shrinking_factor: f64,
    /// Expectation steps in each round.
    pub sub_iterations: usize,
    /// Steps of normalisation.
    pub normalizers: Vec<Normalizer>,
    /// How the text is cut into words.
    pub pre_tokenizer: PreTokenizer,
}

impl UnigramTrainer {
    /// SentencePiece's settings: NFKC, words with a mark in front, three special tokens.
    pub fn new(vocab_size: usize) -> Self {
        let metaspace = Metaspace { replacement: '\u{2581}', prepend: PrependScheme::Always, split: true };
        Self {
            vocab_size,
            special_tokens: ["<unk>", "<s>", "</s>"].map(String::from).to_vec(),
            unknown_token: "<unk>".into(),
            initial_alphabet: Vec::new(),
            max_piece_length: 16,
            split_by_script: true,
            min_frequency: 2,
            seed_size: 1_000_000,
            shrinking_factor: 0.75,
            sub_iterations: 2,
            normalizers: vec![Normalizer::Unicode(Form::Nfkc)],
            pre_tokenizer: PreTokenizer::new([Step::Metaspace(metaspace)]),
        }
    }

    /// Trains on texts.
    ///
    /// # Errors
    /// When the vocabulary size has no room for the alphabet and the special tokens, a setting cannot be followed, or
    /// a pattern reaches its limit.
    pub fn train<T: AsRef<str> + Sync + Send>(&self, texts: impl IntoIterator<Item = T>) -> Result<Tokenizer> {
        self.train_with(texts, &mut |_| {})
    }

    /// Trains on the lines of files.
    ///
    /// # Errors
    /// As [`UnigramTrainer::train`], and when a file cannot be read as UTF-8.
    pub fn train_files<P: AsRef<Path>>(&self, paths: &[P]) -> Result<Tokenizer> {
        let texts = words::read_files(paths)?;
        self.train(texts.iter().flat_map(|t| t.lines()))
    }

    /// [`UnigramTrainer::train`] with reports on the way.
    ///
    /// # Errors
    /// As [`UnigramTrainer::train`].
    pub fn train_with<T: AsRef<str> + Sync + Send>(
        &self,
        texts: impl IntoIterator<Item = T>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tokenizer> {
        if !(0.0..1.0).contains(&self.shrinking_factor) {
            return Err(Error::Config(format!("shrinking_factor = {} is not between 0 and 1", self.shrinking_factor)));
        }
        let counted = words::count_by_place(texts, &self.normalizers, &self.pre_tokenizer, progress)?;
        let words = self.parts_of_words(&counted);
        let chars = self.alphabet(&words);
        let room = self.vocab_size.saturating_sub(self.special_tokens.len());
        if room < chars.len() {
            return Err(Error::Config(format!(
                "vocab_size = {} has no room for {} special tokens and the {} characters of the text",
                self.vocab_size,
                self.special_tokens.len(),
                chars.len()
            )));
        }
        let (mut texts, mut scores) = self.seeds(&counted, &chars);
        let mut lattice = Lattice::new(&words, &texts, self.max_piece_length)?;
        // A tenth more than wanted: the last choice is by score.
        let desired = room + room / 10;
        loop {
            for _ in 0..self.sub_iterations.max(1) {
                let expected = Pieces::new(&texts, &scores, &lattice).expected()?;
                let kept;
                (kept, scores) = maximise(&expected);
                texts = kept.iter().map(|&id| texts[id as usize]).collect();
                lattice.keep(&kept);
            }
            progress(Progress::Learning { tokens: texts.len(), of: room });
            if texts.len() <= desired {
                break;
            }
            let kept = self.prune(&texts, &scores, &lattice, desired)?;
            if texts.len() == kept.len() {
                break;
            }
            (texts, scores) = kept.iter().map(|&id| (texts[id as usize], scores[id as usize])).unzip();
            lattice.keep(&kept);
        }
        self.assemble(&texts, &scores, &chars, room)
    }

    fn metaspace(&self) -> Option<Metaspace> {
        self.pre_tokenizer.steps().iter().find_map(|step| match step {
            Step::Metaspace(metaspace) => Some(*metaspace),
            _ => None,
        })
    }

    /// What stands for a space.
    fn mark(&self) -> Option<char> {
        self.metaspace().map(|metaspace| metaspace.replacement)
    }

    fn parts_of_words<'a>(&self, counted: &'a [(String, Count)]) -> Vec<(&'a str, u64)> {
        let mut words = Vec::with_capacity(counted.len());
        for (word, [inside, last]) in counted {
            let (mut rest, n) = (&word[..], inside + last);
            while let Some((cut, _)) = rest.char_indices().nth(LONGEST_WORD) {
                words.push((&rest[..cut], n));
                rest = &rest[cut..];
            }
            words.push((rest, n));
        }
        words
    }

    fn alphabet(&self, words: &[(&str, u64)]) -> Vec<(String, u64)> {
        let mut counts: FastMap<char, u64> = self.initial_alphabet.iter().map(|&c| (c, 1)).collect();
        for (word, n) in words {
            for c in word.chars() {
                *counts.entry(c).or_insert(0) += n;
            }
        }
        let mut chars: Vec<(String, u64)> = counts.into_iter().map(|(c, n)| (c.to_string(), n)).collect();
        chars.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        chars
    }

    /// Characters and the substrings with the largest frequency times length. Of substrings that begin alike and occur in the
    /// same places the longest is enough: what is always followed by the same character is no seed.
    fn seeds<'a>(&self, words: &'a [(String, Count)], chars: &'a [(String, u64)]) -> (Vec<&'a str>, Vec<f64>) {
        /// Followed by the next word, by the end of the text, by both, by different characters.
        const WORD: u32 = u32::MAX;
        const END: u32 = u32::MAX - 1;
        const BOTH: u32 = u32::MAX - 2;
        const MANY: u32 = u32::MAX - 3;
        let mut scripts = self.split_by_script.then(Scripts::new);
        let mark = self.mark();
        let mut counts: FastMap<&str, (u64, u32)> = FastMap::default();
        for (word, [inside, last]) in words {
            let behind = match (inside, last) {
                (_, 0) => WORD,
                (0, _) => END,
                _ => BOTH,
            };
            for (start, _) in word.char_indices() {
                let rest = &word[start..];
                let most = self.max_piece_length;
                let most = scripts.as_mut().map_or(most, |scripts| scripts.together(rest, mark, most));
                let after = rest.char_indices().map(|(i, c)| (start + i, u32::from(c))).chain([(word.len(), behind)]);
                for (end, next) in after.take(most.saturating_add(1)).skip(2) {
                    let (count, follows) = counts.entry(&word[start..end]).or_insert((0, next));
                    *count += inside + last;
                    if *follows != next || next == BOTH {
                        *follows = MANY;
                    }
                }
            }
        }
        counts.retain(|_, (_, follows)| *follows == MANY);
        let weight = |text: &str, n: u64| n * text.chars().count() as u64;
        let mut list: Vec<(u64, &str)> = counts
            .into_iter()
            .filter(|(_, (n, _))| *n >= self.min_frequency)
            .map(|(t, (n, _))| (weight(t, n), t))
            .collect();
        list.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        list.truncate(self.seed_size.saturating_sub(chars.len()));
        let all = chars.iter().map(|(c, n)| (*n, &c[..])).chain(list);
        let (weights, texts): (Vec<u64>, Vec<&str>) = all.unzip();
        let total = weights.iter().sum::<u64>() as f64;
        (texts, weights.iter().map(|&w| (w.max(1) as f64 / total).ln()).collect())
    }

    /// What the likelihood would miss most, in order of the numbers.
    fn prune(&self, texts: &[&str], scores: &[f64], lattice: &Lattice, desired: usize) -> Result<Vec<u32>> {
        let pieces = Pieces::new(texts, scores, lattice);
        let counts = pieces.best_counts()?;
        let total: f64 = counts.iter().sum();
        let mut kept = Vec::new();
        let mut candidates = Vec::new();
        let mut buffer = Vec::new();
        for id in 0..texts.len() {
            let Some((score, parts)) = pieces.instead(id as u32, &mut buffer) else {
                // Nothing can stand for it.
                kept.push(id as u32);
                continue;
            };
            if counts[id] == 0.0 || score > scores[id] {
                continue;
            }
            // Without this piece its occurrences become those of its parts.
            let log_total = (total + counts[id] * (parts.len() as f64 - 1.0)).ln();
            let with = counts[id].ln() - total.ln();
            let without: f64 = parts.iter().map(|&p| (counts[p as usize] + counts[id]).ln() - log_total).sum();
            candidates.push((counts[id] * (with - without), id as u32));
        }
        let size = desired.max((self.shrinking_factor * texts.len() as f64) as usize);
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        candidates.truncate(size.saturating_sub(kept.len()));
        kept.extend(candidates.into_iter().map(|(_, id)| id));
        kept.sort_unstable();
        Ok(kept)
    }

    fn assemble(&self, texts: &[&str], scores: &[f64], chars: &[(String, u64)], room: usize) -> Result<Tokenizer> {
        let known: FastMap<&str, f64> = texts.iter().copied().zip(scores.iter().copied()).collect();
        let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min).min(-1.0);
        // Every character is a token; those that were lost get scores just below the lowest, in order.
        let mut below = 0.0;
        let mut chosen: Vec<(f64, &str)> = Vec::new();
        for (c, _) in chars {
            chosen.push(match known.get(&c[..]) {
                Some(&score) => (score, c),
                None => {
                    below += 1e-4;
                    (lowest - below, c)
                }
            });
        }
        let required: FastMap<&str, ()> = chars.iter().map(|(c, _)| (&c[..], ())).collect();
        let mut others: Vec<(f64, &str)> =
            known.iter().filter(|(t, _)| !required.contains_key(**t)).map(|(t, s)| (*s, *t)).collect();
        let order = |a: &(f64, &str), b: &(f64, &str)| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1));
        others.sort_unstable_by(order);
        others.truncate(room.saturating_sub(chosen.len()));
        chosen.extend(others);
        chosen.sort_unstable_by(order);

        let special: Vec<AddedToken> =
            self.special_tokens.iter().enumerate().map(|(id, t)| AddedToken::special(id as u32, &t[..])).collect();
        let Some(unknown) = special.iter().find(|t| t.content == self.unknown_token).map(|t| t.id) else {
            let name = &self.unknown_token;
            return Err(Error::Config(format!("unknown_token = {name:?} is not one of the special tokens")));
        };
        let first = special.len() as u32;
        let vocab = Vocab::new("training", chosen.iter().zip(first..).map(|((_, text), id)| (id, text)))?;
        let none = std::iter::repeat_n(None, special.len());
        let scores: Vec<Option<f64>> = none.chain(chosen.iter().map(|(score, _)| Some(*score))).collect();
        let config = UnigramConfig {
            unknown: Unknown::Token { id: unknown, fuse: true },
            byte_fallback: false,
            min_score: None,
            single_precision: false,
        };
        let decoder = self.metaspace().map(DecodeStep::Metaspace);
        Tokenizer::new(TokenizerParts {
            normalizers: self.normalizers.clone(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            added_tokens: special,
            decoder: Decoder::new(decoder),
            ..TokenizerParts::new(Model::Unigram(Unigram::new("training", vocab, &scores, config)?))
        })
    }
}

/// The pieces that are not too rare, and their new scores from expected counts.
fn maximise(expected: &[f64]) -> (Vec<u32>, Vec<f64>) {
    let kept = || (0..).zip(expected).filter(|(_, n)| **n >= LEAST_EXPECTED);
    let total: f64 = kept().map(|(_, n)| n).sum();
    let log_total = digamma(total);
    kept().map(|(id, n)| (id, digamma(*n) - log_total)).unzip()
}

/// The logarithmic derivative of the gamma function, by recurrence up to 7 and the asymptotic series (Abramowitz and
/// Stegun 6.3.5, 6.3.18). Absolute error below 1e-10 for x >= 0.5.
fn digamma(mut x: f64) -> f64 {
    let mut result = 0.0;
    while x < 7.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y * (1.0 / 240.0 - y / 132.0))));
    result + x.ln() - 0.5 / x - series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_has_the_tabulated_values() {
        for (x, want) in
            [(0.5, -1.963_510_026_021_423_5), (1.0, -0.577_215_664_901_532_9), (10.0, 2.251_752_589_066_721)]
        {
            assert!((digamma(x) - want).abs() < 1e-10, "{x}: {}", digamma(x));
        }
    }

    #[test]
    fn frequent_words_become_pieces_and_every_character_has_one() {
        let lines: Vec<String> = (0..200).map(|i| format!("furnace {} dome furnaces qz{}", i % 7, i % 3)).collect();
        let trainer = UnigramTrainer::new(60);
        let tokenizer = trainer.train(&lines).unwrap();
        assert!(tokenizer.vocab_size() <= 60);
        assert!(tokenizer.token_to_id("▁furnace").is_some());
        let ids = tokenizer.encode(&lines[5]).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), lines[5]);
        assert!(!ids.contains(&0));
        assert_eq!(tokenizer.encode("é").unwrap().last(), Some(&0));
        assert_eq!(trainer.train(&lines).unwrap().to_json().unwrap(), tokenizer.to_json().unwrap());
        assert!(UnigramTrainer::new(8).train(&lines).unwrap_err().to_string().contains("characters"));
    }
}
