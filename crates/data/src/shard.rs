//! Tokens in a file that is mapped into memory.
//!
//! ```text
//!   0  "CUPOLATK"                 96  checksum of the tokenizer (32 bytes)
//!   8  u32 version (1)           128  checksum of bytes 0..128 and of all behind 160 (32 bytes)
//!  12  u32 bytes of a token      160  tokens (2 or 4 bytes each), filled up with zeros to a multiple of 8
//!  16  u64 tokens                     u64 first token of each document, and the number of tokens
//!  24  u64 documents                  one bit a token if there are marks, lowest first: whether it is to be learnt
//!  32  u64 size of the vocabulary
//!  40  u64 bytes of text
//!  48  u32 token before each document, or 0xFFFFFFFF
//!  52  u32 1 when there are marks
//!  56  zeros
//! ```
//!
//! All numbers are little-endian. A document is what stands between two offsets; it begins with the separator where there is
//! one, except for the rest of a document whose beginning is held elsewhere.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cupola_core::MappedFile;

use crate::digest::{Hasher, hex};
use crate::error::{Error, Result};

/// The first bytes of every shard.
pub const MAGIC: [u8; 8] = *b"CUPOLATK";
/// The ending of the files' names.
pub const EXTENSION: &str = "shard";
const VERSION: u32 = 1;
const HEADER: usize = 160;
const CHECKED: usize = 128;
const NO_SEPARATOR: u32 = u32::MAX;

/// A shard that is open for reading.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: MappedFile,
    width: usize,
    tokens: usize,
    documents: usize,
    vocab_size: u64,
    text_bytes: u64,
    separator: Option<u32>,
    marked: bool,
    offsets_at: usize,
    marks_at: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

impl Shard {
    /// Opens a shard and checks its header against the file's length. Its contents are read when they are used; see
    /// [`Shard::verify`].
    ///
    /// # Errors
    /// When the file cannot be mapped, or header and length do not agree.
    pub fn open(path: &Path) -> Result<Self> {
        let map = MappedFile::open(path).map_err(Error::io(path, "open"))?;
        let bytes = map.bytes();
        let wrong = |what, found: String, expected: String| Err(Error::damaged(path, what, found, expected));
        if bytes.len() < HEADER {
            return wrong("the length", format!("{} bytes", bytes.len()), format!("at least {HEADER}"));
        }
        if bytes[..8] != MAGIC {
            let found = format!("{:?}", String::from_utf8_lossy(&bytes[..8]));
            return wrong("the beginning", found, format!("{:?}", String::from_utf8_lossy(&MAGIC)));
        }
        let (version, width) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if version != VERSION {
            return wrong("the version", version.to_string(), VERSION.to_string());
        }
        if width != 2 && width != 4 {
            return wrong("the number of bytes of a token", width.to_string(), "2 or 4".to_string());
        }
        let (tokens, documents) = (u64_at(bytes, 16), u64_at(bytes, 24));
        let marked = u32_at(bytes, 52);
        if marked > 1 {
            return wrong("the flag of marks", marked.to_string(), "0 or 1".to_string());
        }
        let layout = || {
            let end = tokens.checked_mul(u64::from(width))?.checked_next_multiple_of(8)?.checked_add(HEADER as u64)?;
            let marks = documents.checked_add(1)?.checked_mul(8)?.checked_add(end)?;
            let length = if marked == 1 { marks.checked_add(tokens.div_ceil(8))? } else { marks };
            Some((end, marks, length))
        };
        let Some((offsets_at, marks_at, _)) = layout().filter(|&(_, _, length)| length == bytes.len() as u64) else {
            let found = format!("{} bytes", bytes.len());
            let expected = layout().map_or(String::from("a possible number"), |(_, _, length)| length.to_string());
            return wrong("the length", found, format!("{expected} for {tokens} tokens in {documents} documents"));
        };
        let shard = Self {
            path: path.to_owned(),
            width: width as usize,
            // The file is as long as these numbers say, so they fit.
            tokens: tokens as usize,
            documents: documents as usize,
            vocab_size: u64_at(bytes, 32),
            text_bytes: u64_at(bytes, 40),
            separator: Some(u32_at(bytes, 48)).filter(|&id| id != NO_SEPARATOR),
            marked: marked == 1,
            offsets_at: offsets_at as usize,
            marks_at: marks_at as usize,
            map,
        };
        let ends = (shard.offset(0), shard.offset(shard.documents));
        if ends != (0, tokens) || (documents == 0 && tokens > 0) {
            return wrong("the documents' first and last offset", format!("{ends:?}"), format!("(0, {tokens})"));
        }
        Ok(shard)
    }

