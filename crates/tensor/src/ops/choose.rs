//! One of two operands, element by element, by a mask.

use cupola_core::DType;
use cupola_cpu::select;

use crate::dispatch::with_element;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = a` where the mask is true, `b` elsewhere, all three broadcast.
pub struct Where;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Where::INFO];

/// `a` where `mask`, `b` elsewhere, in the shape that all three broadcast to; `a` and `b` have one dtype.
#[track_caller]
fn choose(mask: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = mask.shape().broadcast(a.shape()).and_then(|shape| shape.broadcast(b.shape()));
    let Some(shape) = shape else {
        panic!("where: shapes {}, {} and {} do not broadcast", mask.shape(), a.shape(), b.shape());
    };
    with_element!(a.dtype(), T => Tensor::build::<T>(shape, |y| {
        let mask = (mask.buffer().as_slice::<bool>(), mask.layout());
        let (a, b) = ((a.buffer().as_slice::<T>(), a.layout()), (b.buffer().as_slice::<T>(), b.layout()));
        select::select(shape, mask, a, b, y);
    }))
}

impl Op for Where {
    const NAME: &'static str = "where";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [mask, a, b] = inputs else { unreachable!("where has three inputs") };
        assert!(mask.dtype() == DType::Bool, "where: the mask is {}, expected bool", mask.dtype());
        let dtype = a.dtype().promote(b.dtype());
        saved.keep([mask]);
        choose(mask, &a.to_dtype(dtype), &b.to_dtype(dtype)).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([mask], dy) = (cx.saved(), cx.take_dy());
        let zero = Tensor::zeros_of([], dy.dtype());
        let da = cx.needs(1).then(|| choose(mask, &dy, &zero).reduce_like(cx.input(1)));
        let db = cx.needs(2).then(|| choose(mask, &zero, &dy).reduce_like(cx.input(2)));
        [None, da, db].into()
    }
}

impl Tensor {
    /// `a` where this mask is true, `b` elsewhere, all three broadcast; PyTorch's `where`, which is a keyword here.
    ///
    /// ```
    /// # use cupola_tensor::Tensor;
    /// let x = Tensor::from_vec(vec![1.0f32, -2.0, 3.0], [3]);
    /// let y = x.gt(&Tensor::zeros([])).where_(&x, &Tensor::full([], 0.5));
    /// assert_eq!(y.to_vec::<f32>(), [1.0, 0.5, 3.0]);
    /// ```
    ///
    /// # Panics
    /// When the mask is not bool or the shapes do not broadcast.
    #[track_caller]
    pub fn where_(&self, a: &Tensor, b: &Tensor) -> Tensor {
        Where.apply(&[self, a, b])
    }

    /// This tensor with `value` where the mask, which broadcasts to its shape, is true.
    ///
    /// # Panics
    /// When the mask is not bool or does not broadcast to this shape.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Tensor {
        assert!(
            mask.shape().broadcast(self.shape()) == Some(*self.shape()),
            "masked_fill: a mask of shape {} does not broadcast to {}",
            mask.shape(),
            self.shape()
        );
        mask.where_(&Tensor::full_of([], value, self.dtype()), self)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let mask = |shape: &[usize]| {
        let shape = cupola_core::Shape::new(shape);
        Tensor::from_vec((0..shape.numel()).map(|k| k % 3 != 1).collect::<Vec<bool>>(), shape)
    };
    let shapes: [(&[usize], &[usize], &[usize]); 6] = [
        (&[257], &[257], &[257]),
        (&[3, 5], &[3, 5], &[]),
        (&[3, 1], &[33], &[3, 33]),
        (&[33], &[3, 1], &[3, 1]),
        (&[2, 3, 4], &[3, 1], &[4]),
        (&[0, 3], &[1, 3], &[3]),
    ];
    let mut cases = Vec::new();
    for (m, a, b) in shapes {
        let inputs = [mask(m), uniform(a, 1), uniform(b, 2)];
        let fits = inputs[0].shape().broadcast(inputs[1].shape()).and_then(|s| s.broadcast(inputs[2].shape()));
        let shape = fits.expect("the shapes above broadcast");
        let pick = |x: &[Array], i: &[usize]| if x[0].at(i) != 0.0 { x[1].at(i) } else { x[2].at(i) };
        let reference = move |x: &[Array]| vec![Array::from_fn(&shape, |i| pick(x, i))];
        let run = |x: &[Tensor]| vec![x[0].where_(&x[1], &x[2])];
        cases.push(Case::new(format!("{m:?} {a:?} {b:?}"), inputs, run).reference(reference));
    }
    let inputs = [mask(&[5, 1]), uniform([5, 31], 3)];
    let run = |x: &[Tensor]| vec![x[1].masked_fill(&x[0], -2.5)];
    let reference = |x: &[Array]| vec![Array::from_fn(&[5, 31], |i| if x[0].at(i) != 0.0 { -2.5 } else { x[1].at(i) })];
    cases.push(Case::new("masked_fill", inputs, run).reference(reference));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "where: shapes [2], [3] and [] do not broadcast")]
    fn shapes_that_do_not_fit_are_named() {
        let mask = Tensor::from_vec(vec![true, false], [2]);
        mask.where_(&Tensor::zeros([3]), &Tensor::zeros([]));
    }

    #[test]
    fn a_masked_nan_leaves_no_trace() {
        let x = Tensor::from_vec(vec![f32::NAN, 1.0], [2]).requires_grad();
        let y = x.masked_fill(&Tensor::from_vec(vec![true, false], [2]), 0.0);
        assert_eq!(y.to_vec::<f32>(), [0.0, 1.0]);
        assert_eq!(y.sum([]).backward()[&x].to_vec::<f32>(), [0.0, 1.0]);
    }
}
