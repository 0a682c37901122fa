//! `cupola train`.
//!
//! - `watch`: the bar on a terminal, plain lines elsewhere
//! - `interrupt`: Ctrl-C once and twice

pub(super) mod interrupt;
mod watch;

use crate::exit::Failure;
use crate::terminal::grouped;
use clap::{Args, ValueEnum};
use cupola_core::pool;
use cupola_io::run::{RunDir, Status};
use cupola_train::config::{self, Compute, Config};
use cupola_train::lock::Lock;
use cupola_train::trainer::{check_free, finished, fix_steps};
use cupola_train::{Outcome, Setup, Trainer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use watch::Display;

#[derive(Args, Default)]
#[command(after_help = "\
Ctrl-C saves and ends; `cupola train --resume` with the same --out, or `cupola resume RUN`, goes on as if nothing had been.
Everything that is not said is chosen from the size of the text and of the machine's memory; `cupola config show` lists the keys
that --set and --config know.")]
pub struct Train {
    /// Files, folders and patterns of text, JSON lines or token shards; `-` for standard input
    pub paths: Vec<String>,
    /// The model, by name (`cupola model presets` lists them), or by its family alone, such as `mamba`: then its size is chosen
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A model directory or run to go on from, instead of random values
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// Train low-rank additions of this rank to the model of --from, whose weights stay; `cupola model merge` adds them in
    #[arg(long, value_name = "RANK", num_args = 0..=1, default_missing_value = "8", require_equals = true)]
    pub lora: Option<usize>,
    /// A file with settings
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// A setting, such as optimizer.learning_rate=3e-4; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Steps of the whole run
    #[arg(long, group = "length")]
    pub steps: Option<u64>,
    /// How many times the text is read
    #[arg(long, group = "length")]
    pub epochs: Option<f64>,
    /// About how long to train: 90, 90s, 5m, 1h30m
    #[arg(long, group = "length", value_parser = seconds)]
    pub time: Option<f64>,
    /// Stop as soon as the held-out loss is this low
    #[arg(long, value_name = "LOSS")]
    pub until_loss: Option<f64>,
    /// `bpe` (trained on the text), `chars`, `bytes`, or the path of a tokenizer
    #[arg(long, value_name = "KIND|PATH")]
    pub tokenizer: Option<String>,
    /// The run's folder [default: runs/NAME-DATE]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// All random numbers come from it
    #[arg(long)]
    pub seed: Option<u64>,
    /// Threads to compute with; results have the same bits for any number [default: one for each core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// What products compute in
    #[arg(long, value_enum)]
    pub dtype: Option<DType>,
    /// Go on with the run in --out (the newest under runs/ without one); begin it when there is none
    #[arg(long)]
    pub resume: bool,
    /// Show the run in the browser while it trains, on port 7860 or the one given (0 picks one that is free)
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "7860", require_equals = true)]
    pub dash: Option<u16>,
    /// End with one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DType {
    /// Single precision
    F32,
    /// bfloat16 products, single-precision parameters and sums
    Bf16,
}

/// Runs on so many threads.
///
/// # Errors
/// When the number is 0 or too large, and those of `body`.
pub fn with_threads<R>(threads: Option<usize>, body: impl FnOnce() -> anyhow::Result<R>) -> anyhow::Result<R> {
    match threads {
        None => body(),
        Some(n) if (1..=pool::MAX_THREADS).contains(&n) => pool::with_threads(n, body),
        Some(n) => {
            Err(Failure::Usage(format!("--threads {n}: expected a number from 1 to {}", pool::MAX_THREADS)).into())
        }
    }
}

/// Reads `90`, `90s`, `5m`, `1h30m`.
fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no time; write it as 90, 90s, 5m or 1h30m");
    let mut total = 0.0;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            _ => return Err(wrong()),
        };
        total += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() {
        total += number.parse::<f64>().map_err(|_| wrong())?;
    }
    if total > 0.0 && total.is_finite() { Ok(total) } else { Err(wrong()) }
}

impl Train {
    /// Trains.
    ///
    /// # Errors
    /// When the settings, the text or the run's folder cannot be used, or the run fails.
    pub fn run(self) -> anyhow::Result<()> {
        with_threads(self.threads, || self.start(self.configuration()?))
    }

