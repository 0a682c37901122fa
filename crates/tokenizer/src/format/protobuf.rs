//! The wire format of protocol buffers, as far as reading needs it.

use crate::error::{Error, Result};

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, in order.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    len: usize,
    format: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(format: &'static str, message: &'a [u8]) -> Self {
        Self { rest: message, len: message.len(), format }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::malformed(self.format, format!("{what} at byte {} of a message", self.len - self.rest.len()))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return Err(self.wrong("the end inside a number"));
            };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number of more than ten bytes"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(*chunk)
            }
            None => Err(self.wrong("the end inside a number")),
        }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take()?),
            2 => {
                let len = self.varint()?;
                let split = usize::try_from(len).ok().and_then(|n| self.rest.split_at_checked(n));
                let Some((bytes, rest)) = split else {
                    return Err(self.wrong("a field longer than its message"));
                };
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.take()?),
            other => return Err(self.wrong(&format!("wire type {other}"))),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(b) = self { Some(b) } else { None }
    }

    pub(crate) fn bool(self) -> Option<bool> {
        self.u64().map(|n| n != 0)
    }

    pub(crate) fn u64(self) -> Option<u64> {
        if let Self::Varint(n) = self { Some(n) } else { None }
    }

    pub(crate) fn f32(self) -> Option<f32> {
        if let Self::Fixed32(b) = self { Some(f32::from_le_bytes(b)) } else { None }
    }
}
