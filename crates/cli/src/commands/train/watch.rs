//! What a training shows: a bar on a terminal, plain lines elsewhere.

use crate::terminal::{Style, bar, grouped, one_line};
use cupola_io::run::Record;
use cupola_train::setup::Preparing;
use cupola_train::{Config, Setup, Trainer, Watch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Shows what happens, on standard error.
pub struct Display {
    run: String,
    bar: Option<ProgressBar>,
    /// Steps of the whole run.
    steps: u64,
    /// When a plain line was printed last.
    printed: Option<Instant>,
    /// Exponential mean of tokens a second, for the eye.
    rate: f64,
    first: bool,
}

/// Time between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);

impl Display {
    /// For the run in this folder.
    pub fn new(run: &Path) -> Self {
        Self { run: run.display().to_string(), bar: None, steps: 0, printed: None, rate: 0.0, first: true }
    }

    /// Shows what is prepared, where somebody looks.
    pub fn preparing(&mut self, step: Preparing) {
        if !io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("  {msg} {wide_bar} {percent}%");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars(bar());
            ProgressBar::new(1).with_style(style)
        });
        let (name, done, of) = match step {
            Preparing::Tokenizer { tokens, of } => ("tokenizer", tokens as u64, of as u64),
            Preparing::Tokens(progress) => ("tokens", progress.bytes, progress.of),
            _ => return,
        };
        bar.set_message(name);
        bar.set_length(of.max(1));
        bar.set_position(done);
    }

    /// Says what will be done.
    pub fn overview(&mut self, setup: &Setup) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let config = &setup.config;
        let tokens: usize = setup.sources.iter().map(|source| source.dataset.len()).sum();
        let held: usize = setup.held_out.iter().map(cupola_data::Dataset::len).sum();
        let bytes: u64 = setup.sources.iter().filter_map(|source| source.dataset.text_bytes()).sum();
        let trained = match setup.trainable {
            all if all == setup.parameters => String::new(),
            part => format!(", {} of them trained", grouped(part)),
        };
        let lines = [
            ("text", format!("{:.1} MB, {} tokens, {} held out", bytes as f64 / 1e6, grouped(tokens), grouped(held))),
            (
                "tokenizer",
                format!(
                    "{}, {} tokens",
                    config.tokenizer.kind.as_deref().unwrap_or("of the model"),
                    grouped(setup.tokenizer.vocab_size())
                ),
            ),
            ("model", format!("{}, {} parameters{trained}", model_name(config), grouped(setup.parameters))),
            (
                "steps",
                format!(
                    "{} of {} x {} tokens, learning rate {}",
                    grouped(config.steps.unwrap_or(0) as usize),
                    config.batch.rows.unwrap_or(0),
                    config.batch.window.unwrap_or(0),
                    config.optimizer.learning_rate.unwrap_or(0.0)
                ),
            ),
            ("memory", format!("about {} MB", setup.memory.peak() >> 20)),
            ("run", format!("{}   stop any time with Ctrl-C; `cupola resume {}` goes on", self.run, self.run)),
        ];
        let bold = Style::BOLD.on_stderr();
        for (name, text) in lines {
            crate::output::note(format_args!("  {bold}{name:<10}{bold:#} {text}"));
        }
        if setup.unknown > 0 {
            let count = grouped(setup.unknown as usize);
            crate::output::note(format_args!(
                "  {count} characters of the held-out text are not in the text to train on; one token stands for them"
            ));
        }
        if !setup.skipped.is_empty() {
            crate::output::note(format_args!("  {} files are no text and were left out", setup.skipped.len()));
        }
        if setup.left_out > 0 {
            let count = grouped(setup.left_out as usize);
            crate::output::note(format_args!("  {count} bad lines and files were left out (data.on_bad = \"skip\")"));
        }
    }

    /// Begins the bar.
    pub fn begin(&mut self, trainer: &Trainer) {
        self.steps = trainer.steps();
        if io::stderr().is_terminal() {
            let template = "  {human_pos}/{human_len} {wide_bar} {msg}  {eta} left";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(self.steps).with_style(style.progress_chars(bar()));
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            bar.set_position(trainer.step());
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    /// Ends the bar.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| crate::output::note(text)),
            // A reader that has gone away is no reason to stop training.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    fn step(&mut self, record: &cupola_io::run::Step) {
        let value = |name: &str| record.values.get(name).copied().unwrap_or(f64::NAN);
        let rate = value("tokens_per_s");
        self.rate = if self.rate == 0.0 { rate } else { 0.95 * self.rate + 0.05 * rate };
        let mut text = format!("loss {:.4}", value("loss"));
        if let Some(bits) = record.values.get("bits_per_byte") {
            text.push_str(&format!("  {bits:.3} bits/byte"));
        }
        text.push_str(&format!(
            "  {:.1}k tok/s  lr {:.1e}  norm {:.2}",
            self.rate / 1e3,
            value("lr"),
            value("grad_norm")
        ));
        match &self.bar {
            Some(bar) => {
                bar.set_position(record.step);
                bar.set_message(text);
            }
            None => {
                let due = self.printed.is_none_or(|at| at.elapsed() >= PAUSE);
                if due || record.step == self.steps {
                    self.printed = Some(Instant::now());
                    self.line(&format!("step {}/{}  {text}", record.step, self.steps));
                }
            }
        }
    }
}

/// What people call the model.
fn model_name(config: &Config) -> String {
    match (&config.model.preset, &config.model.from) {
        (Some(preset), _) => preset.clone(),
        (None, Some(from)) => format!("that of {}", from.display()),
        (None, None) => "as specified".to_string(),
    }
}

impl Watch for Display {
    fn record(&mut self, record: &Record) {
        match record {
            Record::Step(step) => {
                self.step(step);
                if std::mem::take(&mut self.first) && self.bar.is_some() {
                    let loss = step.values.get("loss").copied().unwrap_or(f64::NAN);
                    self.line(&format!("  first loss {loss:.4}"));
                }
            }
            Record::Eval(eval) => {
                let loss = eval.values.get("val_loss").copied().unwrap_or(f64::NAN);
                let bits = eval.values.get("val_bits_per_byte");
                let bits = bits.map_or_else(String::new, |bits| format!("  {bits:.4} bits/byte"));
                self.line(&format!("  step {}  held-out loss {loss:.4}{bits}", eval.step));
            }
            Record::Sample(sample) => {
                let (dim, cyan) = (Style::DIM.on_stderr(), Style::CYAN.on_stderr());
                self.line(&format!(
                    "  {dim}sample{dim:#} {} {cyan}{}{cyan:#}",
                    one_line(&sample.prompt),
                    one_line(&sample.text)
                ));
            }
            Record::Event(event) if event.name == "checkpoint" => {}
            Record::Event(event) => self.line(&format!("  step {}  {}: {}", event.step, event.name, event.message)),
            _ => {}
        }
    }
}
