//! The loop.
//!
//! - `step`: one step, from a batch to changed parameters
//! - `look`: what a step does to each layer
//! - `measure`: evaluation, samples, what is written down
//! - `flops`: how much a step computes
//! - `keep`: checkpoints beside the training
//! - `timing`: how many steps fit into a time
//!
//! A run of `N` steps has the bits of one of `k` steps and a resumed one of `N - k`: all that a step depends on stands in the
//! checkpoint, or follows from the configuration and the step's number.

pub mod flops;
mod keep;
mod look;
mod measure;
pub(crate) mod step;
mod timing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cupola_data::{Dataset, Loader, LoaderConfig, Position};
use cupola_io::run::{Event, MetricsWriter, Record, RunDir, Status};
use cupola_models::{AdapterInfo, Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_nn::optim::{Ema, matches};
use cupola_nn::schedule::{Anneal, Decay, OnPlateau, Schedule};
use cupola_tensor::Gradients;
use cupola_tokenizer::Tokenizer;

use crate::automatic;
use crate::checkpoint::{self, Best};
use crate::config::{Config, ScheduleKind};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::lock::Lock;
use crate::optimizer::{KINDS, Optimizer};
use crate::setup::{Setup, model_folder};
use crate::tensorboard::EventWriter;
use keep::Keeper;
pub use timing::fix_steps;

/// Who is told what happens.
pub trait Watch {
    /// Something was measured or happened; the same is written into the run's metrics.
    fn record(&mut self, record: &Record);

    /// A step's loss and gradients, before they are judged. Whoever watches may change them: to see what happens when numbers go
    /// wrong, or by a rule of their own. A run is repeatable as far as that is.
    fn gradients(&mut self, step: u64, model: &mut Decoder, loss: &mut f64, gradients: &mut Gradients) {
        let _ = (step, model, loss, gradients);
    }
}

/// Nobody.
impl Watch for () {
    fn record(&mut self, _: &Record) {}
}

/// A request to stop, which may come from anywhere; the run then saves and ends.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Steps done.
    pub steps: u64,
    /// Tokens learnt from, by this process and those before.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// The last step's loss.
    pub train_loss: Option<f64>,
    /// The last held-out loss.
    pub val_loss: Option<f64>,
    /// The same in bits a byte.
    pub val_bits_per_byte: Option<f64>,
    /// The lowest held-out loss.
    pub best: Option<Best>,
}

/// A run in progress.
pub struct Trainer {
    run: RunDir,
    _lock: Lock,
    config: Config,
    tokenizer: Tokenizer,
    held_out: Vec<Dataset>,
    /// Bytes of text that a token to learn stands for, where that is known.
    bytes_per_token: Option<f64>,
    model: Decoder,
    /// What stands beside low-rank additions in a checkpoint.
    adapter: Option<AdapterInfo>,
    optimizer: Optimizer,
    ema: Option<Ema>,
    loader: Loader,
    schedule: Schedule,
    guard: Guard,
    /// The checkpoint that was gone back to last, and how many times in a row.
    rewound: (u64, u64),
    step: u64,
    tokens: u64,
    best: Option<Best>,
    stale: u64,
    metrics: MetricsWriter,
    events: EventWriter,
    keeper: Keeper,
    /// Floating-point operations of a token and those of the machine in a second.
    flops: (f64, f64),
    began: Instant,
    seconds_before: f64,
    last_loss: Option<f64>,
    last_score: Option<(f64, Option<f64>)>,
}

/// The schedule of a complete configuration.
pub fn schedule(config: &Config) -> Schedule {
    let lr = config.optimizer.learning_rate.unwrap_or(1e-3);
    let steps = config.steps.unwrap_or(1);
    let warmup = config.schedule.warmup.unwrap_or(0).min(steps);
    let rest = (steps - warmup).max(1);
    let min_lr = lr * config.schedule.end;
    let stable = |anneal| {
        let decay = ((rest as f64 * config.schedule.decay).round() as u64).max(1);
        Decay::StableDecay { stable: rest.saturating_sub(decay), decay, anneal, min_lr }
    };
    let decay = match config.schedule.kind {
        ScheduleKind::Stable => stable(Anneal::Linear),
        ScheduleKind::StableSqrt => stable(Anneal::Sqrt),
        ScheduleKind::Cosine => Decay::Cosine { steps: rest, min_lr },
        ScheduleKind::Linear => Decay::StableDecay { stable: 0, decay: rest, anneal: Anneal::Linear, min_lr },
        ScheduleKind::Constant => Decay::Constant,
        ScheduleKind::OneCycle => Decay::one_cycle(rest),
        ScheduleKind::Plateau => Decay::OnPlateau(OnPlateau { factor: 0.5, patience: 2, ..OnPlateau::default() }),
    };
    Schedule::new(lr, decay).with_warmup(warmup)
}

