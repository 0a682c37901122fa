//! The lower or upper triangle of matrices.

use crate::dispatch::with_element;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `x` with zeros on one side of a diagonal of its last two dimensions.
pub struct Triangle {
    /// Keeps what is on and below the diagonal; otherwise what is on and above it.
    pub lower: bool,
    /// The diagonal: 0 is the main one, positive ones lie above it.
    pub diagonal: isize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Triangle::INFO];

impl Triangle {
    fn keeps(&self, row: usize, column: usize) -> bool {
        let above = column as isize - row as isize - self.diagonal;
        if self.lower { above <= 0 } else { above >= 0 }
    }
}

impl Op for Triangle {
    const NAME: &'static str = "triangle";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("triangle has one input") };
        assert!(x.rank() >= 2, "triangle: shape {} has no matrices", x.shape());
        let (rows, columns) = (x.dim(-2), x.dim(-1));
        let x = x.contiguous();
        with_element!(x.dtype(), T => Tensor::build::<T>(*x.shape(), |out| {
            for (index, (y, &v)) in out.iter_mut().zip(x.slice_of::<T>()).enumerate() {
                *y = if self.keeps(index / columns % rows, index % columns) { v } else { T::default() };
            }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        Triangle { ..*self }.apply(&[&cx.dy()]).into()
    }
}

impl Tensor {
    /// The matrices in the last two dimensions with zeros above `diagonal` (0 is the main one).
    ///
    /// # Panics
    /// When the rank is below 2.
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Tensor {
        Triangle { lower: true, diagonal }.apply(&[self])
    }

    /// The matrices in the last two dimensions with zeros below `diagonal` (0 is the main one).
    ///
    /// # Panics
    /// When the rank is below 2.
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Tensor {
        Triangle { lower: false, diagonal }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("tril", [uniform([2, 4, 5], 1)], |x| vec![x[0].tril(1)])
            .reference(|x| vec![Array::from_fn(&[2, 4, 5], |i| if i[2] <= i[1] + 1 { x[0].at(i) } else { 0.0 })]),
        Case::new("triu", [uniform([4, 5], 1)], |x| vec![x[0].triu(0)])
            .reference(|x| vec![Array::from_fn(&[4, 5], |i| if i[1] >= i[0] { x[0].at(i) } else { 0.0 })]),
    ]
}
