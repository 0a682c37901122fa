//! The header of an NPY file: a Python dictionary of three members, of which only the forms that NumPy writes are read.

use std::path::Path;

use cupola_core::shape::MAX_RANK;
use cupola_core::{Buffer, DType, Shape};

use super::{MAGIC, Order};
use crate::error::{Error, Result, shortened};
use crate::source::checked_shape;

/// The data begins at a multiple of this, as in the files that NumPy writes.
const ALIGNMENT: usize = 64;

/// Kind and size of the elements as NumPy spells them, without the order of bytes.
const NAMES: [(DType, &str); 9] = [
    (DType::F64, "f8"),
    (DType::F32, "f4"),
    (DType::F16, "f2"),
    (DType::I64, "i8"),
    (DType::I32, "i4"),
    (DType::U32, "u4"),
    (DType::I8, "i1"),
    (DType::U8, "u1"),
    (DType::Bool, "b1"),
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub dtype: DType,
    pub big_endian: bool,
    pub order: Order,
    pub shape: Shape,
}

/// Checks a whole file. Returns its header and the place where the data begins.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<(Header, usize)> {
    let damaged = |what, found: String, expected: String| Error::damaged(path, what, found, expected);
    let Some(rest) = file.strip_prefix(MAGIC) else {
        return Err(damaged("the beginning", "something else".into(), "\\x93NUMPY".into()));
    };
    let (length, rest) = match rest {
        [1, 0, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, 0, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [major, minor, ..] if !matches!((major, minor), (1..=3, 0)) => {
            return Err(damaged("the version", format!("{major}.{minor}"), "1.0, 2.0 or 3.0".into()));
        }
        _ => {
            return Err(damaged("the file", format!("{} bytes long", file.len()), "longer".into()));
        }
    };
    if length > rest.len() {
        let expected = format!("at most {}, what follows in the file", rest.len());
        return Err(damaged("the header's length", length.to_string(), expected));
    }
    let (text, data) = rest.split_at(length);
    // Version 1 and 2 are Latin-1 and version 3 UTF-8; the members that are read are ASCII in all.
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| text.is_ascii()) else {
        return Err(damaged("the header", "not ASCII".into(), "ASCII".into()));
    };
    let header = Reader { path, text, rest: text }.header()?;
    let bytes = header.shape.numel() * header.dtype.size();
    if data.len() != bytes {
        let expected = format!("{bytes} for {} {}", header.dtype, header.shape);
        return Err(damaged("the length of the data", data.len().to_string(), expected));
    }
    Ok((header, file.len() - data.len()))
}

