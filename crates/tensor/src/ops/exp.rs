//! The exponential function.

use cupola_core::Element;

use crate::dispatch::with_float;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = exp(x)`.
pub struct Exp;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Exp::INFO];

impl Op for Exp {
    const NAME: &'static str = "exp";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("exp has one input") };
        let y = with_float!(Self::NAME, x.dtype(), T => naive::map::<T, T>(x, |v| T::from_f64(v.to_f64().exp())));
        saved.keep([&y]);
        y.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [y] = cx.saved();
        (cx.dy() * y).into()
    }
}

impl Tensor {
    /// `exp(x)`, element by element.
    ///
    /// # Panics
    /// When the dtype is not floating-point.
    #[track_caller]
    pub fn exp(&self) -> Tensor {
        Exp.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Case, normal};
    [0, 1, 31, 33, 257]
        .map(|n| Case::new(format!("{n} elements"), [normal([n], 1)], |x| vec![x[0].exp()]).reference(|x| vec![x[0].map(f64::exp)]))
        .into()
}
