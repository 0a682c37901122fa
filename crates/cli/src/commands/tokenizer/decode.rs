//! `cupola tokenizer decode`.

use super::choice::Choice;
use crate::exit::Failure;
use crate::input::{self, Source};
use crate::output::{Output, answer_lines};
use anyhow::Context;
use clap::Args;
use cupola_tokenizer::{DecodeOptions, Tokenizer};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Ids are whole numbers with white space or commas between them; brackets around them are left alone. The bytes of the tokens
are written as they are, without anything between them.

With --jsonl, each line of standard input is an object with `ids` and is answered by one line:
{\"text\": ..., \"bytes_hex\": ...} or {\"error\": ...}. In `text`, what is not UTF-8 is U+FFFD.")]
pub struct Decode {
    #[command(flatten)]
    choice: Choice,
    /// Files with ids; standard input without any or for `-`
    files: Vec<PathBuf>,
    /// Take each line as a sequence of its own, and end its text with a line feed
    #[arg(long)]
    lines: bool,
    /// Leave special tokens out
    #[arg(long)]
    skip_special: bool,
    /// Write U+FFFD for what is not UTF-8
    #[arg(long, conflicts_with = "json")]
    lossy: bool,
    /// Print one JSON object for each sequence
    #[arg(long)]
    json: bool,
    /// Answer JSON objects, one a line
    #[arg(long, conflicts_with_all = ["files", "lines", "lossy", "json", "skip_special"])]
    jsonl: bool,
}

impl Decode {
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = self.choice.load()?;
        if self.jsonl {
            return answer_lines(|object| answer(object, &tokenizer));
        }
        let mut out = Output::new();
        for path in input::or_stdin(&self.files) {
            let source = input::read(&path)?;
            let text = source.text()?;
            if !self.lines {
                self.print(&source, None, text, &tokenizer, &mut out)?;
                continue;
            }
            for (number, line) in (1..).zip(input::lines(text)) {
                self.print(&source, Some(number), line, &tokenizer, &mut out)?;
            }
        }
        out.finish()
    }

    fn print(
        &self,
        source: &Source,
        line: Option<usize>,
        ids: &str,
        tokenizer: &Tokenizer,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let place = || match line {
            Some(line) => format!("{}:{line}", source.shown()),
            None => source.shown().to_owned(),
        };
        let ids = numbers(ids).with_context(place)?;
        let options = DecodeOptions { skip_special: self.skip_special };
        let bytes = tokenizer.decode_bytes_with(&ids, options).with_context(place)?;
        if self.json {
            return out.json(&object(&bytes)).context("standard output");
        }
        if self.lossy {
            out.write_all(String::from_utf8_lossy(&bytes).as_bytes()).context("standard output")?;
        } else {
            out.write_all(&bytes).context("standard output")?;
        }
        out.write_all(if line.is_some() { b"\n" } else { b"" }).context("standard output")
    }
}

/// The ids of a text.
fn numbers(text: &str) -> Result<Vec<u32>, Failure> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
    let number = |word: &str| {
        word.parse()
            .map_err(|_| Failure::Refused(format!("{word:?} is not an id; whole numbers below 2^32 are expected")))
    };
    words.map(number).collect()
}

fn object(bytes: &[u8]) -> Value {
    let hex = bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    json!({ "text": String::from_utf8_lossy(bytes), "bytes_hex": hex })
}

fn answer(line: &Value, tokenizer: &Tokenizer) -> anyhow::Result<Value> {
    let list = line.get("ids").context("the object has no `ids`")?.as_array().context("`ids` is not a list")?;
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("{value} is not an id; whole numbers below 2^32 are expected"))
    };
    let ids = list.iter().map(id).collect::<anyhow::Result<Vec<u32>>>()?;
    Ok(object(&tokenizer.decode_bytes(&ids)?))
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn ids_are_read_from_plain_lists_and_from_json() {
        assert_eq!(numbers("1 22\n333").unwrap(), [1, 22, 333]);
        assert_eq!(numbers("[1, 22,333]\n").unwrap(), [1, 22, 333]);
        assert_eq!(numbers(" \n").unwrap(), [0; 0]);
        for wrong in ["-1", "4294967296", "x", "1.5", "1;2"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }
}
