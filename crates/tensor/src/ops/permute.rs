//! Dimensions in another order.

use cupola_core::{Layout, Shape};

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// Dimension `k` of the result is dimension `order[k]` of `x`. A view.
pub struct Permute {
    /// A permutation of the dimensions.
    pub order: Vec<usize>,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Permute::INFO];

impl Op for Permute {
    const NAME: &'static str = "permute";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("permute has one input") };
        let mut seen = vec![false; x.rank()];
        let distinct = self.order.iter().all(|&axis| axis < x.rank() && !std::mem::replace(&mut seen[axis], true));
        assert!(
            distinct && self.order.len() == x.rank(),
            "permute: {:?} is no permutation of the dimensions of shape {}",
            self.order,
            x.shape()
        );
        let dims: Vec<usize> = self.order.iter().map(|&axis| x.shape()[axis]).collect();
        let strides: Vec<isize> = self.order.iter().map(|&axis| x.layout().strides()[axis]).collect();
        x.view(Layout::strided(Shape::new(&dims), &strides, x.layout().offset)).into()
    }

    fn fixed(&self) -> Option<u64> {
        Some(self.order.iter().fold(0, |all, &axis| all * 16 + axis as u64))
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
        cx.dy().permute(&inverse).into()
    }
}

impl Tensor {
    /// The dimensions in a new order: dimension `k` of the result is dimension `order[k]` of this tensor. A view.
    ///
    /// # Panics
    /// When `order` is not a permutation of the dimensions.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Tensor {
        Permute { order: order.to_vec() }.apply(&[self])
    }

    /// Two dimensions exchanged; -1 is the last. A view.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        let mut order: Vec<usize> = (0..self.rank()).collect();
        order.swap(self.shape().axis(a, "transpose"), self.shape().axis(b, "transpose"));
        self.permute(&order)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("three", [uniform([2, 3, 5], 1)], |x| vec![x[0].permute(&[2, 0, 1])])
            .reference(|x| vec![Array::from_fn(&[5, 2, 3], |i| x[0].at(&[i[1], i[2], i[0]]))]),
        Case::new("transpose", [uniform([4, 33], 1)], |x| vec![x[0].transpose(0, -1)])
            .reference(|x| vec![Array::from_fn(&[33, 4], |i| x[0].at(&[i[1], i[0]]))]),
    ]
}
