//! Texts in a column of a Parquet file, a few rows at a time.
//!
//! Places in such a file are counted as if its rows were spread evenly over its uncompressed length, so that shares of a corpus and
//! progress need no other measure than bytes.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::{Error, Result};

/// Rows that are read at a time.
const BATCH: usize = 64;

/// Number of rows, and the length that they are spread over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    rows: u64,
    pub(crate) length: u64,
}

impl Layout {
    /// The layout of a file.
    ///
    /// # Errors
    /// When it is no Parquet file.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let groups = file.metadata().row_groups();
        let sum = |each: fn(&parquet::file::metadata::RowGroupMetaData) -> i64| {
            groups.iter().try_fold(0u64, |all, group| all.checked_add(u64::try_from(each(group)).ok()?))
        };
        let (Some(rows), Some(bytes)) = (sum(|group| group.num_rows()), sum(|group| group.total_byte_size())) else {
            return Err(Error::damaged(
                path,
                "a count of a row group",
                "below zero",
                "the number of its rows and bytes",
            ));
        };
        Ok(Self { rows, length: bytes.max(rows) })
    }

    /// Where a row begins.
    pub(crate) fn offset(self, row: u64) -> u64 {
        (u128::from(row) * u128::from(self.length) / u128::from(self.rows.max(1))) as u64
    }

    /// The first row that begins at `offset` or behind it.
    pub(crate) fn row(self, offset: u64) -> u64 {
        (u128::from(offset) * u128::from(self.rows)).div_ceil(u128::from(self.length.max(1))) as u64
    }
}

/// What the library says of a file.
fn damaged(path: &Path, error: &ParquetError) -> Error {
    let text = error.to_string();
    Error::damaged(path, "the Parquet file", crate::error::shortened(&text), "one that can be read")
}

/// Runs `work`; the library answers some damaged files with a panic.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Error::damaged(path, "the Parquet file", "inconsistent", "one that can be read")))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    guarded(path, || SerializedFileReader::new(file).map_err(|error| damaged(path, &error)))
}

/// The rows of one column, in order.
pub(crate) struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    layout: Layout,
    column: usize,
    field: String,
    /// The row group that is read next.
    group: usize,
    /// The one that is being read, and its rows that are left.
    reader: Option<(ColumnReaderImpl<ByteArrayType>, usize)>,
    /// Rows read and not yet handed out.
    ready: VecDeque<Option<ByteArray>>,
    /// The number of the next row.
    row: u64,
}

impl Rows {
    /// The rows of the column `field`, from the first at `offset` on.
    ///
    /// # Errors
    /// When there is no such column, it holds no texts, or is compressed in a way that is not read.
    pub(crate) fn open(path: &Path, field: &str, offset: u64) -> Result<Self> {
        let layout = Layout::of(path)?;
        let file = open(path)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let names = || schema.columns().iter().map(|column| column.path().string()).collect::<Vec<_>>().join(", ");
        let found = schema.columns().iter().position(|column| column.path().string() == field);
        let Some(column) = found else {
            return Err(Error::damaged(path, "its list of columns", names(), format!("one called `{field}`")));
        };
        let about = schema.column(column);
        if about.physical_type() != Type::BYTE_ARRAY || about.max_rep_level() > 0 {
            let found = match about.max_rep_level() {
                0 => about.physical_type().to_string(),
                _ => format!("a list of {}", about.physical_type()),
            };
            return Err(Error::damaged(
                path,
                "the type of the column",
                format!("{found} (`{field}`)"),
                "one text a row",
            ));
        }
        for group in file.metadata().row_groups() {
            let how = group.column(column).compression();
            if !matches!(how, Compression::UNCOMPRESSED | Compression::SNAPPY) {
                let found = format!("{how} (`{field}`)");
                return Err(Error::damaged(path, "the compression of the column", found, "SNAPPY or UNCOMPRESSED"));
            }
        }
        let mut rows = Self {
            path: path.to_owned(),
            file,
            layout,
            column,
            field: field.to_string(),
            group: 0,
            reader: None,
            ready: VecDeque::new(),
            row: layout.row(offset),
        };
        rows.skip()?;
        Ok(rows)
    }

