//! The packed form in which the data crates keep ranks.

use crate::error::{Error, Result};

/// Tokens and their ranks.
pub(super) type Ranks<'a> = Vec<(&'a [u8], u32)>;

pub(super) fn damaged() -> Error {
    Error::malformed("packed vocabulary", "the data crate has another form than expected")
}

/// `SPLNTRV1`, a count, then for each token its rank and length as LEB128 and its bytes.
pub(super) fn packed(data: &[u8]) -> Result<Ranks<'_>> {
    let (count, mut rest) =
        data.strip_prefix(b"SPLNTRV1").and_then(|d| d.split_first_chunk::<4>()).ok_or_else(damaged)?;
    let mut ranks = Vec::with_capacity((u32::from_le_bytes(*count) as usize).min(data.len()));
    while !rest.is_empty() {
        let rank = varint(&mut rest).ok_or_else(damaged)?;
        let len = varint(&mut rest).ok_or_else(damaged)?;
        let (token, tail) = rest.split_at_checked(len as usize).ok_or_else(damaged)?;
        ranks.push((token, rank));
        rest = tail;
    }
    Ok(ranks)
}

fn varint(data: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for i in 0..5 {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
