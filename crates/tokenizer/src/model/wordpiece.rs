//! WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019): longest match first, from left to right.

use super::Sink;
use crate::error::{Error, Result, excerpt};
use crate::vocab::Vocab;

/// Words are cut into the longest tokens that the vocabulary has, from the left; inside a word tokens carry a prefix
/// (`##`). A word that cannot be cut so, or is longer than a limit, is one unknown token.
#[derive(Clone, Debug)]
pub struct WordPiece {
    vocab: Vocab,
    unknown: Option<u32>,
    prefix: String,
    max_chars: usize,
}

impl WordPiece {
    /// A model from its vocabulary, the id for unknown words, the prefix of continuing tokens and the largest number
    /// of characters in a word. Without an unknown id such a word is an error.
    pub fn new(vocab: Vocab, unknown: Option<u32>, prefix: impl Into<String>, max_chars: usize) -> Self {
        Self { vocab, unknown, prefix: prefix.into(), max_chars }
    }

    /// Byte strings and ids.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The id for unknown words.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// The prefix of tokens that continue a word.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The largest number of characters in a word.
    pub fn max_chars(&self) -> usize {
        self.max_chars
    }

    pub(crate) fn encode_piece<S: Sink>(&self, text: &str, start: usize, end: usize, sink: &mut S) -> Result<()> {
        let word = &text[start..end];
        if word.is_empty() {
            return Ok(());
        }
        let mut found: Vec<(u32, usize, usize)> = Vec::new();
        let mut at = if word.chars().nth(self.max_chars).is_some() { word.len() + 1 } else { 0 };
        let mut key = Vec::with_capacity(self.vocab.longest());
        while at < word.len() {
            key.clear();
            if at > 0 {
                key.extend_from_slice(self.prefix.as_bytes());
            }
            let head = key.len();
            // No token is longer than the longest one: the search from the right starts there, which bounds it.
            let mut to = (at + self.vocab.longest().saturating_sub(head)).min(word.len());
            while !word.is_char_boundary(to) {
                to -= 1;
            }
            key.extend_from_slice(&word.as_bytes()[at..to.max(at)]);
            let mut id = None;
            while to > at {
                id = self.vocab.id(&key[..head + to - at]);
                if id.is_some() {
                    break;
                }
                to -= 1;
                while !word.is_char_boundary(to) {
                    to -= 1;
                }
            }
            match id {
                Some(id) => found.push((id, start + at, start + to)),
                None => break,
            }
            at = to;
        }
        if at == word.len() {
            for (id, from, to) in found {
                sink.token(id, from, to);
            }
            return Ok(());
        }
        match self.unknown {
            Some(id) => sink.token(id, start, end),
            None => {
                return Err(Error::NoToken { text: excerpt(word), offset: start });
            }
        }
        Ok(())
    }
}
