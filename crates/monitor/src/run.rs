//! One run that is watched: from its folder, or fed by a program.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cupola_io::run::{Record, RunDir, RunInfo, Status, Tail};
use serde::Serialize;

use crate::state::{Over, RunState, Snapshot};

/// The most rows of one live message.
const MOST_ROWS: usize = 64;
/// The most records that are taken in between two looks at whether anybody still waits for them.
const BATCH: usize = 200_000;

/// A run and what is known of it. All methods may be called from any thread.
#[derive(Debug)]
pub struct Run {
    id: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: Option<Folder>,
    info: RunInfo,
    state: RunState,
    fresh: Fresh,
    damaged: u64,
    problem: Option<String>,
}

#[derive(Debug)]
struct Folder {
    dir: RunDir,
    tail: Option<Tail>,
    info_of: Option<(SystemTime, u64)>,
    /// Whether the end of the metrics was reached once.
    read: bool,
}

/// What was measured since the last live message; of many rows, every so many-th.
#[derive(Debug)]
struct Fresh {
    rows: Vec<Row>,
    newest: Option<Row>,
    every: usize,
    skipped: usize,
    reset: bool,
    more: bool,
}

impl Default for Fresh {
    fn default() -> Self {
        Self { rows: Vec::new(), newest: None, every: 1, skipped: 0, reset: false, more: false }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    step: u64,
    time: f64,
    tokens: f64,
    values: Vec<(String, Option<f64>)>,
}

impl Fresh {
    fn push(&mut self, row: Row) {
        self.skipped += 1;
        if self.skipped >= self.every {
            self.skipped = 0;
            self.rows.push(row);
            self.newest = None;
        } else {
            self.newest = Some(row);
        }
        if self.rows.len() >= MOST_ROWS {
            let mut index = 0;
            self.rows.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.every *= 2;
        }
    }
}

/// A live message: what came since the last one.
#[derive(Serialize)]
struct Message<'a> {
    run: &'a str,
    status: &'a str,
    rows: Vec<Row>,
    /// What was shown before is no longer true.
    reset: bool,
    /// There are new samples, events, alerts or histograms.
    more: bool,
}

impl Run {
    /// A run that [`push`](Self::push) feeds.
    pub(crate) fn fed(id: &str, info: RunInfo) -> Self {
        Self::new(id, None, info)
    }

    /// The run in a folder.
    pub(crate) fn folder(id: &str, dir: RunDir) -> Self {
        let info = RunInfo { status: Status::Failed, created: String::new(), ..RunInfo::new(id) };
        Self::new(id, Some(Folder { dir, tail: None, info_of: None, read: false }), info)
    }

