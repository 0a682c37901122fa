//! Training: vocabularies from text.
//!
//! - `bpe`: byte-pair encoding over bytes or characters
//! - `wordpiece`: vocabularies for longest match first
//! - `unigram`: the unigram language model, over `expectation`, `lattice` and `scripts`
//! - `words`: the pieces of a text and how often each occurs, counted on several threads
//! - `merges`: learning merges from counted pieces

pub mod bpe;
mod expectation;
mod lattice;
mod merges;
mod scripts;
pub mod unigram;
pub mod wordpiece;
mod words;

pub use bpe::{BpeTrainer, TieBreak};
pub use unigram::UnigramTrainer;
pub use wordpiece::WordPieceTrainer;

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Texts are being read.
    Reading {
        /// Bytes so far.
        bytes: u64,
    },
    /// Tokens are being learnt.
    Learning {
        /// Tokens so far.
        tokens: usize,
        /// Tokens wanted.
        of: usize,
    },
}
