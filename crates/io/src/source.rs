//! The bytes that a reader works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cupola_core::buffer::BufferError;
use cupola_core::shape::MAX_RANK;
use cupola_core::{Buffer, DType, MappedFile, Shape};

use crate::error::{Error, Result};

/// A file's contents, mapped or in memory, with the name that errors show. Clones share the contents.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    contents: Contents,
}

#[derive(Clone, Debug)]
enum Contents {
    Mapped(Arc<MappedFile>),
    Memory(Arc<Vec<u8>>),
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let map = MappedFile::open(path).map_err(Error::io(path, "open"))?;
        Ok(Self { path: path.to_owned(), contents: Contents::Mapped(Arc::new(map)) })
    }

    pub fn memory(label: &str, bytes: Vec<u8>) -> Self {
        Self { path: label.into(), contents: Contents::Memory(Arc::new(bytes)) }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Mapped(map) => map.bytes(),
            Contents::Memory(bytes) => bytes,
        }
    }

    /// The little-endian elements at `begin..end`, shared where the address suits the dtype and copied otherwise.
    pub fn buffer(&self, dtype: DType, begin: usize, end: usize) -> Result<Buffer, BufferError> {
        let aligned = (self.bytes()[begin..end].as_ptr() as usize).is_multiple_of(dtype.size());
        if cfg!(target_endian = "big") || !aligned {
            return Buffer::from_le_bytes(dtype, &self.bytes()[begin..end]);
        }
        match &self.contents {
            Contents::Mapped(map) => Buffer::foreign(dtype, map.clone(), |map| &map.bytes()[begin..end]),
            Contents::Memory(bytes) => Buffer::foreign(dtype, bytes.clone(), |bytes| &bytes[begin..end]),
        }
    }
}

/// What was found and what was expected, for elements that make no buffer.
pub(crate) fn invalid_elements(error: &BufferError) -> (String, &'static str) {
    match error {
        BufferError::NotBool { index, value } => (format!("{value} at element {index}"), "0 or 1 in a bool"),
        other => (other.to_string(), "valid elements"),
    }
}

/// The shape with these dimensions and its size in bytes, or why there can be none: [`Shape::new`] panics, since there a
/// wrong shape is the programmer's.
pub(crate) fn checked_shape(dims: &[usize], dtype: DType) -> Result<(Shape, usize), String> {
    if dims.len() > MAX_RANK {
        return Err(format!("at most {MAX_RANK} dimensions"));
    }
    let numel = dims.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d));
    if numel.is_none_or(|n| n > isize::MAX as usize / 8) {
        return Err("a number of elements that fits in memory".to_owned());
    }
    let shape = Shape::new(dims);
    Ok((shape, shape.numel() * dtype.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_no_memory_holds_are_refused() {
        assert_eq!(
            checked_shape(&[2, 3], DType::F64).map(|(shape, bytes)| (shape.to_vec(), bytes)),
            Ok((vec![2, 3], 48))
        );
        assert!(checked_shape(&[usize::MAX, 2], DType::U8).is_err());
        assert!(checked_shape(&[0, usize::MAX], DType::U8).is_err());
        assert!(checked_shape(&[1; 9], DType::U8).is_err());
        assert!(checked_shape(&[1; 8], DType::U8).is_ok());
    }
}
