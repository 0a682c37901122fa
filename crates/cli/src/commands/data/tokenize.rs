//! `cupola data tokenize`.

use clap::Args;
use cupola_data::tokenize::{Progress, separator_of};
use cupola_data::{TokenizeOptions, tokenize};
use cupola_train::setup::load_tokenizer;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Instant;

use super::{Texts, refused};
use crate::commands::train::with_threads;
use crate::terminal::grouped;

#[derive(Args)]
pub struct Tokenize {
    #[command(flatten)]
    texts: Texts,
    /// The tokenizer
    #[arg(short, long, value_name = "PATH")]
    tokenizer: PathBuf,
    /// The folder for the shards
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Tokens of a shard, more or less
    #[arg(long, default_value_t = 1 << 26)]
    shard_tokens: u64,
    /// Threads; shards have the same bytes for any number
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object with what was made
    #[arg(long)]
    json: bool,
}

impl Tokenize {
    pub(super) fn run(self) -> anyhow::Result<()> {
        with_threads(self.threads, || self.work())
    }

    fn work(&self) -> anyhow::Result<()> {
        let (found, _scratch) = self.texts.find()?;
        let tokenizer = load_tokenizer(&self.tokenizer)?;
        let read = self.texts.options();
        let options = TokenizeOptions {
            separator: separator_of(&tokenizer),
            field: read.field,
            on_bad: read.on_bad,
            shard_tokens: self.shard_tokens.max(1),
        };
        let bar = if io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("  {bytes}/{total_bytes} {wide_bar} {bytes_per_sec}  {eta} left")
        {
            bar.set_style(style.progress_chars(crate::terminal::bar()));
        }
        let began = Instant::now();
        let show = &mut |progress: Progress| {
            bar.set_length(progress.of);
            bar.set_position(progress.bytes);
        };
        let made = tokenize(&self.output, &found.extents, &tokenizer, &options, show);
        bar.finish_and_clear();
        let (data, manifest) = made.map_err(refused)?;
        let seconds = began.elapsed().as_secs_f64();
        let output = self.output.display().to_string();
        if self.json {
            let value = json!({
                "output": output, "tokens": data.len(), "documents": data.documents(), "bytes": data.text_bytes(),
                "shards": manifest.shards.len(), "left_out": manifest.skipped, "hash": data.hash(), "seconds": seconds,
            });
            crate::output::line(&value)?;
        } else {
            crate::output::line(format_args!(
                "{output}: {} tokens in {} documents, {} shards, {} left out, {seconds:.1} s",
                grouped(data.len()),
                grouped(data.documents()),
                manifest.shards.len(),
                manifest.skipped
            ))?;
        }
        Ok(())
    }
}
