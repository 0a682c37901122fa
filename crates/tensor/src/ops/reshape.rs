//! The same elements, in the same order, under other dimensions.

use cupola_core::Shape;

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `x` under another shape with as many elements: a view where the layout allows, else a copy.
pub struct Reshape {
    /// The shape of the result.
    pub shape: Shape,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Reshape::INFO];

impl Op for Reshape {
    const NAME: &'static str = "reshape";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("reshape has one input") };
        assert!(x.numel() == self.shape.numel(), "reshape: shape {} does not fit {}", x.shape(), self.shape);
        match x.layout().reshape(self.shape) {
            Some(layout) => x.view(layout).into(),
            None => x.contiguous().reshape(self.shape).into(),
        }
    }

    fn fixed(&self) -> Option<u64> {
        Some(0)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.dy().reshape(cx.input_shape(0)).into()
    }
}

impl Tensor {
    /// The same elements under another shape; a view where the layout allows.
    ///
    /// # Panics
    /// When the numbers of elements differ.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if *self.shape() == shape { self.clone() } else { Reshape { shape }.apply(&[self]) }
    }

    /// All dimensions in one: `[numel]`.
    pub fn flatten(&self) -> Tensor {
        self.reshape([self.numel()])
    }

    /// Dimensions `from..=to` in one; -1 is the last.
    ///
    /// # Panics
    /// When there is no such dimension or `from` comes after `to`.
    #[track_caller]
    pub fn flatten_dims(&self, from: isize, to: isize) -> Tensor {
        let (from, to) = (self.shape().axis(from, "flatten_dims"), self.shape().axis(to, "flatten_dims"));
        assert!(from <= to, "flatten_dims: dimension {from} comes after {to}");
        let mut dims = self.shape().to_vec();
        let merged = dims[from..=to].iter().product();
        dims.splice(from..=to, [merged]);
        self.reshape(dims)
    }

    /// A dimension of size 1 inserted before `axis`; -1 appends one. A view.
    ///
    /// # Panics
    /// When `axis` is beyond the rank.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let rank = self.rank() as isize + 1;
        let index = if axis < 0 { axis + rank } else { axis };
        assert!((0..rank).contains(&index), "unsqueeze: dimension {axis} is out of range for shape {}", self.shape());
        self.reshape(self.shape().with_inserted(index as usize, 1))
    }

    /// Without dimension `axis`, whose size must be 1. A view.
    ///
    /// # Panics
    /// When the dimension's size is not 1.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Tensor {
        let index = self.shape().axis(axis, "squeeze");
        assert!(self.shape()[index] == 1, "squeeze: dimension {axis} of shape {} is not 1", self.shape());
        self.reshape(self.shape().without(index))
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("cut", [uniform([6, 5], 1)], |x| vec![x[0].reshape([2, 3, 5])])
            .reference(|x| vec![Array::new(&[2, 3, 5], x[0].data.clone())]),
        Case::new("merge", [uniform([2, 3, 5], 1)], |x| vec![x[0].flatten_dims(1, -1)])
            .reference(|x| vec![Array::new(&[2, 15], x[0].data.clone())]),
        Case::new("squeeze and unsqueeze", [uniform([4, 1], 1)], |x| vec![x[0].squeeze(-1).unsqueeze(0)])
            .reference(|x| vec![Array::new(&[1, 4], x[0].data.clone())]),
    ]
}
