//! `cupola data`: what stands between files of text and batches.

mod tokenize;

use crate::exit::Failure;
use crate::input::Scratch;
use crate::terminal::grouped;
use anyhow::Context;
use clap::{Args, Subcommand};
use cupola_data::input::{self, Format};
use cupola_data::read::{Content, Cursor, OnBad, ReadOptions, Reader};
use cupola_data::{Dataset, Shard};
use cupola_train::setup::load_tokenizer;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Command {
    /// Turn text into token shards; what was interrupted goes on
    Tokenize(tokenize::Tokenize),
    /// Count files, documents, bytes, characters and tokens
    Stats(Stats),
    /// Print documents of token shards as text
    Inspect(Inspect),
    /// Read shards or text whole and say what is wrong
    Validate(Validate),
    /// Cut a text in two files, what is trained on and what is held out, as `train` does
    Split(Split),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When a file cannot be read or is not as its format says.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Tokenize(command) => command.run(),
            Self::Stats(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Validate(command) => command.run(),
            Self::Split(command) => command.run(),
        }
    }
}

/// Files and how they are read.
#[derive(Args)]
pub struct Texts {
    /// Files, folders and patterns; `-` for standard input
    #[arg(required = true)]
    paths: Vec<String>,
    /// Read everything as text, jsonl, integers, shard or parquet instead of by its ending
    #[arg(long, value_parser = format_of)]
    format: Option<Format>,
    /// The field of a JSON line that holds its text
    #[arg(long, default_value = "text")]
    field: String,
    /// Leave bad lines and files out, and count them
    #[arg(long)]
    skip_bad: bool,
}

impl Texts {
    /// The files; standard input is kept in a folder that lives as long as what is returned with them.
    fn find(&self) -> anyhow::Result<(input::Found, Option<Scratch>)> {
        let asked = self.paths.iter().any(|path| path == "-");
        let scratch = asked.then(|| Scratch::new("data")).transpose()?;
        let folder = scratch.as_ref().map_or(Path::new(""), |scratch| &scratch.0);
        let found = crate::input::extents(&self.paths, self.format, folder).map_err(refused)?;
        Ok((found, scratch))
    }

    fn options(&self) -> ReadOptions {
        let on_bad = if self.skip_bad { OnBad::Skip } else { OnBad::Refuse };
        ReadOptions { field: self.field.clone(), on_bad, ..ReadOptions::default() }
    }
}

/// A format by its name in configurations.
fn format_of(name: &str) -> Result<Format, String> {
    serde_json::from_value(json!(name)).map_err(|error| error.to_string())
}

/// The error of the data crate with the exit code that it has in training.
fn refused(error: cupola_data::Error) -> Failure {
    match error {
        error @ cupola_data::Error::NoInput { .. } => Failure::Usage(error.to_string()),
        error => Failure::Refused(error.to_string()),
    }
}

#[derive(Args)]
pub struct Stats {
    #[command(flatten)]
    texts: Texts,
    /// Also count the tokens of this tokenizer
    #[arg(short, long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Stats {
    fn run(self) -> anyhow::Result<()> {
        let (found, _scratch) = self.texts.find()?;
        let tokenizer = self.tokenizer.as_deref().map(load_tokenizer).transpose()?;
        let options = self.texts.options();
        let shards: Vec<_> = found.extents.iter().filter(|extent| extent.format == Format::Shard).cloned().collect();
        let texts: Vec<_> = found.extents.iter().filter(|extent| extent.format != Format::Shard).cloned().collect();
        let (mut documents, mut bytes, mut characters, mut tokens) = (0u64, 0u64, 0u64, 0u64);
        for extent in &shards {
            let shard = Shard::open(&extent.path).map_err(refused)?;
            documents += shard.documents() as u64;
            tokens += shard.len() as u64;
            bytes += shard.text_bytes();
        }
        let mut reader = Reader::new(&texts, &options, Cursor::default());
        let mut lines = 0u64;
        while let Some(piece) = reader.next_piece().map_err(refused)? {
            documents += u64::from(piece.begins);
            let texts: Vec<&str> = match &piece.content {
                Content::Text(text) => vec![text],
                Content::Ids(ids) => {
                    tokens += ids.len() as u64;
                    continue;
                }
                Content::Completion { prompt, completion } => vec![prompt, completion],
                Content::Messages(messages) => texts_of(messages).collect(),
            };
            for text in &texts {
                bytes += text.len() as u64;
                characters += text.chars().count() as u64;
                lines += text.matches('\n').count() as u64;
            }
            let Some(tokenizer) = &tokenizer else { continue };
            tokens += match &piece.content {
                Content::Messages(messages) => {
                    cupola_data::chat::conversation(tokenizer, messages).map_err(Failure::Refused)?.ids.len() as u64
                }
                _ => texts.iter().map(|text| tokenizer.count(text)).sum::<Result<usize, _>>()? as u64,
            };
        }
        let known = tokenizer.is_some() || !shards.is_empty() || tokens > 0;
        let rows = [
            ("files", found.extents.len() as u64),
            ("documents", documents),
            ("bytes", bytes),
            ("characters", characters),
            ("lines", lines),
            ("left_out", reader.skipped + found.skipped.len() as u64),
        ];
        let mut out = io::stdout().lock();
        if self.json {
            let mut object: serde_json::Map<_, _> =
                rows.iter().map(|&(name, value)| (name.to_string(), json!(value))).collect();
            object.insert("tokens".to_string(), if known { json!(tokens) } else { json!(null) });
            return writeln!(out, "{}", serde_json::Value::Object(object)).context("standard output");
        }
        for (name, value) in rows {
            writeln!(out, "{name:<12}{}", grouped(value as usize)).context("standard output")?;
        }
        if known {
            let each = bytes as f64 / tokens.max(1) as f64;
            writeln!(out, "{:<12}{}, {each:.2} bytes each", "tokens", grouped(tokens as usize))
                .context("standard output")?;
        }
        Ok(())
    }
}