    /// Passes over the rows before the first one wanted.
    fn skip(&mut self) -> Result<()> {
        let mut before = self.row;
        while let Some(group) = self.file.metadata().row_groups().get(self.group) {
            let rows = group.num_rows() as u64;
            if before < rows {
                self.begin_group()?;
                let path = self.path.clone();
                if let Some((reader, left)) = &mut self.reader {
                    let skipped = guarded(&path, || {
                        reader.skip_records(before as usize).map_err(|error| damaged(&path, &error))
                    })?;
                    *left = left.saturating_sub(skipped);
                }
                return Ok(());
            }
            before -= rows;
            self.group += 1;
        }
        Ok(())
    }

    fn begin_group(&mut self) -> Result<()> {
        let (index, path) = (self.group, &self.path);
        let rows = self.file.metadata().row_group(index).num_rows() as usize;
        let reader = guarded(path, || {
            let group = self.file.get_row_group(index).map_err(|error| damaged(path, &error))?;
            group.get_column_reader(self.column).map_err(|error| damaged(path, &error))
        })?;
        let ColumnReader::ByteArrayColumnReader(reader) = reader else {
            return Err(Error::damaged(path, "the type of the column", "another than the schema says", "texts"));
        };
        self.reader = Some((reader, rows));
        self.group += 1;
        Ok(())
    }

    /// Where the next row begins.
    pub(crate) fn offset(&self) -> u64 {
        self.layout.offset(self.row)
    }

    /// The text of the next row; `None` behind the last.
    ///
    /// # Errors
    /// When the row holds no text: then the next call goes on behind it. When the file is damaged.
    pub(crate) fn next_text(&mut self) -> Result<Option<String>> {
        while self.ready.is_empty() {
            match self.reader.take() {
                Some((reader, left)) if left > 0 => self.read(reader, left)?,
                _ if self.group < self.file.metadata().num_row_groups() => self.begin_group()?,
                _ => return Ok(None),
            }
        }
        let value = self.ready.pop_front().flatten();
        self.row += 1;
        let bad = |found: String| {
            let expected = format!("a text in the column `{}`", self.field);
            Error::content(&self.path, "row", self.row, found, expected)
        };
        let value = value.ok_or_else(|| bad("nothing".to_string()))?;
        if value.len() > crate::read::LONGEST {
            return Err(bad(format!("{} bytes", value.len())));
        }
        let text = std::str::from_utf8(value.data());
        text.map(|text| Some(text.to_string()))
            .map_err(|error| bad(format!("no UTF-8 at byte {}", error.valid_up_to())))
    }

    fn read(&mut self, mut reader: ColumnReaderImpl<ByteArrayType>, left: usize) -> Result<()> {
        let path = self.path.clone();
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let optional = self.file.metadata().file_metadata().schema_descr().column(self.column).max_def_level();
        let (records, reader) = guarded(&path, || {
            let count = left.min(BATCH);
            let read = reader.read_records(count, Some(&mut levels), None, &mut values);
            Ok((read.map_err(|error| damaged(&path, &error))?.0, reader))
        })?;
        if records == 0 {
            return Err(Error::damaged(&path, "a row group", format!("{left} rows too short"), "as long as it says"));
        }
        let mut values = values.into_iter();
        match optional {
            0 => self.ready.extend(values.map(Some)),
            most => self.ready.extend(levels.iter().map(|&level| if level == most { values.next() } else { None })),
        }
        self.reader = Some((reader, left.saturating_sub(records)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn every_row_has_a_place_of_its_own() {
        for layout in [Layout { rows: 7, length: 100 }, Layout { rows: 5, length: 5 }, Layout { rows: 3, length: 4 }] {
            for row in 0..=layout.rows {
                assert_eq!(layout.row(layout.offset(row)), row, "{layout:?}");
            }
            assert_eq!(layout.offset(layout.rows), layout.length);
        }
    }
}
