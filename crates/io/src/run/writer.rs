//! Appends to a run's metrics.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SCHEMA;
use super::record::Record;
use crate::error::{Error, Result};

/// Appends lines to `metrics.jsonl`. Each is one call to the system, so that a reader sees whole lines; none is held
/// back.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    end: u64,
    /// Whether something lies behind `end`: a write failed half way.
    torn: bool,
}

impl MetricsWriter {
    /// Opens the file at `path` to append to, and creates it when it is missing. The half of a line that a crash left
    /// at the end is cut off.
    ///
    /// # Errors
    /// When the system refuses, or the file does not begin with the header of this format.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        super::check_regular(&path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(Error::io(&path, "open"))?;
        let end = end_of_lines(&mut file).map_err(Error::io(&path, "read"))?;
        let length = file.metadata().map_err(Error::io(&path, "read"))?.len();
        let mut writer = Self { path, file, end, torn: length > end };
        if writer.end == 0 {
            writer.append(&Record::Header { schema: SCHEMA })?;
        } else {
            check_header(&mut writer.file, &writer.path)?;
            writer.mend()?;
        }
        Ok(writer)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When the system refuses. What was written of the line is taken back, now or before the next one.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        self.mend()?;
        let line = record.to_line();
        self.torn = true;
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path, "write"))?;
        self.torn = false;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path, "sync"))
    }

    fn mend(&mut self) -> Result<()> {
        if self.torn {
            self.file.set_len(self.end).map_err(Error::io(&self.path, "cut a half-written line from"))?;
            self.torn = false;
        }
        self.file.seek(SeekFrom::Start(self.end)).map_err(Error::io(&self.path, "write"))?;
        Ok(())
    }
}

/// Where the last whole line ends: read backwards, since only the end can be torn.
fn end_of_lines(file: &mut File) -> std::io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn check_header(file: &mut File, path: &Path) -> Result<()> {
    let mut start = [0; 256];
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path, "read"))?;
    let length = file.read(&mut start).map_err(Error::io(path, "read"))?;
    let line = start[..length].split(|&byte| byte == b'\n').next().unwrap_or_default();
    match Record::parse(line) {
        Ok(Record::Header { .. }) => Ok(()),
        Ok(_) => Err(Error::damaged(path, "the first line", "a record of another kind", "the header of metrics")),
        Err(error) => Err(Error::damaged(path, "the first line", error, "the header of metrics")),
    }
}