/// A cursor over the header's text.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn header(mut self) -> Result<Header> {
        let (mut descr, mut order, mut dims) = (None, None, None);
        self.take("{", "a dictionary")?;
        while !self.skip("}") {
            let key = self.quoted("a key in quotes or the end of the dictionary")?;
            self.take(":", "a colon")?;
            let repeated = match key {
                "descr" => descr.replace(self.quoted("a plain type such as '<f4'")?).is_some(),
                "fortran_order" => order.replace(self.order()?).is_some(),
                "shape" => dims.replace(self.dims()?).is_some(),
                _ => return Err(self.error(format!("'{}'", shortened(key)), "only descr, fortran_order and shape")),
            };
            if repeated {
                return Err(self.error(format!("'{key}' twice"), "every key once"));
            }
            if !self.skip(",") {
                self.take("}", "a comma or the end of the dictionary")?;
                break;
            }
        }
        if !self.rest.trim_ascii_start().is_empty() {
            return Err(self.unexpected("nothing behind the dictionary"));
        }
        let missing = |key| self.error(format!("no '{key}'"), "descr, fortran_order and shape");
        let (dtype, big_endian) = self.dtype(descr.ok_or_else(|| missing("descr"))?)?;
        let order = order.ok_or_else(|| missing("fortran_order"))?;
        let (dims, rank) = dims.ok_or_else(|| missing("shape"))?;
        let dims = &dims[..rank];
        let (shape, _) = checked_shape(dims, dtype)
            .map_err(|expected| Error::damaged(self.path, "the shape", format!("{dims:?}"), expected))?;
        Ok(Header { dtype, big_endian, order, shape })
    }

    fn dtype(&self, descr: &str) -> Result<(DType, bool)> {
        let unsupported = || {
            let expected = "one of f8 f4 f2 i8 i4 u4 i1 u1 b1, with < or > before it";
            Error::damaged(self.path, "the type of the elements", format!("'{}'", shortened(descr)), expected)
        };
        let (order, name) = descr.split_at_checked(1).ok_or_else(unsupported)?;
        let (dtype, _) = NAMES.iter().find(|(_, known)| *known == name).ok_or_else(unsupported)?;
        match order {
            "<" => Ok((*dtype, false)),
            ">" => Ok((*dtype, true)),
            "|" if dtype.size() == 1 => Ok((*dtype, false)),
            _ => Err(unsupported()),
        }
    }

    fn order(&mut self) -> Result<Order> {
        if self.skip("True") {
            Ok(Order::ColumnMajor)
        } else if self.skip("False") {
            Ok(Order::RowMajor)
        } else {
            Err(self.unexpected("True or False"))
        }
    }

    /// A tuple of sizes: `()`, `(3,)` or `(2, 3)`, a comma behind the last being optional.
    fn dims(&mut self) -> Result<([usize; MAX_RANK], usize)> {
        let mut dims = [0; MAX_RANK];
        let mut rank = 0;
        self.take("(", "a tuple of sizes")?;
        while !self.skip(")") {
            let start = self.rest.trim_ascii_start();
            let digits = start.bytes().take_while(u8::is_ascii_digit).count();
            let size = start[..digits].parse().map_err(|_| self.unexpected("a size that fits in memory"))?;
            self.rest = &start[digits..];
            if rank == MAX_RANK {
                return Err(self.error(format!("more than {MAX_RANK} dimensions"), "fewer"));
            }
            dims[rank] = size;
            rank += 1;
            if !self.skip(",") {
                self.take(")", "a comma or the end of the tuple")?;
                break;
            }
        }
        Ok((dims, rank))
    }

    fn quoted(&mut self, expected: &str) -> Result<&'a str> {
        let start = self.rest.trim_ascii_start();
        let quote = start.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let (text, rest) = quote
            .and_then(|quote| start[1..].split_once(quote))
            .filter(|(text, _)| !text.contains('\\'))
            .ok_or_else(|| self.unexpected(expected))?;
        self.rest = rest;
        Ok(text)
    }

    /// Whether `token` comes next; it is passed if so.
    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest.trim_ascii_start().strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn take(&mut self, token: &str, expected: &str) -> Result<()> {
        if self.skip(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&self, expected: &str) -> Error {
        let rest = self.rest.trim_ascii_start();
        let place = self.text.len() - rest.len();
        let found = rest.get(..20).unwrap_or(rest);
        self.error(format!("`{}` at byte {place}", shortened(found)), expected)
    }

    fn error(&self, found: String, expected: &str) -> Error {
        Error::damaged(self.path, "the header", found, expected)
    }
}

/// The first part of a file of version 1.0, up to the data.
#[track_caller]
pub(super) fn format(path: &Path, shape: Shape, order: Order, buffer: &Buffer) -> Result<Vec<u8>> {
    assert_eq!(
        shape.numel(),
        buffer.len(),
        "an array of shape {shape} cannot be written from a buffer of {} elements",
        buffer.len()
    );
    let dtype = buffer.dtype();
    let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == dtype) else {
        let expected = "a type that NumPy has, such as f32";
        return Err(Error::damaged(path, "the type of the elements", dtype, expected));
    };
    let endian = match dtype.size() {
        1 => '|',
        _ if cfg!(target_endian = "big") => '>',
        _ => '<',
    };
    let fortran = if order == Order::ColumnMajor { "True" } else { "False" };
    let comma = if shape.rank() == 1 { "," } else { "" };
    let dims = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let text = format!("{{'descr': '{endian}{name}', 'fortran_order': {fortran}, 'shape': ({dims}{comma}), }}");
    // Eight dimensions of twenty digits stay far below the 65,535 bytes of version 1.
    let before = MAGIC.len() + 4;
    let length = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let mut out = [MAGIC, &[1, 0], &(length as u16).to_le_bytes(), text.as_bytes()].concat();
    out.resize(before + length - 1, b' ');
    out.push(b'\n');
    Ok(out)
}
