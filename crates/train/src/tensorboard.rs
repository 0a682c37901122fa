//! Event files as TensorBoard reads them.
//!
//! A file is a sequence of records: length (u64), its checksum, the bytes, their checksum; the bytes are a protocol buffer
//! `Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }`, the summary a list of
//! `Value { string tag = 1; float simple_value = 2; }`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins a file of its own in the folder, after those of earlier parts of the run.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let seconds = now() as u64;
        for part in 0u32.. {
            let path = folder.join(format!("events.out.tfevents.{seconds}.cupola.{part}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = Self { path, file };
                    let mut event = Vec::new();
                    double(&mut event, 1, now());
                    bytes(&mut event, 3, b"brain.Event:2");
                    writer.record(&event)?;
                    return Ok(writer);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&path, "create")(error)),
            }
        }
        unreachable!("a folder cannot hold four billion files of one second")
    }

    /// Adds numbers by name.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn scalars<'a>(&mut self, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            key(&mut entry, 2, 5);
            entry.extend((value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double(&mut event, 1, now());
        key(&mut event, 2, 0);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let mut record = (data.len() as u64).to_le_bytes().to_vec();
        let checksum = masked(crc32c(&record));
        record.extend(checksum.to_le_bytes());
        record.extend(data);
        record.extend(masked(crc32c(data)).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path, "write"))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

/// CRC-32C (Castagnoli), reflected, as iSCSI has it.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !data.iter().fold(!0, |sum: u32, &byte| TABLE[((sum ^ u32::from(byte)) & 0xFF) as usize] ^ (sum >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// Checksums are stored turned and shifted, so that a file of files does not confuse.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_known_checksum() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn records_follow_each_other_with_right_lengths_and_checksums() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = EventWriter::create(folder.path()).expect("the folder is ours");
        writer.scalars(300, [("loss", 2.5), ("lr", 1e-3)]).expect("writable");
        let data = std::fs::read(&writer.path).expect("it was just written");
        let mut at = 0;
        let mut events = Vec::new();
        let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes")) as usize;
            assert_eq!(word(at + 8), masked(crc32c(&data[at..at + 8])));
            let event = &data[at + 12..at + 12 + length];
            assert_eq!(word(at + 12 + length), masked(crc32c(event)));
            events.push(event);
            at += 16 + length;
        }
        assert_eq!(events.len(), 2);
        assert!(events[0].ends_with(b"brain.Event:2"));
        // Behind the time: step 300 as a varint, then the summary with the tag and its float.
        assert_eq!(&events[1][9..12], [0x10, 0xAC, 0x02]);
        let value = [&[0x0A, 4][..], b"loss", &[0x15], &2.5f32.to_le_bytes()].concat();
        assert!(events[1].windows(value.len()).any(|window| window == value));
    }
}
