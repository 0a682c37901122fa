//! Cumulative sums.

use cupola_cpu::reduce;

use super::reduction::dims_of;
use crate::dispatch::with_number;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// What this file offers.
pub const OPS: &[OpInfo] = &[CumSum::INFO];

/// `y[k] = x[0] + ... + x[k]` along a dimension.
pub struct CumSum {
    /// The dimension.
    pub axis: usize,
    /// Sums from the end instead.
    pub reverse: bool,
}

impl Op for CumSum {
    const NAME: &'static str = "cumsum";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("cumsum has one input") };
        let (dims, x) = (dims_of(x.shape(), self.axis..self.axis + 1), x.contiguous());
        with_number!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            reduce::cumsum(x.slice_of::<T>(), dims, self.reverse, y);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        CumSum { axis: self.axis, reverse: !self.reverse }.apply(&[&cx.dy()]).into()
    }
}

impl Tensor {
    /// The sums of all elements up to and with each one along `axis`; -1 is the last. Floats are summed in f64.
    ///
    /// # Panics
    /// When there is no such dimension or the dtype is bool.
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Tensor {
        CumSum { axis: self.shape().axis(axis, "cumsum"), reverse: false }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("rows", [uniform([3, 33], 1)], |x| vec![x[0].cumsum(-1)])
            .reference(|x| vec![Array::from_fn(&[3, 33], |i| (0..=i[1]).map(|j| x[0].at(&[i[0], j])).sum())]),
        Case::new("columns", [uniform([5, 2], 1)], |x| vec![x[0].cumsum(0)])
            .reference(|x| vec![Array::from_fn(&[5, 2], |i| (0..=i[0]).map(|j| x[0].at(&[j, i[1]])).sum())]),
    ]
}
