//! Repetition without copying.

use cupola_core::Shape;

use super::sum::summed;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `x` broadcast to a shape: a view with stride zero along repeated dimensions.
pub struct Expand {
    /// The shape of the result.
    pub shape: Shape,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Expand::INFO];

impl Op for Expand {
    const NAME: &'static str = "expand";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("expand has one input") };
        match x.layout().broadcast_to(self.shape) {
            Some(layout) => x.view(layout).into(),
            None => panic!("expand: shape {} does not broadcast to {}", x.shape(), self.shape),
        }
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.dy();
        summed(cx, 0, &dy).into()
    }
}

impl Tensor {
    /// This tensor repeated along dimensions of size 1 and along new leading dimensions. A view.
    ///
    /// # Shapes
    /// `[.., 1, ..]` -> `shape`, aligned at the last dimension.
    ///
    /// # Panics
    /// When the shape does not broadcast to `shape`.
    #[track_caller]
    pub fn expand(&self, shape: impl Into<Shape>) -> Tensor {
        Expand { shape: shape.into() }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("inner", [uniform([3, 1], 1)], |x| vec![x[0].expand([3, 5])])
            .reference(|x| vec![Array::from_fn(&[3, 5], |i| x[0].at(i))]),
        Case::new("leading", [uniform([3], 1)], |x| vec![x[0].expand([2, 4, 3])])
            .reference(|x| vec![Array::from_fn(&[2, 4, 3], |i| x[0].at(i))]),
        Case::new("to nothing", [uniform([1, 3], 1)], |x| vec![x[0].expand([0, 3])])
            .reference(|_| vec![Array::new(&[0, 3], vec![])]),
    ]
}
