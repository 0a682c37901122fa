//! `cupola bench`: the numbers of docs/benchmarks.md, for anyone to repeat.
//!
//! - `works`: what is trained or run, as the peers' scripts define it
//! - `model`: training, prefill, decoding
//! - `looped`: training through the trainer
//! - `kernels`: products and operations
//! - `tokenizer`: text to tokens

mod kernels;
mod looped;
mod model;
mod tokenizer;
mod works;

use clap::{Args, Subcommand, ValueEnum};
use cupola_core::pool;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

use super::train::{DType, with_threads};
use works::Work;

#[derive(Subcommand)]
pub enum Command {
    /// Training steps: tokens a second
    Train(Options),
    /// Training steps through the whole trainer, and bare ones in turn: what its loop costs
    Trainer(Options),
    /// Writing token by token: tokens a second
    Decode(Options),
    /// Reading a prompt of 512 tokens: tokens a second
    Prefill(Options),
    /// Square matrix products: GFLOP a second
    Gemm(Options),
    /// Operations on ten million numbers: GB a second
    Ops(Options),
    /// Encoding the carried text: MB a second
    Tokenizer(Options),
}

#[derive(Args)]
pub struct Options {
    /// The model
    #[arg(long, value_enum)]
    work: Option<Work>,
    /// What products compute in
    #[arg(long, value_enum, default_value_t = DType::F32)]
    dtype: DType,
    /// Threads to compute with
    #[arg(long)]
    threads: Option<usize>,
    /// How long each line is measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// One line of results.
struct Line<'a> {
    bench: &'a str,
    config: String,
    /// The rate's name and value.
    rate: (&'a str, f64),
}

impl Options {
    fn dtype_name(&self) -> String {
        self.dtype.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn print(&self, line: &Line<'_>) -> anyhow::Result<()> {
        let (unit, value) = line.rate;
        if self.json {
            let mut object = Map::new();
            object.insert("bench".to_string(), json!(line.bench));
            object.insert("config".to_string(), json!(line.config));
            object.insert("dtype".to_string(), json!(self.dtype_name()));
            object.insert("threads".to_string(), json!(pool::threads()));
            object.insert(unit.to_string(), json!(value));
            object.insert("peak_rss_mb".to_string(), peak_rss_mb().map_or(Value::Null, |mb| json!(mb)));
            crate::output::line(Value::Object(object))
        } else {
            crate::output::line(format_args!(
                "{:<10} {:<24} {:<5} {} threads  {value:>12.1} {unit}",
                line.bench,
                line.config,
                self.dtype_name(),
                pool::threads()
            ))
        }
    }

    /// The median time of one call: a few to warm up, then as many as fit into the time.
    fn median(&self, mut work: impl FnMut()) -> f64 {
        work();
        let limit = Duration::from_secs_f64(self.seconds.clamp(0.01, 3600.0));
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < 3 || began.elapsed() < limit {
            let one = Instant::now();
            work();
            times.push(one.elapsed().as_secs_f64());
        }
        middle(&mut times)
    }
}

/// The median.
fn middle(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most memory that the process has had, where the system says so.
pub(super) fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

impl Command {
    /// Measures.
    ///
    /// # Errors
    /// When an option makes no sense here.
    pub fn run(self) -> anyhow::Result<()> {
        let (options, work): (Options, fn(&Options) -> anyhow::Result<()>) = match self {
            Self::Train(options) => (options, model::train),
            Self::Trainer(options) => (options, looped::trainer),
            Self::Decode(options) => (options, model::decode),
            Self::Prefill(options) => (options, model::prefill),
            Self::Gemm(options) => (options, kernels::gemm),
            Self::Ops(options) => (options, kernels::ops),
            Self::Tokenizer(options) => (options, tokenizer::encode),
        };
        with_threads(options.threads, || work(&options))
    }
}
