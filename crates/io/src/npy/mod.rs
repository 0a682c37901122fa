//! The NPY format: one array, as `numpy.save` writes it
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! ```text
//! "\x93NUMPY", major and minor version, length of the header (u16 in version 1, u32 in 2 and 3; little-endian)
//! header: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, padded with spaces, ended by a line break
//! data: the elements
//! ```
//!
//! [`Npy`] reads all three versions, both orders of elements and both orders of bytes; [`save`] writes little-endian files.
//! NumPy has no bf16, so neither has the format; convert to f32 first.
//!
//! ```
//! use cupola_core::{Buffer, DType};
//! use cupola_io::npy::{self, Npy, Order};
//!
//! let values = Buffer::from_slice(&[1i32, 2, 3, 4, 5, 6]);
//! let array = Npy::from_bytes("example", npy::to_bytes([2, 3], Order::RowMajor, &values)?)?;
//! assert_eq!((array.dtype(), array.layout().shape.to_vec()), (DType::I32, vec![2, 3]));
//! assert_eq!(array.buffer()?.as_slice::<i32>(), [1, 2, 3, 4, 5, 6]);
//! # Ok::<(), cupola_io::Error>(())
//! ```

mod header;

use std::io::Write;
use std::path::Path;

use cupola_core::{Buffer, DType, Layout, Shape, bf16, f16};

use crate::atomic;
use crate::error::{Error, Result};
use crate::source::{Source, invalid_elements};
use header::Header;

/// What comes before the version.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The order in which the elements of an array stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The last index runs fastest, as in C.
    RowMajor,
    /// The first index runs fastest, as in Fortran.
    ColumnMajor,
}

/// An NPY file, mapped or in memory, whose header has been checked.
///
/// The shape has at most eight dimensions and exactly the size in bytes that follows the header. An opened file holds nothing
/// on the heap but its path.
#[derive(Clone, Debug)]
pub struct Npy {
    source: Source,
    header: Header,
    /// Where the data begins.
    base: usize,
}

impl Npy {
    /// Maps the file at `path` and checks its header.
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

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.header.dtype
    }

    /// The order of the elements in the file, which is also their order in [`Npy::buffer`].
    pub fn order(&self) -> Order {
        self.header.order
    }

    /// Shape and strides of the elements in [`Npy::buffer`].
    pub fn layout(&self) -> Layout {
        let shape = self.header.shape;
        match self.header.order {
            Order::RowMajor => Layout::contiguous(shape),
            Order::ColumnMajor => {
                let mut strides = vec![0; shape.rank()];
                let mut step = 1;
                for (stride, &dim) in strides.iter_mut().zip(shape.iter()) {
                    *stride = step;
                    step *= dim.max(1) as isize;
                }
                Layout::strided(shape, &strides, 0)
            }
        }
    }

    /// The elements in the file's order. A little-endian file's memory is shared where the address suits the dtype;
    /// otherwise the elements are copied, and swapped if need be.
    ///
    /// # Errors
    /// When an element of a bool array is neither 0 nor 1.
    pub fn buffer(&self) -> Result<Buffer> {
        let dtype = self.dtype();
        let end = self.source.bytes().len();
        let invalid = |error| {
            let (found, expected) = invalid_elements(&error);
            Error::damaged(&self.source.path, "the data", found, expected)
        };
        if self.header.big_endian && dtype.size() > 1 {
            let mut buffer = Buffer::from_le_bytes(dtype, &self.source.bytes()[self.base..]).map_err(invalid)?;
            bytes_mut(&mut buffer).chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
            return Ok(buffer);
        }
        self.source.buffer(dtype, self.base, end).map_err(invalid)
    }
}

/// The bytes of a buffer of a dtype above one byte.
fn bytes_mut(buffer: &mut Buffer) -> &mut [u8] {
    match buffer.dtype() {
        DType::F64 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<f64>()),
        DType::F32 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<f32>()),
        DType::BF16 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<bf16>()),
        DType::F16 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<f16>()),
        DType::I64 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<i64>()),
        DType::I32 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<i32>()),
        DType::U32 => bytemuck::cast_slice_mut(buffer.as_mut_slice::<u32>()),
        other => unreachable!("{other} has no order of bytes"),
    }
}

/// Writes an array, whole or not at all. `buffer` holds the elements of `shape` in the given order.
///
/// # Errors
/// When the system refuses or the dtype is bf16.
///
/// # Panics
/// When the buffer has not as many elements as the shape.
#[track_caller]
pub fn save(path: impl AsRef<Path>, shape: impl Into<Shape>, order: Order, buffer: &Buffer) -> Result<()> {
    let path = path.as_ref();
    let header = header::format(path, shape.into(), order, buffer)?;
    atomic::write_file(path, |file| emit(file, &header, buffer).map_err(Error::io(path, "write")))
}

/// The file as bytes; see [`save`].
///
/// # Errors
/// When the dtype is bf16.
///
/// # Panics
/// As [`save`].
#[track_caller]
pub fn to_bytes(shape: impl Into<Shape>, order: Order, buffer: &Buffer) -> Result<Vec<u8>> {
    let path = Path::new("<memory>");
    let mut out = header::format(path, shape.into(), order, buffer)?;
    emit(&mut out, &[], buffer).map_err(Error::io(path, "write"))?;
    Ok(out)
}

fn emit(out: &mut impl Write, header: &[u8], buffer: &Buffer) -> std::io::Result<()> {
    out.write_all(header)?;
    out.write_all(buffer.bytes())
}

/// Drives the reader over arbitrary bytes and touches all that it accepts; for the tests with damaged files.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) -> Result<usize> {
    let array = Npy::from_bytes("fuzz", bytes.to_vec())?;
    let layout = array.layout();
    assert!(layout.shape.numel() * array.dtype().size() < bytes.len());
    if let Ok(buffer) = array.buffer() {
        assert_eq!(buffer.len(), layout.shape.numel());
        assert!(layout.extent().1 <= buffer.len());
    }
    Ok(layout.shape.numel())
}
