//! Rows of a table by number.

use cupola_cpu::embedding;
use cupola_cpu::reduce::Dims;

use super::row_norm::wide;
use crate::autograd::running::RunningSum;
use crate::dispatch::with_float;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y[.., :] = table[indices[..], :]`.
pub struct Embedding;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Embedding::INFO];

impl Op for Embedding {
    const NAME: &'static str = "embedding";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [table, indices] = inputs else { unreachable!("embedding has two inputs") };
        assert!(
            table.rank() == 2 && indices.dtype().is_integer(),
            "embedding: table {} and indices {} {} do not fit",
            table.shape(),
            indices.dtype(),
            indices.shape()
        );
        let (rows, width) = (table.shape()[0], table.shape()[1]);
        let shape = indices.shape().with_inserted(indices.rank(), width);
        saved.keep([indices]);
        let (table, indices) = (table.contiguous(), indices.to_indices());
        let dims = Dims { outer: 1, n: rows, inner: width };
        with_float!(Self::NAME, table.dtype(), T => Tensor::build::<T>(shape, |y| {
            embedding::gather(table.slice_of::<T>(), dims, &indices, y);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([indices], dy, table) = (cx.saved(), cx.take_dy().contiguous(), cx.input(0));
        let dims = Dims { outer: 1, n: table.shape[0], inner: table.shape[1] };
        let indices = indices.to_indices();
        if cx.add_rows(0, &dy, &indices) {
            return [None, None].into();
        }
        let mut sum = RunningSum::new(cx, 0, wide(table.dtype));
        with_float!(Self::NAME, dy.dtype(), T => {
            embedding::scatter_add(dy.slice_of::<T>(), dims, &indices, sum.slice());
        });
        [Some(sum.finish()), None].into()
    }
}

impl Tensor {
    /// The rows of this table that `indices` (integers, any shape) name. Gradients of a row are summed in the order of the
    /// indices, in f32 (f64 for f64).
    ///
    /// # Shapes
    /// `[V, D]`, indices `[..]` -> `[.., D]`.
    ///
    /// # Panics
    /// When the shapes do not fit or an index is outside the table.
    #[track_caller]
    pub fn embedding(&self, indices: &Tensor) -> Tensor {
        Embedding.apply(&[self, indices])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let indices = || Tensor::from_vec(vec![3i64, 0, 3, 6, 1, 3], [2, 3]);
    [1, 33, 257]
        .map(|width| {
            Case::new(format!("width {width}"), [uniform([7, width], 1), indices()], |x| vec![x[0].embedding(&x[1])])
                .reference(move |x| {
                    vec![Array::from_fn(&[2, 3, width], |i| x[0].at(&[x[1].at(&i[..2]) as usize, i[2]]))]
                })
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "embedding: index 7 at position 1 is outside of 0..7")]
    fn an_index_outside_the_table_is_named() {
        Tensor::zeros([7, 2]).embedding(&Tensor::from_vec(vec![0i64, 7], [2]));
    }
}
