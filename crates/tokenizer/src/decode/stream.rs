//! Decoding token by token.

use super::DecodeState;
use crate::error::Result;
use crate::tokenizer::{DecodeOptions, Tokenizer};

/// Decodes a growing sequence. Only whole characters come out, and all pieces joined, with the last one from
/// [`StreamDecoder::finish`], are what [`Tokenizer::decode_lossy`] gives for the whole sequence.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    options: DecodeOptions,
    state: DecodeState,
    pending: Vec<u8>,
    position: usize,
}

impl StreamDecoder {
    pub(crate) fn new(tokenizer: Tokenizer, options: DecodeOptions) -> Self {
        Self { tokenizer, options, state: DecodeState::default(), pending: Vec::new(), position: 0 }
    }

    /// Takes the next id and returns the text that is complete now, often nothing.
    ///
    /// # Errors
    /// When the id is not in the vocabulary; the decoder goes on as if it had not been given.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.tokenizer.decode_token(id, self.position, self.options, &mut self.state, &mut self.pending)?;
        self.position += 1;
        Ok(self.take_whole())
    }

    /// [`StreamDecoder::push`] for several ids.
    ///
    /// # Errors
    /// When an id is not in the vocabulary; the ids before it have been taken, their text comes with the next call.
    pub fn push_all(&mut self, ids: &[u32]) -> Result<String> {
        for &id in ids {
            self.tokenizer.decode_token(id, self.position, self.options, &mut self.state, &mut self.pending)?;
            self.position += 1;
        }
        Ok(self.take_whole())
    }

    /// The bytes of a character that is not complete yet.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Ends the sequence: an incomplete character becomes U+FFFD. The decoder is as new afterwards.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        self.state = DecodeState::default();
        self.position = 0;
        rest
    }

    fn take_whole(&mut self) -> String {
        let mut text = String::new();
        let mut at = 0;
        while at < self.pending.len() {
            match std::str::from_utf8(&self.pending[at..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    at = self.pending.len();
                }
                Err(e) => {
                    let valid = at + e.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[at..valid]));
                    at = valid;
                    match e.error_len() {
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            at += bad;
                        }
                        None => break,
                    }
                }
            }
        }
        self.pending.drain(..at);
        text
    }
}
