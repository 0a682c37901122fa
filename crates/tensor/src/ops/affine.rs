//! `y = scale * x + shift` with numbers `scale` and `shift`.

use cupola_core::Element;
use cupola_cpu::unary;

use crate::dispatch::{with_element, with_float};
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = scale * x + shift`.
pub struct Affine {
    /// The factor.
    pub scale: f64,
    /// The summand.
    pub shift: f64,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Affine::INFO];

impl Op for Affine {
    const NAME: &'static str = "affine";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let Self { scale, shift } = *self;
        let [x] = inputs else { unreachable!("affine has one input") };
        let whole = scale.fract() == 0.0 && shift.fract() == 0.0;
        assert!(
            x.dtype().is_float() || whole,
            "affine: {scale} * x + {shift} of a tensor of {} is no integer; convert it with to_dtype first",
            x.dtype()
        );
        if !x.dtype().is_float() {
            return with_element!(x.dtype(), T => naive::map::<T, T>(x, |v| <T as Element>::from_f64(v.to_f64() * scale + shift)))
                .into();
        }
        let x = x.contiguous();
        with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            unary::forward(unary::Affine { scale, shift }, x.slice_of::<T>(), y);
        }))
        .into()
    }

    fn fixed(&self) -> Option<u64> {
        // What is added does not show in the gradient.
        Some(self.scale.to_bits())
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.dy().affine(self.scale, 0.0).into()
    }
}

impl Tensor {
    /// `scale * x + shift`, computed in f32 (f64 for f64) and rounded once.
    ///
    /// # Panics
    /// When the tensor holds integers and `scale` or `shift` is not whole.
    #[track_caller]
    pub fn affine(&self, scale: f64, shift: f64) -> Tensor {
        Affine { scale, shift }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Case, uniform};
    [0, 1, 31, 33, 257]
        .map(|n| {
            Case::new(format!("{n} elements"), [uniform([n], 1)], |x| vec![x[0].affine(-2.5, 0.75)])
                .reference(|x| vec![x[0].map(|v| -2.5 * v + 0.75)])
        })
        .into()
}
