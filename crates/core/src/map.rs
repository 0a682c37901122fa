//! Files read through the page cache instead of into memory of our own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A whole file, mapped read-only.
///
/// Opening costs no memory; pages are read when they are touched. The file must not be written in place or cut short while
/// it is mapped: readers would see the change, and pages past a new end raise a signal. Whoever replaces files by renaming a
/// new one over the old, as Cupola does everywhere, never causes that: the mapping keeps the old file alive.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped, or is no regular file (a pipe or device would block or never end).
    pub fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the mapping is read-only. That nobody writes the file in place meanwhile cannot be enforced; it is the
        // condition stated above, which every user of mapped files lives with.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_those_of_the_file_and_outlive_its_name() {
        let path = std::env::temp_dir().join(format!("cupola-map-{}", std::process::id()));
        fs::write(&path, b"melted").expect("the folder for temporary files is writable");
        let map = MappedFile::open(&path).expect("the file was just written");
        fs::write(path.with_extension("empty"), b"").expect("as above");
        let empty = MappedFile::open(&path.with_extension("empty")).expect("as above");
        for file in [path.clone(), path.with_extension("empty")] {
            fs::remove_file(file).expect("the file was just written");
        }
        assert_eq!(map.bytes(), b"melted");
        assert_eq!(empty.bytes(), b"");
    }

    #[test]
    fn folders_and_missing_files_are_errors() {
        let error = MappedFile::open(&std::env::temp_dir()).expect_err("a folder is no file");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let missing = std::env::temp_dir().join("cupola-map-missing");
        assert_eq!(MappedFile::open(&missing).expect_err("there is none").kind(), io::ErrorKind::NotFound);
    }
}