/// What batches look like.
fn loader_config(config: &Config) -> LoaderConfig {
    LoaderConfig {
        window: config.batch.window.unwrap_or(1),
        rows: config.batch.rows.unwrap_or(1),
        seed: config.seed,
        packing: config.data.packing.unwrap_or_default(),
        shuffle: config.data.shuffle,
        workers: config.data.workers,
    }
}

/// The model that a run begins with: random, or another one with room for more tokens.
fn first_model(setup: &Setup) -> Result<Decoder> {
    if let Some(lora) = &setup.config.lora {
        return crate::lora::begin(&setup.config, lora);
    }
    let new = Decoder::new(&setup.spec).init(setup.config.seed);
    let Some(from) = &setup.config.model.from else { return Ok(new) };
    grown(new, &cupola_models::load(model_folder(from, None)?)?)
}

/// `new` with all values of `old`; tables with more rows keep their first ones.
fn grown(mut new: Decoder, old: &Decoder) -> Result<Decoder> {
    use cupola_nn::StateDict;
    let mut values = new.state_dict();
    for (name, value) in old.state_dict() {
        let Some(place) = values.get_mut(&name) else {
            return Err(Error::Refused(format!("the model to go on from has `{name}`, which this one has not")));
        };
        let (rows, had) = (place.dim(0), value.dim(0));
        *place = if rows == had {
            value
        } else {
            let rest = place.narrow(0, had, rows - had);
            cupola_tensor::Tensor::cat(&[&value, &rest], 0)
        };
    }
    new.load_state_dict(&values).map_err(|error| Error::Refused(error.to_string()))?;
    Ok(new)
}

/// The model of a configuration without values: what is trained, what is frozen, what has additions.
pub(crate) fn shape(config: &Config, spec: &ModelSpec) -> Result<Decoder> {
    let mut model = Decoder::new(spec);
    if let Some(lora) = &config.lora {
        crate::lora::shape(&mut model, lora)?;
    }
    prepare_model(&mut model, config)?;
    Ok(model)
}

fn prepare_model(model: &mut Decoder, config: &Config) -> Result<()> {
    for layer in automatic::recomputed(config, model.layers.len()).map_err(Error::Usage)? {
        model.set_checkpointed(layer..layer + 1, true);
    }
    for pattern in &config.model.freeze {
        if model.set_trainable(false, |name| matches(pattern, name)) == 0 {
            let example = model.named_parameters().first().map(|(name, _)| name.clone()).unwrap_or_default();
            let place = "model.freeze".to_string();
            let reason = format!("the pattern `{pattern}` matches no parameter; the first is `{example}`");
            return Err(crate::config::ConfigError { place, reason }.into());
        }
    }
    let parts = model.named_parameters().into_iter().flat_map(|(path, param)| param.parts(&path));
    let names: Vec<String> = parts.map(|(name, _)| name).collect();
    let is_pattern = |entry: &&String| KINDS.iter().all(|(word, _)| word != entry);
    for pattern in config.optimizer.no_decay.iter().filter(is_pattern) {
        if !names.iter().any(|name| matches(pattern, name)) {
            let place = "optimizer.no_decay".to_string();
            let example = names.first().map_or("", String::as_str);
            let reason = format!("the pattern `{pattern}` matches no parameter; the first is `{example}`");
            return Err(crate::config::ConfigError { place, reason }.into());
        }
    }
    if model.trainable_count() == 0 {
        return Err(Error::Usage("model.freeze leaves no parameter to train".to_string()));
    }
    Ok(())
}

