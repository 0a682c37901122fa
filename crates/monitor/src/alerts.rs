//! Notices by itself what a person would want to be woken for: a loss that is no number, that jumps, that has stopped
//! falling.

use serde::{Deserialize, Serialize};

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The step at which it was noticed.
    pub step: u64,
    /// `nan`, `spike` or `plateau`.
    pub kind: String,
    /// A sentence.
    pub message: String,
}

/// The most alerts that are kept; a run that jumps all the time says nothing new by the next jump.
const MOST: usize = 100;
/// Steps before the spread of the loss is known well enough to call something a jump.
const WARM_UP: u64 = 50;
/// Steps over which the mean and the spread forget.
const MEMORY: f64 = 50.0;
/// How many spreads above the mean a jump lies, and which part of the mean at least.
const SPREADS: f64 = 8.0;
const PART: f64 = 0.15;
/// Steps between two alerts of one kind.
const PAUSE: u64 = 50;
/// The least steps that are compared for a plateau, and the least gain, as part of the loss, that still counts as
/// falling.
const WINDOW: u64 = 400;
const GAIN: f64 = 1e-3;

/// Watches one loss.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    alerts: Vec<Alert>,
    seen: u64,
    mean: f64,
    spread: f64,
    last_nan: Option<u64>,
    last_spike: Option<u64>,
    window: Window,
}

/// The means of the current window and of the one before it. Each window is a tenth longer than the last, so that the
/// longer a run is the longer it may take for its gains.
#[derive(Clone, Debug, Default)]
struct Window {
    sum: f64,
    count: u64,
    before: Option<f64>,
    flat: bool,
}

impl Watch {
    /// Looks at the next step.
    pub fn push(&mut self, step: u64, loss: f64) {
        if !loss.is_finite() {
            if self.last_nan.is_none_or(|last| step > last + PAUSE) {
                self.alert(step, "nan", format!("the loss is {} at step {step}", crate::plot::number(loss)));
            }
            self.last_nan = Some(step);
            return;
        }
        let above = loss - self.mean;
        let jumps = self.seen >= WARM_UP && above > SPREADS * self.spread && above > PART * self.mean.abs();
        if jumps {
            if self.last_spike.is_none_or(|last| step > last + PAUSE) {
                let (loss, mean) = (crate::plot::number(loss), crate::plot::number(self.mean));
                self.alert(step, "spike", format!("the loss jumped from about {mean} to {loss} at step {step}"));
            }
            self.last_spike = Some(step);
        }
        self.seen += 1;
        let weight = 1.0 / MEMORY.min(self.seen as f64);
        self.spread += weight * (above.abs() - self.spread);
        self.mean += weight * above;
        self.look_back(step, loss);
    }

    fn look_back(&mut self, step: u64, loss: f64) {
        let window = &mut self.window;
        window.sum += loss;
        window.count += 1;
        if window.count < WINDOW.max(self.seen / 10) {
            return;
        }
        let mean = window.sum / window.count as f64;
        let before = window.before.replace(mean);
        let count = std::mem::take(&mut window.count);
        window.sum = 0.0;
        let Some(before) = before else { return };
        let flat = before - mean < GAIN * before.abs();
        if flat && !std::mem::replace(&mut window.flat, flat) {
            let mean = crate::plot::number(mean);
            self.alert(
                step,
                "plateau",
                format!("the loss has not fallen for about {count} steps; it stays near {mean}"),
            );
        }
        self.window.flat = flat;
    }

    /// Forgets what was noticed from `step` on: training went back.
    pub fn cut(&mut self, step: u64) {
        self.alerts.retain(|alert| alert.step < step);
        (self.last_nan, self.last_spike) = (None, None);
        self.window = Window::default();
    }

    /// What was noticed, in the order of the steps.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    fn alert(&mut self, step: u64, kind: &str, message: String) {
        if self.alerts.len() < MOST {
            self.alerts.push(Alert { step, kind: kind.to_owned(), message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise in -1..1 that is always the same.
    fn noise(step: u64) -> f64 {
        let hash = (step ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn watched(steps: u64, loss: impl Fn(u64) -> f64) -> Vec<(u64, String)> {
        let mut watch = Watch::default();
        (1..=steps).for_each(|step| watch.push(step, loss(step)));
        watch.alerts().iter().map(|alert| (alert.step, alert.kind.clone())).collect()
    }

    fn ordinary(step: u64) -> f64 {
        1.5 + 6.0 * (step as f64).powf(-0.3) + 0.1 * noise(step)
    }

    #[test]
    fn an_ordinary_run_is_left_alone() {
        assert_eq!(watched(20_000, ordinary), []);
    }

    #[test]
    fn a_jump_is_noticed_where_it_happens_and_once() {
        let jump = |step| ordinary(step) + if (700..720).contains(&step) { 3.0 } else { 0.0 };
        assert_eq!(watched(2000, jump), [(700, "spike".to_owned())]);
    }

    #[test]
    fn a_loss_that_is_no_number_is_noticed_where_it_happens_and_once() {
        let nan = |step| if step == 300 || step == 301 { f64::NAN } else { ordinary(step) };
        assert_eq!(watched(1000, nan), [(300, "nan".to_owned())]);
        assert_eq!(watched(10, |_| f64::INFINITY), [(1, "nan".to_owned())]);
    }

    #[test]
    fn a_loss_that_stops_falling_is_noticed_once() {
        let flat = |step: u64| 2.0 + 4.0 * (-(step as f64) / 150.0).exp() + 0.02 * noise(step);
        let found = watched(6000, flat);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1 == "plateau" && (1200..=2800).contains(&found[0].0), "{found:?}");
    }

    #[test]
    fn what_is_trained_again_is_watched_again() {
        let mut watch = Watch::default();
        (1..=100).for_each(|step| watch.push(step, if step == 90 { f64::NAN } else { 1.0 }));
        watch.cut(80);
        assert_eq!(watch.alerts(), []);
        (80..=100).for_each(|step| watch.push(step, if step == 90 { f64::NAN } else { 1.0 }));
        assert_eq!(watch.alerts().iter().map(|alert| alert.step).collect::<Vec<_>>(), [90]);
    }
}
