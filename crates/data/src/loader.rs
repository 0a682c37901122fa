//! Batches: rows from weighted sources, read ahead by workers, in an order that depends on the seed alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use cupola_core::Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Span};
use crate::error::{Error, Result};
use crate::pack::{Packing, Rows};

/// The target of a token whose next one is not to be learnt.
pub const IGNORE: i64 = -100;

/// Tokens of a step, in rows of one or more segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The tokens of all rows.
    pub tokens: Vec<i64>,
    /// What comes next, for each token, or [`IGNORE`].
    pub targets: Vec<i64>,
    /// Lengths of the segments: stretches of one document.
    pub lengths: Vec<usize>,
    /// Tokens and segments up to the end of each row.
    pub rows: Vec<(usize, usize)>,
}

/// Some rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    /// The tokens.
    pub tokens: &'a [i64],
    /// What comes next.
    pub targets: &'a [i64],
    /// Lengths of the segments.
    pub lengths: &'a [usize],
}

impl Batch {
    /// How many tokens have a target: what a mean is divided by.
    pub fn learnt(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE).count()
    }

    /// Some rows.
    ///
    /// # Panics
    /// When there are no such rows.
    #[track_caller]
    pub fn micro(&self, rows: Range<usize>) -> MicroBatch<'_> {
        let start = if rows.start == 0 { (0, 0) } else { self.rows[rows.start - 1] };
        let end = if rows.end == 0 { (0, 0) } else { self.rows[rows.end - 1] };
        MicroBatch {
            tokens: &self.tokens[start.0..end.0],
            targets: &self.targets[start.0..end.0],
            lengths: &self.lengths[start.1..end.1],
        }
    }

    /// Appends a row.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn push_row(&mut self, dataset: &Dataset, spans: &[Span]) -> Result<()> {
        for span in spans {
            dataset.append(span, self)?;
        }
        self.rows.push((self.tokens.len(), self.lengths.len()));
        Ok(())
    }
}

/// The whole of a dataset once, in order: batches of `rows` windows that do not overlap, the last ones shorter.
pub fn windows(dataset: &Dataset, window: usize, rows: usize) -> impl Iterator<Item = Result<Batch>> + '_ {
    let count = dataset.len().div_ceil(window);
    (0..count).step_by(rows.max(1)).map(move |first| {
        let mut batch = Batch::default();
        for row in first..(first + rows.max(1)).min(count) {
            let mut spans = Vec::new();
            dataset.spans(row * window..((row + 1) * window).min(dataset.len()), &mut spans);
            batch.push_row(dataset, &spans)?;
        }
        Ok(batch)
    })
}

/// A dataset and how much of the rows come from it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The tokens.
    pub dataset: Dataset,
    /// Its share, relative to the others'.
    pub weight: f64,
}

/// What batches look like.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Tokens of a row.
    pub window: usize,
    /// Rows of a batch.
    pub rows: usize,
    /// Where the order comes from.
    pub seed: u64,
    /// How documents come into rows.
    pub packing: Packing,
    /// Whether rows come in another order each epoch.
    pub shuffle: bool,
    /// Threads that read ahead; with 0 the caller reads. They have no influence on what is read.
    pub workers: usize,
}

/// Where a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePosition {
    /// Times that it was used up.
    pub epoch: u64,
    /// Rows taken in this epoch.
    pub row: u64,
    /// Rows taken in all.
    pub drawn: u64,
}

/// Where a loader is: all that is needed to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Batches so far.
    pub batches: u64,
    /// One for each source.
    pub sources: Vec<SourcePosition>,
}

/// The rows of a batch: which source, which epoch's rows, which row.
type Request = Vec<(usize, Arc<Rows>, u64)>;

struct Worker {
    requests: SyncSender<Request>,
    batches: Receiver<Result<Batch>>,
    thread: Option<JoinHandle<()>>,
}

/// An endless sequence of batches.
pub struct Loader {
    sources: Arc<Vec<Source>>,
    config: LoaderConfig,
    /// The present epoch's rows of each source.
    rows: Vec<Arc<Rows>>,
    /// Where the next request begins; the workers are ahead of the caller.
    ahead: Position,
    /// Positions behind the batches that were requested and not yet taken, oldest first.
    behind: std::collections::VecDeque<Position>,
    workers: Vec<Worker>,
    position: Position,
}

/// Batches that each worker prepares before they are wanted.
const AHEAD: usize = 2;

