//! The same elements in row-major order without gaps.

use cupola_core::Layout;

use crate::dispatch::with_element;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = x`, laid out in row-major order.
pub struct Contiguous;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Contiguous::INFO];

impl Op for Contiguous {
    const NAME: &'static str = "contiguous";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("contiguous has one input") };
        with_element!(x.dtype(), T => Tensor::build::<T>(*x.shape(), |out| {
            naive::copy_into(x, out, &Layout::contiguous(*x.shape()));
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.take_dy().into()
    }
}

impl Tensor {
    /// This tensor in row-major order; itself, sharing the buffer, when it is so already.
    pub fn contiguous(&self) -> Tensor {
        if self.is_contiguous() { self.clone() } else { Contiguous.apply(&[self]) }
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("transposed", [uniform([3, 33, 5], 1)], |x| vec![x[0].permute(&[2, 0, 1]).contiguous()])
            .reference(|x| vec![Array::from_fn(&[5, 3, 33], |i| x[0].at(&[i[1], i[2], i[0]]))]),
        Case::new("broadcast", [uniform([3, 1], 1)], |x| vec![x[0].expand([3, 4]).contiguous()])
            .reference(|x| vec![Array::from_fn(&[3, 4], |i| x[0].at(i))]),
    ]
}
