//! Elements kept within limits.

use cupola_core::Element;
use cupola_cpu::unary::{self, Clamp as Kernel};

use crate::dispatch::{with_float, with_integer};
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = min(max(x, low), high)`; the gradient passes where `x` is within the limits, the ends included.
pub struct Clamp {
    /// The smallest result.
    pub min: f64,
    /// The largest result; it wins over `min` where the two are out of order.
    pub max: f64,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Clamp::INFO];

impl Op for Clamp {
    const NAME: &'static str = "clamp";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let Self { min, max } = *self;
        let [x] = inputs else { unreachable!("clamp has one input") };
        assert!(!min.is_nan() && !max.is_nan(), "clamp: limits {min} and {max} of shape {} are no numbers", x.shape());
        if x.dtype().is_float() {
            let x = x.contiguous();
            saved.keep([&x]);
            return with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
                unary::forward(Kernel { min, max }, x.slice_of::<T>(), y);
            }))
            .into();
        }
        let whole = |limit: f64| limit.is_infinite() || limit.fract() == 0.0;
        assert!(
            whole(min) && whole(max),
            "clamp: {min} and {max} are no limits for a tensor of {}; convert it with to_dtype first",
            x.dtype()
        );
        // Every integer type fits into i64, and the conversion of a limit saturates.
        let (min, max) = (min as i64, max as i64);
        with_integer!(Self::NAME, x.dtype(), T => naive::map::<T, T>(x, |v| {
            let limit = v.to_i64().max(min).min(max);
            // A limit outside of the type is the type's own end.
            <T as Element>::from_i64(limit.clamp(T::MIN.to_i64(), T::MAX.to_i64()))
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x] = cx.saved();
        super::unary_backward(Kernel { min: self.min, max: self.max }, x, cx.take_dy()).into()
    }
}

impl Tensor {
    /// `min` where `x` is smaller, `max` where it is larger, `x` elsewhere, the ends included; NaN stays NaN. An infinite limit
    /// is none.
    ///
    /// # Panics
    /// When the dtype is bool, a limit is NaN, or the tensor holds integers and a finite limit is not whole.
    #[track_caller]
    pub fn clamp(&self, min: f64, max: f64) -> Tensor {
        Clamp { min, max }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Case, between};
    [0, 1, 31, 33, 65, 257]
        .map(|n| {
            Case::new(format!("{n} elements"), [between(-2.0, 2.0, [n], 1)], |x| vec![x[0].clamp(-0.5, 0.75)])
                .reference(|x| vec![x[0].map(|v| v.clamp(-0.5, 0.75))])
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_kept_within_limits_exactly() {
        let big = (1i64 << 60) + 1;
        let x = Tensor::from_vec(vec![-big, -3, 0, 3, big], [5]);
        assert_eq!(x.clamp(-2.0, f64::INFINITY).to_vec::<i64>(), [-2, -2, 0, 3, big]);
        assert_eq!(x.clamp(f64::NEG_INFINITY, 2.0).to_vec::<i64>(), [-big, -3, 0, 2, 2]);
        let x = Tensor::from_vec(vec![0u8, 7, 255], [3]);
        assert_eq!(x.clamp(-5.0, 200.0).to_vec::<u8>(), [0, 7, 200]);
        assert_eq!(x.clamp(300.0, 400.0).to_vec::<u8>(), [255, 255, 255]);
    }

    #[test]
    #[should_panic(expected = "clamp: 0.5 and 2 are no limits for a tensor of i64; convert it with to_dtype first")]
    fn a_limit_between_integers_is_refused() {
        Tensor::range(0, 3).clamp(0.5, 2.0);
    }
}
