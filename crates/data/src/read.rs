//! Documents out of files, a piece at a time, so that a file may be larger than memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::input::{Extent, Format};

/// A place in a list of extents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Which extent.
    pub extent: usize,
    /// The byte of its file that is read next.
    pub offset: u64,
}

/// What to do with a line or file that is not as its format says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// Stop and say where.
    #[default]
    Refuse,
    /// Leave it out and count it.
    Skip,
}

/// How documents are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The field of a JSON line that holds its text.
    pub field: String,
    /// What happens to bad lines and files.
    pub on_bad: OnBad,
    /// Cut long texts into pieces of about this many bytes, behind line ends where every pre-tokeniser that knows words begins
    /// anew. `None` for tokenizers that need to see a text whole.
    pub piece: Option<usize>,
    /// Cut between any two characters, for tokenizers that know no neighbours.
    pub anywhere: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { field: "text".to_string(), on_bad: OnBad::Refuse, piece: Some(1 << 18), anywhere: false }
    }
}

/// A document or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// What stands there.
    pub content: Content,
    /// Whether a document begins with it.
    pub begins: bool,
    /// Where it was: the byte of its file.
    pub at: Cursor,
    /// Where the next piece is.
    pub next: Cursor,
}

/// What a piece holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// The messages of a conversation, a JSON list.
    Messages(Value),
    /// A text of which the end alone is to be learnt.
    Completion {
        /// What it goes on from.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
}

/// No line and no uncut text may be longer: the tokenizer's offsets are 32 bits.
pub(crate) const LONGEST: usize = 1 << 29;

/// Reads extents from a place on.
pub struct Reader<'a> {
    extents: &'a [Extent],
    options: &'a ReadOptions,
    at: Cursor,
    file: Option<BufReader<File>>,
    /// Text that was read and not yet handed out.
    rest: Vec<u8>,
    /// The present file where it has rows.
    #[cfg(feature = "parquet")]
    rows: Option<crate::parquet::Rows>,
    /// Lines of the present file so far, for messages.
    line: u64,
    /// Whether the present file was read from its beginning.
    counted: bool,
    /// Lines and files that were left out.
    pub skipped: u64,
}

impl<'a> Reader<'a> {
    /// A reader that begins at `from`.
    pub fn new(extents: &'a [Extent], options: &'a ReadOptions, from: Cursor) -> Self {
        Self {
            extents,
            options,
            at: from,
            file: None,
            rest: Vec::new(),
            #[cfg(feature = "parquet")]
            rows: None,
            line: 0,
            counted: false,
            skipped: 0,
        }
    }

