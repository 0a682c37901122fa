//! The dashboard for anyone's own loop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::background::{Background, ServeError};
use crate::hub::Hub;
use crate::run::Run;
use cupola_io::run::{Eval, Event, Histogram, MetricsWriter, Record, RunDir, RunInfo, Sample, Status, Step};

/// Why a monitor could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The page could not be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The run's folder could not be written.
    #[error(transparent)]
    Run(#[from] cupola_io::Error),
}

/// Shows a training loop in the browser while it runs.
///
/// ```
/// use cupola_monitor::TrainingMonitor;
/// let monitor = TrainingMonitor::new("my-model").serve("127.0.0.1:0")?; // prints the address
/// for step in 1..=20 {
///     let loss = 4.0 / f64::from(step).sqrt();
///     monitor.log(step, [("loss", loss), ("lr", 1e-3)]);
/// }
/// # Ok::<(), cupola_monitor::MonitorError>(())
/// ```
///
/// The page is on a thread of its own. [`log`](Self::log) takes a lock for about a microsecond and never waits for a
/// reader. When the monitor is dropped the page ends; [`wait`](Self::wait) keeps it for as long as the program lives.
#[derive(Debug)]
pub struct TrainingMonitor {
    run: Arc<Run>,
    file: Option<(RunDir, Mutex<MetricsWriter>)>,
    begun: std::time::Instant,
    page: Background,
}

/// What a monitor is to do, before it begins.
#[derive(Clone, Debug)]
pub struct MonitorBuilder {
    info: RunInfo,
    folder: Option<PathBuf>,
    quiet: bool,
}

impl TrainingMonitor {
    /// A monitor of a run called `name`, any text.
    #[expect(clippy::new_ret_no_self, reason = "it begins with serve, and there is nothing to set for most")]
    pub fn new(name: &str) -> MonitorBuilder {
        MonitorBuilder { info: RunInfo::new(name), folder: None, quiet: false }
    }

    /// Shows numbers of a step. A number that is not finite is shown as an alert when it is the `loss`. Steps are
    /// numbered from any number on; one that does not follow the last replaces what came after it.
    ///
    /// # Panics
    /// When the step is negative; so do the other calls that take a step.
    #[track_caller]
    pub fn log<N: AsRef<str>, V: Into<f64>>(&self, step: impl TryInto<u64>, values: impl IntoIterator<Item = (N, V)>) {
        let values = values.into_iter().map(|(name, value)| (name.as_ref().to_owned(), value.into()));
        let time = self.begun.elapsed().as_secs_f64();
        self.push(Step { step: number(step), time, tokens: 0, values: values.collect() }.into());
    }

    /// Shows what the model wrote.
    #[track_caller]
    pub fn sample(&self, step: impl TryInto<u64>, prompt: &str, text: &str) {
        self.push(Sample { step: number(step), prompt: prompt.to_owned(), text: text.to_owned() }.into());
    }

    /// Shows that something happened.
    #[track_caller]
    pub fn event(&self, step: impl TryInto<u64>, name: &str, message: &str) {
        self.push(Event { step: number(step), name: name.to_owned(), message: message.to_owned() }.into());
    }

    /// Shows how `values` are distributed; `what` is `weight`, `gradient` or `update`. Values that are not finite are
    /// left out; without any other nothing is shown.
    #[track_caller]
    pub fn histogram(&self, step: impl TryInto<u64>, name: &str, what: &str, values: &[f32]) {
        self.spread(number(step), name, what, || values.iter().map(|&x| f64::from(x)));
    }

