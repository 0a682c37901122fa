//! The folder of one training run: who wrote it, what was measured, and its checkpoints.
//!
//! ```text
//! run.json           what the run is (RunInfo), replaced whole whenever its status changes
//! metrics.jsonl      what was measured (Record), one JSON object a line, only ever appended to
//! checkpoints/
//!   step-000300/     a model directory
//!   best, last       files that hold the name of one of these folders
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`info`] | the types of `run.json` |
//! | [`record`] | the lines of `metrics.jsonl` |
//! | [`histogram`] | one of them: how numbers are distributed |
//! | [`writer`] | appends lines, whole ones also after a crash |
//! | [`tail`] | reads lines, also while they are being written |
//!
//! Whoever reads the metrics keeps one rule: **a step that does not follow its predecessor replaces what came after
//! it.** A run that is resumed from an earlier checkpoint, or goes back after a spike, just goes on writing; nothing is
//! deleted.
//!
//! ```
//! use cupola_io::run::{Record, RunDir, RunInfo, Step};
//! # let folder = tempfile::tempdir().expect("a folder");
//! # let path = folder.path().join("first");
//! let run = RunDir::create(&path, &RunInfo::new("first"))?;
//! let mut metrics = run.append()?;
//! metrics.append(&Step::new(1).time(0.25).tokens(4096).with("loss", 2.5).with("lr", 1e-3).into())?;
//!
//! let mut tail = run.tail()?;
//! assert!(matches!(tail.read()?, Some(Record::Header { schema: 1 })));
//! let Some(Record::Step(step)) = tail.read()? else { panic!("a step") };
//! assert_eq!((step.step, step.values["loss"]), (1, 2.5));
//! assert!(tail.read()?.is_none()); // nothing more for now
//! # Ok::<(), cupola_io::Error>(())
//! ```

pub mod histogram;
pub mod info;
pub mod record;
pub mod tail;
pub mod writer;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub use histogram::Histogram;
pub use info::{CodeInfo, DataInfo, ModelInfo, RunInfo, Status, timestamp};
pub use record::{Eval, Event, Record, Sample, Step, Values};
pub use tail::Tail;
pub use writer::MetricsWriter;

use crate::atomic;
use crate::error::{Error, Result, shortened};

