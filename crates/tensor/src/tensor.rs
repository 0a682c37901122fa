//! The tensor.

use std::sync::Arc;

use cupola_core::{Buffer, DType, Element, Layout, Shape, alloc::Placement};

use crate::autograd::graph::{Edge, Node};

/// An n-dimensional array of one dtype.
///
/// A tensor is a view (shape, strides, offset) of a shared buffer, so `clone`, slices and transposes copy nothing. Values do
/// not change behind the back of whoever holds them: operations take `&self` and return new tensors. A tensor that was
/// computed from one that needs gradients also holds the node of the graph that made it.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    layout: Layout,
    edge: Option<Edge>,
}

impl Tensor {
    /// A tensor over `buffer` with `layout`, outside any graph.
    ///
    /// # Panics
    /// When the layout reaches outside the buffer.
    #[track_caller]
    pub fn from_parts(buffer: Arc<Buffer>, layout: Layout) -> Self {
        let (first, end) = layout.extent();
        assert!(
            (first as isize) >= 0 && end <= buffer.len(),
            "a layout of shape {} reaches positions {first}..{end} of a buffer of {} elements",
            layout.shape,
            buffer.len()
        );
        Self { buffer, layout, edge: None }
    }

    /// The contiguous tensor of all of `buffer`.
    #[track_caller]
    pub fn from_buffer(buffer: Buffer, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(buffer.len(), shape.numel(), "{} elements do not fill shape {shape}", buffer.len());
        Self { buffer: Arc::new(buffer), layout: Layout::contiguous(shape), edge: None }
    }

    /// A contiguous tensor of arbitrary contents, which `fill` then writes in full.
    ///
    /// This is how operations make their results: memory that will be overwritten is not cleared first.
    pub fn build<T: Element>(shape: impl Into<Shape>, fill: impl FnOnce(&mut [T])) -> Self {
        let shape = shape.into();
        let mut buffer = Buffer::uninit(T::DTYPE, shape.numel(), Placement::Passing);
        fill(buffer.as_mut_slice::<T>());
        Self::from_buffer(buffer, shape)
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.layout.shape
    }

    /// The size of dimension `axis`; -1 is the last.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn dim(&self, axis: isize) -> usize {
        self.layout.shape[self.layout.shape.axis(axis, "dim")]
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.layout.shape.rank()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.layout.shape.numel()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.buffer.dtype()
    }

    /// Shape, strides and offset.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory behind this tensor, which other tensors may share.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The elements in row-major order, when they lie so in memory; see [`Tensor::contiguous`].
    ///
    /// # Panics
    /// When `T` is not the dtype.
    #[track_caller]
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        let all = self.buffer.as_slice::<T>();
        self.is_contiguous().then(|| &all[self.layout.offset..self.layout.offset + self.numel()])
    }

    /// The elements of a contiguous tensor, for kernels whose caller has just made it so.
    ///
    /// # Panics
    /// When the tensor is not contiguous or `T` is not its dtype.
    #[track_caller]
    pub fn slice_of<T: Element>(&self) -> &[T] {
        match self.as_slice() {
            Some(slice) => slice,
            None => panic!("a tensor of shape {} is not contiguous", self.shape()),
        }
    }

    /// The elements for writing, when nobody else can see them: the tensor is contiguous, outside any graph, fills its whole
    /// buffer's view alone, and the buffer has no other holder.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        let (start, len) = (self.layout.offset, self.numel());
        if self.edge.as_ref().is_some_and(|edge| !edge.node.is_leaf()) || !self.is_contiguous() {
            return None;
        }
        let buffer = Arc::get_mut(&mut self.buffer)?;
        buffer.is_writable().then(|| &mut buffer.as_mut_slice::<T>()[start..start + len])
    }

    /// The same elements as a leaf of a new graph: [`Tensor::backward`] will report a gradient for this tensor and for every
    /// clone of it.
    ///
    /// # Panics
    /// When the dtype is not floating-point.
    #[track_caller]
    #[must_use]
    pub fn requires_grad(&self) -> Self {
        assert!(self.dtype().is_float(), "requires_grad: a tensor of {} has no gradient", self.dtype());
        Self { edge: Some(Edge::leaf(self)), ..self.clone() }
    }

    /// The same elements as the leaf that `other` is: one gradient is reported for both. This is how a parameter that is
    /// written out of place, because somebody still reads its old values, stays the parameter it was.
    ///
    /// # Panics
    /// When `other` is no leaf, or has another shape or dtype.
    #[track_caller]
    #[must_use]
    pub fn as_leaf(&self, other: &Tensor) -> Self {
        assert!(
            other.is_leaf() && self.shape() == other.shape() && self.dtype() == other.dtype(),
            "as_leaf: a tensor of {} {} cannot stand for one of {} {} (a leaf: {})",
            self.dtype(),
            self.shape(),
            other.dtype(),
            other.shape(),
            other.is_leaf()
        );
        Self { edge: other.edge.clone(), ..self.clone() }
    }

    /// The same elements outside any graph.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { edge: None, ..self.clone() }
    }

    /// Whether a gradient flows back through this tensor.
    pub fn needs_grad(&self) -> bool {
        self.edge.is_some()
    }

    /// Whether this tensor is a leaf made by [`Tensor::requires_grad`].
    pub fn is_leaf(&self) -> bool {
        self.edge.as_ref().is_some_and(|edge| edge.node.is_leaf())
    }

    /// The identity of a leaf, under which [`crate::Gradients`] keeps its gradient; `None` for other tensors.
    pub fn leaf_id(&self) -> Option<u64> {
        self.edge.as_ref().filter(|edge| edge.node.is_leaf()).map(|edge| edge.node.id())
    }

    /// The node that made this tensor, for graph inspection.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.edge.as_ref().map(|edge| &edge.node)
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    pub(crate) fn with_edge(self, edge: Option<Edge>) -> Self {
        Self { edge, ..self }
    }

    /// The same buffer seen through another layout, outside any graph: the forward step of every view.
    #[track_caller]
    pub(crate) fn view(&self, layout: Layout) -> Self {
        Self::from_parts(self.buffer.clone(), layout)
    }

    /// The buffer, when this tensor fills it alone and nobody else holds it; else the tensor back.
    // The other way out is the tensor itself, which the caller goes on with.
    #[allow(clippy::result_large_err)]
    pub(crate) fn into_buffer(self) -> Result<Buffer, Self> {
        if !self.is_donatable() {
            return Err(self);
        }
        let Self { buffer, layout, edge } = self;
        Arc::try_unwrap(buffer).map_err(|buffer| Self { buffer, layout, edge })
    }

    /// Whether this tensor and its buffer have no other holder and no graph, so that its memory may be reused.
    pub(crate) fn is_donatable(&self) -> bool {
        self.edge.is_none()
            && self.is_contiguous()
            && self.numel() == self.buffer.len()
            && self.buffer.is_writable()
            && Arc::strong_count(&self.buffer) == 1
    }
}
