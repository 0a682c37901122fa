//! `cupola generate`.

use crate::exit::Failure;
use crate::input;
use anyhow::Context;
use clap::Args;
use cupola_models::{Generator, SamplerConfig};
use cupola_train::setup::{load_tokenizer, sound_folder};
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::train::with_threads;

#[derive(Args)]
#[command(after_help = "The continuation alone is written to standard output, as it is made.")]
pub struct Generate {
    /// A run's folder or a model directory
    model: PathBuf,
    /// What to go on from; `-` for standard input. Without one the model begins a text
    #[arg(short, long, default_value = "", allow_hyphen_values = true)]
    prompt: String,
    /// Tokens at most
    #[arg(short = 'n', long, default_value_t = 200)]
    tokens: usize,
    /// Logits are divided by it; 0 takes the most probable token
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Only the K most probable tokens; 0 for all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Only the most probable tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    /// Only tokens with at least this part of the most probable one's probability
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f64,
    /// Tokens that occurred become this much less probable; 1 for none
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    repetition: f64,
    /// Equal seeds give equal text [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Which checkpoint of a run: best, last, step-000300 [default: best, else last]
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Threads to compute with; results have the same bits for any number
    #[arg(long)]
    threads: Option<usize>,
    /// Write one JSON object with the text and the speed instead
    #[arg(long)]
    json: bool,
}

impl Generate {
    /// Writes.
    ///
    /// # Errors
    /// When there is no model, an option makes no sense, or standard output is closed.
    pub fn run(self) -> anyhow::Result<()> {
        with_threads(self.threads, || self.write())
    }

    fn write(&self) -> anyhow::Result<()> {
        let folder = sound_folder(&self.model, self.checkpoint.as_deref())?;
        let model = cupola_models::load(&folder)?;
        let tokenizer = load_tokenizer(&folder)?;
        let present = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
        let config = SamplerConfig {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition,
            seed: self.seed.unwrap_or_else(present),
            ..SamplerConfig::default()
        };
        if let Some(problem) = config.problem() {
            return Err(Failure::Usage(problem).into());
        }
        let prompt =
            if self.prompt == "-" { input::read(Path::new("-"))?.text()?.to_string() } else { self.prompt.clone() };
        let end = cupola_data::tokenize::separator_of(&tokenizer);
        let mut ids = tokenizer.encode(&prompt).context("the prompt")?;
        if ids.is_empty() {
            // Where documents begin with it, it is what a model without a prompt goes on from.
            let begin = end.ok_or_else(|| Failure::Usage("this model needs a --prompt to go on from".to_string()))?;
            ids.push(begin);
        }
        if let Some(longest) = model.spec().longest().filter(|longest| ids.len() >= *longest) {
            let text = format!("the prompt has {} tokens, the model's context {longest}", ids.len());
            return Err(Failure::Refused(text).into());
        }
        let stop: Vec<u32> = end.into_iter().collect();
        let mut out = io::stdout().lock();
        let mut text = tokenizer.stream_decoder();
        text.push_all(&ids)?;
        let began = Instant::now();
        let (mut whole, mut count) = (String::new(), 0);
        let mut write = |part: &str| -> io::Result<()> {
            if self.json {
                whole.push_str(part);
                return Ok(());
            }
            out.write_all(part.as_bytes())?;
            out.flush()
        };
        for id in Generator::new(&model, &ids, config).limit(self.tokens).stop_at(&stop) {
            count += 1;
            if !stop.contains(&id) {
                // Rows that the tokenizer has no text for write nothing.
                write(&text.push(id).unwrap_or_default()).context("standard output")?;
            }
        }
        write(&text.finish()).context("standard output")?;
        if self.json {
            let seconds = began.elapsed().as_secs_f64();
            let rate = f64::from(count) / seconds.max(1e-9);
            let value = json!({
                "prompt": prompt, "text": whole, "tokens": count, "seconds": seconds, "tokens_per_s": rate,
            });
            crate::output::line(&value)?;
        } else if io::stdout().is_terminal() {
            // The shell's next line; elsewhere nothing is added to the continuation.
            writeln!(out).context("standard output")?;
        }
        Ok(())
    }
}
