//! Parquet: columns of text in row groups, read as they are needed.
#![cfg(feature = "parquet")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{bpe, extents, text};
use cupola_data::input::{Extent, Format, find, split};
use cupola_data::read::{Content, Cursor, OnBad, ReadOptions, Reader};
use cupola_data::{TokenizeOptions, tokenize};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Writes rows in groups of five: a number, a text, and one that may be missing.
fn write(path: &Path, texts: &[String], compression: Compression) {
    let schema = "message rows { required int64 id; required binary text (UTF8); optional binary note (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let file = File::create(path).expect("the folder is ours");
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("writable");
    let bytes = |text: &String| ByteArray::from(text.as_str());
    for (index, group) in texts.chunks(5).enumerate() {
        let mut rows = writer.next_row_group().expect("writable");
        let ids: Vec<i64> = (0..group.len()).map(|row| (index * 5 + row) as i64).collect();
        let mut column = rows.next_column().expect("writable").expect("a column");
        column.typed::<Int64Type>().write_batch(&ids, None, None).expect("writable");
        column.close().expect("writable");
        let all: Vec<ByteArray> = group.iter().map(bytes).collect();
        let mut column = rows.next_column().expect("writable").expect("a column");
        column.typed::<ByteArrayType>().write_batch(&all, None, None).expect("writable");
        column.close().expect("writable");
        // Every third note is missing.
        let levels: Vec<i16> = ids.iter().map(|id| i16::from(id % 3 != 2)).collect();
        let notes: Vec<ByteArray> =
            ids.iter().filter(|&&id| id % 3 != 2).map(|id| ByteArray::from(format!("note {id}").as_str())).collect();
        let mut column = rows.next_column().expect("writable").expect("a column");
        column.typed::<ByteArrayType>().write_batch(&notes, Some(&levels), None).expect("writable");
        column.close().expect("writable");
        rows.close().expect("writable");
    }
    writer.close().expect("writable");
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|row| format!("row {row}: {}", text(1 + row % 9))).collect()
}

fn read(extents: &[Extent], options: &ReadOptions, from: Cursor) -> Vec<(String, Cursor)> {
    let mut reader = Reader::new(extents, options, from);
    let mut all = Vec::new();
    while let Some(piece) = reader.next_piece().expect("readable") {
        let Content::Text(text) = piece.content else { panic!("a text") };
        assert!(piece.begins);
        all.push((text, piece.next));
    }
    all
}

#[test]
fn every_row_is_a_document_and_reading_goes_on_at_any_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, compression) in [("plain", Compression::UNCOMPRESSED), ("snappy", Compression::SNAPPY)] {
        let expected = texts(23);
        let path = folder.path().join(format!("{name}.parquet"));
        write(&path, &expected, compression);
        let found = extents(folder.path(), &format!("{name}.parquet"));
        assert_eq!(found[0].format, Format::Parquet);
        let all = read(&found, &ReadOptions::default(), Cursor::default());
        assert_eq!(all.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>(), expected, "{name}");
        for (row, (_, next)) in all.iter().enumerate() {
            let rest = read(&found, &ReadOptions::default(), *next);
            assert_eq!(rest.into_iter().map(|(text, _)| text).collect::<Vec<_>>(), expected[row + 1..], "{name} {row}");
        }
    }
}

#[test]
fn a_column_of_another_name_is_read_and_missing_texts_are_refused_or_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.parquet"), &texts(12), Compression::SNAPPY);
    let found = extents(folder.path(), "a.parquet");
    let options = ReadOptions { field: "note".to_string(), ..ReadOptions::default() };
    let mut reader = Reader::new(&found, &options, Cursor::default());
    reader.next_piece().expect("row 0").expect("a piece");
    reader.next_piece().expect("row 1").expect("a piece");
    let error = reader.next_piece().expect_err("row 2 has no note").to_string();
    assert!(error.contains("a.parquet: row 3: found nothing, expected a text in the column `note`"), "{error}");
    let options = ReadOptions { on_bad: OnBad::Skip, ..options };
    let mut reader = Reader::new(&found, &options, Cursor::default());
    let mut notes = Vec::new();
    while let Some(piece) = reader.next_piece().expect("readable") {
        let Content::Text(text) = piece.content else { panic!("a text") };
        notes.push(text);
    }
    assert_eq!((notes.len(), reader.skipped), (8, 4));
    assert_eq!(notes[2], "note 3");
}