    /// Shows what one step of an optimiser did to the tensor or layer `name`: how large its change is beside it, as
    /// `update_ratio/NAME` (about a thousandth is usual, a tenth is not), and how weights and changes are distributed.
    ///
    /// ```
    /// # let monitor = cupola_monitor::TrainingMonitor::new("x").quiet().serve("127.0.0.1:0")?;
    /// let (before, after) = ([3.0f32, 4.0], [3.003f32, 4.004]);
    /// monitor.update(1, "hidden", &before, &after); // update_ratio/hidden is 0.001
    /// # Ok::<(), cupola_monitor::MonitorError>(())
    /// ```
    ///
    /// # Panics
    /// When `before` and `after` differ in length.
    #[track_caller]
    pub fn update(&self, step: impl TryInto<u64>, name: &str, before: &[f32], after: &[f32]) {
        let (old, new) = (before.len(), after.len());
        assert!(old == new, "TrainingMonitor: {name} has {old} values before the step and {new} after it");
        let step = number(step);
        let changes = || before.iter().zip(after).map(|(&old, &new)| f64::from(new) - f64::from(old));
        let change: f64 = changes().map(|x| x * x).sum();
        let size: f64 = before.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // Beside nothing, no change has a size.
        if size > 0.0 {
            let values = [(format!("update_ratio/{name}"), (change / size).sqrt())].into();
            self.push(Eval { step, time: self.begun.elapsed().as_secs_f64(), values }.into());
        }
        self.spread(step, name, "weight", || after.iter().map(|&x| f64::from(x)));
        self.spread(step, name, "update", changes);
    }

    fn spread<I: Iterator<Item = f64>>(&self, step: u64, name: &str, what: &str, values: impl Fn() -> I) {
        if let Some(histogram) = Histogram::of(step, name, what, values) {
            self.push(histogram.into());
        }
    }

    /// Says how the run ended; without it, it ends as finished when the monitor is dropped.
    ///
    /// # Errors
    /// When the run has a folder that cannot be written.
    pub fn finish(&self, status: Status) -> Result<(), MonitorError> {
        self.run.change(|info| info.status = status);
        if let Some((dir, writer)) = &self.file {
            writer.lock().unwrap_or_else(PoisonError::into_inner).sync()?;
            dir.set_status(status)?;
        }
        Ok(())
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        self.page.url()
    }

    /// Ends the run as `finish` does and keeps the page until the program is ended.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn wait(self) -> Result<(), MonitorError> {
        self.finish(Status::Finished)?;
        loop {
            std::thread::park();
        }
    }

    fn push(&self, record: Record) {
        if let Some((_, writer)) = &self.file {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writer.append(&record) {
                // Training goes on without its log; the page says what is missing.
                let message = format!("not written to the run's folder: {error}");
                self.run.push(Event { step: 0, name: "log".into(), message }.into());
            }
        }
        self.run.push(record);
    }
}

impl MonitorBuilder {
    /// Adds a setting, shown when runs are compared.
    #[must_use]
    pub fn config(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.info.config.insert(key.to_owned(), value.into());
        self
    }

    /// Writes the run into the new folder `path` as well, where `cupola dash` finds it later.
    #[must_use]
    pub fn save_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// Prints no address.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Begins, with the page on `address`: a loopback address, with port 0 for any that is free. The address is printed
    /// to the standard error.
    ///
    /// # Errors
    /// When the address is taken or not a loopback one, or the run's folder cannot be made.
    pub fn serve(self, address: &str) -> Result<TrainingMonitor, MonitorError> {
        let hub = Hub::empty();
        // The page first: no folder is made for a run that does not begin.
        let page = Background::start(hub.clone(), address)?;
        let file = match self.folder {
            None => None,
            Some(path) => {
                let dir = RunDir::create(path, &self.info)?;
                let writer = dir.append()?;
                Some((dir, Mutex::new(writer)))
            }
        };
        if !self.quiet {
            eprintln!("dashboard: {}", page.url());
        }
        let run = hub.add("run", self.info);
        Ok(TrainingMonitor { run, file, begun: std::time::Instant::now(), page })
    }
}

impl Drop for TrainingMonitor {
    fn drop(&mut self) {
        if self.run.info().status == Status::Running {
            let status = if std::thread::panicking() { Status::Failed } else { Status::Finished };
            // Nobody is left to tell.
            let _ = self.finish(status);
        }
    }
}

#[track_caller]
fn number(step: impl TryInto<u64>) -> u64 {
    step.try_into().unwrap_or_else(|_| panic!("TrainingMonitor: the step is negative, expected 0 or more"))
}
