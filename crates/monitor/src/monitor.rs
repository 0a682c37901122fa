//! The dashboard for anyone's own loop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::background::{Background, ServeError};
use crate::hub::Hub;
use crate::run::Run;
use cupola_io::run::{Event, Histogram, MetricsWriter, Record, RunDir, RunInfo, Sample, Status, Step};

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
        if let Some((edges, counts)) = bins(values) {
            let (step, name, what) = (number(step), name.to_owned(), what.to_owned());
            self.push(Histogram { step, name, what, edges, counts }.into());
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

/// Forty bars of equal width between the smallest and the largest value.
fn bins(values: &[f32]) -> Option<(Vec<f64>, Vec<u64>)> {
    const BARS: usize = 40;
    let finite = || values.iter().copied().filter(|value| value.is_finite()).map(f64::from);
    let (mut low, mut high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    if low > high {
        return None;
    }
    if high - low <= low.abs().max(high.abs()) * 1e-9 {
        let air = if low == 0.0 && high == 0.0 { 1.0 } else { low.abs().max(high.abs()) * 1e-3 };
        (low, high) = (low - air, high + air);
    }
    let mut counts = vec![0; BARS];
    for value in finite() {
        let bar = ((value - low) / (high - low) * BARS as f64) as usize;
        counts[bar.min(BARS - 1)] += 1;
    }
    let edges = (0..=BARS).map(|edge| low + (high - low) * edge as f64 / BARS as f64);
    Some((edges.collect(), counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_a_bar() {
        let (edges, counts) = bins(&[-1.0, 0.0, 1.0, f32::NAN, f32::INFINITY, 1.0]).expect("values");
        assert_eq!((edges[0], edges[40], counts.iter().sum::<u64>(), counts[39]), (-1.0, 1.0, 4, 2));
        for constant in [0.0, 3.0, -1e-30, f32::MAX] {
            let (edges, counts) = bins(&[constant; 5]).expect("values");
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
            assert_eq!(counts.iter().sum::<u64>(), 5);
        }
        assert_eq!(bins(&[f32::NAN]), None);
    }
}