/// The texts of a conversation.
fn texts_of(messages: &serde_json::Value) -> impl Iterator<Item = &str> {
    let all = messages.as_array().into_iter().flatten();
    all.filter_map(|message| message.get("content")?.as_str())
}

#[derive(Args)]
pub struct Inspect {
    /// A shard, or a folder of shards
    path: PathBuf,
    /// The tokenizer that made them
    #[arg(short, long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// The first document to print
    #[arg(long, default_value_t = 0)]
    document: usize,
    /// How many documents
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Tokens of each at most
    #[arg(long, default_value_t = 200)]
    tokens: usize,
}

impl Inspect {
    fn run(self) -> anyhow::Result<()> {
        let data = Dataset::open(&self.path).map_err(refused)?;
        let tokenizer = self.tokenizer.as_deref().map(load_tokenizer).transpose()?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{} tokens in {} documents, vocabulary {}, tokenizer {}",
            grouped(data.len()),
            grouped(data.documents()),
            grouped(data.vocab_size() as usize),
            &data.tokenizer()[..12]
        )
        .context("standard output")?;
        if self.document >= data.documents() {
            let text = format!("--document {}: there are {}, counted from 0", self.document, data.documents());
            return Err(Failure::Usage(text).into());
        }
        for index in self.document..data.documents().min(self.document.saturating_add(self.count)) {
            let mut batch = cupola_data::Batch::default();
            let mut span = data.document(index);
            span.tokens.end = span.tokens.end.min(span.tokens.start.saturating_add(self.tokens));
            data.append(&span, &mut batch).map_err(refused)?;
            let ids: Vec<u32> = batch.tokens.iter().map(|&id| id as u32).collect();
            let text = match &tokenizer {
                Some(tokenizer) => tokenizer.decode_lossy(&ids)?,
                None => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            };
            writeln!(out, "-- document {index}\n{text}").context("standard output")?;
        }
        Ok(())
    }
}

#[derive(Args)]
pub struct Validate {
    #[command(flatten)]
    texts: Texts,
}

impl Validate {
    fn run(self) -> anyhow::Result<()> {
        let (found, _scratch) = self.texts.find()?;
        let options = self.texts.options();
        let mut documents = 0u64;
        for extent in &found.extents {
            if extent.format == Format::Shard {
                let shard = Shard::open(&extent.path).map_err(refused)?;
                shard.verify().map_err(refused)?;
                documents += shard.documents() as u64;
                continue;
            }
            let one = [extent.clone()];
            let mut reader = Reader::new(&one, &options, Cursor::default());
            while let Some(piece) = reader.next_piece().map_err(refused)? {
                documents += u64::from(piece.begins);
            }
            if reader.skipped > 0 {
                crate::output::note(format_args!("{}: {} left out", extent.path.display(), reader.skipped));
            }
        }
        crate::output::line(format_args!(
            "{} files with {} documents are as they should be",
            found.extents.len(),
            grouped(documents as usize)
        ))?;
        Ok(())
    }
}

#[derive(Args)]
pub struct Split {
    #[command(flatten)]
    texts: Texts,
    /// The part of the text, at its end, that is held out
    #[arg(long, default_value_t = 0.1)]
    held_out: f64,
    /// Where the first part goes
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Where the rest goes
    #[arg(long, value_name = "FILE")]
    val: PathBuf,
}

impl Split {
    fn run(self) -> anyhow::Result<()> {
        let (found, _scratch) = self.texts.find()?;
        let (train, held) = input::split(&found.extents, 1.0 - self.held_out).map_err(refused)?;
        if let Some(one) = found.extents.iter().find(|extent| matches!(extent.format, Format::Parquet | Format::Shard))
        {
            let text = format!(
                "{}: {:?} is not cut; `train` and `data tokenize` take it as it is",
                one.path.display(),
                one.format
            );
            return Err(Failure::Usage(text).into());
        }
        for (path, extents) in [(&self.train, train), (&self.val, held)] {
            let mut bytes = 0;
            cupola_io::atomic::write_file(path, |file| -> anyhow::Result<()> {
                for extent in &extents {
                    let map = cupola_core::MappedFile::open(&extent.path)
                        .with_context(|| extent.path.display().to_string())?;
                    let part = map.bytes().get(extent.begin as usize..extent.end as usize).unwrap_or_default();
                    file.write_all(part).with_context(|| path.display().to_string())?;
                    bytes += part.len();
                }
                Ok(())
            })?;
            crate::output::line(format_args!("{}: {} bytes", path.display(), grouped(bytes)))?;
        }
        Ok(())
    }
}
