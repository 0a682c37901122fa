//! The one error type of the crate.

use std::path::{Path, PathBuf};

/// What can go wrong while loading, encoding, decoding or training.
///
/// Every message is complete by itself: it names the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file or byte string does not follow its format.
    #[error("{format}: {what}")]
    Malformed {
        /// The format, for example `tokenizer.json`.
        format: &'static str,
        /// What was found and what was expected, with its place.
        what: String,
    },
    /// A well-formed file asks for something that this crate does not model. Refusing is better than wrong ids.
    #[error("{format}: {what} is not supported")]
    Unsupported {
        /// The format, for example `tokenizer.json`.
        format: &'static str,
        /// The setting, by the name the file gives it.
        what: String,
    },
    /// A regular expression of a pre-tokenizer does not compile.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The engine's reason.
        reason: String,
    },
    /// The regular-expression engine gave up on a text.
    #[error("pattern {pattern:?} reached its search limit at byte {offset} of the text: {reason}")]
    PatternLimit {
        /// The pattern.
        pattern: String,
        /// Byte offset where the search had started.
        offset: usize,
        /// The engine's reason.
        reason: String,
    },
    /// The vocabulary has neither a token for this text nor an unknown token to stand for it.
    #[error("the vocabulary has no token for {text:?} at byte {offset} and defines no unknown token")]
    NoToken {
        /// The piece of text, cut to a few characters.
        text: String,
        /// Byte offset in the (normalised) text.
        offset: usize,
    },
    /// An id that the vocabulary does not have.
    #[error("id {id} at position {position} is not in the vocabulary ({size} ids)")]
    UnknownId {
        /// The id.
        id: u32,
        /// Its position in the sequence.
        position: usize,
        /// One more than the largest id of the vocabulary.
        size: usize,
    },
    /// Strict decoding met bytes that are not UTF-8.
    #[error("the decoded bytes are not UTF-8 at byte {offset}; decode_lossy and decode_bytes accept them")]
    NotUtf8 {
        /// Offset of the first wrong byte in the decoded bytes.
        offset: usize,
    },
    /// `allowed_special` names a token that is not a special token of this tokenizer.
    #[error("{token:?} is not a special token of this tokenizer; it has {known}")]
    UnknownSpecial {
        /// The name that was given.
        token: String,
        /// The names that exist, abbreviated.
        known: String,
    },
    /// A text longer than 4 GiB.
    #[error("the text has {len} bytes; one call takes at most {max}")]
    TooLong {
        /// Length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A setting of a trainer or of an encode call that cannot be followed.
    #[error("{0}")]
    Config(String),
    /// A chat template is malformed or refused its input.
    #[error("chat template: {0}")]
    Template(String),
    /// A vocabulary name that is not known, or not compiled in.
    #[error("{0}")]
    Vocabulary(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(format: &'static str, what: impl Into<String>) -> Self {
        Self::Malformed { format, what: what.into() }
    }

    pub(crate) fn unsupported(format: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { format, what: what.into() }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_path_buf(), source }
    }
}

/// The first characters of a text, for error messages.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(24).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
