//! What a header says, and the checks that concern more than one tensor.

use std::path::Path;

use cupola_core::DType;

use super::MAX_HEADER;
use super::json;
use crate::error::{Error, Result, shortened};

/// All that a header says, in a compact form.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Sorted by name.
    pub entries: Vec<Entry>,
    /// The names, one after the other.
    pub(super) names: String,
    /// The dimensions of all tensors.
    pub(super) dims: Vec<usize>,
    /// Keys and values of the metadata, one after the other.
    pub(super) texts: String,
    /// For each pair of the metadata the ends, in `texts`, of key and value.
    pub(super) metadata: Vec<[u32; 2]>,
}

/// One tensor: where in the header's vectors its name and dimensions are, and where in the data its elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub name: u32,
    pub name_len: u32,
    pub dims: u32,
    pub rank: u8,
    pub dtype: DType,
    pub begin: usize,
    pub end: usize,
}

impl Header {
    pub fn name(&self, entry: &Entry) -> &str {
        &self.names[entry.name as usize..][..entry.name_len as usize]
    }

    pub fn dims(&self, entry: &Entry) -> &[usize] {
        &self.dims[entry.dims as usize..][..usize::from(entry.rank)]
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by(|entry| self.name(entry).cmp(name)).ok()
    }

    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let starts = std::iter::once(0).chain(self.metadata.iter().map(|ends| ends[1]));
        starts.zip(&self.metadata).map(|(start, &[key, value])| {
            let text = |from: u32, to: u32| &self.texts[from as usize..to as usize];
            (text(start, key), text(key, value))
        })
    }
}

/// Checks a whole file. Returns its header and the place where the data begins.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<(Header, usize)> {
    let Some((prefix, rest)) = file.split_first_chunk::<8>() else {
        return Err(Error::damaged(path, "the file", format!("{} bytes long", file.len()), "at least 8"));
    };
    let length = u64::from_le_bytes(*prefix);
    let most = MAX_HEADER.min(rest.len() as u64);
    if length > most {
        let limit = if most == MAX_HEADER { "the format's limit" } else { "what follows in the file" };
        return Err(Error::damaged(path, "the header's length", length, format!("at most {most}, {limit}")));
    }
    let (header, data) = rest.split_at(length as usize);
    let header = std::str::from_utf8(header).map_err(|error| {
        let found = format!("not UTF-8 after byte {}", error.valid_up_to());
        Error::damaged(path, "the header", found, "UTF-8")
    })?;
    if !header.starts_with('{') {
        let found = header.chars().next().map_or("empty".to_owned(), |c| format!("begun by {c:?}"));
        return Err(Error::damaged(path, "the header", found, "begun by '{'"));
    }
    let mut header = json::read(path, header, data.len())?;
    check(path, &mut header, data.len())?;
    Ok((header, 8 + length as usize))
}

/// Sorts by name and checks what concerns more than one tensor.
fn check(path: &Path, header: &mut Header, data: usize) -> Result<()> {
    let mut entries = std::mem::take(&mut header.entries);
    // Names before places: a name that occurs twice would otherwise be reported as an overlap.
    entries.sort_unstable_by(|a, b| header.name(a).cmp(header.name(b)));
    if let Some(pair) = entries.windows(2).find(|pair| header.name(&pair[0]) == header.name(&pair[1])) {
        return Err(duplicate(path, header.name(&pair[0])));
    }
    entries.sort_unstable_by_key(|entry| (entry.begin, entry.end));
    let mut end = 0;
    let mut before: Option<&Entry> = None;
    for entry in &entries {
        let name = header.name(entry);
        if let Some(other) = before.filter(|_| entry.begin < end) {
            return Err(Error::Overlap {
                path: path.to_owned(),
                tensor: shortened(name),
                other: shortened(header.name(other)),
                found: entry.begin as u64,
                expected: end as u64,
            });
        }
        if entry.begin > end {
            let expected = format!("byte {end}, where the data before it ends");
            return Err(Error::tensor(path, name, "its start", format!("byte {}", entry.begin), expected));
        }
        end = entry.end;
        before = Some(entry);
    }
    if end != data {
        return Err(Error::damaged(path, "the data", format!("{data} bytes long"), format!("{end} by the header")));
    }
    entries.sort_unstable_by(|a, b| header.name(a).cmp(header.name(b)));
    header.entries = entries;
    Ok(())
}

pub(super) fn duplicate(path: &Path, name: &str) -> Error {
    Error::Duplicate { path: path.to_owned(), tensor: shortened(name) }
}
