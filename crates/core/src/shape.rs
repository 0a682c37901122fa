//! Dimensions, strides and broadcasting.

use std::fmt;
use std::ops::Deref;

/// The most dimensions a tensor can have.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's dimensions, outermost first. A shape of rank 0 is a scalar with one element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape with these dimensions.
    ///
    /// # Panics
    /// With more than [`MAX_RANK`] dimensions, or when the number of elements overflows.
    #[track_caller]
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= MAX_RANK, "shape {dims:?} has rank {}, the most is {MAX_RANK}", dims.len());
        let numel = dims.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d));
        assert!(numel.is_some_and(|n| n <= isize::MAX as usize / 8), "shape {dims:?} has too many elements");
        let mut shape = Self { dims: [0; MAX_RANK], rank: dims.len() as u8 };
        shape.dims[..dims.len()].copy_from_slice(dims);
        shape
    }

    /// The dimensions as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements: the product of all dimensions, 1 for a scalar.
    pub fn numel(&self) -> usize {
        self.dims().iter().product()
    }

    /// Strides, in elements, of the row-major layout: the last dimension is contiguous.
    pub fn contiguous_strides(&self) -> [isize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1isize;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self.dims[axis].max(1) as isize;
        }
        strides
    }

    /// The shape that `self` and `other` broadcast to, or `None` when they do not fit: aligned at the last dimension, each
    /// pair of sizes must be equal or contain a 1.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [1; MAX_RANK];
        for (back, dim) in dims[..rank].iter_mut().rev().enumerate() {
            let a = self.dim_from_back(back);
            let b = other.dim_from_back(back);
            *dim = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Shape::new(&dims[..rank]))
    }

    /// The size `back` places before the last dimension; 1 beyond the first.
    fn dim_from_back(&self, back: usize) -> usize {
        if back < self.rank() { self.dims[self.rank() - 1 - back] } else { 1 }
    }

    /// The dimension that `axis` names, where -1 is the last.
    ///
    /// # Panics
    /// When the shape has no such dimension.
    #[track_caller]
    pub fn axis(&self, axis: isize, op: &str) -> usize {
        let rank = self.rank() as isize;
        let index = if axis < 0 { axis + rank } else { axis };
        assert!((0..rank).contains(&index), "{op}: dimension {axis} is out of range for shape {self}");
        index as usize
    }

    /// This shape without dimension `axis`.
    pub fn without(&self, axis: usize) -> Shape {
        let mut shape = *self;
        shape.dims.copy_within(axis + 1.., axis);
        shape.rank -= 1;
        shape.dims[shape.rank as usize] = 0;
        shape
    }

    /// This shape with a dimension of `size` inserted before `axis`.
    #[track_caller]
    pub fn with_inserted(&self, axis: usize, size: usize) -> Shape {
        let mut dims = self.to_vec();
        dims.insert(axis, size);
        Shape::new(&dims)
    }

    /// This shape with dimension `axis` set to `size`.
    pub fn with_dim(&self, axis: usize, size: usize) -> Shape {
        let mut shape = *self;
        shape.dims[..shape.rank as usize][axis] = size;
        shape
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.dims()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.dims(), f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.dims(), f)
    }
}

impl From<&[usize]> for Shape {
    #[track_caller]
    fn from(dims: &[usize]) -> Self {
        Shape::new(dims)
    }
}
impl From<&Vec<usize>> for Shape {
    #[track_caller]
    fn from(dims: &Vec<usize>) -> Self {
        Shape::new(dims)
    }
}
impl From<Vec<usize>> for Shape {
    #[track_caller]
    fn from(dims: Vec<usize>) -> Self {
        Shape::new(&dims)
    }
}
impl<const N: usize> From<[usize; N]> for Shape {
    #[track_caller]
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}
impl<const N: usize> From<&[usize; N]> for Shape {
    #[track_caller]
    fn from(dims: &[usize; N]) -> Self {
        Shape::new(dims)
    }
}
impl From<usize> for Shape {
    fn from(dim: usize) -> Self {
        Shape::new(&[dim])
    }
}
impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        *shape
    }
}

/// Where the elements of a tensor lie in its buffer: the element at index `i` is at `offset + sum(i[k] * strides[k])`,
/// counted in elements. Strides may be zero (broadcast) or negative (flipped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The dimensions.
    pub shape: Shape,
    strides: [isize; MAX_RANK],
    /// Position of the element at index zero.
    pub offset: usize,
}

impl Layout {
    /// The row-major layout from the buffer's first element.
    pub fn contiguous(shape: Shape) -> Self {
        Self { shape, strides: shape.contiguous_strides(), offset: 0 }
    }

    /// A layout with given strides.
    ///
    /// # Panics
    /// When the lengths differ.
    #[track_caller]
    pub fn strided(shape: Shape, strides: &[isize], offset: usize) -> Self {
        assert_eq!(shape.rank(), strides.len(), "a layout of shape {shape} needs as many strides as dimensions");
        let mut all = [0; MAX_RANK];
        all[..strides.len()].copy_from_slice(strides);
        Self { shape, strides: all, offset }
    }

    /// The stride of each dimension, in elements.
    pub fn strides(&self) -> &[isize] {
        &self.strides[..self.shape.rank()]
    }