impl Trainer {
    /// Begins the run of this setup in the folder `path`, or goes on with what is there when `resume`.
    ///
    /// # Errors
    /// When the folder holds a run and is not to be resumed, is in use, or lacks what is needed.
    pub fn open(setup: Setup, run: RunDir, lock: Lock, watch: &mut dyn Watch) -> Result<Self> {
        let swept = checkpoint::sweep(&run)?;
        let lora = setup.config.lora.as_ref();
        let adapter = lora.map(|lora| crate::lora::info(&setup.config, lora)).transpose()?;
        let (loaded, damaged) = checkpoint::newest(&run, &setup.spec, adapter.as_ref())?;
        let Setup { config, tokenizer, sources, held_out, .. } = &setup;
        let mut model = match &loaded {
            Some(loaded) => loaded.model.clone(),
            None => first_model(&setup)?,
        };
        prepare_model(&mut model, config)?;
        let schedule = schedule(config);
        let mut optimizer = Optimizer::new(&config.optimizer, schedule.lr(), &model);
        let position = loaded.as_ref().map_or_else(Position::default, |loaded| loaded.state.position.clone());
        let loader = Loader::new(sources.clone(), loader_config(config), position)?;
        let bytes: Option<u64> = sources.iter().map(|source| source.dataset.text_bytes()).sum();
        let tokens: usize = sources.iter().map(|source| source.dataset.learnt()).sum();
        let decay = config.optimizer.ema;
        let seconds_before = loaded.as_ref().map_or(Ok(0.0), |loaded| seconds_until(&run, loaded.state.step))?;
        let flops = (flops::per_token(&model, config), measure::machine_flops(config.dtype));
        let mut trainer = Self {
            metrics: run.append()?,
            events: EventWriter::create(&run.path().join("tensorboard"))?,
            keeper: Keeper::new(&run, config.checkpoint.keep),
            ema: (decay > 0.0).then(|| Ema::new(&model, decay)),
            bytes_per_token: bytes.map(|bytes| bytes as f64 / tokens.max(1) as f64),
            run,
            _lock: lock,
            config: config.clone(),
            tokenizer: tokenizer.clone(),
            held_out: held_out.clone(),
            loader,
            schedule,
            guard: Guard::default(),
            rewound: (0, 0),
            step: 0,
            tokens: 0,
            best: None,
            stale: 0,
            flops,
            began: Instant::now(),
            seconds_before,
            last_loss: None,
            last_score: None,
            optimizer: optimizer.clone(),
            model,
            adapter,
        };
        for path in swept {
            let message = format!("removed {}, which an earlier process left half written", path.display());
            trainer.event(watch, "sweep", message)?;
        }
        for message in damaged {
            trainer.event(watch, "damaged", message)?;
        }
        if let Some(mut loaded) = loaded {
            let folder = trainer.run.checkpoint_path(loaded.state.step);
            checkpoint::restore_optimizer(&mut optimizer, &mut loaded, &folder)?;
            trainer.optimizer = optimizer;
            if decay > 0.0 {
                let average = loaded.ema.take().ok_or_else(|| Error::checkpoint(&folder, "it has no average"))?;
                trainer.ema = Some(Ema::from_values(average, decay));
            }
            let state = loaded.state;
            trainer.schedule = state.schedule;
            trainer.guard = state.guard;
            trainer.step = state.step;
            trainer.tokens = state.tokens;
            trainer.best = state.best;
            trainer.stale = state.stale;
            trainer.event(watch, "resume", format!("going on from step {}", state.step))?;
        }
        Ok(trainer)
    }

    /// The model as it is.
    pub fn model(&self) -> &Decoder {
        &self.model
    }

