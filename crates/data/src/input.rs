//! Which files belong to a corpus, and which part of them is held out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::shard;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// UTF-8 text; the file is one document.
    Text,
    /// One JSON value a line, each a document: a text, an object with a text field, with `messages`, or with `prompt` and
    /// `completion`.
    Jsonl,
    /// Token ids as decimal numbers with white space between them; the file is one document.
    Integers,
    /// A file of this crate's own, see [`shard`].
    Shard,
    /// Apache Parquet; each row is a document, its text in one column. Read with the feature `parquet`.
    Parquet,
}

/// The first bytes of every Parquet file.
const PARQUET: [u8; 4] = *b"PAR1";

impl Format {
    /// The format that a file's name and first bytes suggest.
    fn of(path: &Path) -> Self {
        let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let mut start = [0; 8];
        let magic = File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == shard::MAGIC;
        match ending.as_str() {
            _ if magic => Self::Shard,
            shard::EXTENSION => Self::Shard,
            "parquet" => Self::Parquet,
            _ if start.starts_with(&PARQUET) => Self::Parquet,
            "jsonl" | "ndjson" => Self::Jsonl,
            "ids" | "tokens" => Self::Integers,
            _ => Self::Text,
        }
    }
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// The file.
    pub path: PathBuf,
    /// How it is read.
    pub format: Format,
    /// The first byte.
    pub begin: u64,
    /// The byte behind the last.
    pub end: u64,
    /// Length of the whole file when it was found; one that has changed since is refused.
    pub size: u64,
}

impl Extent {
    /// Whether the file's first document begins here.
    pub fn begins_file(&self) -> bool {
        self.begin == 0
    }

    /// How many bytes these are.
    pub fn len(&self) -> u64 {
        self.end - self.begin
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was found for a list of paths.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The files, whole, in order of path for each folder or pattern.
    pub extents: Vec<Extent>,
    /// Files inside folders that were left out because they are not text.
    pub skipped: Vec<PathBuf>,
}

/// The files behind paths: files, folders (walked to the bottom, hidden names and files that are not text left out) and
/// patterns with `*`, `?`, `[..]` and `**`. A path that is there is never a pattern. A file is taken once.
///
/// # Errors
/// When a path leads nowhere, or a folder leads back to itself.
pub fn find(paths: &[impl AsRef<str>], format: Option<Format>) -> Result<Found> {
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    for given in paths {
        let given = given.as_ref();
        let before = (found.extents.len(), found.skipped.len());
        let path = Path::new(given);
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => walk(path, format, &mut seen, &mut found, &mut Vec::new())?,
            Ok(about) if about.is_file() => add(path, about.len(), format, &mut seen, &mut found)?,
            Ok(_) => return Err(no_input(given, "this is neither a file nor a folder")),
            Err(error) if given.contains(['*', '?', '[']) => {
                let _ = error;
                let matches = glob::glob(given).map_err(|e| no_input(given, e))?;
                for entry in matches {
                    let path = entry.map_err(|e| no_input(given, e))?;
                    let about = fs::metadata(&path).map_err(Error::io(&path, "open"))?;
                    if about.is_file() {
                        add(&path, about.len(), format, &mut seen, &mut found)?;
                    }
                }
            }
            Err(error) => return Err(no_input(given, error)),
        }
        let repeated = fs::canonicalize(path).is_ok_and(|real| seen.contains(&real));
        if before == (found.extents.len(), found.skipped.len()) && !repeated {
            return Err(no_input(given, "no file there holds text"));
        }
    }
    Ok(found)
}

fn no_input(path: &str, reason: impl ToString) -> Error {
    Error::NoInput { path: path.to_owned(), reason: reason.to_string() }
}

fn add(path: &Path, size: u64, format: Option<Format>, seen: &mut BTreeSet<PathBuf>, found: &mut Found) -> Result<()> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if seen.insert(real) {
        found.extents.push(whole(path, size, format)?);
    }
    Ok(())
}

/// All of a file of this size.
fn whole(path: &Path, size: u64, format: Option<Format>) -> Result<Extent> {
    let format = format.unwrap_or_else(|| Format::of(path));
    let end = if format == Format::Parquet { parquet_length(path, size)? } else { size };
    Ok(Extent { path: path.to_owned(), format, begin: 0, end, size })
}

/// The length that the rows of a Parquet file are spread over.
#[cfg(feature = "parquet")]
fn parquet_length(path: &Path, _size: u64) -> Result<u64> {
    Ok(crate::parquet::Layout::of(path)?.length)
}

/// The file's own: whoever reads it says that this build cannot.
#[cfg(not(feature = "parquet"))]
fn parquet_length(_path: &Path, size: u64) -> Result<u64> {
    Ok(size)
}

