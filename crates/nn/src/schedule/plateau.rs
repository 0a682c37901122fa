//! The course that depends on how the run is doing.

use serde::{Deserialize, Serialize};

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Downwards, as a loss does.
    Min,
    /// Upwards, as an accuracy does.
    Max,
}

/// How far a metric has to move to count as improved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// By this share of the best so far.
    Rel,
    /// By this much.
    Abs,
}

/// Options of [`super::Decay::OnPlateau`]; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnPlateau {
    /// Which way the metric improves.
    pub mode: Mode,
    /// The rate falls to so much of itself.
    pub factor: f64,
    /// So many observations without improvement are borne; the next one lets the rate fall.
    pub patience: u64,
    /// How far counts as improved.
    pub threshold: f64,
    /// What the threshold is relative to.
    pub threshold_mode: ThresholdMode,
    /// Observations after a fall that are not counted.
    pub cooldown: u64,
    /// The rate never falls below this.
    pub min_lr: f64,
    /// A smaller fall than this is left out.
    pub eps: f64,
}

impl Default for OnPlateau {
    fn default() -> Self {
        Self {
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

impl OnPlateau {
    fn better(&self, metric: f64, best: f64) -> bool {
        let (sign, reach) = match self.mode {
            Mode::Min => (-1.0, 1.0 - self.threshold),
            Mode::Max => (1.0, 1.0 + self.threshold),
        };
        let bar = match self.threshold_mode {
            ThresholdMode::Rel => best * reach,
            ThresholdMode::Abs => best + sign * self.threshold,
        };
        sign * metric > sign * bar
    }
}

/// What has been observed so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    lr: f64,
    /// `None` until something has been observed: infinity has no place in JSON.
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

impl Plateau {
    pub(super) fn new(lr: f64) -> Self {
        Self { lr, best: None, bad: 0, cooling: 0 }
    }

    /// The rate now.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    pub(super) fn observe(&mut self, options: &OnPlateau, metric: f64) {
        // A NaN is no improvement, also when it comes first.
        if self.best.map_or(!metric.is_nan(), |best| options.better(metric, best)) {
            self.best = Some(metric);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > options.patience {
            let lower = (self.lr * options.factor).max(options.min_lr);
            if self.lr - lower > options.eps {
                self.lr = lower;
            }
            self.cooling = options.cooldown;
            self.bad = 0;
        }
    }
}
