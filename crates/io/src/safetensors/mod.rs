//! The safetensors format: named tensors behind a JSON header (<https://huggingface.co/docs/safetensors>).
//!
//! ```text
//! u64 little-endian: length of the header
//! header: {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//! data: the tensors' elements, little-endian, row-major, one after the other without gaps
//! ```
//!
//! [`SafeTensors`] reads one file, [`Shards`] a model that is spread over several, [`save`] and [`save_shards`] write.
//!
//! ```
//! use cupola_io::safetensors::{SafeTensors, TensorBytes, to_bytes};
//! use cupola_core::{Buffer, DType};
//!
//! let weight = Buffer::from_slice(&[1.0f32, 2.0, 3.0]);
//! let file = to_bytes(&[TensorBytes::new("weight", [3], &weight)], &Default::default())?;
//! let read = SafeTensors::from_bytes("example", file)?;
//! let tensor = read.tensor("weight")?;
//! assert_eq!((tensor.dtype(), tensor.shape().to_vec()), (DType::F32, vec![3]));
//! assert_eq!(tensor.buffer()?.as_slice::<f32>(), [1.0, 2.0, 3.0]);
//! # Ok::<(), cupola_io::Error>(())
//! ```

mod header;
mod json;
mod shards;
mod write;

use std::path::Path;

use cupola_core::{Buffer, DType, Shape};

use crate::error::{Error, Result, shortened};
use crate::source::{Source, invalid_elements};
use header::{Entry, Header};

#[doc(hidden)]
pub use shards::fuzz_index;
pub use shards::{INDEX_NAME, SINGLE_NAME, Shards, save_shards};
pub use write::{Metadata, TensorBytes, save, to_bytes, write_to};

/// The names of the dtypes in a file, in the order in which the format's reference sorts tensors when it writes, last first.
const NAMES: [(DType, &str); 10] = [
    (DType::Bool, "BOOL"),
    (DType::U8, "U8"),
    (DType::I8, "I8"),
    (DType::F16, "F16"),
    (DType::BF16, "BF16"),
    (DType::I32, "I32"),
    (DType::U32, "U32"),
    (DType::F32, "F32"),
    (DType::F64, "F64"),
    (DType::I64, "I64"),
];

/// The most bytes that a header may have, as in the format's reference.
pub const MAX_HEADER: u64 = 100_000_000;

/// A safetensors file, mapped or in memory, whose header has been checked in full.
///
/// The checks: the header lies inside the file and is UTF-8 and JSON of the form above; every name occurs once; every dtype
/// is known; every shape has at most eight dimensions and the size in bytes that its offsets say; the tensors fill the data
/// without overlap, gap or remainder. An opened file holds on the heap at most twice the header's bytes.
#[derive(Clone, Debug)]
pub struct SafeTensors {
    source: Source,
    header: Header,
    /// Where the data begins.
    base: usize,
}

impl SafeTensors {
    /// Maps the file at `path` and checks its header. No element is read.
    ///
    /// # Errors
    /// When the file cannot be mapped or breaks the format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(Source::open(path.as_ref())?)
    }

    /// Reads a file that is in memory; `label` stands for its path in errors.
    ///
    /// # Errors
    /// When the bytes break the format.
    pub fn from_bytes(label: &str, bytes: Vec<u8>) -> Result<Self> {
        Self::new(Source::memory(label, bytes))
    }

    fn new(source: Source) -> Result<Self> {
        let (header, base) = header::parse(&source.path, source.bytes())?;
        Ok(Self { source, header, base })
    }

    /// The file's path or label.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.header.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> + DoubleEndedIterator {
        self.header.entries.iter().map(|&entry| TensorView { file: self, entry })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.header.entries.iter().map(|entry| self.header.name(entry))
    }

    /// The tensor called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let index = self.header.find(name)?;
        Some(TensorView { file: self, entry: self.header.entries[index] })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// When there is none; the error suggests the most similar name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.get(name).ok_or_else(|| Error::Missing {
            path: self.path().to_owned(),
            tensor: shortened(name),
            nearest: nearest(name, self.names()),
        })
    }

    /// The file's metadata: pairs of key and value, in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header.metadata()
    }

    /// The value that the metadata have for `key`.
    pub fn metadata_value(&self, key: &str) -> Option<&str> {
        self.metadata().find(|&(found, _)| found == key).map(|(_, value)| value)
    }
}

/// One tensor of a [`SafeTensors`].
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    file: &'a SafeTensors,
    entry: Entry,
}

impl<'a> TensorView<'a> {
    /// The tensor's name.
    pub fn name(&self) -> &'a str {
        self.file.header.name(&self.entry)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.entry.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> Shape {
        Shape::new(self.file.header.dims(&self.entry))
    }

    /// The elements as they stand in the file: little-endian, row-major. They may lie at any address.
    pub fn bytes(&self) -> &'a [u8] {
        &self.file.source.bytes()[self.range()]
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.file.base + self.entry.begin..self.file.base + self.entry.end
    }

    /// The elements as a buffer that shares the file's memory. Where the address does not suit the dtype (a file whose header
    /// was not padded) they are copied.
    ///
    /// # Errors
    /// When an element of a bool tensor is neither 0 nor 1.
    pub fn buffer(&self) -> Result<Buffer> {
        let range = self.range();
        self.file.source.buffer(self.dtype(), range.start, range.end).map_err(|error| {
            let (found, expected) = invalid_elements(&error);
            Error::tensor(self.file.path(), self.name(), "the data", found, expected)
        })
    }
}

/// The candidate most similar to `name` (fewest inserted, deleted or replaced bytes), when at most a third differs.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let longest = 200;
    let near = |other: &&str| name.len().max(other.len()) <= longest;
    let (distance, best) =
        candidates.filter(near).map(|other| (edits(name.as_bytes(), other.as_bytes()), other)).min()?;
    (distance * 3 <= name.len()).then(|| shortened(best))
}

fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Drives the reader over arbitrary bytes and touches all that it accepts; for the tests with damaged files.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) -> Result<usize> {
    let file = SafeTensors::from_bytes("fuzz", bytes.to_vec())?;
    let mut total = 0;
    for tensor in file.iter() {
        assert_eq!(tensor.shape().numel() * tensor.dtype().size(), tensor.bytes().len());
        assert_eq!(file.get(tensor.name()).map(|t| t.range()), Some(tensor.range()));
        if let Ok(buffer) = tensor.buffer() {
            assert_eq!(buffer.bytes(), tensor.bytes());
        }
        total += tensor.bytes().len();
    }
    assert!(total < bytes.len(), "tensors never hold more than the file");
    assert!(file.metadata().all(|(key, value)| key.len() + value.len() < bytes.len()));
    Ok(file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_offered() {
        let names = ["h.0.attn.weight", "h.0.attn.bias", "wte"];
        assert_eq!(nearest("h.0.atn.weight", names.into_iter()).as_deref(), Some(names[0]));
        assert_eq!(nearest("lm_head", names.into_iter()), None);
        assert_eq!(edits(b"kitten", b"sitting"), 3);
    }
}
