//! Training byte-pair encodings.

use super::merges::{Corpus, Goal, Tokens, learn};
use super::{Progress, words};
use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::format::byte_chars;
use crate::model::Model;
use crate::model::bpe::{Alphabet, Bpe, BpeConfig, MergeRule, Unknown};
use crate::normalize::Normalizer;
use crate::split::{PreTokenizer, patterns};
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::path::Path;

/// Which of two equally frequent pairs is merged first. Both take the pair with the smaller symbols; they differ in
/// the order of the single bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TieBreak {
    /// Bytes in the order of the printable characters that GPT-2 writes them with, as Hugging Face's trainer does.
    #[default]
    HuggingFace,
    /// Bytes in the order of their values, as trainers for `.tiktoken` files do.
    ByteValue,
}

/// Trains a byte-pair encoding.
///
/// A byte-level vocabulary has the 256 bytes first (id = byte), then the merges, then the special tokens. One over
/// characters has the characters of the text first, in order of code points.
#[derive(Clone, Debug)]
pub struct BpeTrainer {
    /// Number of tokens, with the special ones.
    pub vocab_size: usize,
    /// A pair has to occur so often to be merged.
    pub min_frequency: u64,
    /// Special tokens; they get the last ids.
    pub special_tokens: Vec<String>,
    /// Bytes or characters.
    pub alphabet: Alphabet,
    /// Characters that are tokens even if the text does not have them; for an alphabet of characters.
    pub initial_alphabet: Vec<char>,
    /// Keep only so many of the most frequent characters; for an alphabet of characters.
    pub limit_alphabet: Option<usize>,
    /// The special token for characters outside the alphabet; without it such text is refused.
    pub unknown_token: Option<String>,
    /// A token has fewer than this many bytes (characters, for an alphabet of characters).
    pub max_token_length: Option<u32>,
    /// Which of two equally frequent pairs is merged first.
    pub tie_break: TieBreak,
    /// Steps of normalisation.
    pub normalizers: Vec<Normalizer>,
    /// How the text is cut into pieces.
    pub pre_tokenizer: PreTokenizer,
}

impl BpeTrainer {
    /// A byte-level trainer with the pre-tokenisation of cl100k.
    ///
    /// # Errors
    /// Never in practice: the pattern is a published one that compiles.
    pub fn byte_level(vocab_size: usize) -> Result<Self> {
        Ok(Self {
            vocab_size,
            min_frequency: 0,
            special_tokens: Vec::new(),
            alphabet: Alphabet::Bytes,
            initial_alphabet: Vec::new(),
            limit_alphabet: None,
            unknown_token: None,
            max_token_length: None,
            tie_break: TieBreak::HuggingFace,
            normalizers: Vec::new(),
            pre_tokenizer: PreTokenizer::pattern(patterns::CL100K)?,
        })
    }

    /// Trains on texts. No token crosses from one text into the next; several threads share the texts, so many texts
    /// of moderate size are read faster than one long one.
    ///
    /// # Errors
    /// When the vocabulary size has no room for the alphabet and the special tokens, or a pattern reaches its limit.
    pub fn train<T: AsRef<str> + Sync + Send>(&self, texts: impl IntoIterator<Item = T>) -> Result<Tokenizer> {
        self.train_with(texts, &mut |_| {})
    }

    /// Trains on the lines of files; a line keeps its end.
    ///
    /// # Errors
    /// As [`BpeTrainer::train`], and when a file cannot be read as UTF-8.
    pub fn train_files<P: AsRef<Path>>(&self, paths: &[P]) -> Result<Tokenizer> {
        let texts = words::read_files(paths)?;
        self.train(texts.iter().flat_map(|t| t.split_inclusive('\n')))
    }