impl Loader {
    /// A loader that begins at `position`; the default is the beginning.
    ///
    /// # Errors
    /// When a weight or size makes no sense, a window is longer than a source, the sources' vocabularies differ, or the position
    /// belongs to other sources.
    pub fn new(sources: Vec<Source>, config: LoaderConfig, position: Position) -> Result<Self> {
        let options = |text: String| Err(Error::Options(text));
        if sources.is_empty() || config.rows == 0 || config.window == 0 {
            let (n, LoaderConfig { rows, window, .. }) = (sources.len(), &config);
            return options(format!("{n} sources, {rows} rows of {window} tokens: each must be at least 1"));
        }
        let first = sources[0].dataset.tokenizer();
        for Source { dataset, weight } in &sources {
            if !(weight.is_finite() && *weight > 0.0) {
                return options(format!("the weight of a source is {weight}, expected a number above 0"));
            }
            if dataset.len() <= config.window {
                let (window, tokens) = (config.window, dataset.len());
                return options(format!(
                    "a window of {window} tokens does not fit into a text of {tokens} tokens: it needs at least {}",
                    window + 1
                ));
            }
            if dataset.tokenizer() != first {
                return options(format!(
                    "sources of two tokenizers, {first} and {}, cannot be mixed",
                    dataset.tokenizer()
                ));
            }
        }
        let mut position = position;
        if position.sources.is_empty() {
            position.sources = vec![SourcePosition::default(); sources.len()];
        }
        if position.sources.len() != sources.len() {
            let (found, expected) = (position.sources.len(), sources.len());
            return options(format!("the position has {found} sources, expected {expected}"));
        }
        let mut loader = Self {
            sources: Arc::new(sources),
            config,
            rows: Vec::new(),
            ahead: position.clone(),
            behind: std::collections::VecDeque::new(),
            workers: Vec::new(),
            position,
        };
        for source in 0..loader.sources.len() {
            loader.rows.push(loader.epoch(source, loader.ahead.sources[source].epoch));
            let (row, count) = (loader.ahead.sources[source].row, loader.rows[source].count());
            if row > count {
                return options(format!("the position is at row {row} of an epoch of {count}"));
            }
        }
        for index in 0..loader.config.workers {
            let worker = loader.worker(index)?;
            loader.workers.push(worker);
        }
        for _ in 0..loader.config.workers * AHEAD {
            loader.request();
        }
        Ok(loader)
    }

    fn epoch(&self, source: usize, epoch: u64) -> Arc<Rows> {
        let LoaderConfig { window, seed, packing, shuffle, .. } = self.config;
        let rng = Rng::seed(seed).named("data").stream(&[source as u64, epoch]);
        Arc::new(Rows::new(packing, &self.sources[source].dataset, window, rng, shuffle))
    }

    fn worker(&self, index: usize) -> Result<Worker> {
        let (requests, inbox) = sync_channel::<Request>(AHEAD);
        let (outbox, batches) = sync_channel(AHEAD);
        let sources = self.sources.clone();
        let body = move || {
            while let Ok(request) = inbox.recv() {
                if outbox.send(assemble(&sources, &request)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("data {index}")).spawn(body);
        let thread = thread.map_err(|error| Error::Options(format!("no thread to read data: {error}")))?;
        Ok(Worker { requests, batches, thread: Some(thread) })
    }

    /// Which rows the next batch holds.
    fn plan(&mut self) -> Request {
        let total: f64 = self.sources.iter().map(|source| source.weight).sum();
        let mut request = Vec::with_capacity(self.config.rows);
        for _ in 0..self.config.rows {
            // The source that is furthest behind its share; the first of several.
            let drawn: u64 = self.ahead.sources.iter().map(|source| source.drawn).sum();
            let lack = |index: usize| {
                let due = self.sources[index].weight / total * (drawn + 1) as f64;
                due - self.ahead.sources[index].drawn as f64
            };
            let mut source = 0;
            for other in 1..self.sources.len() {
                if lack(other) > lack(source) {
                    source = other;
                }
            }
            let place = self.ahead.sources[source];
            if place.row == self.rows[source].count() {
                self.ahead.sources[source].epoch += 1;
                self.ahead.sources[source].row = 0;
                self.rows[source] = self.epoch(source, place.epoch + 1);
            }
            let place = &mut self.ahead.sources[source];
            request.push((source, self.rows[source].clone(), place.row));
            place.row += 1;
            place.drawn += 1;
        }
        self.ahead.batches += 1;
        request
    }

    fn request(&mut self) {
        let worker = self.ahead.batches as usize % self.workers.len();
        let request = self.plan();
        self.behind.push_back(self.ahead.clone());
        // A worker that is gone has panicked; whoever waits for its batch will say so.
        let _ = self.workers[worker].requests.send(request);
    }

    /// The next batch.
    ///
    /// # Errors
    /// When a shard has an id that is not in the vocabulary.
    ///
    /// # Panics
    /// When a worker did.
    pub fn next_batch(&mut self) -> Result<Batch> {
        if self.workers.is_empty() {
            let request = self.plan();
            self.position = self.ahead.clone();
            return assemble(&self.sources, &request);
        }
        let worker = self.position.batches as usize % self.workers.len();
        let batch = self.workers[worker].batches.recv().expect("a worker ends before the loader only when it panics");
        if let Some(position) = self.behind.pop_front() {
            self.position = position;
        }
        self.request();
        batch
    }

    /// Where the next batch begins.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How many times the source that was used most has been used up, with the part of the present epoch.
    pub fn epochs(&self) -> f64 {
        let epochs = self
            .position
            .sources
            .iter()
            .zip(&self.rows)
            .map(|(place, rows)| place.epoch as f64 + place.row as f64 / rows.count().max(1) as f64);
        epochs.fold(0.0, f64::max)
    }

    /// Rows of an epoch of all sources at the beginning.
    pub fn rows_per_epoch(&self) -> u64 {
        self.rows.iter().map(|rows| rows.count()).sum()
    }
}

fn assemble(sources: &[Source], request: &Request) -> Result<Batch> {
    let mut batch = Batch::default();
    for (source, rows, index) in request {
        let dataset = &sources[*source].dataset;
        batch.push_row(dataset, &rows.row(dataset, *index))?;
    }
    Ok(batch)
}

impl Drop for Loader {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            let Worker { requests, batches, mut thread } = worker;
            // A worker that waits to hand over or to be asked is let go by both ends closing.
            drop((requests, batches));
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
