//! What can be wrong with a model directory.

use std::path::PathBuf;

use crate::spec::SpecError;

/// Why a model directory is no model, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read or written, or breaks its format.
    #[error(transparent)]
    File(#[from] cupola_io::Error),
    /// A file cannot be read as text.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration is not what it should be.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A configuration describes an impossible model.
    #[error("{}: {error}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// The rule that is broken.
        #[source]
        error: SpecError,
    },
    /// The tensors are not the model's.
    #[error("{}: {what}", path.display())]
    Tensors {
        /// The directory or file.
        path: PathBuf,
        /// Names that are missing, unexpected or of another shape.
        what: String,
    },
}