/// The version of the formats in a run's folder.
pub const SCHEMA: u32 = 1;
/// The largest `run.json` that is read; a configuration has some kilobytes.
const MOST_INFO: u64 = 4 << 20;
const INFO: &str = "run.json";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// The folder of a run. The value is only the path: files are opened as they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder at `path` (and its parents) and writes `run.json` into it.
    ///
    /// # Errors
    /// When there is a run already, or the system refuses.
    pub fn create(path: impl Into<PathBuf>, info: &RunInfo) -> Result<Self> {
        let run = Self { path: path.into() };
        let file = run.path.join(INFO);
        if fs::symlink_metadata(&file).is_ok() {
            return Err(Error::damaged(&run.path, "the folder", "a run already", "no run.json in it"));
        }
        fs::create_dir_all(&run.path).map_err(Error::io(&run.path, "create"))?;
        run.set_info(info)?;
        Ok(run)
    }

    /// The run whose folder is `path`.
    ///
    /// # Errors
    /// When there is no `run.json` in it, or not one that can be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let run = Self { path: path.into() };
        run.info()?;
        Ok(run)
    }

    /// Whether the folder `path` looks like a run: has a file `run.json`.
    pub fn is_run(path: impl AsRef<Path>) -> bool {
        fs::metadata(path.as_ref().join(INFO)).is_ok_and(|file| file.is_file())
    }

    /// The runs directly below the folder `root`, sorted by the folder's name. A damaged `run.json` shows when it is
    /// read.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn list(root: impl AsRef<Path>) -> Result<Vec<Self>> {
        let root = root.as_ref();
        let entries = fs::read_dir(root).map_err(Error::io(root, "list"))?;
        let mut runs: Vec<Self> = entries
            .filter_map(|entry| Some(Self { path: entry.ok()?.path() }))
            .filter(|run| Self::is_run(&run.path))
            .collect();
        runs.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(runs)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `run.json` says.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 4 MiB, no valid JSON, or of another schema.
    pub fn info(&self) -> Result<RunInfo> {
        let path = self.path.join(INFO);
        check_regular(&path)?;
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        let mut text = Vec::new();
        file.take(MOST_INFO + 1).read_to_end(&mut text).map_err(Error::io(&path, "read"))?;
        if text.len() as u64 > MOST_INFO {
            return Err(Error::damaged(&path, "the size", "more than 4 MiB", "at most 4 MiB"));
        }
        let info: RunInfo = serde_json::from_slice(&text)
            .map_err(|error| Error::damaged(&path, "the text", shortened(&error.to_string()), "the JSON of a run"))?;
        if info.schema != SCHEMA {
            return Err(Error::damaged(&path, "the schema", info.schema, SCHEMA));
        }
        Ok(info)
    }

    /// Replaces `run.json`.
    ///
    /// # Errors
    /// When the system refuses; the old file then stays.
    pub fn set_info(&self, info: &RunInfo) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(info).expect("texts, numbers and JSON values have a JSON form");
        text.push(b'\n');
        atomic::write_bytes(self.path.join(INFO), &text)
    }

    /// Replaces the status in `run.json`.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn set_status(&self, status: Status) -> Result<()> {
        let info = self.info()?;
        self.set_info(&RunInfo { status, ..info })
    }

    /// Where the metrics are.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// Opens the metrics to append to, and creates them when they are missing.
    ///
    /// # Errors
    /// As [`MetricsWriter::open`].
    pub fn append(&self) -> Result<MetricsWriter> {
        MetricsWriter::open(self.metrics_path())
    }

    /// Reads the metrics from the beginning, also while they grow. Metrics that do not exist yet are empty ones.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn tail(&self) -> Result<Tail> {
        Tail::open(self.metrics_path())
    }

    /// The folder of the checkpoint at `step`, which need not exist yet.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(step_name(step))
    }

    /// The steps that have a checkpoint, in rising order.
    ///
    /// # Errors
    /// When the folder is there and cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<u64>> {
        let folder = self.path.join(CHECKPOINTS);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(&folder, "list"))?,
        };
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| step_of(entry.file_name().to_str()?))
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The folder of the checkpoint called `name`: `best`, `last`, or a step's own name such as `step-000300`.
    ///
    /// # Errors
    /// When there is none of that name, or the file of that name does not hold a step's name.
    pub fn checkpoint(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(CHECKPOINTS);
        let step = match step_of(name) {
            Some(step) => step,
            None => self.named_step(name)?,
        };
        let found = folder.join(step_name(step));
        match fs::metadata(&found) {
            Ok(kind) if kind.is_dir() => Ok(found),
            Ok(_) => Err(Error::damaged(&found, "the checkpoint", "a file", "a folder")),
            Err(error) => Err(Error::io(&found, "open the checkpoint")(error)),
        }
    }

    /// Gives the checkpoint at `step` the name `name` (lower-case letters and `-`); it replaces the one that had it.
    ///
    /// # Errors
    /// When the name is not such a name, or the system refuses.
    pub fn set_checkpoint(&self, name: &str, step: u64) -> Result<()> {
        let path = self.path.join(CHECKPOINTS).join(checked_name(&self.path, name)?);
        atomic::write_bytes(path, format!("{}\n", step_name(step)).as_bytes())
    }

    fn named_step(&self, name: &str) -> Result<u64> {
        let path = self.path.join(CHECKPOINTS).join(checked_name(&self.path, name)?);
        check_regular(&path)?;
        let file = File::open(&path).map_err(Error::io(&path, "open"))?;
        let mut text = Vec::new();
        file.take(256).read_to_end(&mut text).map_err(Error::io(&path, "read"))?;
        let text = String::from_utf8_lossy(&text);
        step_of(text.trim_end()).ok_or_else(|| {
            Error::damaged(&path, "the name of the checkpoint", shortened(text.trim_end()), "one such as step-000300")
        })
    }
}

/// Refuses what exists and is no regular file: to open a pipe would block.
fn check_regular(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => {
            Err(Error::damaged(path, "the file", "a folder, pipe or device", "a regular file"))
        }
        _ => Ok(()),
    }
}

fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The step in a name that [`step_name`] makes, and in no other.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

fn checked_name<'a>(run: &Path, name: &'a str) -> Result<&'a str> {
    let valid = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if valid && !name.starts_with("step-") {
        return Ok(name);
    }
    Err(Error::damaged(
        run,
        "the checkpoint's name",
        shortened(name),
        "`best`, `last`, letters a-z and `-`, or a step's name",
    ))
}
