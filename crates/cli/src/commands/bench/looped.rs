//! The trainer's whole loop beside bare steps of training, in turn in one process.

use cupola_io::run::{Record, RunDir};
use cupola_models::ModelFields;
use cupola_train::config::{Compute, Config, OptimizerConfig, Policy, ScheduleKind};
use cupola_train::lock::Lock;
use cupola_train::{Setup, Stop, Trainer, Watch};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::model::Steps;
use super::works::{self, Work};
use super::{Line, Options, middle};
use crate::commands::train::DType;

/// How long each of the two goes on before the other.
const TURN: Duration = Duration::from_millis(700);
/// Letters of the text; with the token that ends it as many as the smallest vocabulary of a work.
const LETTERS: u32 = 64;
/// Its length.
const LENGTH: u64 = 400_000;

/// Notes the time of every step, and asks to stop when the turn is over.
struct Turn {
    stop: Stop,
    began: Instant,
    last: Option<Instant>,
    seconds: Vec<f64>,
}

impl Watch for Turn {
    fn record(&mut self, record: &Record) {
        if let Record::Step(_) = record {
            let now = Instant::now();
            // The first step of a turn finds the other's data in the caches.
            if let Some(last) = self.last.replace(now) {
                self.seconds.push((now - last).as_secs_f64());
            }
            if self.began.elapsed() >= TURN && self.seconds.len() > 2 {
                self.stop.ask();
            }
        }
    }
}

/// A folder that goes when it is no longer needed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Letters without meaning.
fn text() -> String {
    let mut state = 1u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_u32(0x100 + (state >> 33) as u32 % LETTERS).unwrap_or('?')
    };
    (0..LENGTH).map(letter).collect()
}

fn configuration(options: &Options, work: Work, text: &Path) -> anyhow::Result<Config> {
    let definition = work.definition()?;
    let mut config = Config { steps: Some(1_000_000_000), ..Config::default() };
    config.dtype = if options.dtype == DType::Bf16 { Compute::Bf16 } else { Compute::F32 };
    config.model.spec = Some(ModelFields::clone(definition.spec.fields()));
    config.tokenizer.kind = Some("chars".to_string());
    config.data.paths = vec![text.display().to_string()];
    config.data.held_out = 0.0;
    config.batch.window = Some(definition.window);
    (config.batch.rows, config.batch.micro_rows) = (Some(definition.rows), Some(definition.rows));
    config.optimizer = OptimizerConfig { clip: work.clip(), ..works::adamw() };
    (config.schedule.kind, config.schedule.warmup) = (ScheduleKind::Constant, Some(0));
    (config.eval.every, config.sample.every, config.sample.tokens) = (Some(0), Some(0), 0);
    config.checkpoint.every = Some(1_000_000_000);
    config.guard.spike = Policy::Ignore;
    Ok(config)
}

/// Steps through the trainer, with all that belongs to them: reading, guards, metrics, events; and bare ones.
pub(super) fn trainer(options: &Options) -> anyhow::Result<()> {
    let work = options.work.unwrap_or(Work::Nano);
    let mut bare = Steps::new(options, work)?;
    let scratch = Scratch(std::env::temp_dir().join(format!("cupola-bench-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let file = scratch.0.join("text.txt");
    fs::write(&file, text())?;
    let out = scratch.0.join("run");
    fs::create_dir_all(&out)?;
    let lock = Lock::take(&out)?;
    let setup = Setup::prepare(configuration(options, work, &file)?, &out, &mut |_| {})?;
    let run = RunDir::create(&out, &setup.info("bench"))?;
    let mut trainer = Trainer::open(setup, run, lock, &mut ())?;
    let (mut looped, mut steps) = (Vec::new(), Vec::new());
    let limit = Duration::from_secs_f64(options.seconds.clamp(0.01, 3600.0));
    let began = Instant::now();
    while looped.is_empty() || began.elapsed() < limit {
        let mut turn = Turn { stop: Stop::default(), began: Instant::now(), last: None, seconds: Vec::new() };
        let stop = turn.stop.clone();
        trainer.train(&stop, &mut turn)?;
        looped.append(&mut turn.seconds);
        bare.one();
        let turn = Instant::now();
        let before = steps.len();
        while turn.elapsed() < TURN || steps.len() < before + 3 {
            let one = Instant::now();
            bare.one();
            steps.push(one.elapsed().as_secs_f64());
        }
    }
    let tokens = bare.tokens() as f64;
    for (bench, times) in [("train", &mut steps), ("trainer", &mut looped)] {
        options.print(&Line { bench, config: work.name(), rate: ("tokens_per_s", tokens / middle(times)) })?;
    }
    Ok(())
}
