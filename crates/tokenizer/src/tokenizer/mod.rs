//! [`Tokenizer`]: the whole way from text to ids and back.
//!
//! - `options`: what a call may ask for
//! - `encode`: text to ids
//! - `encoding`: ids with offsets and masks, pairs, truncation, padding
//! - `batch`: many texts on several threads
//! - `bytes`: text that may not be UTF-8
//! - `decode`: ids to text

pub(crate) mod batch;
mod bytes;
mod decode;
mod encode;
pub(crate) mod encoding;
pub(crate) mod options;

use crate::added::{AddedToken, AddedTokens};
use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::model::{Model, Scratch};
use crate::normalize::Normalizer;
use crate::normalize::aligned::Aligned;
use crate::split::PreTokenizer;
use crate::template::Template;
pub use encode::Cut;
pub use encoding::{Encoding, Input};
pub use options::{DecodeOptions, EncodeOptions, Padding, PaddingLength, Side, Truncation, TruncationStrategy};
use std::borrow::Cow;
use std::sync::Arc;

/// A tokenizer: normaliser, pre-tokeniser, model, template and decoder, with added and special tokens beside them.
///
/// Cloning is cheap (a reference count); a tokenizer never changes, and may be used from many threads at once.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    parts: Arc<TokenizerParts>,
    added: Arc<AddedTokens>,
    pool: Arc<Pool>,
}

/// What a [`Tokenizer`] is made of. Fill the fields and call [`Tokenizer::new`]; take them from
/// [`Tokenizer::parts`] to make a changed copy.
#[derive(Clone, Debug)]
pub struct TokenizerParts {
    /// Steps of normalisation.
    pub normalizers: Vec<Normalizer>,
    /// How the text is cut into pieces.
    pub pre_tokenizer: PreTokenizer,
    /// From pieces to ids.
    pub model: Model,
    /// Added and special tokens.
    pub added_tokens: Vec<AddedToken>,
    /// Special tokens around texts, for calls that ask for them.
    pub template: Template,
    /// From tokens to text.
    pub decoder: Decoder,
    /// Truncation that the tokenizer's file asks for; used by [`Tokenizer::options`].
    pub truncation: Option<Truncation>,
    /// Padding that the tokenizer's file asks for; used by [`Tokenizer::options`].
    pub padding: Option<Padding>,
    /// The chat template that came with the vocabulary, in Jinja.
    pub chat_template: Option<String>,
    /// The token that begins a sequence.
    pub bos: Option<u32>,
    /// The token that ends a sequence.
    pub eos: Option<u32>,
}

impl TokenizerParts {
    /// A model with nothing around it.
    pub fn new(model: Model) -> Self {
        Self {
            normalizers: Vec::new(),
            pre_tokenizer: PreTokenizer::default(),
            model,
            added_tokens: Vec::new(),
            template: Template::default(),
            decoder: Decoder::default(),
            truncation: None,
            padding: None,
            chat_template: None,
            bos: None,
            eos: None,
        }
    }
}

/// Working memories that no call uses at the moment: at most 64, each of a few megabytes at most.
#[derive(Debug, Default)]
struct Pool(cupola_regex::pool::Pool<Scratch, 64>);

impl Pool {
    #[inline]
    fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.0.take().unwrap_or_default();
        let result = work(&mut scratch);
        self.0.give(scratch);
        result
    }
}

impl Tokenizer {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When two added tokens share an id or a text, when an added token has the id of another token of the model, or
    /// when the template uses an id that does not exist.
    pub fn new(parts: TokenizerParts) -> Result<Self> {
        let normalize = |text: &str| {
            let mut aligned = Aligned::new(text, 0, false);
            for step in &parts.normalizers {
                step.apply(&mut aligned)?;
            }
            Ok(aligned.text.into_owned())
        };
        let added = AddedTokens::new(parts.added_tokens.iter().cloned(), normalize)?;
        for token in added.iter() {
            if let Some(other) = parts.model.vocab().bytes(token.id)
                && other != token.content.as_bytes()
            {
                let other = String::from_utf8_lossy(other);
                return Err(Error::Config(format!(
                    "the added token {:?} has the id {}, which belongs to {other:?}",
                    token.content, token.id
                )));
            }
        }
        for id in parts.template.ids().chain(parts.bos).chain(parts.eos) {
            if added.get(id).is_none() && parts.model.vocab().bytes(id).is_none() {
                return Err(Error::Config(format!("the template uses id {id}, which is not in the vocabulary")));
            }
        }
        Ok(Self { parts: Arc::new(parts), added: Arc::new(added), pool: Arc::default() })
    }

    /// What it is made of.
    pub fn parts(&self) -> &TokenizerParts {
        &self.parts
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.parts.model
    }

    /// One more than the largest id: the number of rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.parts.model.vocab().id_bound().max(self.added.id_bound())
    }

    /// The added tokens in order of id.
    pub fn added_tokens(&self) -> impl Iterator<Item = &AddedToken> {
        self.added.iter()
    }

    /// True for a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.get(id).is_some_and(|t| t.special)
    }

    /// The id of a token, by its text as the vocabulary has it (for byte-level models the raw text, not the
    /// byte-to-character form of `tokenizer.json`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.added.id(token).or_else(|| self.parts.model.vocab().id(token.as_bytes()))
    }

    /// The bytes of a token as the vocabulary has it.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        match self.added.get(id) {
            Some(token) => Some(token.content.as_bytes()),
            None => self.parts.model.vocab().bytes(id),
        }
    }

    /// [`Tokenizer::token_bytes`] as text; bytes that are not UTF-8 become U+FFFD.
    pub fn id_to_token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.token_bytes(id).map(String::from_utf8_lossy)
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.parts.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.parts.eos
    }

    /// A copy with more added tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn with_added_tokens(&self, tokens: impl IntoIterator<Item = AddedToken>) -> Result<Self> {
        let mut parts = (*self.parts).clone();
        parts.added_tokens.extend(tokens);
        Self::new(parts)
    }

    /// A copy with another template.
    ///
    /// # Errors
    /// When the template uses an id that does not exist.
    pub fn with_template(&self, template: Template) -> Result<Self> {
        Self::new(TokenizerParts { template, ..(*self.parts).clone() })
    }

    /// A copy with another chat template.
    pub fn with_chat_template(&self, template: impl Into<String>) -> Self {
        let parts = TokenizerParts { chat_template: Some(template.into()), ..(*self.parts).clone() };
        Self { parts: Arc::new(parts), ..self.clone() }
    }
}
