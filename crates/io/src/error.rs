//! What can be wrong with a file.

use std::path::{Path, PathBuf};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written. Every message names the file, and the tensor where one is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, such as "open" or "rename".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file as a whole breaks its format.
    #[error("{}: {what} is {found}, expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part that is wrong, such as "the header length".
        what: &'static str,
        /// What stands there.
        found: String,
        /// What the format asks for.
        expected: String,
    },
    /// One tensor of the file breaks the format.
    #[error("{}: tensor `{tensor}`: {what} is {found}, expected {expected}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The part that is wrong, such as "the shape".
        what: &'static str,
        /// What stands there.
        found: String,
        /// What the format or the request asks for.
        expected: String,
    },
    /// A tensor of a type that Cupola has no elements of.
    #[error("{}: tensor `{tensor}` is of type {found}, expected one of {expected}", path.display())]
    UnsupportedDType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type's name in the file.
        found: String,
        /// The names that are read.
        expected: &'static str,
    },
    /// Two tensors of one name.
    #[error("{}: tensor `{tensor}` occurs twice, expected every name once", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// Two tensors that claim the same bytes.
    #[error(
        "{}: tensor `{tensor}` begins at byte {found} of the data, inside tensor `{other}`, expected {expected}",
        path.display()
    )]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The tensor that begins too early.
        tensor: String,
        /// The tensor before it.
        other: String,
        /// Where it begins.
        found: u64,
        /// Where the other ends.
        expected: u64,
    },
    /// A tensor that was asked for and is not there.
    #[error("{}: there is no tensor `{tensor}`{}", path.display(), hint(nearest.as_deref()))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
        /// The most similar name that is there.
        nearest: Option<String>,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; the nearest name is `{name}`"))
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str, found: impl ToString, expected: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what, found: found.to_string(), expected: expected.to_string() }
    }

    pub(crate) fn tensor(
        path: &Path,
        tensor: &str,
        what: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            tensor: shortened(tensor),
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// The file or folder that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Damaged { path, .. }
            | Self::Tensor { path, .. }
            | Self::UnsupportedDType { path, .. }
            | Self::Duplicate { path, .. }
            | Self::Overlap { path, .. }
            | Self::Missing { path, .. } => path,
        }
    }

    /// The tensor that the error is about, when it is about one. Names above 200 bytes are cut.
    pub fn tensor_name(&self) -> Option<&str> {
        match self {
            Self::Io { .. } | Self::Damaged { .. } => None,
            Self::Tensor { tensor, .. }
            | Self::UnsupportedDType { tensor, .. }
            | Self::Duplicate { tensor, .. }
            | Self::Overlap { tensor, .. }
            | Self::Missing { tensor, .. } => Some(tensor),
        }
    }
}

/// A text from a file as messages show it: a hostile file must not fill a log with one name, nor move the cursor.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let clean = |part: &str| -> String {
        part.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
    };
    if text.len() <= MOST {
        return clean(text);
    }
    let end = (0..=MOST).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}... ({} bytes)", clean(&text[..end]), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_wild_names_are_tamed() {
        assert_eq!(shortened("h.0.weight"), "h.0.weight");
        assert_eq!(shortened("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        let long = shortened(&"é".repeat(500));
        assert!(long.len() < 240 && long.ends_with("... (1000 bytes)"), "{long}");
    }

    #[test]
    fn messages_are_complete() {
        let error = Error::tensor(Path::new("m.safetensors"), "w", "the size in bytes", 7, "8 for f32 [2]");
        assert_eq!(error.to_string(), "m.safetensors: tensor `w`: the size in bytes is 7, expected 8 for f32 [2]");
    }
}
