//! Learning rates over the course of a run.
//!
//! ```
//! use cupola_nn::schedule::{Decay, Schedule};
//! let schedule = Schedule::new(1e-3, Decay::Cosine { steps: 900, min_lr: 1e-4 }).with_warmup(100);
//! assert_eq!(schedule.at(0), 1e-5);
//! assert_eq!(schedule.at(100), 1e-3);
//! assert!((schedule.at(1000) - 1e-4).abs() < 1e-12);
//! ```
//!
//! A schedule is a function of the step, so that a resumed run needs to know nothing but where it is. [`Decay::OnPlateau`] also
//! depends on what it was told by [`Schedule::observe`]; that is part of the schedule's value and saved with it.

mod decay;
mod plateau;

use serde::{Deserialize, Serialize};

pub use decay::{Anneal, Decay};
pub use plateau::{Mode, OnPlateau, Plateau, ThresholdMode};

/// Options of a schedule that make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("schedule: {option} is {found}, expected {expected}")]
pub struct ScheduleError {
    /// The option.
    pub option: &'static str,
    /// Its value.
    pub found: String,
    /// What it should be.
    pub expected: &'static str,
}

/// The learning rate of every step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Schedule {
    lr: f64,
    decay: Decay,
    warmup: u64,
    plateau: Plateau,
}

/// A schedule as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    lr: f64,
    decay: Decay,
    #[serde(default)]
    warmup: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plateau: Option<Plateau>,
}

impl Schedule {
    /// A schedule whose full rate is `lr`.
    ///
    /// # Panics
    /// When an option of `decay` makes no sense, with what it should be.
    #[track_caller]
    pub fn new(lr: f64, decay: Decay) -> Self {
        if let Err(error) = decay.check() {
            panic!("{error}");
        }
        Self { lr, plateau: Plateau::new(lr), decay, warmup: 0 }
    }

    /// The same rate for all steps.
    pub fn constant(lr: f64) -> Self {
        Self::new(lr, Decay::Constant)
    }

    /// This schedule behind a linear rise over `steps` steps: step `t` of them has `(t + 1) / steps` of the rate that the course
    /// proper begins with, after them.
    #[must_use]
    pub fn with_warmup(mut self, steps: u64) -> Self {
        self.warmup = steps;
        self
    }

    /// The full rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// The rate of step `step`, the first of which is 0.
    pub fn at(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup) {
            Some(step) => self.course(step),
            None => self.course(0) * ((step + 1) as f64 / self.warmup as f64),
        }
    }

    /// Tells [`Decay::OnPlateau`] how the run is doing, once per evaluation. Other courses take no notice.
    pub fn observe(&mut self, metric: f64) {
        if let Decay::OnPlateau(options) = &self.decay {
            self.plateau.observe(options, metric);
        }
    }

    fn course(&self, step: u64) -> f64 {
        match &self.decay {
            Decay::OnPlateau(_) => self.plateau.lr(),
            decay => decay.at(self.lr, step),
        }
    }
}

impl TryFrom<Saved> for Schedule {
    type Error = ScheduleError;

    fn try_from(saved: Saved) -> Result<Self, ScheduleError> {
        saved.decay.check()?;
        Ok(Self {
            lr: saved.lr,
            plateau: saved.plateau.unwrap_or_else(|| Plateau::new(saved.lr)),
            decay: saved.decay,
            warmup: saved.warmup,
        })
    }
}

impl From<Schedule> for Saved {
    fn from(schedule: Schedule) -> Self {
        let observed = matches!(schedule.decay, Decay::OnPlateau(_));
        Self {
            lr: schedule.lr,
            decay: schedule.decay,
            warmup: schedule.warmup,
            plateau: observed.then_some(schedule.plateau),
        }
    }
}
