//! Writing one file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use cupola_core::{Buffer, DType, Shape};

use super::json::METADATA;
use super::{MAX_HEADER, NAMES};
use crate::atomic;
use crate::error::{Error, Result, shortened};

/// Texts that travel with the tensors. Sorted, so that equal metadata give equal files.
pub type Metadata = BTreeMap<String, String>;

/// The label of a file that exists only in memory.
const MEMORY: &str = "<memory>";

/// A tensor to be written: its name and its elements as little-endian bytes in row-major order.
#[derive(Clone, Debug)]
pub struct TensorBytes<'a> {
    /// The name, unique in the file.
    pub name: &'a str,
    /// The type of the elements.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Shape,
    /// The elements.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> TensorBytes<'a> {
    /// The elements of a whole buffer, in row-major order of `shape`.
    ///
    /// # Panics
    /// When the buffer has not as many elements as the shape.
    #[track_caller]
    pub fn new(name: &'a str, shape: impl Into<Shape>, buffer: &'a Buffer) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.numel(),
            buffer.len(),
            "tensor `{name}` of shape {shape} cannot be written from a buffer of {} elements",
            buffer.len()
        );
        Self { name, dtype: buffer.dtype(), shape, bytes: little_endian(buffer) }
    }
}

/// The buffer's bytes in the files' order.
fn little_endian(buffer: &Buffer) -> Cow<'_, [u8]> {
    let mut bytes = Cow::Borrowed(buffer.bytes());
    if cfg!(target_endian = "big") {
        let size = buffer.dtype().size();
        bytes.to_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    bytes
}

/// Writes a file, whole or not at all (see [`atomic::write_file`]). Equal arguments in any order give equal bytes, those that
/// the format's reference writes: tensors sorted by dtype and then name, the header padded to a multiple of eight bytes.
///
/// # Errors
/// When the system refuses, a name occurs twice or is reserved, or a tensor's bytes do not fit its shape.
pub fn save(path: impl AsRef<Path>, tensors: &[TensorBytes<'_>], metadata: &Metadata) -> Result<()> {
    let path = path.as_ref();
    let (order, header) = plan(path, tensors, metadata)?;
    atomic::write_file(path, |file| emit(file, tensors, &order, &header).map_err(Error::io(path, "write")))
}

/// Writes to anything, in one pass from front to back; see [`save`].
///
/// # Errors
/// As [`save`].
pub fn write_to(out: &mut impl Write, tensors: &[TensorBytes<'_>], metadata: &Metadata) -> Result<()> {
    let (order, header) = plan(Path::new(MEMORY), tensors, metadata)?;
    emit(out, tensors, &order, &header).map_err(Error::io(Path::new(MEMORY), "write"))
}

/// The file as bytes; see [`save`].
///
/// # Errors
/// As [`save`], but for the system's.
pub fn to_bytes(tensors: &[TensorBytes<'_>], metadata: &Metadata) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write_to(&mut out, tensors, metadata)?;
    Ok(out)
}

/// The order of the tensors in the file, and the padded header.
fn plan(path: &Path, tensors: &[TensorBytes<'_>], metadata: &Metadata) -> Result<(Vec<usize>, String)> {
    let rank = |dtype: DType| NAMES.iter().position(|&(known, _)| known == dtype);
    for tensor in tensors {
        let expected = tensor.shape.numel() * tensor.dtype.size();
        if tensor.bytes.len() != expected {
            let expected = format!("{expected} bytes for {} {}", tensor.dtype, tensor.shape);
            return Err(Error::tensor(
                path,
                tensor.name,
                "its data",
                format!("{} bytes long", tensor.bytes.len()),
                expected,
            ));
        }
        if tensor.name == METADATA {
            return Err(Error::tensor(path, tensor.name, "its name", "reserved", "another name"));
        }
        if rank(tensor.dtype).is_none() {
            return Err(Error::UnsupportedDType {
                path: path.to_owned(),
                tensor: shortened(tensor.name),
                found: tensor.dtype.to_string(),
                expected: "f64 f32 bf16 f16 i64 i32 u32 i8 u8 bool",
            });
        }
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| tensors[i].name);
    if let Some(pair) = order.windows(2).find(|pair| tensors[pair[0]].name == tensors[pair[1]].name) {
        return Err(Error::Duplicate { path: path.to_owned(), tensor: shortened(tensors[pair[0]].name) });
    }
    order.sort_by_key(|&i| std::cmp::Reverse(rank(tensors[i].dtype)));

    let mut header = String::from("{");
    if !metadata.is_empty() {
        let _ = write!(header, "{}:{{", quoted(METADATA));
        for (index, (key, value)) in metadata.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(header, "{comma}{}:{}", quoted(key), quoted(value));
        }
        header.push('}');
    }
    let mut begin = 0;
    for &index in &order {
        let tensor = &tensors[index];
        let end = begin + tensor.bytes.len();
        let dtype = NAMES[rank(tensor.dtype).unwrap_or_default()].1;
        let dims = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let comma = if header.len() == 1 { "" } else { "," };
        let _ = write!(
            header,
            r#"{comma}{}:{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{begin},{end}]}}"#,
            quoted(tensor.name)
        );
        begin = end;
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    if header.len() as u64 > MAX_HEADER {
        let expected = format!("at most {MAX_HEADER}, the format's limit");
        return Err(Error::damaged(path, "the header's length", header.len(), expected));
    }
    Ok((order, header))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn emit(out: &mut impl Write, tensors: &[TensorBytes<'_>], order: &[usize], header: &str) -> std::io::Result<()> {
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for &index in order {
        out.write_all(&tensors[index].bytes)?;
    }
    Ok(())
}
