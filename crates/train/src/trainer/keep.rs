//! Checkpoints beside the training.

use std::thread::JoinHandle;
use std::time::Duration;

use cupola_io::run::RunDir;

use super::{Trainer, Watch};
use crate::checkpoint::{Snapshot, TrainState, prune};
use crate::error::{Error, Result};

/// Writes one checkpoint at a time, on a thread of its own.
pub(super) struct Keeper {
    run: RunDir,
    keep: usize,
    writing: Option<JoinHandle<Result<()>>>,
}

/// Waits before the second and third try: a full disk or a server that is away may come back.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

impl Keeper {
    pub(super) fn new(run: &RunDir, keep: usize) -> Self {
        Self { run: run.clone(), keep, writing: None }
    }

    /// The error of a checkpoint that could not be written, if there was one meanwhile.
    pub(super) fn poll(&mut self) -> Result<()> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) { self.wait() } else { Ok(()) }
    }

    /// Waits for the checkpoint that is being written.
    pub(super) fn wait(&mut self) -> Result<()> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Thread("the thread that writes checkpoints has panicked".to_string())),
        }
    }

    fn write(&mut self, snapshot: Snapshot, best: bool, background: bool) -> Result<()> {
        self.wait()?;
        let (run, keep) = (self.run.clone(), self.keep);
        let work = move || write(&run, &snapshot, best, keep);
        if !background {
            return work();
        }
        let thread = std::thread::Builder::new().name("checkpoint".to_string()).spawn(work);
        let thread = thread.map_err(|error| Error::Thread(format!("no thread to write checkpoints: {error}")))?;
        self.writing = Some(thread);
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // An error has no one to go to any more; whoever wants it waits.
        let _ = self.wait();
    }
}

fn write(run: &RunDir, snapshot: &Snapshot, best: bool, keep: usize) -> Result<()> {
    let step = snapshot.state.step;
    let mut written = snapshot.write(run);
    for pause in PAUSES {
        if written.is_ok() {
            break;
        }
        std::thread::sleep(pause);
        written = snapshot.write(run);
    }
    written.map_err(|error| Error::Unwritten {
        what: format!("the checkpoint of step {step}"),
        bytes: snapshot.bytes(),
        source: Box::new(error),
    })?;
    if best {
        run.set_checkpoint("best", step)?;
    }
    run.set_checkpoint("last", step)?;
    prune(run, keep)
}

impl Trainer {
    /// Saves the run as it is.
    pub(super) fn save(&mut self, best: bool, watch: &mut dyn Watch) -> Result<()> {
        let (text, tensors) = self.optimizer.state();
        let snapshot = Snapshot {
            state: TrainState {
                schema: 1,
                step: self.step,
                tokens: self.tokens,
                position: self.loader.position().clone(),
                schedule: self.schedule.clone(),
                guard: self.guard,
                best: self.best,
                stale: self.stale,
                optimizer: text,
            },
            model: self.model.clone(),
            optimizer: tensors,
            ema: self.ema.as_ref().map(|ema| ema.values().clone()),
            tokenizer: self.tokenizer.clone(),
            adapter: self.adapter.clone(),
        };
        self.keeper.write(snapshot, best, self.config.checkpoint.background)?;
        let name = if best { "the best so far, " } else { "" };
        self.event(watch, "checkpoint", format!("{name}step {}", self.step))
    }
}
