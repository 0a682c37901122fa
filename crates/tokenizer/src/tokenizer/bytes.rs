//! Text that may not be UTF-8.

use super::Tokenizer;
use crate::error::{Error, Result};
use crate::model::Model;
use std::borrow::Cow;

impl Tokenizer {
    /// The ids of bytes. Valid UTF-8 is encoded as [`Tokenizer::encode`] does. Otherwise a byte-level model follows
    /// tiktoken's `_encode_bytes`: the text before the first wrong byte is encoded, its last piece is taken back, and
    /// that piece and all the rest become one piece. Decoding gives the bytes back. Other models read U+FFFD for what
    /// is not UTF-8.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => return self.encode(text),
            Err(e) => e.valid_up_to(),
        };
        let plain = self.parts.normalizers.is_empty() && self.parts.decoder.is_plain();
        if !plain || !self.parts.model.is_byte_level() {
            let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
            return self.encode(&text);
        }
        // `valid` is the length of a valid prefix.
        let text = std::str::from_utf8(&bytes[..valid]).map_err(|e| Error::NotUtf8 { offset: e.valid_up_to() })?;
        let mut ids = self.encode(text)?;
        let mut last = match self.parts.pre_tokenizer.split(text)?.last() {
            Some(piece) => self.count_piece(piece.as_bytes())?,
            None => 0,
        };
        // White space may be cut differently once something follows it, so all of it at the end is taken back.
        let blank = |id: u32| {
            let bytes = self.parts.model.vocab().bytes(id);
            bytes.is_some_and(|b| b.iter().all(|c| matches!(c, b' ' | b'\n' | b'\t')))
        };
        if last > 0 && last <= ids.len() && blank(ids[ids.len() - last]) {
            while last < ids.len() && blank(ids[ids.len() - last - 1]) {
                last += 1;
            }
        }
        let kept = ids.len().saturating_sub(last);
        let mut rest = self.decode_bytes(&ids[kept..])?;
        rest.extend_from_slice(&bytes[valid..]);
        ids.truncate(kept);
        self.encode_piece_bytes(&rest, &mut ids)?;
        Ok(ids)
    }

    /// The ids of bytes as one piece, whatever a pre-tokeniser would do with them; for byte-level models.
    ///
    /// # Errors
    /// When the model is not byte-level, or lacks a byte.
    pub fn encode_single_piece(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_piece_bytes(bytes, &mut ids)?;
        Ok(ids)
    }

    fn encode_piece_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<()> {
        match &self.parts.model {
            Model::Bpe(bpe) if self.parts.model.is_byte_level() => {
                self.pool.with(|scratch| bpe.encode_piece(bytes, 0, bytes.len(), scratch, ids))
            }
            Model::Bytes(model) => {
                model.encode_piece(bytes, 0, bytes.len(), ids);
                Ok(())
            }
            _ => Err(Error::Config("only byte-level models encode bytes as one piece".into())),
        }
    }

    fn count_piece(&self, piece: &[u8]) -> Result<usize> {
        let mut ids = Vec::new();
        self.encode_piece_bytes(piece, &mut ids)?;
        Ok(ids.len())
    }
}