#[test]
fn a_corpus_of_parquet_is_split_between_rows_and_tokenised() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = texts(40);
    write(&folder.path().join("a.parquet"), &expected, Compression::SNAPPY);
    let found = extents(folder.path(), "a.parquet");
    let (train, held) = split(&found, 0.9).expect("it can be cut");
    let words = |extents: &[Extent]| {
        read(extents, &ReadOptions::default(), Cursor::default()).into_iter().map(|(text, _)| text).collect::<Vec<_>>()
    };
    let (first, second) = (words(&train), words(&held));
    assert_eq!([first, second.clone()].concat(), expected);
    assert!((2..=6).contains(&second.len()), "{}", second.len());
    let made = tokenize(&folder.path().join("tokens"), &found, &bpe(), &TokenizeOptions::default(), &mut |_| {});
    let (data, manifest) = made.expect("text");
    assert_eq!((data.documents(), manifest.skipped), (40, 0));
    let bytes: usize = expected.iter().map(String::len).sum();
    assert_eq!(data.text_bytes(), Some(bytes as u64));
    // In a folder it is found by its first bytes.
    fs::rename(folder.path().join("a.parquet"), folder.path().join("rows")).expect("the folder is ours");
    let inside = find(&[folder.path().to_str().expect("UTF-8")], None).expect("a file is there");
    assert!(inside.extents.iter().any(|extent| extent.format == Format::Parquet));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.parquet"), &texts(12), Compression::UNCOMPRESSED);
    let found = extents(folder.path(), "a.parquet");
    let refused = |extents: &[Extent], field: &str| {
        let options = ReadOptions { field: field.to_string(), ..ReadOptions::default() };
        let mut reader = Reader::new(extents, &options, Cursor::default());
        reader.next_piece().expect_err("it cannot be read").to_string()
    };
    let error = refused(&found, "body");
    assert!(error.contains("its list of columns is id, text, note, expected one called `body`"), "{error}");
    assert!(refused(&found, "id").contains("the type of the column is INT64 (`id`), expected one text a row"));
    // Written by pyarrow (`tools/golden/parquet.py`).
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
    for (name, codec) in [("zstd", "ZSTD"), ("gzip", "GZIP")] {
        let found = extents(&golden, &format!("{name}.parquet"));
        let error = refused(&found, "text");
        assert!(error.contains("the compression of the column is ") && error.contains(codec), "{error}");
        assert!(error.contains("expected SNAPPY or UNCOMPRESSED"), "{error}");
    }
    let all = read(&extents(&golden, "snappy.parquet"), &ReadOptions::default(), Cursor::default());
    let expected: Vec<String> = (0..200).map(|row| format!("row {row} über {}", "word ".repeat(row % 7))).collect();
    assert_eq!(all.into_iter().map(|(text, _)| text).collect::<Vec<_>>(), expected);
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("a.parquet");
    write(&path, &texts(12), Compression::SNAPPY);
    let bytes = fs::read(&path).expect("a file");
    let attempt = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("the folder is ours");
        let found = find(&[path.to_str().expect("UTF-8")], None)?;
        let options = ReadOptions::default();
        let mut reader = Reader::new(&found.extents, &options, Cursor::default());
        let mut count = 0;
        while reader.next_piece()?.is_some() {
            count += 1;
        }
        Ok::<usize, cupola_data::Error>(count)
    };
    for length in (0..bytes.len()).step_by(97) {
        attempt(&bytes[..length]).expect_err("the file was cut");
    }
    let mut failures = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        // Some bytes are text or statistics, which nothing checks; whatever is found is an answer.
        failures += usize::from(attempt(&damaged).is_err());
    }
    assert!(failures > 20, "{failures}");
    assert_eq!(attempt(&bytes).expect("it is whole"), 12);
}
