//! Sorting along a dimension, and its largest or smallest elements.

use crate::dispatch::with_element;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// The first `count` elements of each line along the last dimension in sorted order, and where they stood: values and i64
/// indices. Equal elements keep their order; a NaN counts as larger than every number.
pub struct Sort {
    /// Largest first.
    pub descending: bool,
    /// How many of each line are kept.
    pub count: usize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Sort::INFO];

impl Op for Sort {
    const NAME: &'static str = "sort";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("sort has one input") };
        let (size, shape) = (x.dim(-1), x.shape().with_dim(x.rank() - 1, self.count));
        let x = x.contiguous();
        let mut order: Vec<i64> = Vec::with_capacity(shape.numel());
        let values = with_element!(x.dtype(), T => {
            let mut values = Vec::with_capacity(shape.numel());
            let mut places: Vec<usize> = Vec::with_capacity(size);
            for line in x.slice_of::<T>().chunks(size.max(1)) {
                places.clear();
                places.extend(0..line.len());
                places.sort_by(|&a, &b| {
                    // A NaN has no order even to itself, and nothing else lacks it.
                    let key = |i: usize| (line[i].partial_cmp(&line[i]).is_none(), line[i]);
                    let ordering = key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal);
                    if self.descending { ordering.reverse() } else { ordering }
                });
                values.extend(places[..self.count].iter().map(|&place| line[place]));
                order.extend(places[..self.count].iter().map(|&place| place as i64));
            }
            Tensor::from_vec::<T>(values, shape)
        });
        let indices = Tensor::from_vec(order, shape);
        saved.keep([&indices]);
        [values, indices].into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([indices], dy, x) = (cx.saved(), cx.dy(), cx.input(0));
        Tensor::zeros_of(x.shape, x.dtype).scatter_add(-1, indices, &dy).into()
    }
}

impl Tensor {
    /// The elements along `axis` in rising (or falling) order, and the index each had. Stable; NaN is the largest.
    ///
    /// # Shapes
    /// `[.., D, ..]` -> values `[.., D, ..]`, indices (i64) alike.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn sort(&self, axis: isize, descending: bool) -> (Tensor, Tensor) {
        let count = self.dim(axis);
        self.first_sorted(axis, descending, count)
    }

    /// The `k` largest (or smallest) elements along `axis`, best first, and the index each had. Of equal elements the first.
    ///
    /// # Shapes
    /// `[.., D, ..]` -> values `[.., k, ..]`, indices (i64) alike.
    ///
    /// # Panics
    /// When `k` exceeds the dimension.
    #[track_caller]
    pub fn topk(&self, k: usize, axis: isize, largest: bool) -> (Tensor, Tensor) {
        assert!(k <= self.dim(axis), "topk: {k} of dimension {axis} of shape {}", self.shape());
        self.first_sorted(axis, largest, k)
    }

    #[track_caller]
    fn first_sorted(&self, axis: isize, descending: bool, count: usize) -> (Tensor, Tensor) {
        let mut outputs = Sort { descending, count }.apply_all(&[&self.transpose(axis, -1)]).into_iter();
        let (Some(values), Some(indices)) = (outputs.next(), outputs.next()) else {
            unreachable!("sort has two outputs");
        };
        (values.transpose(axis, -1), indices.transpose(axis, -1))
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    /// Reference for the last dimension: values and indices of the `count` first of each row.
    fn sorted(x: &Array, count: usize, sign: f64) -> Vec<Array> {
        let (rows, size) = (x.shape[0], x.shape[1]);
        let (mut values, mut indices) = (Vec::new(), Vec::new());
        for row in x.data.chunks(size) {
            let mut pairs: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
            pairs.sort_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)));
            values.extend(pairs[..count].iter().map(|p| p.1));
            indices.extend(pairs[..count].iter().map(|p| p.0 as f64));
        }
        vec![Array::new(&[rows, count], values), Array::new(&[rows, count], indices)]
    }
    vec![
        Case::new("rising", [uniform([3, 33], 1)], |x| {
            let (values, indices) = x[0].sort(-1, false);
            vec![values, indices]
        })
        .reference(|x| sorted(&x[0], 33, 1.0))
        .no_half_precision(),
        Case::new("the five largest", [uniform([3, 33], 1)], |x| {
            let (values, indices) = x[0].topk(5, 1, true);
            vec![values, indices]
        })
        .reference(|x| sorted(&x[0], 5, -1.0))
        .no_half_precision(),
        Case::new("columns", [uniform([7, 2], 1)], |x| vec![x[0].sort(0, true).0]).reference(|x| {
            let turned = Array::from_fn(&[2, 7], |i| x[0].at(&[i[1], i[0]]));
            let down = sorted(&turned, 7, -1.0).swap_remove(0);
            vec![Array::from_fn(&[7, 2], |i| down.at(&[i[1], i[0]]))]
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_elements_keep_their_order_and_nan_is_largest() {
        let x = Tensor::from_vec(vec![1.0f32, f32::NAN, 1.0, 0.0], [4]);
        assert_eq!(x.sort(0, false).1.to_vec::<i64>(), [3, 0, 2, 1]);
        assert_eq!(x.sort(0, true).1.to_vec::<i64>(), [1, 0, 2, 3]);
        assert_eq!(Tensor::range(0, 3).topk(2, 0, true).0.to_vec::<i64>(), [2, 1]);
    }
}
