//! Watches the loss: numbers that are not finite, and losses far above what they were.

use serde::{Deserialize, Serialize};

use crate::config::{GuardConfig, Policy};

/// What is remembered of the losses so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Losses seen.
    seen: u64,
    /// Their running mean.
    mean: f64,
    /// Their running variance around it.
    variance: f64,
    /// Interventions in a row.
    pub in_a_row: u64,
}

/// What is wrong with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A number is not finite.
    NotFinite,
    /// The loss is far above what it was.
    Spike,
}

/// Losses before which nothing is called a spike.
const SETTLING: u64 = 32;
/// How fast old losses are forgotten.
const FORGET: f64 = 0.05;

impl Guard {
    /// What is wrong with a step of this loss and gradient norm, and what is to be done about it.
    pub fn judge(&mut self, loss: f64, norm: f64, config: &GuardConfig) -> Option<(Trouble, Policy)> {
        let trouble = if !(loss.is_finite() && norm.is_finite()) {
            Some((Trouble::NotFinite, config.nan))
        } else if self.seen >= SETTLING
            && loss - self.mean > config.spike_deviations * self.variance.sqrt()
            // A loss that hardly varies would call any breath a spike.
            && loss > 1.1 * self.mean
        {
            Some((Trouble::Spike, config.spike))
        } else {
            None
        };
        match trouble.filter(|(_, policy)| *policy != Policy::Ignore) {
            Some(trouble) => {
                self.in_a_row += 1;
                Some(trouble)
            }
            None => {
                self.in_a_row = 0;
                if loss.is_finite() {
                    self.observe(loss);
                }
                None
            }
        }
    }

    fn observe(&mut self, loss: f64) {
        self.seen += 1;
        // A plain mean at first, then one that forgets.
        let weight = FORGET.max(1.0 / self.seen as f64);
        let distance = loss - self.mean;
        self.mean += weight * distance;
        self.variance = (1.0 - weight) * (self.variance + weight * distance * distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenfold_loss_is_a_spike_and_noise_is_not() {
        let config = GuardConfig::default();
        let mut guard = Guard::default();
        for step in 0..200 {
            let loss = 2.0 + 0.1 * f64::from(step * 7919 % 13 - 6) / 6.0;
            assert_eq!(guard.judge(loss, 1.0, &config), None, "{step}");
        }
        let before = guard;
        assert_eq!(guard.judge(20.0, 1.0, &config), Some((Trouble::Spike, Policy::Skip)));
        assert_eq!((guard.in_a_row, guard.mean), (1, before.mean));
        assert_eq!(guard.judge(f64::NAN, 1.0, &config), Some((Trouble::NotFinite, Policy::Skip)));
        assert_eq!(guard.judge(2.0, f64::INFINITY, &config), Some((Trouble::NotFinite, Policy::Skip)));
        assert_eq!(guard.in_a_row, 3);
        assert_eq!(guard.judge(2.0, 1.0, &config), None);
        assert_eq!(guard.in_a_row, 0);
        let ignoring = GuardConfig { spike: Policy::Ignore, ..config };
        assert_eq!(guard.judge(20.0, 1.0, &ignoring), None);
    }
}