    /// Where the next piece will come from.
    pub fn position(&self) -> Cursor {
        self.at
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// When a file cannot be read, has changed, or is not as its format says and bad content is refused.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some(extent) = self.extents.get(self.at.extent) else { return Ok(None) };
            self.at.offset = self.at.offset.max(extent.begin);
            if self.at.offset >= extent.end {
                self.leave();
                continue;
            }
            if self.file.is_none() && extent.format != Format::Parquet {
                self.file = Some(open(extent, self.at.offset)?);
                self.counted = self.at.offset == 0;
            }
            let before = self.at;
            let piece = match extent.format {
                Format::Text => self.text(extent),
                Format::Jsonl => self.json_line(extent),
                Format::Integers => self.integers(extent),
                Format::Parquet => self.row(extent),
                Format::Shard => Err(Error::damaged(
                    &extent.path,
                    "the file",
                    "a shard of tokens",
                    "text; give shards alone, without files of text beside them",
                )),
            };
            match piece {
                Ok(Some(content)) => {
                    let begins = before.offset == 0 || matches!(extent.format, Format::Jsonl | Format::Parquet);
                    return Ok(Some(Piece { content, begins, at: before, next: self.at }));
                }
                Ok(None) => {}
                Err(Error::Content { .. }) if self.options.on_bad == OnBad::Skip => {
                    self.skipped += 1;
                    // A bad line or row has been passed already; a bad file is left as a whole.
                    if !matches!(extent.format, Format::Jsonl | Format::Parquet) {
                        self.leave();
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn leave(&mut self) {
        self.at = Cursor { extent: self.at.extent + 1, offset: 0 };
        self.file = None;
        #[cfg(feature = "parquet")]
        {
            self.rows = None;
        }
        self.rest.clear();
        self.line = 0;
    }

    #[cfg(feature = "parquet")]
    fn row(&mut self, extent: &Extent) -> Result<Option<Content>> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => {
                // Only for the check of its length.
                open(extent, 0)?;
                self.rows.insert(crate::parquet::Rows::open(&extent.path, &self.options.field, self.at.offset)?)
            }
        };
        let text = rows.next_text();
        self.at.offset = match &text {
            Ok(None) => extent.end,
            _ => rows.offset(),
        };
        Ok(text?.filter(|text| !text.is_empty()).map(Content::Text))
    }

    #[cfg(not(feature = "parquet"))]
    fn row(&mut self, extent: &Extent) -> Result<Option<Content>> {
        let expected = "text; a program built with the feature `parquet` reads it";
        Err(Error::damaged(&extent.path, "the file", "Apache Parquet", expected))
    }

    /// Fills `rest` up to `wanted` bytes or the extent's end; whether the end is in it.
    fn fill(&mut self, extent: &Extent, wanted: usize) -> Result<bool> {
        let left = (extent.end - self.at.offset) as usize;
        let wanted = wanted.min(left);
        if let Some(file) = &mut self.file
            && self.rest.len() < wanted
        {
            let more = (wanted - self.rest.len()) as u64;
            let n = file.take(more).read_to_end(&mut self.rest).map_err(Error::io(&extent.path, "read"))?;
            if (n as u64) < more {
                return Err(shrunk(extent));
            }
        }
        Ok(wanted == left)
    }

    fn text(&mut self, extent: &Extent) -> Result<Option<Content>> {
        let mut wanted = self.options.piece.unwrap_or(LONGEST);
        let take = loop {
            let last = self.fill(extent, wanted)?;
            if last {
                break self.rest.len();
            }
            if let Some(cut) = line_cut(&self.rest) {
                break cut;
            }
            if wanted >= LONGEST || self.options.anywhere {
                break character_cut(&self.rest);
            }
            wanted *= 2;
        };
        let begin = self.at.offset;
        let text = match std::str::from_utf8(&self.rest[..take]) {
            Ok(text) => text.strip_prefix('\u{feff}').filter(|_| begin == 0).unwrap_or(text).to_owned(),
            Err(error) => {
                let at = error.valid_up_to();
                let found = format!("the byte 0x{:02x}", self.rest[at]);
                return Err(Error::content(&extent.path, "byte", begin + at as u64, found, "UTF-8 text"));
            }
        };
        self.rest.drain(..take);
        self.at.offset += take as u64;
        Ok(Some(Content::Text(text)).filter(|_| take > 0))
    }

    fn json_line(&mut self, extent: &Extent) -> Result<Option<Content>> {
        self.rest.clear();
        if let Some(file) = &mut self.file {
            let most = (extent.end - self.at.offset).min(LONGEST as u64 + 1);
            file.take(most).read_until(b'\n', &mut self.rest).map_err(Error::io(&extent.path, "read"))?;
        }
        if self.rest.is_empty() {
            return Err(shrunk(extent));
        }
        self.line += 1;
        let offset = self.at.offset;
        self.at.offset += self.rest.len() as u64;
        // Lines can be counted only by who has read all of them.
        let (unit, at) = if self.counted { ("line", self.line) } else { ("byte", offset) };
        let bad = |found: String, expected: &str| Error::content(&extent.path, unit, at, found, expected);
        if self.rest.len() > LONGEST {
            return Err(bad(format!("a line of more than {LONGEST} bytes"), "a shorter one"));
        }
        let line = self.rest.trim_ascii();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.is_empty() {
            return Ok(None);
        }
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| bad(format!("{error}: {}", String::from_utf8_lossy(line)), "one JSON value a line"))?;
        let field = &self.options.field;
        match value {
            Value::String(text) => Ok(Some(Content::Text(text))),
            Value::Object(mut object) => match (object.remove(field), object.remove("messages")) {
                (Some(Value::String(text)), _) => Ok(Some(Content::Text(text))),
                (None, Some(messages @ Value::Array(_))) => Ok(Some(Content::Messages(messages))),
                (Some(other), _) => Err(bad(format!("`{field}`: {other}"), "a text")),
                (None, _) => match (object.remove("prompt"), object.remove("completion")) {
                    (Some(Value::String(_)), Some(Value::String(completion))) if completion.is_empty() => {
                        Err(bad("an empty `completion`".to_string(), "a text to learn"))
                    }
                    (Some(Value::String(prompt)), Some(Value::String(completion))) => {
                        Ok(Some(Content::Completion { prompt, completion }))
                    }
                    (Some(prompt), Some(completion)) => {
                        Err(bad(format!("`prompt`: {prompt} and `completion`: {completion}"), "two texts"))
                    }
                    (prompt, completion) => {
                        let taken = [("prompt", prompt), ("completion", completion)];
                        let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
                        keys.extend(taken.iter().filter_map(|(key, value)| value.as_ref().map(|_| *key)));
                        let expected = format!("the field `{field}`, `messages`, or `prompt` and `completion`");
                        Err(bad(format!("an object with {keys:?}"), &expected))
                    }
                },
            },
            other => Err(bad(other.to_string(), "a text or an object")),
        }
    }

    fn integers(&mut self, extent: &Extent) -> Result<Option<Content>> {
        let last = self.fill(extent, self.options.piece.unwrap_or(1 << 20).max(64))?;
        let mut take = self.rest.len();
        if !last {
            // A number may go on behind what was read.
            take = self.rest.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
            if take == 0 {
                let expected = "token ids with white space between them";
                return Err(Error::content(&extent.path, "byte", self.at.offset, "one word without end", expected));
            }
        }
        let mut ids = Vec::with_capacity(take / 4);
        let mut at = 0;
        for word in self.rest[..take].split(u8::is_ascii_whitespace) {
            if !word.is_empty() {
                let id = std::str::from_utf8(word).ok().filter(|w| w.bytes().all(|b| b.is_ascii_digit()));
                ids.push(id.and_then(|word| word.parse().ok()).ok_or_else(|| {
                    let found = format!("{:?}", crate::error::shortened(&String::from_utf8_lossy(word)));
                    let expected = "a token id below 4294967296 in decimal digits";
                    Error::content(&extent.path, "byte", self.at.offset + at as u64, found, expected)
                })?);
            }
            at += word.len() + 1;
        }
        self.rest.drain(..take);
        self.at.offset += take as u64;
        Ok(Some(Content::Ids(ids)))
    }
}

fn open(extent: &Extent, offset: u64) -> Result<BufReader<File>> {
    let path: &Path = &extent.path;
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let size = file.metadata().map_err(Error::io(path, "inspect"))?.len();
    if size != extent.size {
        let expected = format!("{} as when it was first seen", extent.size);
        return Err(Error::damaged(path, "the length in bytes", size, expected));
    }
    file.seek(SeekFrom::Start(offset)).map_err(Error::io(path, "read"))?;
    Ok(BufReader::with_capacity(1 << 18, file))
}

fn shrunk(extent: &Extent) -> Error {
    Error::damaged(&extent.path, "the file", "shorter than when it was first seen", format!("{} bytes", extent.size))
}

/// The last place behind a line end with ink on both sides: there no pre-tokeniser joins what is before and behind.
fn line_cut(text: &[u8]) -> Option<usize> {
    let ink = |byte: u8| byte.is_ascii_graphic();
    (2..text.len()).rev().find(|&at| text[at - 1] == b'\n' && ink(text[at - 2]) && ink(text[at]))
}

/// The last place between two characters.
fn character_cut(text: &[u8]) -> usize {
    (1..=text.len()).rev().find(|&at| at == text.len() || text[at] & 0xC0 != 0x80).map_or(text.len(), |at| {
        // The last character may go on behind what was read.
        if at == text.len() {
            text.len() - text.iter().rev().take_while(|&&b| b & 0xC0 == 0x80).count() - 1
        } else {
            at
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_behind_a_single_line_end() {
        assert_eq!(line_cut(b"one\ntwo\n\nthree"), Some(4));
        assert_eq!(line_cut(b"one \n two"), None);
        assert_eq!(character_cut("aé".as_bytes()), 1);
        assert_eq!(character_cut("aéb".as_bytes()), 3);
    }
}
