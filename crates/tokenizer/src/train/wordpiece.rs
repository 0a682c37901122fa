//! Training WordPiece vocabularies: byte-pair merges over characters, where all but the first of a word carry a prefix.

use super::merges::{Corpus, Goal, Tokens, learn};
use super::{Progress, words};
use crate::added::AddedToken;
use crate::decode::{DecodeStep, Decoder};
use crate::error::{Error, Result};
use crate::hash::{FastMap, FastSet};
use crate::model::{Model, WordPiece};
use crate::normalize::{BertNormalizer, Normalizer};
use crate::split::{PreTokenizer, Step};
use crate::template::{Part, Template};
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;
use std::cmp::Reverse;
use std::path::Path;

/// Trains a WordPiece vocabulary as Hugging Face's trainer does. Special tokens get the first ids.
#[derive(Clone, Debug)]
pub struct WordPieceTrainer {
    /// Number of tokens, with the special ones.
    pub vocab_size: usize,
    /// A pair has to occur so often to be merged.
    pub min_frequency: u64,
    /// Special tokens; `[UNK]` is the unknown token, `[CLS]` and `[SEP]` make the template when both are there.
    pub special_tokens: Vec<String>,
    /// Characters that are tokens even if the text does not have them.
    pub initial_alphabet: Vec<char>,
    /// Keep only so many of the most frequent characters.
    pub limit_alphabet: Option<usize>,
    /// The prefix of tokens that continue a word.
    pub prefix: String,
    /// Steps of normalisation.
    pub normalizers: Vec<Normalizer>,
    /// How the text is cut into words.
    pub pre_tokenizer: PreTokenizer,
}

impl WordPieceTrainer {
    /// BERT's settings: lower case, words and punctuation, `##`, the five special tokens.
    pub fn bert(vocab_size: usize) -> Self {
        let bert = BertNormalizer { clean_text: true, chinese_chars: true, strip_accents: None, lowercase: true };
        Self {
            vocab_size,
            min_frequency: 0,
            special_tokens: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).to_vec(),
            initial_alphabet: Vec::new(),
            limit_alphabet: None,
            prefix: "##".into(),
            normalizers: vec![Normalizer::Bert(bert)],
            pre_tokenizer: PreTokenizer::new([Step::Bert]),
        }
    }

    /// Trains on texts.
    ///
    /// # Errors
    /// When the vocabulary size has no room for the alphabet and the special tokens, or a pattern reaches its limit.
    pub fn train<T: AsRef<str> + Sync + Send>(&self, texts: impl IntoIterator<Item = T>) -> Result<Tokenizer> {
        self.train_with(texts, &mut |_| {})
    }

    /// Trains on the lines of files.
    ///
    /// # Errors
    /// As [`WordPieceTrainer::train`], and when a file cannot be read as UTF-8.
    pub fn train_files<P: AsRef<Path>>(&self, paths: &[P]) -> Result<Tokenizer> {
        let texts = words::read_files(paths)?;
        self.train(texts.iter().flat_map(|t| t.split_inclusive('\n')))
    }

    /// [`WordPieceTrainer::train`] with reports on the way.
    ///
    /// # Errors
    /// As [`WordPieceTrainer::train`].
    pub fn train_with<T: AsRef<str> + Sync + Send>(
        &self,
        texts: impl IntoIterator<Item = T>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tokenizer> {
        let words = words::count(texts, &self.normalizers, &self.pre_tokenizer, progress)?;
        let kept = self.alphabet(&words);
        let special = self.special_tokens.len();
        if self.vocab_size < special + kept.len() {
            return Err(Error::Config(format!(
                "vocab_size = {} has no room for {special} special tokens and the {} characters of the text; set limit_alphabet",
                self.vocab_size,
                kept.len()
            )));
        }
        let mut tokens = Tokens::new();
        for token in &self.special_tokens {
            tokens.add(token.clone().into_bytes(), 1);
        }
        let mut sorted: Vec<char> = kept.iter().copied().collect();
        sorted.sort_unstable();
        for c in sorted {
            tokens.add(String::from(c).into_bytes(), 1);
        }
        let mut corpus = Corpus::default();
        for (word, count) in &words {
            let mut symbols = Vec::new();
            for (i, c) in word.chars().enumerate() {
                if kept.contains(&c) {
                    let text = if i == 0 { c.to_string() } else { format!("{}{c}", self.prefix) };
                    // A continuing form gets its id when the text first has it, as in the reference; the words are
                    // in a fixed order here, so the ids are too.
                    symbols.push(tokens.add(text.into_bytes(), 1));
                }
            }
            corpus.push(symbols, *count);
        }
        let goal = Goal {
            size: self.vocab_size,
            min_frequency: self.min_frequency,
            max_length: u32::MAX,
            prefix: self.prefix.as_bytes(),
        };
        learn(&mut corpus, &mut tokens, &goal, progress);
        self.assemble(tokens)
    }

    fn alphabet(&self, words: &[(String, u64)]) -> FastSet<char> {
        let mut counts: FastMap<char, u64> = FastMap::default();
        for (word, n) in words {
            for c in word.chars() {
                *counts.entry(c).or_insert(0) += n;
            }
        }
        for &c in &self.initial_alphabet {
            counts.insert(c, u64::MAX);
        }
        let mut chars: Vec<(char, u64)> = counts.into_iter().collect();
        chars.sort_unstable_by_key(|&(c, n)| (Reverse(n), c));
        if let Some(limit) = self.limit_alphabet {
            chars.truncate(limit.max(self.initial_alphabet.len()));
        }
        chars.into_iter().map(|(c, _)| c).collect()
    }

    fn assemble(&self, tokens: Tokens) -> Result<Tokenizer> {
        let special = self.special_tokens.len();
        let ordinary = tokens.texts.iter().enumerate().skip(special);
        let vocab = Vocab::new("training", ordinary.map(|(id, text)| (id as u32, text)))?;
        let special: Vec<AddedToken> =
            self.special_tokens.iter().enumerate().map(|(id, t)| AddedToken::special(id as u32, &t[..])).collect();
        let id = |name: &str| special.iter().find(|t| t.content == name).map(|t| t.id);
        let template = match (id("[CLS]"), id("[SEP]")) {
            (Some(cls), Some(sep)) => {
                let token = |id, type_id| Part::Token { id, type_id };
                let single = vec![token(cls, 0), Part::First { type_id: 0 }, token(sep, 0)];
                let pair = [single.clone(), vec![Part::Second { type_id: 1 }, token(sep, 1)]].concat();
                Template::new(single, pair)?
            }
            _ => Template::default(),
        };
        let model = Model::WordPiece(WordPiece::new(vocab, id("[UNK]"), &self.prefix[..], 100));
        Tokenizer::new(TokenizerParts {
            normalizers: self.normalizers.clone(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            added_tokens: special,
            template,
            decoder: Decoder::new([DecodeStep::WordPiece { prefix: self.prefix.clone(), cleanup: true }]),
            ..TokenizerParts::new(model)
        })
    }
}
