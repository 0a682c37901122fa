//! What can be wrong with data.

use std::path::{Path, PathBuf};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why data could not be read or written. Every message names the file and the place in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written whole.
    #[error(transparent)]
    File(#[from] cupola_io::Error),
    /// A place in a file that is not as its format says.
    #[error("{}: {unit} {at}: found {found}, expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What `at` counts: bytes, lines or tokens.
        unit: &'static str,
        /// Where.
        at: u64,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A file of tokens that is damaged or of another format.
    #[error("{}: {what} is {found}, expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part.
        what: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The tokenizer refused a text.
    #[error("{}: byte {offset}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Where the text begins.
        offset: u64,
        /// The tokenizer's reason.
        source: cupola_tokenizer::Error,
    },
    /// A pattern or path that leads to nothing that can be read.
    #[error("{path}: {reason}")]
    NoInput {
        /// The path or pattern.
        path: String,
        /// Why.
        reason: String,
    },
    /// Options that make no sense for this data.
    #[error("{0}")]
    Options(String),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str, found: impl ToString, expected: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what, found: found.to_string(), expected: expected.to_string() }
    }

    pub(crate) fn content(
        path: &Path,
        unit: &'static str,
        at: u64,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        let found = shortened(&found.to_string());
        Self::Content { path: path.to_owned(), unit, at, found, expected: expected.to_string() }
    }
}

/// A text from a file as messages show it: short, and without what would move a terminal's cursor.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut out: String = text.chars().take(MOST).map(clean).collect();
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}
