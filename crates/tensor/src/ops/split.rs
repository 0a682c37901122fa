//! A dimension cut into pieces.

use std::sync::Arc;

use cupola_core::{Layout, Shape};

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// Consecutive pieces of dimension `axis`. Views; their gradients are put together by one concatenation, or none where they lie
/// beside each other already.
pub struct Split {
    /// The dimension.
    pub axis: usize,
    /// The pieces' sizes, which add up to the dimension's.
    pub sizes: Vec<usize>,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Split::INFO];

impl Op for Split {
    const NAME: &'static str = "split";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("split has one input") };
        let (axis, total) = (self.axis, self.sizes.iter().sum::<usize>());
        assert!(
            total == x.shape()[axis],
            "split: pieces {:?} do not add up to dimension {axis} of shape {}",
            self.sizes,
            x.shape()
        );
        let mut offset = x.layout().offset as isize;
        let piece = |&size: &usize| {
            // Without elements there is nothing to step over.
            let begin = if x.numel() == 0 { x.layout().offset } else { offset as usize };
            let layout = Layout::strided(x.shape().with_dim(axis, size), x.layout().strides(), begin);
            offset += size as isize * x.layout().strides()[axis];
            x.view(layout)
        };
        self.sizes.iter().map(piece).collect::<Vec<_>>().into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let grads: Vec<Tensor> = (0..self.sizes.len()).map(|piece| cx.output_grad_or_zeros(piece)).collect();
        if let Some(whole) = self.put_together(&grads, cx.input_shape(0)) {
            return whole.into();
        }
        Tensor::cat(&grads.iter().collect::<Vec<_>>(), self.axis as isize).into()
    }
}

impl Split {
    /// The tensor of shape `shape` that the pieces are views of, when they lie in one buffer as in a contiguous whole: a rule that
    /// knows where its inputs came from (attention) writes their gradients so.
    fn put_together(&self, pieces: &[Tensor], shape: Shape) -> Option<Tensor> {
        let first = pieces.first()?;
        let whole = Layout::strided(shape, Layout::contiguous(shape).strides(), first.layout().offset);
        let mut offset = whole.offset;
        for (piece, &size) in pieces.iter().zip(&self.sizes) {
            let placed = Arc::ptr_eq(piece.buffer(), first.buffer())
                && piece.layout().strides() == whole.strides()
                && piece.layout().offset == offset;
            if !placed {
                return None;
            }
            offset += size * whole.strides()[self.axis] as usize;
        }
        Some(first.view(whole))
    }
}

impl Tensor {
    /// Dimension `axis` cut into pieces of these sizes. Views.
    ///
    /// # Panics
    /// When the sizes do not add up to the dimension.
    #[track_caller]
    pub fn split(&self, axis: isize, sizes: &[usize]) -> Vec<Tensor> {
        let axis = self.shape().axis(axis, "split");
        Split { axis, sizes: sizes.to_vec() }.apply_all(&[self])
    }

    /// Dimension `axis` of size D cut into pieces of `ceil(D / count)`, the last one smaller where that does not divide; there may
    /// be fewer than `count`, as in PyTorch's `chunk`. Views.
    ///
    /// # Panics
    /// When `count` is 0.
    #[track_caller]
    pub fn chunk(&self, axis: isize, count: usize) -> Vec<Tensor> {
        assert!(count > 0, "chunk: a dimension cannot be cut into no pieces");
        let size = self.dim(axis);
        let piece = size.div_ceil(count).max(1);
        let sizes: Vec<usize> = (0..size.max(1)).step_by(piece).map(|start| piece.min(size - start)).collect();
        self.split(axis, &sizes)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("nothing", [uniform([0, 6], 1)], |x| x[0].split(1, &[2, 4]))
            .reference(|_| vec![Array::new(&[0, 2], vec![]), Array::new(&[0, 4], vec![])]),
        Case::new("columns", [uniform([3, 7], 1)], |x| x[0].split(1, &[2, 0, 5])).reference(|x| {
            let piece = |start: usize, size: usize| Array::from_fn(&[3, size], |i| x[0].at(&[i[0], start + i[1]]));
            vec![piece(0, 2), piece(2, 0), piece(2, 5)]
        }),
        Case::new("chunks", [uniform([5, 2], 1)], |x| x[0].chunk(0, 2)).reference(|x| {
            let piece = |start: usize, size: usize| Array::from_fn(&[size, 2], |i| x[0].at(&[start + i[0], i[1]]));
            vec![piece(0, 3), piece(3, 2)]
        }),
        Case::new("fewer chunks than asked for", [uniform([5, 2], 1)], |x| x[0].chunk(0, 4)).reference(|x| {
            let piece = |start: usize, size: usize| Array::from_fn(&[size, 2], |i| x[0].at(&[start + i[0], i[1]]));
            vec![piece(0, 2), piece(2, 2), piece(4, 1)]
        }),
        Case::new("a chunk of nothing", [uniform([0, 2], 1)], |x| x[0].chunk(0, 3))
            .reference(|_| vec![Array::new(&[0, 2], vec![])]),
    ]
}
