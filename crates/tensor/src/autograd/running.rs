//! Gradients that a kernel adds to.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Element, Shape};

use crate::autograd::graph::Meta;
use crate::op::Backward;
use crate::tensor::Tensor;

/// The gradient of one input as a buffer that a kernel adds to: what the input, a leaf, has collected in earlier passes when that
/// can be written in place, else a new one.
pub struct RunningSum {
    buffer: Buffer,
    continues: bool,
    /// What was collected before and could not be written in place.
    earlier: Option<Tensor>,
    input: Meta,
}

impl RunningSum {
    /// For input `index` of the operation that `cx` belongs to, with sums kept in `dtype`: zeros where nothing was collected.
    pub fn new(cx: &mut Backward<'_>, index: usize, dtype: DType) -> Self {
        let mut sum = Self::unwritten(cx, index, dtype);
        if !sum.continues {
            sum.buffer.clear();
        }
        sum
    }

    /// As [`RunningSum::new`], for a kernel that adds where [`RunningSum::continues`] says so and otherwise writes all of it: then
    /// the contents are arbitrary.
    pub fn unwritten(cx: &mut Backward<'_>, index: usize, dtype: DType) -> Self {
        let input = cx.input(index);
        let (buffer, earlier) = match cx.take_accumulator(index).map(Tensor::into_buffer) {
            Some(Ok(buffer)) if buffer.dtype() == dtype => (Some(buffer), None),
            Some(Ok(buffer)) => (None, Some(Tensor::from_buffer(buffer, input.shape))),
            Some(Err(shared)) => (None, Some(shared)),
            None => (None, None),
        };
        let continues = buffer.is_some();
        let fresh = || Buffer::uninit(dtype, input.shape.numel(), Placement::Passing);
        Self { buffer: buffer.unwrap_or_else(fresh), continues, earlier, input }
    }

    /// For an input of this shape and dtype that has collected nothing: zeros.
    pub fn fresh(shape: Shape, dtype: DType, kept_in: DType) -> Self {
        let buffer = Buffer::zeroed(kept_in, shape.numel(), Placement::Passing);
        Self { buffer, continues: true, earlier: None, input: Meta { shape, dtype } }
    }

    /// As [`RunningSum::new`] where the gradient of input `index` is wanted, else zeros of this shape for a kernel that adds all the
    /// same.
    pub fn wanted(cx: &mut Backward<'_>, index: Option<usize>, shape: Shape, dtype: DType) -> Self {
        match index.filter(|&index| cx.needs(index)) {
            Some(index) => Self::new(cx, index, dtype),
            None => Self::fresh(shape, dtype, dtype),
        }
    }

    /// Whether there is something to add to.
    pub fn continues(&self) -> bool {
        self.continues
    }

    /// What the kernel adds to, or writes.
    ///
    /// # Panics
    /// When `T` is not the dtype that sums are kept in.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        self.buffer.as_mut_slice()
    }

    /// As [`RunningSum::slice`], of whatever dtype.
    pub fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
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