    /// Reads the whole file: its checksum, the documents' order, and that every id is in the vocabulary.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn verify(&self) -> Result<()> {
        let bytes = self.map.bytes();
        let (found, expected) = (hex(&checksum(&bytes[..CHECKED], &bytes[HEADER..])), self.checksum());
        if found != expected {
            return Err(Error::damaged(&self.path, "the checksum", found, expected));
        }
        for document in 1..=self.documents {
            if self.offset(document) < self.offset(document - 1) {
                let expected = format!("at least {}, where the one before begins", self.offset(document - 1));
                return Err(Error::content(
                    &self.path,
                    "document",
                    document as u64,
                    format!("its first token at {}", self.offset(document)),
                    expected,
                ));
            }
        }
        let mut block = Vec::new();
        for begin in (0..self.tokens).step_by(1 << 16) {
            block.clear();
            self.read(begin..(begin + (1 << 16)).min(self.tokens), &mut block)?;
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// The tokens of a document.
    pub fn document(&self, index: usize) -> Range<usize> {
        let end = self.offset(index + 1).min(self.tokens as u64) as usize;
        (self.offset(index) as usize).min(end)..end
    }

    fn offset(&self, index: usize) -> u64 {
        u64_at(self.map.bytes(), self.offsets_at + index * 8)
    }

    /// The document that token `at` belongs to.
    pub fn document_of(&self, at: usize) -> usize {
        let (mut low, mut high) = (0, self.documents);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.offset(middle) <= at as u64 { low = middle } else { high = middle }
        }
        low
    }

    /// One more than the largest id that may occur.
    pub fn vocab_size(&self) -> u64 {
        self.vocab_size
    }

    /// Bytes of the text that the tokens stand for; 0 when nobody knew.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Bytes of the file that so many tokens take.
    pub fn bytes_of(&self, tokens: usize) -> u64 {
        (tokens * self.width) as u64
    }

    /// The token before each document.
    pub fn separator(&self) -> Option<u32> {
        self.separator
    }

    /// The checksum of the tokenizer.
    pub fn tokenizer(&self) -> String {
        self.digest_at(96)
    }

    /// The checksum that the file carries.
    pub fn checksum(&self) -> String {
        self.digest_at(CHECKED)
    }

    fn digest_at(&self, at: usize) -> String {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.map.bytes()[at..at + 32]);
        hex(&digest)
    }

    /// Whether the tokens to learn are marked; without marks all are.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether token `at` is to be learnt.
    pub fn learns(&self, at: usize) -> bool {
        !self.marked || self.map.bytes()[self.marks_at + at / 8] >> (at % 8) & 1 == 1
    }

    /// Token `at`, whatever it is.
    pub fn token(&self, at: usize) -> u32 {
        let bytes = self.map.bytes();
        let place = HEADER + at * self.width;
        if self.width == 2 {
            u32::from(u16::from_le_bytes([bytes[place], bytes[place + 1]]))
        } else {
            u32_at(bytes, place)
        }
    }

    /// Appends the tokens of a range.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    ///
    /// # Panics
    /// When the range is not within the shard.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<i64>) -> Result<()> {
        let bytes = &self.map.bytes()[HEADER + range.start * self.width..HEADER + range.end * self.width];
        let before = out.len();
        if self.width == 2 {
            out.extend(bytes.chunks_exact(2).map(|b| i64::from(u16::from_le_bytes([b[0], b[1]]))));
        } else {
            out.extend(bytes.chunks_exact(4).map(|b| i64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))));
        }
        match out[before..].iter().position(|&id| id as u64 >= self.vocab_size) {
            None => Ok(()),
            Some(index) => Err(Error::content(
                &self.path,
                "token",
                (range.start + index) as u64,
                format!("the id {}", out[before + index]),
                format!("an id below {}, the size of the vocabulary", self.vocab_size),
            )),
        }
    }
}

fn checksum(header: &[u8], rest: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(rest);
    hasher.update(header);
    hasher.finish()
}

/// What every token of a shard has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// One more than the largest id.
    pub size: u64,
    /// The token before each document.
    pub separator: Option<u32>,
    /// The checksum of the tokenizer.
    pub tokenizer: [u8; 32],
}

/// A shard that is being written, a token at a time. It has its name only when it is complete.
pub struct ShardWriter {
    path: PathBuf,
    beside: PathBuf,
    file: Option<BufWriter<File>>,
    hasher: Hasher,
    vocabulary: Vocabulary,
    width: usize,
    tokens: u64,
    text_bytes: u64,
    offsets: Vec<u64>,
    marks: Option<Vec<u8>>,
}