    fn new(id: &str, folder: Option<Folder>, info: RunInfo) -> Self {
        let (state, fresh) = (RunState::default(), Fresh::default());
        Self { id: id.to_owned(), inner: Mutex::new(Inner { folder, info, state, fresh, damaged: 0, problem: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside leaves at worst one record half taken in; the page must go on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name in addresses.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder, when the run has one.
    pub(crate) fn dir(&self) -> Option<RunDir> {
        self.lock().folder.as_ref().map(|folder| folder.dir.clone())
    }

    /// What the run is.
    pub fn info(&self) -> RunInfo {
        self.lock().info.clone()
    }

    /// Feeds a record. Cheap: nothing is written and nobody is woken.
    pub fn push(&self, record: Record) {
        self.lock().take_in(record);
    }

    /// Changes what the run is.
    pub fn change(&self, change: impl FnOnce(&mut RunInfo)) {
        let mut inner = self.lock();
        change(&mut inner.info);
        inner.fresh.more = true;
    }

    /// Reads what was written to the folder since the last time. Does nothing for a run that is fed.
    pub fn refresh(&self) {
        // The lock is given away from time to time: reading a long file for the first time takes seconds.
        while self.lock().refresh() {}
    }

    /// Uses the state as it is.
    pub fn with<T>(&self, look: impl FnOnce(&RunState, &RunInfo) -> T) -> T {
        let inner = self.lock();
        look(&inner.state, &inner.info)
    }

    /// What readers get, with at most `points` points of each measured number.
    pub fn snapshot(&self, points: usize) -> Snapshot {
        let inner = self.lock();
        let mut snapshot = inner.state.snapshot(&self.id, &inner.info, points);
        if let Some(problem) = &inner.problem {
            snapshot.problem = Some(problem.clone());
            if inner.info.created.is_empty() {
                snapshot.status = "damaged".to_owned();
            }
        }
        snapshot
    }

    /// The JSON of what came since the last call, if anything did.
    pub(crate) fn message(&self) -> Option<String> {
        let mut inner = self.lock();
        let fresh = std::mem::take(&mut inner.fresh);
        let mut rows = fresh.rows;
        rows.extend(fresh.newest);
        if rows.is_empty() && !fresh.reset && !fresh.more {
            return None;
        }
        let (run, status) = (self.id.as_str(), inner.info.status.name());
        let message = Message { run, status, rows, reset: fresh.reset, more: fresh.more };
        Some(serde_json::to_string(&message).expect("texts and numbers have a JSON form"))
    }
}

impl Inner {
    fn take_in(&mut self, record: Record) {
        let row = match &record {
            Record::Step(step) => Some((step.step, &step.values)),
            Record::Eval(eval) => Some((eval.step, &eval.values)),
            Record::Header { .. } => None,
            _ => {
                self.fresh.more = true;
                None
            }
        };
        let row = row.map(|(step, values)| {
            let finite = |value: f64| value.is_finite().then_some(value);
            (step, values.iter().map(|(name, value)| (name.clone(), finite(*value))).collect())
        });
        let alerts = self.state.alerts_noticed();
        if self.state.apply(record) {
            self.fresh = Fresh { reset: true, more: true, ..Fresh::default() };
        }
        self.fresh.more |= self.state.alerts_noticed() != alerts;
        if let Some((step, values)) = row {
            let place = |over| Some(self.state.place(step, over)).filter(|place| place.is_finite()).unwrap_or(0.0);
            let (time, tokens) = (place(Over::Time), place(Over::Tokens));
            self.fresh.push(Row { step, time, tokens, values });
        }
    }

    /// Takes in a batch. Returns whether there is more.
    fn refresh(&mut self) -> bool {
        let Some(folder) = &mut self.folder else { return false };
        let file = fs::metadata(folder.dir.path().join("run.json"));
        let info_of = file.and_then(|file| Ok((file.modified()?, file.len()))).ok();
        if info_of.is_none() || info_of != folder.info_of {
            match folder.dir.info() {
                Ok(info) => {
                    self.info = info;
                    self.problem = None;
                }
                Err(error) => self.problem = Some(without_folder(&folder.dir, &error)),
            }
            folder.info_of = info_of;
            self.fresh.more = true;
        }
        let mut tail = match folder.tail.take().map_or_else(|| folder.dir.tail(), Ok) {
            Ok(tail) => tail,
            Err(error) => {
                self.problem = Some(without_folder(&folder.dir, &error));
                return false;
            }
        };
        let dir = folder.dir.clone();
        for _ in 0..BATCH {
            match tail.read() {
                Ok(Some(record)) => self.take_in(record),
                Ok(None) => {
                    self.keep(tail);
                    self.reached_end();
                    return false;
                }
                Err(error) => {
                    self.damaged += 1;
                    if self.problem.is_none() || self.damaged == 1 {
                        self.problem = Some(without_folder(&dir, &error));
                        self.fresh.more = true;
                    }
                    if matches!(error, cupola_io::Error::Io { .. }) {
                        self.keep(tail);
                        return false;
                    }
                }
            }
        }
        self.keep(tail);
        true
    }

    /// What was read up to the first end of the file was there before anybody looked: it is in the charts, and no news.
    fn reached_end(&mut self) {
        if let Some(folder) = &mut self.folder
            && !std::mem::replace(&mut folder.read, true)
        {
            self.fresh = Fresh::default();
        }
    }

    fn keep(&mut self, tail: Tail) {
        if let Some(folder) = &mut self.folder {
            folder.tail = Some(tail);
        }
    }
}

/// The error's message with the file's name alone: a page need not tell where on the disk it lies.
fn without_folder(dir: &RunDir, error: &cupola_io::Error) -> String {
    let prefix = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
    error.to_string().replace(&prefix, "")
}
