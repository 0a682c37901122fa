//! Gradients that a kernel adds to.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Element, Shape};

use crate::autograd::graph::Meta;
use crate::op::Backward;
use crate::tensor::Tensor;

/// The gradient of one input as a buffer that a kernel adds to: what the input, a leaf, has collected in earlier passes when that
/// can be written in place, else zeros.
pub struct RunningSum {
    buffer: Buffer,
    /// What was collected before and could not be written in place.
    earlier: Option<Tensor>,
    input: Meta,
}

impl RunningSum {
    /// For input `index` of the operation that `cx` belongs to, with sums kept in `dtype`.
    pub fn new(cx: &mut Backward<'_>, index: usize, dtype: DType) -> Self {
        let input = cx.input(index);
        let earlier = cx.take_accumulator(index).map(Tensor::into_buffer);
        let (buffer, earlier) = match earlier {
            Some(Ok(buffer)) if buffer.dtype() == dtype => (Some(buffer), None),
            Some(Ok(buffer)) => (None, Some(Tensor::from_buffer(buffer, input.shape))),
            Some(Err(shared)) => (None, Some(shared)),
            None => (None, None),
        };
        let buffer = buffer.unwrap_or_else(|| Buffer::zeroed(dtype, input.shape.numel(), Placement::Passing));
        Self { buffer, earlier, input }
    }

    /// For an input of this shape and dtype that has collected nothing, with sums kept in `kept_in`.
    pub fn fresh(shape: Shape, dtype: DType, kept_in: DType) -> Self {
        let buffer = Buffer::zeroed(kept_in, shape.numel(), Placement::Passing);
        Self { buffer, earlier: None, input: Meta { shape, dtype } }
    }

    /// What the kernel adds to.
    ///
    /// # Panics
    /// When `T` is not the dtype that sums are kept in.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        self.buffer.as_mut_slice()
    }

    /// The gradient, in the input's shape and dtype.
    pub fn finish(self) -> Tensor {
        let sum = Tensor::from_buffer(self.buffer, self.input.shape).to_dtype(self.input.dtype);
        match self.earlier {
            Some(earlier) => earlier.accumulate(&sum),
            None => sum,
        }
    }
}