    /// The configuration that the command line asks for.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn configuration(&self) -> anyhow::Result<Config> {
        let mut config = config::read(self.config.as_deref(), &self.set)?;
        if !self.paths.is_empty() {
            config.data.paths = self.paths.clone();
        }
        if let Some(preset) = &self.preset {
            config.model.preset = Some(preset.clone());
        }
        if let Some(from) = &self.from {
            config.model.from = Some(from.clone());
        }
        if let Some(rank) = self.lora {
            config.lora.get_or_insert_default().rank = rank;
        }
        if self.steps.is_some() || self.epochs.is_some() || self.time.is_some() {
            (config.steps, config.epochs, config.time) = (self.steps, self.epochs, self.time);
        }
        config.until_loss = self.until_loss.or(config.until_loss);
        config.tokenizer.kind = self.tokenizer.clone().or(config.tokenizer.kind);
        config.seed = self.seed.unwrap_or(config.seed);
        config.dtype = match self.dtype {
            None => config.dtype,
            Some(DType::F32) => Compute::F32,
            Some(DType::Bf16) => Compute::Bf16,
        };
        config.check()?;
        Ok(config)
    }

    /// What the run is called: after the first path.
    fn name(&self, config: &Config) -> String {
        let first = config.data.paths.first().map_or("demo", String::as_str);
        let stem = Path::new(first.trim_end_matches('/')).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let clean = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = stem.unwrap_or_else(|| "run".to_string()).chars().map(clean).collect();
        let name = name.trim_matches('-');
        if name.is_empty() { "run".to_string() } else { name.to_string() }
    }

    /// Begins or goes on with the run of this configuration.
    ///
    /// # Errors
    /// As [`Train::run`].
    pub fn start(&self, config: Config) -> anyhow::Result<()> {
        let name = self.name(&config);
        let out = match &self.out {
            Some(out) => out.clone(),
            None => choose_folder(Path::new("runs"), &name, self.resume)?,
        };
        // First of all, so that a port that is taken shows before the work, and the page as soon as somebody looks.
        let _page = self.dash.map(|port| super::dash::beside(&out, port)).transpose()?;
        if self.resume && RunDir::is_run(&out) {
            same(&out, &config)?;
            return go_on(&out, self.json);
        }
        check_free(&out)?;
        std::fs::create_dir_all(&out)
            .map_err(|error| Failure::Refused(format!("{}: cannot create the run's folder: {error}", out.display())))?;
        let lock = Lock::take(&out)?;
        let mut display = Display::new(&out);
        let mut setup = Setup::prepare(config, &out, &mut |step| display.preparing(step))?;
        fix_steps(&mut setup)?;
        display.overview(&setup);
        let run = RunDir::create(&out, &setup.info(&name))?;
        finish(setup, run, lock, display, self.json)
    }
}

/// Goes on with the run in a folder.
///
/// # Errors
/// When it cannot be read or is in use, or the run fails.
pub fn go_on(path: &Path, json: bool) -> anyhow::Result<()> {
    let run = RunDir::open(path)?;
    let lock = Lock::take(path)?;
    let info = run.info()?;
    if info.status == Status::Finished {
        crate::output::note(format_args!("{}: the run is finished", path.display()));
        if json {
            crate::output::line(summary(&finished(&run)?, &chosen(&run)?, None))?;
        }
        return Ok(());
    }
    let setup = Setup::reopen(&run)?;
    let mut info = info;
    info.status = Status::Running;
    info.threads = pool::threads();
    run.set_info(&info)?;
    let mut display = Display::new(path);
    display.overview(&setup);
    finish(setup, run, lock, display, json)
}

/// A run that is gone on with is the run that it was: settings that say otherwise are refused.
fn same(path: &Path, given: &Config) -> anyhow::Result<()> {
    let info = RunDir::open(path)?.info()?;
    let mut stored: Config = serde_json::from_value(serde_json::Value::Object(info.config))?;
    let mut given = given.clone();
    stored.make_paths_absolute();
    given.make_paths_absolute();
    let key = |line: &str| line.split('=').next().unwrap_or_default().to_string();
    let stored = config::settings(&stored);
    for line in config::settings(&given) {
        if stored.contains(&line) {
            continue;
        }
        let known = stored.iter().find(|other| key(other) == key(&line));
        let known = known.map_or_else(|| format!("no {}", key(&line)), String::clone);
        let text = format!("{}: the run has {known}, and cannot go on with {line}", path.display());
        return Err(Failure::Usage(text).into());
    }
    Ok(())
}

