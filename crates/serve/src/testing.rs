//! What tests of this crate share: small real tokenizers and models.

use cupola_tokenizer::model::{Bytes, Model};
use cupola_tokenizer::{AddedToken, Tokenizer, TokenizerParts};

/// One token for each byte, and an end token with the number 256.
pub(crate) fn byte_tokenizer() -> Tokenizer {
    let bytes = Bytes::new(0).unwrap();
    let mut parts = TokenizerParts::new(Model::Bytes(bytes));
    parts.added_tokens.push(AddedToken::special(256, "<|end|>"));
    parts.eos = Some(256);
    Tokenizer::new(parts).unwrap()
}
