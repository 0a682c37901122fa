//! `cupola tokenizer count`.

use super::choice::Choice;
use crate::input;
use crate::output::Output;
use crate::terminal::{Style, grouped};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Count {
    #[command(flatten)]
    choice: Choice,
    /// Files to count; standard input without any or for `-`
    files: Vec<PathBuf>,
    /// Print one JSON object for each file
    #[arg(long)]
    json: bool,
}

impl Count {
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = self.choice.load()?;
        let paths = input::or_stdin(&self.files);
        let mut out = Output::new();
        let mut total = (0, 0);
        let dim = Style::DIM.on_stdout();
        let line = |out: &mut Output, name: &str, tokens: usize, bytes: usize| {
            let per_token = bytes as f64 / tokens.max(1) as f64;
            let (tokens, bytes) = (grouped(tokens), grouped(bytes));
            writeln!(out, "{tokens:>13} tokens {bytes:>13} bytes {per_token:>6.2} {dim}bytes/token{dim:#}  {name}")
        };
        for path in &paths {
            let source = input::read(path)?;
            let text = source.text()?;
            let tokens = tokenizer.count(text).with_context(|| source.shown().to_owned())?;
            total = (total.0 + tokens, total.1 + text.len());
            if self.json {
                out.json(&json!({
                    "source": source.name,
                    "tokens": tokens,
                    "bytes": text.len(),
                    "characters": text.chars().count(),
                }))?;
            } else {
                line(&mut out, source.shown(), tokens, text.len())?;
            }
        }
        if paths.len() > 1 && !self.json {
            line(&mut out, "total", total.0, total.1)?;
        }
        out.finish()
    }
}