impl ShardWriter {
    /// Begins the shard that will be at `path`. It carries marks from the first token on that is not to be learnt.
    ///
    /// # Errors
    /// When the file beside it cannot be made.
    pub fn create(path: &Path, vocabulary: Vocabulary) -> Result<Self> {
        let beside = path.with_extension("partial");
        let file = File::create(&beside).map_err(Error::io(&beside, "create"))?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&[0; HEADER]).map_err(Error::io(&beside, "write"))?;
        let width = if vocabulary.size <= 1 << 16 { 2 } else { 4 };
        Ok(Self {
            path: path.to_owned(),
            beside,
            file: Some(file),
            hasher: Hasher::new(),
            vocabulary,
            width,
            tokens: 0,
            text_bytes: 0,
            offsets: Vec::new(),
            marks: None,
        })
    }

    /// Number of tokens so far.
    pub fn len(&self) -> u64 {
        self.tokens
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Begins a document; `whole` when its beginning is not held elsewhere, so that it gets a separator.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&mut self, whole: bool) -> Result<()> {
        self.offsets.push(self.tokens);
        match self.vocabulary.separator.filter(|_| whole) {
            Some(id) => self.push(&[id], None, 0),
            None => Ok(()),
        }
    }

    /// Adds tokens to the document, which stand for so many bytes of text. `learn` says for each whether it is to be learnt;
    /// `None` for all.
    ///
    /// # Errors
    /// When the file cannot be written, or an id is not in the vocabulary.
    ///
    /// # Panics
    /// Before the first [`ShardWriter::begin`].
    #[track_caller]
    pub fn push(&mut self, ids: &[u32], learn: Option<&[bool]>, text_bytes: u64) -> Result<()> {
        assert!(!self.offsets.is_empty(), "push: no document has begun");
        if let Some(bad) = ids.iter().position(|&id| u64::from(id) >= self.vocabulary.size) {
            let expected = format!("an id below {}, the size of the vocabulary", self.vocabulary.size);
            let at = self.tokens + bad as u64;
            return Err(Error::content(&self.path, "token", at, format!("the id {}", ids[bad]), expected));
        }
        let bytes: Vec<u8> = match self.width {
            2 => ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect(),
            _ => ids.iter().flat_map(|&id| id.to_le_bytes()).collect(),
        };
        if learn.is_some() && self.marks.is_none() {
            // All so far are to be learnt.
            let mut marks = vec![0xFF; self.tokens as usize / 8];
            marks.extend((!self.tokens.is_multiple_of(8)).then(|| !(0xFF_u8 << (self.tokens % 8))));
            self.marks = Some(marks);
        }
        if let Some(marks) = &mut self.marks {
            for (index, at) in (self.tokens..self.tokens + ids.len() as u64).enumerate() {
                if at % 8 == 0 {
                    marks.push(0);
                }
                if let Some(byte) = marks.last_mut()
                    && learn.is_none_or(|learn| learn[index])
                {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        self.tokens += ids.len() as u64;
        self.text_bytes += text_bytes;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        let file = self.file.as_mut().expect("the file is there until finish");
        file.write_all(bytes).map_err(Error::io(&self.beside, "write"))
    }

    /// Completes the shard, syncs it and gives it its name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<Shard> {
        let tail = (self.tokens as usize * self.width).next_multiple_of(8) - self.tokens as usize * self.width;
        let mut rest = vec![0; tail];
        let documents = self.offsets.len() as u64;
        for offset in self.offsets.iter().chain([&self.tokens]) {
            rest.extend(offset.to_le_bytes());
        }
        let marks = self.marks.take();
        let marked = marks.is_some();
        rest.extend(marks.unwrap_or_default());
        self.write(&rest)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(self.width as u32).to_le_bytes());
        for (index, number) in [self.tokens, documents, self.vocabulary.size, self.text_bytes].into_iter().enumerate() {
            header[16 + 8 * index..24 + 8 * index].copy_from_slice(&number.to_le_bytes());
        }
        header[48..52].copy_from_slice(&self.vocabulary.separator.unwrap_or(NO_SEPARATOR).to_le_bytes());
        header[52..56].copy_from_slice(&u32::from(marked).to_le_bytes());
        header[96..128].copy_from_slice(&self.vocabulary.tokenizer);
        self.hasher.update(&header[..CHECKED]);
        header[CHECKED..].copy_from_slice(&std::mem::take(&mut self.hasher).finish());
        let mut file = self.file.take().expect("the file is there until finish");
        let io = |action| Error::io(&self.beside, action);
        file.seek(SeekFrom::Start(0)).map_err(io("write"))?;
        file.write_all(&header).map_err(io("write"))?;
        file.flush().map_err(io("write"))?;
        file.get_ref().sync_all().map_err(io("sync"))?;
        drop(file);
        std::fs::rename(&self.beside, &self.path).map_err(Error::io(&self.path, "rename the new shard to"))?;
        Shard::open(&self.path)
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // Given up before it was complete; the error that led here is the one to report.
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}