    /// The configuration, with every choice made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The run's folder.
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.config.steps.unwrap_or(0)
    }

    /// Seconds of training, those of earlier processes included.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// Trains to the end, or until somebody asks to stop.
    ///
    /// # Errors
    /// When a file cannot be written or read, or the numbers go wrong too often. `run.json` then says so.
    pub fn train(&mut self, stop: &Stop, watch: &mut dyn Watch) -> Result<Outcome> {
        self.began = Instant::now();
        let result = self.steps_until(stop, watch);
        let status = match &result {
            Ok(outcome) if outcome.interrupted => Status::Interrupted,
            Ok(_) => Status::Finished,
            Err(_) => Status::Failed,
        };
        // After an error, that is the one to report.
        let written = self.keeper.wait().and_then(|()| Ok(self.run.set_status(status)?));
        let outcome = result?;
        written?;
        Ok(outcome)
    }

    fn steps_until(&mut self, stop: &Stop, watch: &mut dyn Watch) -> Result<Outcome> {
        let mut interrupted = false;
        let mut saved = self.step;
        let mut evaluated = None;
        while self.step < self.steps() {
            if stop.is_asked() {
                interrupted = true;
                break;
            }
            self.one_step(watch)?;
            self.keeper.poll()?;
            let step = self.step;
            let due = |every: Option<u64>| every.is_some_and(|every| every > 0 && step.is_multiple_of(every));
            let last = self.step == self.steps();
            let mut best = false;
            let mut done = false;
            if !self.held_out.is_empty() && (last || due(self.config.eval.every)) {
                best = self.evaluate(watch)?;
                evaluated = Some(self.step);
                done = self.is_done(watch)?;
            }
            if due(self.config.sample.every) || (last && self.config.sample.every != Some(0)) {
                self.sample(watch)?;
            }
            if best || last || done || due(self.config.checkpoint.every) {
                self.save(best, watch)?;
                saved = self.step;
            }
            if done {
                break;
            }
        }
        if saved != self.step || (interrupted && self.run.checkpoints()?.is_empty()) {
            self.save(false, watch)?;
        }
        self.keeper.wait()?;
        if interrupted {
            self.event(watch, "interrupt", format!("stopped at step {} of {}", self.step, self.steps()))?;
        }
        let score = self.last_score.filter(|_| evaluated.is_some());
        Ok(Outcome {
            interrupted,
            steps: self.step,
            tokens: self.tokens,
            seconds: self.seconds(),
            train_loss: self.last_loss,
            val_loss: score.map(|(loss, _)| loss),
            val_bits_per_byte: score.and_then(|(_, bits)| bits),
            best: self.best,
        })
    }

    /// Whether the held-out loss says that the run is over.
    fn is_done(&mut self, watch: &mut dyn Watch) -> Result<bool> {
        let loss = self.last_score.map_or(f64::INFINITY, |(loss, _)| loss);
        if let Some(goal) = self.config.until_loss.filter(|&goal| loss <= goal) {
            self.event(watch, "reached", format!("the held-out loss is {loss:.4}, at most {goal}"))?;
            return Ok(true);
        }
        let patience = self.config.eval.patience;
        if patience > 0 && self.stale >= patience {
            let best = self.best.map_or(f64::NAN, |best| best.loss);
            let message = format!("{} evaluations without a loss below {best:.4}", self.stale);
            self.event(watch, "early-stop", message)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn record(&mut self, watch: &mut dyn Watch, record: Record) -> Result<()> {
        self.metrics.append(&record).map_err(|error| Error::Unwritten {
            what: "a line of the metrics".to_string(),
            bytes: record.to_line().len() as u64,
            source: Box::new(error.into()),
        })?;
        watch.record(&record);
        Ok(())
    }

    fn event(&mut self, watch: &mut dyn Watch, name: &str, message: String) -> Result<()> {
        let event = Event { step: self.step, name: name.to_string(), message };
        self.record(watch, event.into())
    }
}

/// Seconds of training up to a step, as the metrics have it; they never run backwards.
fn seconds_until(run: &RunDir, step: u64) -> Result<f64> {
    let mut tail = run.tail()?;
    let mut seconds = 0.0;
    while let Some(record) = tail.read()? {
        if let Record::Step(measured) = record
            && measured.step <= step
            && (seconds..1e12).contains(&measured.time)
        {
            seconds = measured.time;
        }
    }
    Ok(seconds)
}

/// How a run that is finished ended, from what it has written.
///
/// # Errors
/// When its metrics or its last checkpoint cannot be read.
pub fn finished(run: &RunDir) -> Result<Outcome> {
    let state = checkpoint::state(&run.checkpoint("last")?)?;
    let (mut last, mut eval, mut seconds) = (None, None, 0.0_f64);
    let mut tail = run.tail()?;
    while let Some(record) = tail.read()? {
        match record {
            Record::Step(step) => {
                seconds = step.time;
                last = Some(step);
            }
            Record::Eval(measured) => {
                seconds = measured.time;
                eval = Some(measured);
            }
            _ => {}
        }
    }
    let eval = eval.filter(|eval| eval.step == state.step);
    let value = |name: &str| eval.as_ref()?.values.get(name).copied();
    Ok(Outcome {
        interrupted: false,
        steps: state.step,
        tokens: state.tokens,
        seconds,
        train_loss: last.and_then(|step| step.values.get("loss").copied()),
        val_loss: value("val_loss"),
        val_bits_per_byte: value("val_bits_per_byte"),
        best: state.best,
    })
}

/// Whether a folder can become a run: it is missing, or holds nothing that looks like other work.
///
/// # Errors
/// When there is a run already, or files of others.
pub fn check_free(path: &Path) -> Result<()> {
    if RunDir::is_run(path) {
        return Err(Error::Refused(format!(
            "{}: there is a run already; --resume goes on with it, --out chooses another folder",
            path.display()
        )));
    }
    Ok(())
}