fn walk(
    folder: &Path,
    format: Option<Format>,
    seen: &mut BTreeSet<PathBuf>,
    found: &mut Found,
    above: &mut Vec<PathBuf>,
) -> Result<()> {
    let real = fs::canonicalize(folder).map_err(Error::io(folder, "open"))?;
    if above.contains(&real) {
        return Err(no_input(&folder.display().to_string(), "the folder contains itself through a link"));
    }
    above.push(real);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        entries.push(entry.map_err(Error::io(folder, "list"))?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link that leads nowhere is no file.
        let Ok(about) = fs::metadata(&path) else { continue };
        if hidden {
            continue;
        }
        if about.is_dir() {
            walk(&path, format, seen, found, above)?;
        } else if about.is_file() {
            if is_text(&path)? {
                add(&path, about.len(), format, seen, found)?;
            } else {
                found.skipped.push(path);
            }
        }
    }
    above.pop();
    Ok(())
}

/// Whether the first bytes of a file can be the beginning of text, or of a shard.
fn is_text(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    file.take(8192).read_to_end(&mut start).map_err(Error::io(path, "read"))?;
    let whole = match std::str::from_utf8(&start) {
        Ok(_) => true,
        // A character may be cut by the end of what was read.
        Err(error) => error.error_len().is_none(),
    };
    Ok(start.starts_with(&shard::MAGIC) || start.starts_with(&PARQUET) || (whole && !start.contains(&0)))
}

/// Writes all of standard input (or any reader) to a file, so that it can be split and read again. Without a format its first bytes
/// decide.
///
/// # Errors
/// When either side fails.
pub fn spool(mut input: impl Read, path: &Path, format: Option<Format>) -> Result<Extent> {
    cupola_io::atomic::write_file(path, |file| -> Result<()> {
        let mut block = vec![0; 1 << 16];
        loop {
            match input.read(&mut block).map_err(Error::io(Path::new("standard input"), "read"))? {
                0 => return Ok(()),
                n => file.write_all(&block[..n]).map_err(Error::io(path, "write"))?,
            }
        }
    })?;
    let size = fs::metadata(path).map_err(Error::io(path, "open"))?.len();
    whole(path, size, format)
}

/// Cuts a corpus in two at `share` of its bytes: what comes first is trained on, the rest held out. Text is cut between two
/// characters, lines and numbers are kept whole. Shards are cut by files when there are several.
///
/// # Errors
/// When a file cannot be read, or `share` is not between 0 and 1.
pub fn split(extents: &[Extent], share: f64) -> Result<(Vec<Extent>, Vec<Extent>)> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::Options(format!("the share of the text to train on is {share}, expected 0 to 1")));
    }
    let total: u64 = extents.iter().map(Extent::len).sum();
    // Whole bytes, so that the place does not depend on how floating-point sums are rounded.
    let mut left = (total as f64 * share) as u64;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for extent in extents {
        if left >= extent.len() {
            left -= extent.len();
            first.push(extent.clone());
        } else if left == 0 {
            second.push(extent.clone());
        } else {
            let at = boundary(extent, extent.begin + left)?;
            left = 0;
            for (part, begin, end) in [(&mut first, extent.begin, at), (&mut second, at, extent.end)] {
                if begin < end {
                    part.push(Extent { begin, end, ..extent.clone() });
                }
            }
        }
    }
    Ok((first, second))
}

/// The first place at or behind `at` where the extent may be cut.
fn boundary(extent: &Extent, at: u64) -> Result<u64> {
    let path = &extent.path;
    #[cfg(feature = "parquet")]
    if extent.format == Format::Parquet {
        let layout = crate::parquet::Layout::of(path)?;
        return Ok(layout.offset(layout.row(at)).min(extent.end));
    }
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut begin = at;
    let mut block = vec![0; 1 << 16];
    let inner = |byte: u8| match extent.format {
        Format::Text => byte & 0xC0 == 0x80,
        Format::Jsonl => byte != b'\n',
        Format::Integers => !byte.is_ascii_whitespace(),
        Format::Shard | Format::Parquet => true,
    };
    file.seek(SeekFrom::Start(begin)).map_err(Error::io(path, "read"))?;
    loop {
        let n = file.read(&mut block).map_err(Error::io(path, "read"))?;
        if n == 0 || begin >= extent.end {
            return Ok(extent.end);
        }
        if let Some(index) = block[..n].iter().position(|&byte| !inner(byte)) {
            // A line's end belongs to the line.
            let behind = u64::from(extent.format == Format::Jsonl);
            return Ok((begin + index as u64 + behind).min(extent.end));
        }
        begin += n as u64;
    }
}
