//! Reads a run's metrics, also while they are being written.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::record::Record;
use crate::error::{Error, Result, shortened};

/// The longest line that is read; the largest histogram takes a tenth of it.
const MOST_LINE: usize = 4 << 20;
const BLOCK: usize = 1 << 18;

/// Reads `metrics.jsonl` line by line and waits, when asked again, for what was appended since. A last line without its
/// end is left for later. When the file was replaced by a shorter one it is read from the start, which shows as another
/// [`Record::Header`].
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the file from `offset` on.
    buffer: Vec<u8>,
    /// How much of the buffer is used up.
    used: usize,
    /// How much of the buffer was searched for a line's end.
    searched: usize,
    offset: u64,
    line: u64,
    /// Whether the rest of a line that is too long is being passed over.
    skipping: bool,
}

impl Tail {
    /// Reads the file at `path`, which need not exist yet.
    ///
    /// # Errors
    /// When it exists and cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let mut tail = Self {
            path: path.into(),
            file: None,
            buffer: Vec::new(),
            used: 0,
            searched: 0,
            offset: 0,
            line: 0,
            skipping: false,
        };
        tail.reopen()?;
        Ok(tail)
    }

    /// The next record, or `None` when there is none for now.
    ///
    /// # Errors
    /// When the system refuses, or the line is no record; that line is then passed over, and the call can be repeated.
    pub fn read(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let end = self.searched + found;
                let line = &self.buffer[self.used..end];
                self.line += 1;
                let parsed = (!std::mem::take(&mut self.skipping) && !line.trim_ascii().is_empty())
                    .then(|| Record::parse(line))
                    .transpose();
                (self.used, self.searched) = (end + 1, end + 1);
                match parsed {
                    Ok(None) => continue,
                    Ok(record) => return Ok(record),
                    Err(error) => return Err(self.damaged(&error)),
                }
            }
            self.searched = self.buffer.len();
            if self.searched - self.used > MOST_LINE {
                let first = !std::mem::replace(&mut self.skipping, true);
                self.used = self.searched;
                if first {
                    self.line += 1;
                    let error = self.damaged(&format!("longer than {MOST_LINE} bytes"));
                    self.line -= 1;
                    return Err(error);
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// How many bytes of the file were read.
    pub fn position(&self) -> u64 {
        self.offset + self.used as u64
    }

    fn damaged(&self, found: &str) -> Error {
        let found = format!("in line {}: {}", self.line, shortened(found));
        Error::damaged(&self.path, "a record", found, "a JSON object of a known form")
    }

    /// Reads a block more. `false` at the end of the file; the half line there is then forgotten, since whoever
    /// wrote it may have crashed and may write another in its place.
    fn fill(&mut self) -> Result<bool> {
        if self.file.is_none() && !self.reopen()? {
            return Ok(false);
        }
        let start = self.position();
        self.offset = start;
        self.buffer.drain(..self.used);
        self.searched -= self.used;
        self.used = 0;
        let Some(file) = &mut self.file else { return Ok(false) };
        let held = self.buffer.len();
        let mut read = || {
            file.seek(SeekFrom::Start(start + held as u64))?;
            (&*file).take(BLOCK as u64).read_to_end(&mut self.buffer)
        };
        let length = read().map_err(Error::io(&self.path, "read"))?;
        if length > 0 {
            return Ok(true);
        }
        self.buffer.clear();
        self.searched = 0;
        if self.skipping {
            // What was passed over of the long line stays passed over.
            return self.replaced(start + held as u64);
        }
        self.replaced(start)
    }

    /// At the end of the file: whether it was replaced by a shorter one, or one of another identity, to be read from
    /// its start.
    fn replaced(&mut self, position: u64) -> Result<bool> {
        self.offset = position;
        let now = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            now => now.map_err(Error::io(&self.path, "read"))?,
        };
        let Some(file) = &self.file else { return Ok(false) };
        let open = file.metadata().map_err(Error::io(&self.path, "read"))?;
        if now.len() >= position && same_file(&now, &open) {
            return Ok(false);
        }
        (self.offset, self.line, self.skipping) = (0, 0, false);
        self.reopen()
    }

    fn reopen(&mut self) -> Result<bool> {
        super::check_regular(&self.path)?;
        self.file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file.map_err(Error::io(&self.path, "open"))?),
        };
        Ok(self.file.is_some())
    }
}

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}
