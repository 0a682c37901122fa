//! Tokenizers made from the text itself.

use std::collections::BTreeSet;

use cupola_data::Extent;
use cupola_data::read::{Content, Cursor, ReadOptions, Reader};
use cupola_tokenizer::chat::CHATML;
use cupola_tokenizer::model::bpe::Unknown;
use cupola_tokenizer::model::units::{Bytes, Chars};
use cupola_tokenizer::train::{BpeTrainer, Progress};
use cupola_tokenizer::{AddedToken, Model, Tokenizer, TokenizerParts};

use crate::error::{Error, Result};

/// The token before each document.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The special tokens of a tokenizer that is trained: the end of text, ChatML's two, and places for later use.
const SPECIAL: [&str; 8] = [
    END_OF_TEXT,
    "<|im_start|>",
    "<|im_end|>",
    "<|reserved_0|>",
    "<|reserved_1|>",
    "<|reserved_2|>",
    "<|reserved_3|>",
    "<|reserved_4|>",
];

fn error(source: cupola_tokenizer::Error) -> Error {
    Error::Tokenizer { place: "the tokenizer for this text".to_string(), source }
}

/// Bytes that a vocabulary is trained on at most: more does not change which words are frequent.
const MOST_BYTES: usize = 256 << 20;

/// A byte-level BPE tokenizer of `vocab_size` tokens: the 256 bytes, what the text has most of, the special tokens last.
///
/// # Errors
/// When the text cannot be read or the size has no room.
pub fn bpe(
    extents: &[Extent],
    options: &ReadOptions,
    vocab_size: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenizer> {
    let mut trainer = BpeTrainer::byte_level(vocab_size).map_err(error)?;
    trainer.special_tokens = SPECIAL.map(String::from).to_vec();
    let mut texts = Vec::new();
    let mut bytes = 0;
    each_text(extents, options, &mut |text| {
        bytes += text.len();
        // Lines are shared between threads.
        texts.extend(text.split_inclusive('\n').map(String::from));
        bytes < MOST_BYTES
    })?;
    let tokenizer = trainer.train_with(texts, progress).map_err(error)?;
    with_roles(&tokenizer)
}

/// What stands for characters that the text to train on does not have.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// One token for each character of the text to train on, in order of code points, and the end of text. Where the held-out text has
/// other characters, one more token stands for all of them, and they are counted: they are predicted badly, as is right, but read.
///
/// # Errors
/// When the text cannot be read.
pub fn chars(train: &[Extent], held_out: &[Extent], options: &ReadOptions) -> Result<(Tokenizer, u64)> {
    let mut alphabet = BTreeSet::new();
    each_text(train, options, &mut |text| {
        alphabet.extend(text.chars());
        true
    })?;
    let mut unknown = 0;
    each_text(held_out, options, &mut |text| {
        unknown += text.chars().filter(|c| !alphabet.contains(c)).count() as u64;
        true
    })?;
    let mut stands_for_others = Unknown::Refuse;
    if unknown > 0 {
        alphabet.insert(REPLACEMENT);
        let id = alphabet.iter().position(|&c| c == REPLACEMENT).unwrap_or_default() as u32;
        stands_for_others = Unknown::Token { id, fuse: false };
    }
    let model = Chars::new(alphabet, stands_for_others).map_err(error)?;
    Ok((units(Model::Chars(model))?, unknown))
}

/// One token for each byte, and the end of text.
///
/// # Errors
/// Never in practice: the bytes are distinct.
pub fn bytes() -> Result<Tokenizer> {
    units(Model::Bytes(Bytes::new(0).map_err(error)?))
}

fn units(model: Model) -> Result<Tokenizer> {
    let end = model.vocab().id_bound() as u32;
    let mut parts = TokenizerParts::new(model);
    parts.added_tokens = vec![AddedToken::special(end, END_OF_TEXT)];
    parts.eos = Some(end);
    Tokenizer::new(parts).map_err(error)
}

fn with_roles(tokenizer: &Tokenizer) -> Result<Tokenizer> {
    let eos = tokenizer.token_to_id(END_OF_TEXT);
    let parts =
        TokenizerParts { eos, chat_template: Some(CHATML.to_string()), ..TokenizerParts::clone(tokenizer.parts()) };
    Tokenizer::new(parts).map_err(error)
}

/// Hands all text of a corpus to `take` until that says no.
fn each_text(extents: &[Extent], options: &ReadOptions, take: &mut dyn FnMut(&str) -> bool) -> Result<()> {
    let mut reader = Reader::new(extents, options, Cursor::default());
    while let Some(piece) = reader.next_piece()? {
        let go_on = match &piece.content {
            Content::Text(text) => take(text),
            Content::Ids(_) => {
                return Err(Error::Usage(
                    "files of token ids need the tokenizer that made them: give --tokenizer PATH".to_string(),
                ));
            }
            Content::Completion { prompt, completion } => take(prompt) && take(completion),
            Content::Messages(messages) => messages
                .as_array()
                .into_iter()
                .flatten()
                .all(|message| message.get("content").and_then(serde_json::Value::as_str).is_none_or(&mut *take)),
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}
