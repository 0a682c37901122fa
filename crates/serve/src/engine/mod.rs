//! The engine: one model, one thread of its own, many requests at once.
//!
//! - [`job`]: what is asked for, and what comes back
//! - `lane`: a sequence that is worked on
//! - `worker`: the loop that batches requests; they join and leave between its steps
//! - `step`: one call of the model for all, repeated by halves when it panics
//! - `waiting`: requests that wait, which take turns
//! - `choose`: from logits to a token and its probabilities
//! - `prefix`: what is kept of prompts that were read before
//! - `memory`: who gets pages, who waits for them, and what goes first
//! - [`constraint`]: answers of a given form
//! - [`stats`]: what `/metrics` shows
//!
//! A request's tokens have the same bits alone and in any company: every row of a step depends on its own sequence only, prompts
//! are cut at multiples of [`BLOCK`] alone, and draws are numbered by seed and position.

mod choose;
pub mod constraint;
pub mod job;
mod lane;
mod memory;
mod prefix;
pub mod stats;
mod step;
#[cfg(test)]
mod tests;
mod waiting;
mod worker;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cupola_models::Decoder;

pub use constraint::{Constraint, Constraints};
pub use job::{Answer, End, Event, Job, Score, Work};
pub use stats::Stats;

use job::Request;
use waiting::Waiting;
use worker::Worker;

/// Prompts are cut, and states kept, at multiples of this many tokens: those of a page.
pub const BLOCK: usize = cupola_models::state::PAGE;

/// What an engine may use.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The longest sequence, prompt and answer together.
    pub context: usize,
    /// The most sequences that are worked on at once.
    pub max_concurrent: usize,
    /// The most requests that wait, each with all of its parts. With 0 one that cannot begin at once is refused.
    pub max_waiting: usize,
    /// Bytes for the states of sequences and of prompts read before. A sequence that is alone is let beyond them rather than failed.
    pub cache_bytes: usize,
    /// Threads of the kernels; those of the machine when absent.
    pub threads: Option<usize>,
    /// Guess tokens of greedy answers from what was said before.
    pub speculate: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            context: 4096,
            max_concurrent: 64,
            max_waiting: 256,
            cache_bytes: 2 << 30,
            threads: None,
            speculate: true,
        }
    }
}

/// A model at work. Dropping it ends the thread; what is not finished fails.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    config: EngineConfig,
}

/// What callers and the thread share.
#[derive(Default)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    stats: Arc<Stats>,
    fault: Option<step::Fault>,
}

#[derive(Default)]
struct Queue {
    waiting: Waiting,
    closed: bool,
    /// Prompts read before are to be forgotten.
    forget: bool,
}

impl Shared {
    fn fault(&self) -> Option<step::Fault> {
        self.fault
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts the thread, and waits until the model has read its first tokens.
    ///
    /// # Errors
    /// When it cannot: its parameters are missing, or do not fit together.
    pub fn new(model: Decoder, config: EngineConfig, stats: Arc<Stats>) -> Result<Self, String> {
        Self::start(model, config, stats, None)
    }

    pub(crate) fn start(
        model: Decoder,
        config: EngineConfig,
        stats: Arc<Stats>,
        fault: Option<step::Fault>,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared { stats, fault, ..Shared::default() });
        let (inner, settings) = (Arc::clone(&shared), config.clone());
        let (ready, begun) = std::sync::mpsc::channel();
        let work = move || {
            let threads = settings.threads;
            let run = move || {
                let work = || {
                    let worker = Worker::new(model, settings, &inner);
                    // Whoever starts the engine waits for this.
                    let _ = ready.send(worker.as_ref().map(|_| ()).map_err(String::clone));
                    if let Ok(worker) = worker {
                        worker.run();
                    }
                };
                let ended = std::panic::catch_unwind(AssertUnwindSafe(work));
                // Requests that come from now on are refused instead of waiting for ever.
                let mut queue = inner.queue();
                queue.closed = true;
                queue.waiting.clear();
                drop(queue);
                inner.stats.end();
                if let Err(panic) = ended {
                    std::panic::resume_unwind(panic);
                }
            };
            match threads {
                Some(threads) => cupola_core::pool::with_threads(threads, run),
                None => run(),
            }
        };
        let thread = std::thread::Builder::new().name("cupola-engine".into()).spawn(work);
        let thread = thread.map_err(|error| format!("no thread for the engine: {error}"))?;
        let engine = Self { shared, thread: Some(thread), config };
        match begun.recv() {
            Ok(begun) => begun.map(|()| engine),
            Err(_) => Err("the model panicked before it read its first tokens".to_owned()),
        }
    }

    /// Forgets the prompts that were read before, and gives their memory back.
    pub fn forget(&self) {
        self.shared.queue().forget = true;
        self.shared.wake.notify_one();
    }

    /// Whether it works. One whose thread has ended does not, and never will again.
    pub fn is_alive(&self) -> bool {
        !self.shared.queue().closed
    }

    /// Ends the thread, as a mistake outside of any request would.
    #[cfg(test)]
    pub(crate) fn end(&self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
    }

    /// What it may use.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Hands in work.
    ///
    /// # Errors
    /// The number of requests that wait, when no more may; the job is lost.
    pub fn submit(&self, job: Job) -> Result<Answer, Refused> {
        self.submit_all(vec![job]).map(|mut answers| answers.pop().expect("one answer for one job"))
    }

    /// Hands in several pieces of work, or none of them.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_all(&self, jobs: Vec<Job>) -> Result<Vec<Answer>, Refused> {
        let mut queue = self.shared.queue();
        if queue.closed {
            return Err(Refused::Closed);
        }
        let waiting = queue.waiting.len();
        let running = usize::try_from(self.shared.stats.running.get()).unwrap_or(usize::MAX);
        let begins =
            running == 0 || running.saturating_add(jobs.iter().map(Job::choices).sum()) <= self.config.max_concurrent;
        // Who can begin now waits for nobody. Requests larger than the largest prompt may fill what the queue would hold of those,
        // and one of any size may wait alone.
        let tokens: usize = jobs.iter().map(|job| job.prompt.len()).sum();
        let most = self.config.max_waiting.saturating_mul(self.config.context);
        let large = waiting > 0 && tokens > self.config.context && queue.waiting.tokens().saturating_add(tokens) > most;
        if !(waiting == 0 && begins) && (waiting >= self.config.max_waiting || large) {
            self.shared.stats.refused.add(1);
            return Err(Refused::Full { waiting });
        }
        let (requests, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(Request::new).unzip();
        queue.waiting.push(requests);
        self.shared.stats.waiting.set(queue.waiting.len());
        drop(queue);
        self.shared.wake.notify_one();
        Ok(answers)
    }

    /// Numbers about its work.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }
}

/// Why work was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many requests wait already.
    Full {
        /// How many.
        waiting: usize,
    },
    /// The engine has ended.
    Closed,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}