/// Trains and says how it ended.
fn finish(setup: Setup, run: RunDir, lock: Lock, mut display: Display, json: bool) -> anyhow::Result<()> {
    let path = run.path().to_owned();
    let estimate = setup.memory.peak();
    let stop = interrupt::install()?;
    let mut trainer = Trainer::open(setup, run.clone(), lock, &mut display)?;
    display.begin(&trainer);
    let result = trainer.train(&stop, &mut display);
    drop(stop);
    display.end();
    let outcome = result?;
    if json {
        crate::output::line(summary(&outcome, &chosen(&run)?, Some(estimate)))?;
    }
    let shown = path.display();
    if outcome.interrupted {
        crate::output::note(format_args!(
            "stopped after step {}; `cupola resume {shown}` goes on",
            grouped(outcome.steps as usize)
        ));
        return Err(Failure::Interrupted.into());
    }
    crate::output::note(sentence(&outcome));
    crate::output::note(format_args!("next: cupola generate {shown} --prompt \"...\""));
    Ok(())
}

/// The checkpoint that is taken when none is named.
fn chosen(run: &RunDir) -> anyhow::Result<PathBuf> {
    Ok(run.checkpoint("best").or_else(|_| run.checkpoint("last"))?)
}

/// What `--json` prints. Memory is that of the process which trained, and of no other.
fn summary(outcome: &Outcome, checkpoint: &Path, estimate: Option<u64>) -> serde_json::Value {
    json!({
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "seconds": outcome.seconds,
        "train_loss": outcome.train_loss,
        "val_loss": outcome.val_loss,
        "val_bits_per_byte": outcome.val_bits_per_byte,
        "best_val_loss": outcome.best.map(|best| best.loss),
        "checkpoint": checkpoint,
        "interrupted": outcome.interrupted,
        "estimated_mb": estimate.map(|bytes| bytes as f64 / (1 << 20) as f64),
        "peak_rss_mb": estimate.and_then(|_| super::bench::peak_rss_mb()),
    })
}

fn sentence(outcome: &Outcome) -> String {
    let mut text = format!("done: {} steps", grouped(outcome.steps as usize));
    text.push_str(&format!(", {} tokens in {:.0} s", grouped(outcome.tokens as usize), outcome.seconds));
    if let Some(loss) = outcome.val_loss {
        text.push_str(&format!(", held-out loss {loss:.4}"));
    }
    if let Some(bits) = outcome.val_bits_per_byte {
        text.push_str(&format!(" ({bits:.4} bits a byte)"));
    }
    text
}

/// The folder of a new run: `NAME-DATE`, with a number when that is taken. To go on, the newest run that is not finished, of that
/// name if there is one.
pub fn choose_folder(root: &Path, name: &str, resume: bool) -> anyhow::Result<PathBuf> {
    if resume && root.is_dir() {
        let mut open = Vec::new();
        for run in RunDir::list(root)? {
            if let Ok(info) = run.info()
                && info.status != Status::Finished
            {
                open.push((info.name == name, info.created, run.path().to_owned()));
            }
        }
        if let Some((_, _, path)) = open.into_iter().max() {
            return Ok(path);
        }
    }
    let date = cupola_io::run::timestamp(SystemTime::now());
    let date = &date[..10];
    let mut path = root.join(format!("{name}-{date}"));
    let mut number = 2;
    while RunDir::is_run(&path) {
        path = root.join(format!("{name}-{date}-{number}"));
        number += 1;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms() {
        assert_eq!(
            ["90", "90s", "5m", "1h30m", "0.5h"].map(|t| seconds(t).ok()),
            [90.0, 90.0, 300.0, 5400.0, 1800.0].map(Some)
        );
        for wrong in ["", "5x", "m", "-3", "0", "1e9"] {
            seconds(wrong).expect_err(wrong);
        }
    }
}
