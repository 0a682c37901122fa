//! `cupola regex find`.

use crate::exit::Failure;
use crate::input;
use crate::output::{Output, answer_lines};
use crate::terminal::Style;
use anyhow::Context;
use clap::Args;
use cupola_regex::{Regex, bytes};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Each match is a line: its byte range and its text, with line feeds and quotes escaped.

With --jsonl, each line of standard input is an object such as {\"pattern\": \"a+\", \"haystack\": \"caat\"} and is
answered by one line: {\"matches\": [[1, 3]]} with byte ranges, or {\"error\": ...}.")]
pub struct Find {
    /// The regular expression
    #[arg(required_unless_present = "jsonl")]
    pattern: Option<String>,
    /// Files to search; standard input without any or for `-`
    files: Vec<PathBuf>,
    /// Search in bytes that need not be UTF-8
    #[arg(long)]
    bytes: bool,
    /// Print only how many matches there are
    #[arg(long, conflicts_with = "json")]
    count: bool,
    /// Print one JSON object for each file
    #[arg(long)]
    json: bool,
    /// Answer objects with `pattern` and `haystack`, one a line
    #[arg(long, conflicts_with_all = ["pattern", "files", "json", "count", "bytes"])]
    jsonl: bool,
}

type Ranges = Vec<(usize, usize)>;

impl Find {
    pub fn run(self) -> anyhow::Result<()> {
        if self.jsonl {
            let mut last = None;
            return answer_lines(|object| answer(object, &mut last));
        }
        let pattern = self.pattern.as_deref().unwrap_or_default();
        let mut out = Output::new();
        for path in input::or_stdin(&self.files) {
            let source = input::read(&path)?;
            let ranges = if self.bytes {
                let regex = bytes::Regex::new(pattern)?;
                let all = regex.try_find_iter(&source.bytes[..]).map(|m| m.map(|m| (m.start(), m.end())));
                all.collect::<Result<Ranges, _>>().with_context(|| source.shown().to_owned())?
            } else {
                let text = source.text().map_err(|e| Failure::Refused(format!("{e}; --bytes searches in it")))?;
                find(&Regex::new(pattern)?, text).with_context(|| source.shown().to_owned())?
            };
            if self.json {
                out.json(&json!({ "source": source.name, "matches": ranges }))?;
                continue;
            }
            let prefix = if self.files.len() > 1 { format!("{}: ", source.name) } else { String::new() };
            if self.count {
                writeln!(out, "{prefix}{}", ranges.len())?;
                continue;
            }
            let dim = Style::DIM.on_stdout();
            for (start, end) in ranges {
                let text = String::from_utf8_lossy(&source.bytes[start..end]);
                writeln!(out, "{prefix}{dim}{start}..{end}{dim:#} {text:?}")?;
            }
        }
        out.finish()
    }
}

fn find(regex: &Regex, text: &str) -> Result<Ranges, cupola_regex::SearchError> {
    regex.try_find_iter(text).map(|m| m.map(|m| (m.start(), m.end()))).collect()
}

/// Answers one line. The pattern of the line before is kept compiled.
fn answer(object: &Value, last: &mut Option<(String, Regex)>) -> anyhow::Result<Value> {
    let text = |key: &str| {
        let value = object.get(key).with_context(|| format!("the object has no `{key}`"))?;
        value.as_str().with_context(|| format!("`{key}` is not a string"))
    };
    let (pattern, haystack) = (text("pattern")?, text("haystack")?);
    let regex = match last {
        Some((known, regex)) if known == pattern => regex.clone(),
        _ => {
            let regex = Regex::new(pattern)?;
            *last = Some((pattern.to_owned(), regex.clone()));
            regex
        }
    };
    Ok(json!({ "matches": find(&regex, haystack)? }))
}
