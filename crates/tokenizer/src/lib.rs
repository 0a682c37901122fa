#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | module | what is there |
//! |---|---|
//! | [`tokenizer`] | [`Tokenizer`]: encode, decode, offsets, batches |
//! | [`normalize`] | what happens to text first |
//! | [`split`] | how text is cut into pieces |
//! | [`model`] | from pieces to ids: BPE, Unigram, WordPiece, characters, bytes |
//! | [`added`] | special and added tokens |
//! | [`agent`] | a fixed set of control tokens for chats and tools |
//! | [`chat`] | chat templates |
//! | [`template`] | special tokens around texts |
//! | [`decode`] | from ids to text, whole or streaming |
//! | [`mod@format`] | files: `tokenizer.json`, `.tiktoken`, SentencePiece, Tekken, GGUF |
//! | [`train`] | vocabularies from text |
//! | [`vocab`] | byte strings and ids |
//! | [`vocabularies`] | named vocabularies, behind a feature |

pub mod added;
pub mod agent;
pub mod chat;
pub mod decode;
pub mod error;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod key;
mod lines;
pub mod model;
pub mod normalize;
mod rng;
pub mod split;
pub mod template;
pub mod tokenizer;
pub mod train;
mod trie;
pub mod vocab;
pub mod vocabularies;

pub use added::{AddedToken, AllowedSpecial};
pub use decode::{Decoder, StreamDecoder};
pub use error::{Error, Result};
pub use model::Model;
pub use normalize::Normalizer;
pub use split::PreTokenizer;
pub use template::Template;
pub use tokenizer::{
    Cut, DecodeOptions, EncodeOptions, Encoding, Input, Padding, PaddingLength, Side, Tokenizer, TokenizerParts,
    Truncation, TruncationStrategy,
};
pub use vocab::Vocab;
