//! `cupola eval`.

use crate::exit::Failure;
use crate::input::{self, Scratch};
use clap::Args;
use cupola_data::Dataset;
use cupola_data::tokenize::separator_of;
use cupola_data::{TokenizeOptions, tokenize};
use cupola_io::run::RunDir;
use cupola_models::Decoder;
use cupola_nn::evaluate;
use cupola_tensor::{Segments, Tensor};
use cupola_tokenizer::Tokenizer;
use cupola_train::Setup;
use cupola_train::config::Compute;
use cupola_train::evaluate::{self as measure, Score};
use cupola_train::setup::{load_tokenizer, same_tokenizer, sound_folder};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use super::train::{DType, with_threads};

#[derive(Args)]
#[command(after_help = "\
Without files a run is measured on the text that was held out of it. A line of --choices is
{\"prompt\": \"...\", \"choices\": [\"...\", ...], \"answer\": 0}; the choice with the highest probability, and the highest a byte, counts.")]
pub struct Eval {
    /// A run's folder or a model directory
    model: PathBuf,
    /// Files, folders and patterns of text, or token shards; `-` for standard input
    paths: Vec<String>,
    /// Questions with several answers, as JSON lines
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "paths")]
    choices: Option<PathBuf>,
    /// Tokens of a window; windows do not overlap [default: that of the training, or the context]
    #[arg(long, conflicts_with = "choices")]
    window: Option<usize>,
    /// Windows at a time
    #[arg(long, default_value_t = 16, conflicts_with = "choices")]
    rows: usize,
    /// What products compute in
    #[arg(long, value_enum, default_value_t = DType::F32, conflicts_with = "choices")]
    dtype: DType,
    /// Which checkpoint of a run: best, last, step-000300 [default: best, else last]
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Threads to compute with; results have the same bits for any number
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Eval {
    /// Measures.
    ///
    /// # Errors
    /// When the model or the text cannot be read.
    pub fn run(self) -> anyhow::Result<()> {
        with_threads(self.threads, || self.measure())
    }

    fn measure(&self) -> anyhow::Result<()> {
        let folder = sound_folder(&self.model, self.checkpoint.as_deref())?;
        let model = cupola_models::load(&folder)?;
        let tokenizer = load_tokenizer(&folder)?;
        if let Some(path) = &self.choices {
            return self.choose(&model, &tokenizer, path);
        }
        let dtype = if self.dtype == DType::Bf16 { Compute::Bf16 } else { Compute::F32 };
        let longest = model.spec().longest().unwrap_or(usize::MAX - 1);
        let mut window = self.window;
        let scratch = Scratch::new("eval")?;
        let data = if self.paths.is_empty() {
            if !RunDir::is_run(&self.model) {
                let text = format!("{} is no run: give files to measure it on", self.model.display());
                return Err(Failure::Usage(text).into());
            }
            let setup = Setup::look(&RunDir::open(&self.model)?)?;
            window = window.or(setup.config.batch.window);
            setup.held_out
        } else {
            vec![self.read(&tokenizer, &scratch.0)?]
        };
        if data.is_empty() {
            return Err(Failure::Usage("nothing was held out of this run: give files".to_string()).into());
        }
        let window = window.unwrap_or(longest.min(1024));
        if window == 0 || window > longest {
            return Err(
                Failure::Usage(format!("--window {window}: expected 1 to {longest}, the model's context")).into()
            );
        }
        let mut score: Option<Score> = None;
        for part in &data {
            part.check_ids(model.spec().vocab_size as u64).map_err(cupola_train::Error::from)?;
            let own = measure::dataset(&model, dtype, part, window, self.rows.max(1))?;
            score = Some(score.map_or(own, |sum| sum.plus(own)));
        }
        let score = score.unwrap_or_default();
        if score.tokens == 0 {
            return Err(Failure::Refused("the text has no token that could be predicted".to_string()).into());
        }
        let (loss, bits) = (score.loss(), score.bits_per_byte());
        if self.json {
            let value = json!({
                "loss": loss, "perplexity": loss.exp(), "bits_per_byte": bits, "tokens": score.tokens, "bytes": score.bytes,
                "window": window,
            });
            crate::output::line(&value)?;
        } else {
            let bits = bits.map_or_else(String::new, |bits| format!(", {bits:.4} bits a byte"));
            crate::output::line(format_args!(
                "loss {loss:.4}, perplexity {:.3}{bits} over {} tokens",
                loss.exp(),
                score.tokens
            ))?;
        }
        Ok(())
    }

    fn read(&self, tokenizer: &Tokenizer, scratch: &Path) -> anyhow::Result<Dataset> {
        let refused = |error: cupola_data::Error| cupola_train::Error::from(error);
        let found = input::extents(&self.paths, None, scratch).map_err(refused)?;
        let shards = found.extents.iter().filter(|e| e.format == cupola_data::Format::Shard).count();
        if shards > 0 && shards == found.extents.len() {
            let shards = found.extents.iter().map(|extent| cupola_data::Shard::open(&extent.path));
            let data = Dataset::new(shards.collect::<Result<_, _>>().map_err(refused)?).map_err(refused)?;
            data.verify().map_err(refused)?;
            same_tokenizer(&data, tokenizer)?;
            return Ok(data);
        }
        let options = TokenizeOptions { separator: separator_of(tokenizer), ..TokenizeOptions::default() };
        let (data, _) =
            tokenize(&scratch.join("tokens"), &found.extents, tokenizer, &options, &mut |_| {}).map_err(refused)?;
        Ok(data)
    }

    /// Multiple choice by likelihood.
    fn choose(&self, model: &Decoder, tokenizer: &Tokenizer, path: &Path) -> anyhow::Result<()> {
        let source = input::read(path)?;
        let name = source.shown().to_string();
        let (mut asked, mut right, mut right_by_byte) = (0usize, 0usize, 0usize);
        for (index, line) in input::lines(source.text()?).enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str| Failure::Refused(format!("{name}: line {}: {what}", index + 1));
            let question: Value = serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(String::from);
            let prompt = text(question.get("prompt")).ok_or_else(|| wrong("expected a text `prompt`"))?;
            let choices = question.get("choices").and_then(Value::as_array).filter(|list| list.len() > 1);
            let choices = choices.ok_or_else(|| wrong("expected at least two `choices`"))?;
            let answer = question.get("answer").and_then(Value::as_u64).filter(|&n| n < choices.len() as u64);
            let answer = answer.ok_or_else(|| wrong("expected the number of a choice as `answer`"))? as usize;
            let mut scores = Vec::new();
            for choice in choices {
                let choice = choice.as_str().ok_or_else(|| wrong("expected texts as `choices`"))?;
                let nats = likelihood(model, tokenizer, &prompt, choice).map_err(|what| wrong(&what))?;
                scores.push((nats, nats / choice.len().max(1) as f64));
            }
            let least = |key: fn(&(f64, f64)) -> f64| {
                (0..scores.len()).min_by(|&a, &b| key(&scores[a]).total_cmp(&key(&scores[b]))).unwrap_or(0)
            };
            asked += 1;
            right += usize::from(least(|score| score.0) == answer);
            right_by_byte += usize::from(least(|score| score.1) == answer);
        }
        if asked == 0 {
            return Err(Failure::Refused(format!("{name}: there is no question")).into());
        }
        let part = |n: usize| n as f64 / asked as f64;
        let spread = |p: f64| 1.96 * (p * (1.0 - p) / asked as f64).sqrt();
        if self.json {
            let value = json!({
                "questions": asked, "accuracy": part(right), "accuracy_by_byte": part(right_by_byte),
                "confidence_95": spread(part(right)),
            });
            crate::output::line(&value)?;
        } else {
            crate::output::line(format_args!(
                "{asked} questions: {:.1} % right (+- {:.1}), {:.1} % by probability a byte",
                100.0 * part(right),
                100.0 * spread(part(right)),
                100.0 * part(right_by_byte)
            ))?;
        }
        Ok(())
    }
}

