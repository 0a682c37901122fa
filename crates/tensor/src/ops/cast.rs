//! Conversion to another dtype.

use cupola_core::DType;

use crate::dispatch::with_element;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = x` in another dtype: to narrower floats rounded to nearest even, from floats to integers towards zero and saturated,
/// to bool whether non-zero.
pub struct Cast {
    /// The dtype of the result.
    pub to: DType,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Cast::INFO];

impl Op for Cast {
    const NAME: &'static str = "cast";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("cast has one input") };
        let x = x.contiguous();
        with_element!(x.dtype(), T => with_element!(self.to, U => Tensor::build::<U>(*x.shape(), |y| {
            cupola_cpu::cast::cast(x.slice_of::<T>(), y);
        })))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.dy().to_dtype(cx.input(0).dtype).into()
    }
}

impl Tensor {
    /// This tensor in another dtype; itself, sharing the buffer, when it has that dtype already. See [`Cast`].
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        if self.dtype() == dtype { self.clone() } else { Cast { to: dtype }.apply(&[self]) }
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Case, uniform};
    vec![
        Case::new("there and back", [uniform([3, 33], 1)], |x| vec![x[0].to_dtype(DType::F64).to_dtype(x[0].dtype())])
            .reference(|x| vec![x[0].clone()]),
        Case::new("to f32 and on", [uniform([5], 1).to_dtype(DType::BF16).to_f64()], |x| {
            vec![x[0].to_dtype(DType::F32).affine(2.0, 0.0).to_dtype(DType::F64)]
        })
        .reference(|x| vec![x[0].map(|v| 2.0 * v)])
        // The rounding to f32 is coarser than a central difference; the test below has the gradient.
        .forward_only(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_returns_in_the_input_s_dtype() {
        let x = Tensor::full_of([3], 0.5, DType::F64).requires_grad();
        let grads = (x.to_dtype(DType::F32) * 3.0).sum([]).backward();
        assert!(grads[&x].equals(&Tensor::full_of([3], 3.0, DType::F64)));
    }

    #[test]
    fn every_pair_of_dtypes_converts() {
        let values = Tensor::from_vec(vec![0.0f64, 1.0, 2.9, -3.9, 300.0], [5]);
        for from in DType::ALL {
            for to in DType::ALL {
                let there = values.to_dtype(from).to_dtype(to);
                assert_eq!(there.dtype(), to);
                assert_eq!(there.to_f64_vec()[..2], [0.0, 1.0], "{from} -> {to}");
            }
        }
        assert_eq!(values.to_dtype(DType::I8).to_vec::<i8>(), [0, 1, 2, -3, 127]);
        assert_eq!(values.to_dtype(DType::Bool).to_vec::<bool>(), [false, true, true, true, true]);
    }
}
