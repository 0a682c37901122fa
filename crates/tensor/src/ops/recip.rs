//! The reciprocal.

use cupola_core::Element;

use crate::dispatch::with_float;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = 1 / x`.
pub struct Recip;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Recip::INFO];

impl Op for Recip {
    const NAME: &'static str = "recip";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("recip has one input") };
        let y = with_float!(Self::NAME, x.dtype(), T => naive::map::<T, T>(x, |v| T::from_f64(1.0 / v.to_f64())));
        saved.keep([&y]);
        y.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [y] = cx.saved();
        (-(cx.dy() * y * y)).into()
    }
}

impl Tensor {
    /// `1 / x`, element by element.
    ///
    /// # Panics
    /// When the dtype is not floating-point.
    #[track_caller]
    pub fn recip(&self) -> Tensor {
        Recip.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Case, between};
    vec![Case::new("positive", [between(0.5, 2.0, [33], 1)], |x| vec![x[0].recip()]).reference(|x| vec![x[0].map(f64::recip)])]
}
