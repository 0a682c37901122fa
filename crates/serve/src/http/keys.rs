//! Who may ask.

use std::hint::black_box;
use std::path::Path;

use crate::error::StartError;

/// Keys, one of which a request must bring.
#[derive(Clone, Default)]
pub struct Keys(Vec<String>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// These keys.
    ///
    /// # Errors
    /// When one is empty or cannot stand in a header.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Result<Self, StartError> {
        let keys: Vec<String> = keys.into_iter().collect();
        for key in &keys {
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
                let what = "a key must be of visible ASCII characters, without spaces, and not empty";
                return Err(StartError::Setting(what.into()));
            }
        }
        Ok(Self(keys))
    }

    /// The keys of a file, one on each line; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no key, or something else.
    pub fn from_file(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| StartError::File { path: path.to_owned(), source })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = Self::new(lines.map(str::to_owned))?;
        if keys.is_empty() {
            return Err(StartError::Setting(format!("{} holds no key", path.display())));
        }
        Ok(keys)
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// True when everybody may ask.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of the keys. The time it takes depends on the length of what was given alone.
    pub fn allow(&self, given: &str) -> bool {
        let mut allowed = false;
        for key in &self.0 {
            allowed |= black_box(equal(key.as_bytes(), given.as_bytes()));
        }
        allowed
    }
}

/// Compares every byte of `given`, whatever was found before.
pub(super) fn equal(key: &[u8], given: &[u8]) -> bool {
    let mut difference = key.len() ^ given.len();
    for (index, &byte) in given.iter().enumerate() {
        difference |= usize::from(black_box(byte ^ key[index % key.len()]));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_equal_as_a_whole_or_not_at_all() {
        let keys = Keys::new(["sk-One".into(), "two2".into()]).unwrap();
        assert!(keys.allow("sk-One") && keys.allow("two2"));
        for wrong in
            ["", "sk-on", "sk-one", "SK-ONE", "sk-One ", " sk-One", "sk-OneX", "sk-Onesk-One", "two", "two2two2"]
        {
            assert!(!keys.allow(wrong), "{wrong:?}");
        }
        assert!(!Keys::default().allow(""));
    }

    #[test]
    fn files_hold_a_key_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "# ours\nabc\n\n  def \r\n").unwrap();
        let keys = Keys::from_file(&path).unwrap();
        assert!(keys.allow("abc") && keys.allow("def"));
        assert_eq!(format!("{keys:?}"), "2 keys", "keys are never printed");
        std::fs::write(&path, "# none\n").unwrap();
        assert!(Keys::from_file(&path).is_err());
        std::fs::write(&path, "a b\n").unwrap();
        assert!(Keys::from_file(&path).is_err());
        assert!(Keys::from_file(&dir.path().join("missing")).is_err());
    }
}