/// The nats that a continuation costs after a prompt.
fn likelihood(model: &Decoder, tokenizer: &Tokenizer, prompt: &str, choice: &str) -> Result<f64, String> {
    let encode = |text: &str| tokenizer.encode(text).map_err(|error| error.to_string());
    let before = encode(prompt)?;
    // Together, as the text would stand; the tokens that the prompt alone has are its own.
    let mut all = encode(&format!("{prompt}{choice}"))?;
    let mut own = before.iter().zip(&all).take_while(|(a, b)| a == b).count();
    if own == 0 {
        let begin = separator_of(tokenizer).ok_or("the prompt is empty")?;
        all.insert(0, begin);
        own = 1;
    }
    let longest = model.spec().longest().unwrap_or(usize::MAX - 1);
    if all.len() > longest + 1 {
        return Err(format!("{} tokens, the model's context is {longest}", all.len()));
    }
    if all.len() <= own {
        return Err("a choice adds no token to the prompt".to_string());
    }
    let known = model.spec().vocab_size;
    if let Some(id) = all.iter().find(|&&id| id as usize >= known) {
        return Err(format!("the tokenizer gives the id {id}, the model has {known}"));
    }
    let count = all.len() - 1;
    let tokens: Vec<i64> = all[..count].iter().map(|&id| i64::from(id)).collect();
    let target = |at: usize| if at < own { cupola_data::IGNORE } else { i64::from(all[at]) };
    let targets: Vec<i64> = (1..=count).map(target).collect();
    let (tokens, targets) = (Tensor::from_vec(tokens, [count]), Tensor::from_vec(targets, [count]));
    Ok(evaluate(|| model.loss_sum(&tokens, &targets, &Segments::one(count)).item()))
}