    /// Whether the elements lie in row-major order without gaps (dimensions of size 1 may have any stride).
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for (&dim, &stride) in self.shape.iter().zip(self.strides()).rev() {
            if dim == 0 {
                return true;
            }
            if dim != 1 && stride != step {
                return false;
            }
            step *= dim as isize;
        }
        true
    }

    /// This layout read as `shape`, dimensions of size 1 repeated with stride zero; `None` when it does not broadcast to it.
    pub fn broadcast_to(&self, shape: Shape) -> Option<Layout> {
        let extra = shape.rank().checked_sub(self.shape.rank())?;
        let mut strides = [0; MAX_RANK];
        for axis in 0..self.shape.rank() {
            let (from, to) = (self.shape[axis], shape[extra + axis]);
            strides[extra + axis] = match from {
                _ if from == to => self.strides[axis],
                1 => 0,
                _ => return None,
            };
        }
        Some(Layout { shape, strides, offset: self.offset })
    }

    /// This layout read as `shape` (same number of elements) without moving data, or `None` where that takes a copy.
    pub fn reshape(&self, shape: Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout { offset: self.offset, ..Layout::contiguous(shape) });
        }
        // Groups of old dimensions that step evenly can be cut anew; walk both shapes from the back, group by group.
        let old: Vec<(usize, isize)> =
            self.shape.iter().copied().zip(self.strides().iter().copied()).filter(|&(dim, _)| dim != 1).collect();
        let mut strides = [0; MAX_RANK];
        let mut axis = shape.rank();
        let mut end = old.len();
        while end > 0 {
            let mut begin = end - 1;
            while begin > 0 && old[begin - 1].1 == old[begin].1 * old[begin].0 as isize {
                begin -= 1;
            }
            let mut group: usize = old[begin..end].iter().map(|&(dim, _)| dim).product();
            let mut stride = old[end - 1].1;
            while group > 1 || (axis > 0 && shape[axis - 1] == 1) {
                axis = axis.checked_sub(1)?;
                let dim = shape[axis];
                if dim == 0 || !group.is_multiple_of(dim) {
                    return None;
                }
                strides[axis] = stride;
                stride *= dim as isize;
                group /= dim;
            }
            end = begin;
        }
        Some(Layout { shape, strides, offset: self.offset })
    }

    /// The range of buffer positions that the elements touch, as (first, one past the last); empty layouts touch none.
    pub fn extent(&self) -> (usize, usize) {
        if self.shape.numel() == 0 {
            return (self.offset, self.offset);
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&dim, &stride) in self.shape.iter().zip(self.strides()) {
            let reach = (dim as isize - 1) * stride;
            if reach < 0 { low += reach } else { high += reach }
        }
        (low as usize, high as usize + 1)
    }

    /// Buffer positions of all elements in row-major order.
    pub fn positions(&self) -> Positions {
        Positions { layout: *self, index: [0; MAX_RANK], next: self.offset as isize, left: self.shape.numel() }
    }
}

/// Iterator over the buffer positions of a layout's elements, see [`Layout::positions`].
pub struct Positions {
    layout: Layout,
    index: [usize; MAX_RANK],
    next: isize,
    left: usize,
}

impl Iterator for Positions {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let position = self.next as usize;
        self.left -= 1;
        for axis in (0..self.layout.shape.rank()).rev() {
            self.index[axis] += 1;
            self.next += self.layout.strides[axis];
            if self.index[axis] < self.layout.shape[axis] {
                break;
            }
            self.next -= self.layout.strides[axis] * self.layout.shape[axis] as isize;
            self.index[axis] = 0;
        }
        Some(position)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Positions {}

#[cfg(test)]
mod tests {
    use super::*;

    fn transposed(rows: usize, cols: usize) -> Layout {
        Layout::strided(Shape::new(&[cols, rows]), &[1, cols as isize], 0)
    }

    #[test]
    fn contiguous_strides_step_over_the_inner_dimensions() {
        assert_eq!(Layout::contiguous([2, 3, 4].into()).strides(), [12, 4, 1]);
        assert_eq!(Layout::contiguous([2, 0, 4].into()).strides(), [4, 4, 1]);
        assert!(Layout::contiguous(Shape::default()).is_contiguous());
    }

    #[test]
    fn broadcasting_aligns_at_the_last_dimension() {
        let a = Shape::new(&[4, 1, 3]);
        assert_eq!(a.broadcast(&[2, 1].into()), Some([4, 2, 3].into()));
        assert_eq!(a.broadcast(&[2].into()), None);
        assert_eq!(Shape::new(&[1]).broadcast(&[0].into()), Some([0].into()));
        let layout = Layout::contiguous([3].into()).broadcast_to([2, 3].into());
        assert_eq!(layout.map(|l| l.positions().collect()), Some(vec![0, 1, 2, 0, 1, 2]));
    }

    #[test]
    fn positions_follow_strides_of_any_sign() {
        assert_eq!(transposed(2, 3).positions().collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        let flipped = Layout::strided([2, 3].into(), &[-3, 1], 3);
        assert_eq!(flipped.positions().collect::<Vec<_>>(), [3, 4, 5, 0, 1, 2]);
        assert_eq!(flipped.extent(), (0, 6));
    }

    #[test]
    fn reshape_is_free_exactly_where_the_order_allows() {
        let layout = transposed(2, 3);
        assert_eq!(layout.reshape([6].into()), None);
        assert_eq!(layout.reshape([3, 1, 2].into()).map(|l| l.positions().collect()), Some(vec![0, 3, 1, 4, 2, 5]));
        let rows = Layout::strided([4, 6].into(), &[12, 1], 5);
        let cut = rows.reshape([2, 2, 3, 2].into()).expect("rows stay evenly spaced");
        assert_eq!(cut.positions().collect::<Vec<_>>(), rows.positions().collect::<Vec<_>>());
        assert_eq!(rows.reshape([3, 8].into()), None);
    }

    #[test]
    #[should_panic(expected = "reduce: dimension 2 is out of range for shape [3, 4]")]
    fn an_axis_out_of_range_names_operation_and_shape() {
        Shape::new(&[3, 4]).axis(2, "reduce");
    }
}
