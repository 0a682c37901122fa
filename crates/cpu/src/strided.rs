//! Walking several strided operands in step with a contiguous result.

use cupola_core::{Layout, Shape, shape::MAX_RANK};

/// The dimensions of `N` operands of one shape, with those merged that every operand steps through evenly, and those of
/// size one left out. A plan without dimensions has one element.
#[derive(Clone, Copy, Debug)]
pub struct Plan<const N: usize> {
    dims: [usize; MAX_RANK],
    strides: [[isize; MAX_RANK]; N],
    offsets: [usize; N],
    rank: usize,
}

impl<const N: usize> Plan<N> {
    /// A plan over operands of the shape `shape`.
    ///
    /// # Panics
    /// When an operand's shape does not broadcast to `shape`; the message begins with `what`.
    #[track_caller]
    pub fn new(shape: Shape, operands: [&Layout; N], what: &str) -> Self {
        let mut plan = Self {
            dims: [1; MAX_RANK],
            strides: [[0; MAX_RANK]; N],
            offsets: operands.map(|operand| operand.offset),
            rank: 0,
        };
        let operands = operands.map(|operand| {
            let wide = operand.broadcast_to(shape);
            wide.unwrap_or_else(|| panic!("{what}: shape {} does not broadcast to {shape}", operand.shape))
        });
        for axis in 0..shape.rank() {
            let dim = shape[axis];
            if dim == 1 {
                continue;
            }
            let mergeable = plan.rank > 0
                && (0..N).all(|k| plan.strides[k][plan.rank - 1] == operands[k].strides()[axis] * dim as isize);
            if mergeable {
                plan.dims[plan.rank - 1] *= dim;
            } else {
                plan.dims[plan.rank] = dim;
                plan.rank += 1;
            }
            for (strides, operand) in plan.strides.iter_mut().zip(&operands) {
                strides[plan.rank - 1] = operand.strides()[axis];
            }
        }
        plan
    }

    /// The merged dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Operand `k`'s strides of the merged dimensions.
    pub fn strides(&self, k: usize) -> &[isize] {
        &self.strides[k][..self.rank]
    }

    /// Operand `k`'s position of the first element.
    pub fn offset(&self, k: usize) -> usize {
        self.offsets[k]
    }

    /// Strides of the innermost dimension; 1 for a plan without dimensions.
    pub fn inner(&self) -> [isize; N] {
        if self.rank == 0 { [1; N] } else { std::array::from_fn(|k| self.strides[k][self.rank - 1]) }
    }

    /// Calls `run(positions, at, len)` for consecutive runs along the innermost dimension that cover the elements `first` to
    /// `first + len` in row-major order; `positions` are those of the run's first element in each operand, and `at` counts
    /// from `first`.
    #[inline(always)]
    pub fn runs(&self, first: usize, len: usize, mut run: impl FnMut([usize; N], usize, usize)) {
        if len == 0 {
            return;
        }
        if self.rank == 0 {
            return run(self.offsets, 0, 1);
        }
        let mut index = [0; MAX_RANK];
        let mut rest = first;
        let mut positions = self.offsets.map(|offset| offset as isize);
        for axis in (0..self.rank).rev() {
            index[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
            for (position, strides) in positions.iter_mut().zip(&self.strides) {
                *position += index[axis] as isize * strides[axis];
            }
        }
        let inner = self.rank - 1;
        let mut at = 0;
        loop {
            let count = (self.dims[inner] - index[inner]).min(len - at);
            run(positions.map(|position| position as usize), at, count);
            at += count;
            if at == len {
                return;
            }
            // The run ended with its row: back to the row's begin, then on to the next row.
            for (position, strides) in positions.iter_mut().zip(&self.strides) {
                *position -= index[inner] as isize * strides[inner];
            }
            index[inner] = 0;
            for axis in (0..inner).rev() {
                index[axis] += 1;
                for (position, strides) in positions.iter_mut().zip(&self.strides) {
                    *position += strides[axis];
                }
                if index[axis] < self.dims[axis] {
                    break;
                }
                index[axis] = 0;
                for (position, strides) in positions.iter_mut().zip(&self.strides) {
                    *position -= self.dims[axis] as isize * strides[axis];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_visit_what_the_layouts_say_from_any_start() {
        let shape = Shape::new(&[3, 1, 4, 5]);
        let plain = Layout::contiguous(shape);
        let row = Layout::contiguous([5].into());
        let column = Layout::strided([3, 1, 1, 1].into(), &[7, 1, 1, 1], 2);
        let turned = Layout::strided(shape, &[20, 1, -5, 1], 15);
        let plan = Plan::new(shape, [&plain, &row, &column, &turned], "test");
        let expected: Vec<[usize; 4]> = (0..60)
            .map(|i| {
                let at = |l: &Layout| l.broadcast_to(shape).expect("fits").positions().nth(i).expect("60 elements");
                [at(&plain), at(&row), at(&column), at(&turned)]
            })
            .collect();
        let strides = plan.inner();
        for first in 0..60 {
            for len in 0..60 - first {
                let mut seen = Vec::new();
                plan.runs(first, len, |positions, at, count| {
                    assert_eq!(seen.len(), at);
                    for k in 0..count {
                        seen.push(std::array::from_fn(|o| (positions[o] as isize + k as isize * strides[o]) as usize));
                    }
                });
                assert_eq!(seen, expected[first..first + len]);
            }
        }
    }

    #[test]
    fn dimensions_that_step_evenly_become_one() {
        let shape = Shape::new(&[6, 1, 4, 5]);
        let plain = Layout::contiguous(shape);
        assert_eq!(Plan::new(shape, [&plain, &plain], "test").dims(), [120]);
        let row = Layout::contiguous([4, 5].into());
        assert_eq!(Plan::new(shape, [&plain, &row], "test").dims(), [6, 20]);
        assert!(Plan::new([1, 1].into(), [&Layout::contiguous([1].into())], "test").dims().is_empty());
    }

    #[test]
    #[should_panic(expected = "add: shape [3] does not broadcast to [2, 4]")]
    fn a_shape_that_does_not_fit_is_named() {
        Plan::new([2, 4].into(), [&Layout::contiguous([3].into())], "add");
    }
}
