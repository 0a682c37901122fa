//! Where the largest and the smallest elements are. The results carry no gradient.

use std::ops::Range;

use cupola_cpu::reduce;

use super::reduction::{Reduced, dims_of};
use super::sum::dropped_shape;
use crate::dispatch::with_number;
use crate::op::{Differentiable, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// The index of the first largest or smallest element of neighbouring dimensions, which disappear, counted in row-major order
/// over them; i64. A NaN is the extreme.
pub struct ArgExtreme {
    /// The dimensions.
    pub axes: Range<usize>,
    /// Of the largest element, else of the smallest.
    pub largest: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[ArgExtreme::INFO];

impl Op for ArgExtreme {
    const NAME: &'static str = "arg_extreme";
    const DIFFERENTIABLE: Differentiable = Differentiable::Discrete;

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("arg_extreme has one input") };
        let name = if self.largest { "argmax" } else { "argmin" };
        let dims = dims_of(x.shape(), self.axes.clone());
        assert!(dims.n > 0, "{name}: nothing to choose from along dimensions {:?} of {}", self.axes, x.shape());
        let shape = dropped_shape(x.shape(), &self.axes.clone().collect::<Vec<_>>());
        let x = x.contiguous();
        with_number!(name, x.dtype(), T => Tensor::build::<i64>(shape, |y| {
            let find = if self.largest { reduce::argmax::<T> } else { reduce::argmin::<T> };
            find(x.slice_of::<T>(), dims, y);
        }))
        .into()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for isize {}
    impl<const N: usize> Sealed for [isize; N] {}
}

/// The dimensions that an extreme is sought in: one number, or an array of them, of which an empty one means all.
pub trait Axes: sealed::Sealed {
    /// As a slice.
    fn as_slice(&self) -> &[isize];
}

impl Axes for isize {
    fn as_slice(&self) -> &[isize] {
        std::slice::from_ref(self)
    }
}

impl<const N: usize> Axes for [isize; N] {
    fn as_slice(&self) -> &[isize] {
        self
    }
}

#[track_caller]
fn find(name: &str, x: &Tensor, axes: &[isize], keepdim: bool, largest: bool) -> Tensor {
    let Reduced { x, axes, shape } = Reduced::new(name, x, axes, keepdim);
    ArgExtreme { axes, largest }.apply(&[&x]).reshape(shape)
}

impl Tensor {
    /// The index of the first largest element along `axes`, which disappear; i64. Of several dimensions (`[]` means all) the
    /// index counts in row-major order over them. A NaN counts as the largest.
    ///
    /// ```
    /// # use cupola_tensor::Tensor;
    /// let x = Tensor::from_vec(vec![1, 5, 2, 7, 0, 3], [2, 3]);
    /// assert_eq!(x.argmax(-1).to_vec::<i64>(), [1, 0]);
    /// assert_eq!(x.argmax([]).item(), 3.0);
    /// ```
    ///
    /// # Panics
    /// When a dimension does not exist, is named twice or is empty.
    #[track_caller]
    pub fn argmax(&self, axes: impl Axes) -> Tensor {
        find("argmax", self, axes.as_slice(), false, true)
    }

    /// As [`Tensor::argmax`], and the dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::argmax`].
    #[track_caller]
    pub fn argmax_keepdim(&self, axes: impl Axes) -> Tensor {
        find("argmax", self, axes.as_slice(), true, true)
    }

    /// The index of the first smallest element along `axes`, as [`Tensor::argmax`]. A NaN counts as the smallest.
    ///
    /// # Panics
    /// As [`Tensor::argmax`].
    #[track_caller]
    pub fn argmin(&self, axes: impl Axes) -> Tensor {
        find("argmin", self, axes.as_slice(), false, false)
    }

    /// As [`Tensor::argmin`], and the dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::argmax`].
    #[track_caller]
    pub fn argmin_keepdim(&self, axes: impl Axes) -> Tensor {
        find("argmin", self, axes.as_slice(), true, false)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let index = |found: Option<usize>| found.map_or(f64::NAN, |i| i as f64);
    vec![
        Case::new("one dimension", [uniform([3, 33], 1)], |x| {
            vec![x[0].argmax_keepdim(-1), x[0].argmin_keepdim(0), x[0].argmax(-1), x[0].argmin(0)]
        })
        .reference(move |x| {
            let value = |i: usize, j: usize| x[0].at(&[i, j]);
            let down = |j: usize| (0..3).min_by(|&a, &b| value(a, j).total_cmp(&value(b, j)));
            let across = |i: usize| (0..33).max_by(|&a, &b| value(i, a).total_cmp(&value(i, b)));
            vec![
                Array::from_fn(&[3, 1], |i| index(across(i[0]))),
                Array::from_fn(&[1, 33], |i| index(down(i[1]))),
                Array::from_fn(&[3], |i| index(across(i[0]))),
                Array::from_fn(&[33], |i| index(down(i[0]))),
            ]
        })
        .forward_only()
        .no_half_precision(),
        Case::new("several dimensions", [uniform([3, 4, 5], 2)], |x| {
            vec![x[0].argmax([0, 2]), x[0].argmin_keepdim([2, 0]), x[0].argmax([]), x[0].argmin([1, 2])]
        })
        .reference(move |x| {
            let outer = |j: usize, sign: f64| {
                let value = |k: usize| sign * x[0].at(&[k / 5, j, k % 5]);
                index((0..15).max_by(|&a, &b| value(a).total_cmp(&value(b))))
            };
            let whole = (0..60).max_by(|&a, &b| x[0].data[a].total_cmp(&x[0].data[b]));
            let inner = |i: usize| (0..20).min_by(|&a, &b| x[0].data[i * 20 + a].total_cmp(&x[0].data[i * 20 + b]));
            vec![
                Array::from_fn(&[4], |j| outer(j[0], 1.0)),
                Array::from_fn(&[1, 4, 1], |j| outer(j[1], -1.0)),
                Array::new(&[], vec![index(whole)]),
                Array::from_fn(&[3], |i| index(inner(i[0]))),
            ]
        })
        .forward_only()
        .no_half_precision(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins_and_nan_over_all() {
        let x = Tensor::from_vec(vec![1i32, 4, 4, 1], [2, 2]);
        assert_eq!((x.argmax([]).item(), x.argmin([]).item()), (1.0, 0.0));
        let x = Tensor::from_vec(vec![1.0f32, f32::NAN, 9.0, -9.0], [2, 2]);
        assert_eq!((x.argmax([0, 1]).item(), x.argmin([0, 1]).item()), (1.0, 1.0));
    }

    #[test]
    #[should_panic(expected = "argmax: nothing to choose from along dimensions 0..2 of [3, 0]")]
    fn nothing_has_no_largest() {
        Tensor::zeros([3, 0]).argmax([]);
    }
}