    /// [`BpeTrainer::train`] with reports on the way.
    ///
    /// # Errors
    /// As [`BpeTrainer::train`].
    pub fn train_with<T: AsRef<str> + Sync + Send>(
        &self,
        texts: impl IntoIterator<Item = T>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tokenizer> {
        let least = if self.alphabet == Alphabet::Bytes { 256 } else { 1 } + self.special_tokens.len();
        if self.vocab_size < least {
            let size = self.vocab_size;
            return Err(Error::Config(format!(
                "vocab_size = {size} has no room for the alphabet and the special tokens ({least})"
            )));
        }
        let words = words::count(texts, &self.normalizers, &self.pre_tokenizer, progress)?;
        let (mut tokens, symbols) = match self.alphabet {
            Alphabet::Bytes => (self.bytes(), None),
            Alphabet::Chars => self.chars(&words)?,
        };
        let alphabet = tokens.texts.len();
        let size = self.vocab_size - self.special_tokens.len();
        if alphabet > size {
            let vocab_size = self.vocab_size;
            return Err(Error::Config(format!(
                "vocab_size = {vocab_size} has no room for the {alphabet} characters of the text; set limit_alphabet"
            )));
        }
        let byte_ids: Vec<u32> = (0..=255u8).map(|b| tokens.get(&[b]).unwrap_or(0)).collect();
        let mut corpus = Corpus::default();
        for (word, count) in &words {
            match &symbols {
                None => corpus.push(word.bytes().map(|b| byte_ids[usize::from(b)]), *count),
                Some(kept) => {
                    let known = word.chars().filter(|c| kept.contains(&(*c as u32)));
                    let mut buffer = [0; 4];
                    corpus.push(known.filter_map(|c| tokens.get(c.encode_utf8(&mut buffer).as_bytes())), *count);
                }
            }
        }
        drop(words);
        let max_length = self.max_token_length.unwrap_or(u32::MAX);
        let goal = Goal { size, min_frequency: self.min_frequency, max_length, prefix: b"" };
        let merges = learn(&mut corpus, &mut tokens, &goal, progress);
        self.assemble(tokens, merges)
    }

    /// The 256 bytes, numbered in the order that breaks ties.
    fn bytes(&self) -> Tokens {
        let mut order: Vec<u8> = (0..=255).collect();
        if self.tie_break == TieBreak::HuggingFace {
            order.sort_by_key(|&b| byte_chars::char_of(b));
        }
        let mut tokens = Tokens::new();
        for byte in order {
            tokens.add(vec![byte], 1);
        }
        tokens
    }

    fn chars(&self, words: &[(String, u64)]) -> Result<(Tokens, Option<crate::hash::FastSet<u32>>)> {
        let mut counts = crate::hash::FastMap::<u32, u64>::default();
        for (word, n) in words {
            for c in word.chars() {
                *counts.entry(c as u32).or_insert(0) += n;
            }
        }
        for &c in &self.initial_alphabet {
            counts.insert(c as u32, u64::MAX);
        }
        let mut chars: Vec<(u32, u64)> = counts.into_iter().collect();
        chars.sort_unstable_by_key(|&(c, n)| (std::cmp::Reverse(n), c));
        if let Some(limit) = self.limit_alphabet {
            chars.truncate(limit.max(self.initial_alphabet.len()));
        }
        chars.sort_unstable();
        let mut tokens = Tokens::new();
        let mut kept = crate::hash::FastSet::default();
        for (c, _) in chars {
            kept.insert(c);
            let text = char::from_u32(c).map(String::from).unwrap_or_default();
            tokens.add(text.into_bytes(), 1);
        }
        Ok((tokens, Some(kept)))
    }

    fn assemble(&self, tokens: Tokens, merges: Vec<(u32, u32, u32)>) -> Result<Tokenizer> {
        let byte_level = self.alphabet == Alphabet::Bytes;
        // Bytes are numbered by value in the result, whatever order broke the ties.
        let id = |internal: u32| match &tokens.texts[internal as usize][..] {
            [byte] if byte_level => u32::from(*byte),
            _ => internal,
        };
        let n = tokens.texts.len() as u32;
        let vocab = Vocab::new("training", (0..n).map(|i| (id(i), &tokens.texts[i as usize])))?;
        let special = self.special_tokens.iter().enumerate();
        let special: Vec<AddedToken> = special.map(|(i, t)| AddedToken::special(n + i as u32, &t[..])).collect();
        let unknown = match &self.unknown_token {
            None => Unknown::Refuse,
            Some(name) => match special.iter().find(|t| t.content == *name) {
                Some(token) => Unknown::Token { id: token.id, fuse: false },
                None => {
                    return Err(Error::Config(format!("unknown_token = {name:?} is not one of the special tokens")));
                }
            },
        };
        let merges =
            merges.into_iter().map(|(l, r, new)| MergeRule { left: id(l), right: id(r), id: id(new) }).collect();
        let config = BpeConfig { alphabet: self.alphabet, unknown, ..BpeConfig::default() };
        let model = Model::Bpe(Bpe::from_merges(vocab, merges, config));
        Tokenizer::new(TokenizerParts {
            normalizers: self.normalizers.clone(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            added_tokens: special,
            ..TokenizerParts::new(model)
        })
    }
}
