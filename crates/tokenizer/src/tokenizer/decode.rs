//! Ids to text.

use super::{DecodeOptions, Tokenizer};
use crate::decode::{DecodeState, StreamDecoder};
use crate::error::{Error, Result};

impl Tokenizer {
    /// The text of a sequence. Special tokens appear as their text.
    ///
    /// # Errors
    /// When an id is not in the vocabulary, or the bytes are not UTF-8.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, DecodeOptions::default())
    }

    /// [`Tokenizer::decode`] with options.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn decode_with(&self, ids: &[u32], options: DecodeOptions) -> Result<String> {
        let bytes = self.decode_bytes_with(ids, options)?;
        String::from_utf8(bytes).map_err(|e| Error::NotUtf8 { offset: e.utf8_error().valid_up_to() })
    }

    /// The text of a sequence; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn decode_lossy(&self, ids: &[u32]) -> Result<String> {
        self.decode_lossy_with(ids, DecodeOptions::default())
    }

    /// [`Tokenizer::decode_lossy`] with options.
    ///
    /// # Errors
    /// As [`Tokenizer::decode_lossy`].
    pub fn decode_lossy_with(&self, ids: &[u32], options: DecodeOptions) -> Result<String> {
        let bytes = self.decode_bytes_with(ids, options)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The bytes of a sequence.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        self.decode_bytes_with(ids, DecodeOptions::default())
    }

    /// [`Tokenizer::decode_bytes`] with options.
    ///
    /// # Errors
    /// As [`Tokenizer::decode_bytes`].
    pub fn decode_bytes_with(&self, ids: &[u32], options: DecodeOptions) -> Result<Vec<u8>> {
        let plain = self.parts.decoder.is_plain() && !options.skip_special;
        let vocab = self.parts.model.vocab();
        // Special tokens are not in the model's vocabulary; without them there is nothing to look after.
        if plain && let Some(out) = vocab.join(ids) {
            return Ok(out);
        }
        let mut out = Vec::with_capacity(ids.len() * 5 + 16);
        if plain {
            for (position, &id) in ids.iter().enumerate() {
                match vocab.bytes(id) {
                    Some(bytes) => out.extend_from_slice(bytes),
                    None => out.extend_from_slice(self.known(id, position)?),
                }
            }
            return Ok(out);
        }
        let mut state = DecodeState::default();
        for (position, &id) in ids.iter().enumerate() {
            self.decode_token(id, position, options, &mut state, &mut out)?;
        }
        Ok(out)
    }

    /// A decoder that takes ids one by one and gives out whole characters.
    pub fn stream_decoder(&self) -> StreamDecoder {
        self.stream_decoder_with(DecodeOptions::default())
    }

    /// [`Tokenizer::stream_decoder`] with options.
    pub fn stream_decoder_with(&self, options: DecodeOptions) -> StreamDecoder {
        StreamDecoder::new(self.clone(), options)
    }

    pub(crate) fn decode_token(
        &self,
        id: u32,
        position: usize,
        options: DecodeOptions,
        state: &mut DecodeState,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let token = self.known(id, position)?;
        if !(options.skip_special && self.is_special(id)) {
            self.parts.decoder.token(state, token, out);
        }
        Ok(())
    }

    fn known(&self, id: u32, position: usize) -> Result<&[u8]> {
        self.token_bytes(id).ok_or(Error::UnknownId { id, position, size: self.vocab_size() })
    }
}
