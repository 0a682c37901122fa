//! Softmax and its logarithm.

use cupola_cpu::softmax;

use crate::dispatch::with_float;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Softmax::INFO, LogSoftmax::INFO];

/// `y = e^x / sum(e^x)` along the last dimension.
pub struct Softmax;

/// `y = x - ln(sum(e^x))` along the last dimension.
pub struct LogSoftmax;

impl Op for Softmax {
    const NAME: &'static str = "softmax";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("softmax has one input") };
        let (x, width) = (x.contiguous(), x.dim(-1));
        let y = with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            softmax::softmax(x.slice_of::<T>(), width, y);
        }));
        saved.keep([&y]);
        y.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([y], dy) = (cx.saved(), cx.take_dy().contiguous());
        with_float!(Self::NAME, y.dtype(), T => Tensor::build::<T>(*y.shape(), |dx| {
            softmax::softmax_backward(y.slice_of::<T>(), dy.slice_of::<T>(), y.dim(-1), dx);
        }))
        .into()
    }
}

impl Op for LogSoftmax {
    const NAME: &'static str = "log_softmax";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("log_softmax has one input") };
        let (x, width) = (x.contiguous(), x.dim(-1));
        let y = with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            softmax::log_softmax(x.slice_of::<T>(), width, y);
        }));
        saved.keep([&y]);
        y.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([y], dy) = (cx.saved(), cx.take_dy().contiguous());
        with_float!(Self::NAME, y.dtype(), T => Tensor::build::<T>(*y.shape(), |dx| {
            softmax::log_softmax_backward(y.slice_of::<T>(), dy.slice_of::<T>(), y.dim(-1), dx);
        }))
        .into()
    }
}

impl Tensor {
    /// `e^x / sum(e^x)` along `axis`; -1 is the last. Sums are kept in f32, of f64 in f64.
    ///
    /// # Panics
    /// When there is no such dimension or the dtype is not floating-point.
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Tensor {
        Softmax.apply(&[&self.transpose(axis, -1)]).transpose(axis, -1)
    }

    /// `x - ln(sum(e^x))` along `axis`; -1 is the last. Sums are kept in f32, of f64 in f64.
    ///
    /// # Panics
    /// When there is no such dimension or the dtype is not floating-point.
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Tensor {
        LogSoftmax.apply(&[&self.transpose(axis, -1)]).transpose(axis, -1)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, normal};
    let mut cases = Vec::new();
    for n in [1, 5, 33, 257] {
        let sum = |x: &Array, i: usize, n: usize| (0..n).map(|j| x.at(&[i, j]).exp()).sum::<f64>();
        cases.push(
            Case::new(format!("softmax of {n}"), [normal([3, n], 1)], |x| vec![x[0].softmax(-1)])
                .reference(move |x| vec![Array::from_fn(&[3, n], |i| x[0].at(i).exp() / sum(&x[0], i[0], n))]),
        );
        cases.push(
            Case::new(format!("log_softmax of {n}"), [normal([3, n], 1)], |x| vec![x[0].log_softmax(-1)])
                .reference(move |x| vec![Array::from_fn(&[3, n], |i| x[0].at(i) - sum(&x[0], i[0], n).ln())]),
        );
    }
    cases.push(Case::new("along the first dimension", [normal([4, 3], 1)], |x| vec![x[0].softmax(0)]).reference(|x| {
        let sum = |j: usize| (0..4).map(|i| x[0].at(&[i, j]).exp()).sum::<f64>();
        vec![Array::from_fn(&[4, 3], |i| x[0].at(i).exp() / sum(i[1]))]
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_differences_neither_overflow_nor_lose_the_row() {
        let x = Tensor::from_vec(vec![200.0f32, 0.0, -200.0, 1.0, 2.0, 3.0], [2, 3]);
        assert!(x.softmax(-1).sum([-1]).relative_error(&Tensor::ones([2])) < 1e-6);
        assert_eq!(x.log_softmax(-1).to_vec::<f32>()[..3], [0.0, -200.0, -400.0]);
    }
}
