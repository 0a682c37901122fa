//! Why a run could not begin or go on.

use std::path::PathBuf;

use crate::config::ConfigError;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The text.
    #[error(transparent)]
    Data(#[from] cupola_data::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] cupola_io::Error),
    /// A model directory.
    #[error(transparent)]
    Model(#[from] cupola_models::ModelError),
    /// A tokenizer.
    #[error("{place}: {source}")]
    Tokenizer {
        /// Where it is from.
        place: String,
        /// The reason.
        source: cupola_tokenizer::Error,
    },
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
    /// Something of the run that could not be written, as on a full disk.
    #[error("{what} with {bytes} bytes could not be written: {source}")]
    Unwritten {
        /// What it is.
        what: String,
        /// Its size.
        bytes: u64,
        /// Why, with the path.
        source: Box<Error>,
    },
    /// A checkpoint that cannot be used.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The folder.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// The input was refused.
    #[error("{0}")]
    Refused(String),
    /// The run ended because its numbers went wrong.
    #[error("{0}")]
    Diverged(String),
    /// A worker thread ended before its work was done.
    #[error("{0}")]
    Thread(String),
}

impl Error {
    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn checkpoint(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
    }

    /// The exit code that a program ends with: 1 failed, 2 wrong usage, 3 refused.
    pub fn exit_code(&self) -> u8 {
        use cupola_data::Error as Data;
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Refused(_) | Self::Checkpoint { .. } | Self::Model(_) => 3,
            Self::Tokenizer { source: cupola_tokenizer::Error::File { .. }, .. } => 1,
            Self::Tokenizer { .. } => 3,
            Self::Data(Data::Io { .. } | Data::File(_)) => 1,
            Self::Data(Data::NoInput { .. }) => 2,
            Self::Data(_) => 3,
            Self::Unwritten { .. } | Self::File(_) | Self::Io { .. } | Self::Diverged(_) | Self::Thread(_) => 1,
        }
    }
}
