//! The courses that are functions of the step alone.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::ScheduleError;
use super::plateau::OnPlateau;

/// How a rate moves from one value to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine wave.
    Cos,
    /// A straight line.
    Linear,
    /// `1 - sqrt(t)`: steep at first (Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    /// 2024).
    Sqrt,
}

impl Anneal {
    /// From `start` to `end`, `part` (0 to 1) of the way.
    fn between(self, start: f64, end: f64, part: f64) -> f64 {
        match self {
            Anneal::Cos => end + (start - end) / 2.0 * (1.0 + (PI * part).cos()),
            Anneal::Linear => start + (end - start) * part,
            Anneal::Sqrt => end + (start - end) * (1.0 - part.sqrt()),
        }
    }
}

/// The course of a learning rate; `lr` below is the schedule's full rate, `t` the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Decay {
    /// `lr`
    Constant,
    /// `lr * gamma^floor(t / every)`, `torch.optim.lr_scheduler.StepLR`.
    Step {
        /// Steps between two falls.
        every: u64,
        /// Factor of each.
        gamma: f64,
    },
    /// `lr * gamma^(milestones not after t)`, `MultiStepLR`.
    MultiStep {
        /// Where it falls.
        milestones: Vec<u64>,
        /// Factor of each fall.
        gamma: f64,
    },
    /// `lr * gamma^t`, `ExponentialLR`.
    Exponential {
        /// Factor of each step.
        gamma: f64,
    },
    /// `min_lr + (lr - min_lr) / 2 * (1 + cos(pi t / steps))`, `CosineAnnealingLR` (Loshchilov and Hutter, "SGDR", 2017). Beyond
    /// `steps` it rises again, as there.
    Cosine {
        /// From the top to the bottom.
        steps: u64,
        /// The bottom.
        min_lr: f64,
    },
    /// A cosine that starts anew after `period` steps, then after `growth` times as many, and so on,
    /// `CosineAnnealingWarmRestarts`.
    CosineRestarts {
        /// Steps of the first fall.
        period: u64,
        /// Each fall takes so many times the steps of the one before.
        growth: u64,
        /// The bottom.
        min_lr: f64,
    },
    /// Up from `lr / div_factor` to `lr`, then down to `lr / div_factor / final_div_factor`, `OneCycleLR` (Smith and Topin,
    /// "Super-Convergence", 2018).
    OneCycle {
        /// Steps of the whole cycle; the rate stays at its last value behind them.
        steps: u64,
        /// Share of the steps that rise.
        pct_start: f64,
        /// The form of rise and fall.
        anneal: Anneal,
        /// The peak over the start.
        div_factor: f64,
        /// The start over the end.
        final_div_factor: f64,
        /// Whether it falls as it rose first, and to the end then.
        three_phase: bool,
    },
    /// `lr` for `stable` steps, then down to `min_lr`, which step `decay` of the fall reaches and all later ones keep: with a warm-up in front, the
    /// warm-up-stable-decay of Hu et al., "MiniCPM", 2024.
    StableDecay {
        /// Steps at the full rate.
        stable: u64,
        /// Steps of the fall.
        decay: u64,
        /// Its form.
        anneal: Anneal,
        /// Its end.
        min_lr: f64,
    },
    /// Falls when what [`super::Schedule::observe`] is told stops improving, `ReduceLROnPlateau`.
    OnPlateau(OnPlateau),
}

impl Decay {
    /// `OneCycle` with PyTorch's defaults.
    pub fn one_cycle(steps: u64) -> Decay {
        Decay::OneCycle {
            steps,
            pct_start: 0.3,
            anneal: Anneal::Cos,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), ScheduleError> {
        let positive = |option, value: u64| match value {
            0 => Err(ScheduleError { option, found: String::from("0"), expected: "at least 1" }),
            _ => Ok(()),
        };
        let within = |option, value: f64, range: std::ops::RangeInclusive<f64>, expected| {
            let error = || ScheduleError { option, found: value.to_string(), expected };
            range.contains(&value).then_some(()).ok_or_else(error)
        };
        match self {
            Decay::Step { every, .. } => positive("every", *every),
            Decay::Cosine { steps, .. } => positive("steps", *steps),
            Decay::CosineRestarts { period, growth, .. } => {
                positive("period", *period).and(positive("growth", *growth))
            }
            Decay::OneCycle { steps, pct_start, div_factor, final_div_factor, .. } => {
                let factor = f64::MIN_POSITIVE..=f64::MAX;
                positive("steps", *steps)
                    .and(within("pct_start", *pct_start, 0.0..=1.0, "a share from 0 to 1"))
                    .and(within("div_factor", *div_factor, factor.clone(), "above 0"))
                    .and(within("final_div_factor", *final_div_factor, factor, "above 0"))
            }
            Decay::OnPlateau(options) => {
                within("factor", options.factor, 0.0..=1.0 - f64::EPSILON, "from 0 to below 1")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn at(&self, lr: f64, step: u64) -> f64 {
        match self {
            Decay::Constant | Decay::OnPlateau(_) => lr,
            Decay::Step { every, gamma } => lr * gamma.powf((step / every) as f64),
            Decay::MultiStep { milestones, gamma } => {
                lr * gamma.powf(milestones.iter().filter(|&&milestone| milestone <= step).count() as f64)
            }
            Decay::Exponential { gamma } => lr * gamma.powf(step as f64),
            Decay::Cosine { steps, min_lr } => Anneal::Cos.between(lr, *min_lr, step as f64 / *steps as f64),
            Decay::CosineRestarts { period, growth, min_lr } => {
                let (mut period, mut step) = (*period, step);
                if *growth == 1 {
                    step %= period;
                }
                while step >= period {
                    step -= period;
                    period = period.saturating_mul(*growth);
                }
                Anneal::Cos.between(lr, *min_lr, step as f64 / period as f64)
            }
            Decay::OneCycle { steps, pct_start, anneal, div_factor, final_div_factor, three_phase } => {
                let (steps, start) = (*steps as f64, lr / div_factor);
                let (end, peak) = (start / final_div_factor, pct_start * steps - 1.0);
                let phases: &[(f64, f64, f64)] = if *three_phase {
                    &[(peak, start, lr), (2.0 * pct_start * steps - 2.0, lr, start), (steps - 1.0, start, end)]
                } else {
                    &[(peak, start, lr), (steps - 1.0, lr, end)]
                };
                one_cycle(phases, *anneal, (step as f64).min(steps - 1.0))
            }
            Decay::StableDecay { stable, decay, anneal, min_lr } => {
                let fallen = (step + 1).saturating_sub(*stable) as f64;
                anneal.between(lr, *min_lr, (fallen / (*decay).max(1) as f64).min(1.0))
            }
        }
    }
}

/// The rate at `step` of a course of phases, each given by its last step and its rates at both ends.
fn one_cycle(phases: &[(f64, f64, f64)], anneal: Anneal, step: f64) -> f64 {
    let mut begin = 0.0;
    for &(last, from, to) in phases {
        if step <= last {
            // A phase without steps is over as soon as it begins.
            let part = if last > begin { (step - begin) / (last - begin) } else { 1.0 };
            return anneal.between(from, to, part);
        }
        begin = last;
    }
    phases.last().map_or(0.0, |&(_, _, to)| to)
}
