//! Dropout (Srivastava et al., 2014).

use cupola_core::Rng;
use cupola_cpu::dropout;

use crate::dispatch::with_float;
use crate::mode;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = x / (1 - p)` where word `first + i` of a random stream says so, and 0 elsewhere. The mask is not stored: backward draws
/// it again.
pub struct Dropout {
    /// The probability that an element is dropped.
    pub p: f64,
    /// The stream.
    pub rng: Rng,
    /// The stream's position of the first element.
    pub first: u64,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Dropout::INFO];

impl Op for Dropout {
    const NAME: &'static str = "dropout";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("dropout has one input") };
        assert!((0.0..1.0).contains(&self.p), "dropout: a probability of {} is not in 0..1", self.p);
        let x = x.contiguous();
        with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            dropout::dropout(x.slice_of::<T>(), self.p, self.rng, self.first, y);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        Dropout { ..*self }.apply(&[&cx.take_dy()]).into()
    }
}

impl Tensor {
    /// Within a training scope each element is dropped with probability `p`, and the rest scaled by `1 / (1 - p)`; outside of one
    /// this tensor is returned as it is.
    ///
    /// The first dimension is taken as that of the samples: the mask of a sample depends on the run's seed, the step, the number
    /// of the call within the step, and the sample's position in the global batch, not on how the batch was cut.
    ///
    /// # Panics
    /// When `p` is not in 0..1 or the dtype is not floating-point.
    #[track_caller]
    pub fn dropout(&self, p: f64) -> Tensor {
        assert!((0.0..1.0).contains(&p), "dropout: a probability of {p} is not in 0..1");
        let Some((rng, first_sample)) = mode::next_random_call() else { return self.clone() };
        if p == 0.0 {
            return self.clone();
        }
        let per_sample = self.shape().iter().skip(1).product::<usize>() as u64;
        Dropout { p, rng, first: first_sample * per_sample }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    [1, 33, 257]
        .map(|n| {
            let rng = Rng::seed(4);
            let run = move |x: &[Tensor]| vec![Dropout { p: 0.3, rng, first: 5 }.apply(&[&x[0]])];
            Case::new(format!("{n} elements"), [uniform([n], 1)], run).reference(move |x| {
                let kept = |i: usize| f64::from(rng.u32(5 + i as u64)) >= 0.3 * 4_294_967_296.0;
                vec![Array::from_fn(&[n], |i| if kept(i[0]) { x[0].data[i[0]] / 0.7 } else { 0.0 })]
            })
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::{Training, set_training};

    fn scope(first_sample: u64, step: u64) -> crate::mode::TrainingGuard {
        set_training(Some(Training { seed: 1, step, first_sample, calls: 0, recomputing: false }))
    }

    #[test]
    fn outside_of_training_nothing_is_dropped() {
        assert!(Tensor::ones([100]).dropout(0.5).equals(&Tensor::ones([100])));
    }

    #[test]
    fn masks_depend_on_step_and_call_and_not_on_how_the_batch_is_cut() {
        let x = Tensor::ones([8, 50]);
        let whole = {
            let _scope = scope(0, 3);
            x.dropout(0.5)
        };
        let again = {
            let _scope = scope(0, 3);
            [x.dropout(0.5), x.dropout(0.5)]
        };
        assert!(again[0].equals(&whole) && !again[1].equals(&whole));
        let later = {
            let _scope = scope(0, 4);
            x.dropout(0.5)
        };
        assert!(!later.equals(&whole));
        let second_half = {
            let _scope = scope(4, 3);
            x.narrow(0, 4, 4).dropout(0.5)
        };
        assert!(second_half.equals(&whole.narrow(0, 4, 4).contiguous()));
    }

    #[test]
    fn the_expectation_is_the_input() {
        let _scope = scope(0, 0);
        let mean = Tensor::ones([100_000]).dropout(0.2).mean([]).item();
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
