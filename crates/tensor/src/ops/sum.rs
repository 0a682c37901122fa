//! Sums over dimensions.

use cupola_core::{DType, Shape};
use cupola_cpu::reduce;

use super::reduction::dims_of;
use super::row_norm::wide;
use crate::autograd::running::RunningSum;
use crate::dispatch::{with_float, with_integer};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// The sum over the given dimensions.
pub struct Sum {
    /// The dimensions, in rising order.
    pub axes: Vec<usize>,
    /// Whether they stay, with size 1.
    pub keepdim: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Sum::INFO];

impl Op for Sum {
    const NAME: &'static str = "sum";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("sum has one input") };
        let kept = kept_shape(x.shape(), &self.axes);
        let sum = if x.dtype() == DType::Bool { x.to_dtype(DType::I64) } else { (*x).clone() }.sum_to(kept);
        let shape = if self.keepdim { kept } else { dropped_shape(x.shape(), &self.axes) };
        sum.reshape(shape).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let shape = cx.input_shape(0);
        cx.dy().reshape(kept_shape(&shape, &self.axes)).expand(shape).into()
    }
}

/// `shape` with the reduced `axes` set to 1.
pub(crate) fn kept_shape(shape: &Shape, axes: &[usize]) -> Shape {
    axes.iter().fold(*shape, |shape, &axis| shape.with_dim(axis, 1))
}

/// `shape` without the reduced `axes`, which are in rising order.
pub(crate) fn dropped_shape(shape: &Shape, axes: &[usize]) -> Shape {
    axes.iter().rev().fold(*shape, |shape, &axis| shape.without(axis))
}

/// The dimensions that broadcasting from `shape` to `full` has added or stretched.
fn broadcast_axes(full: &Shape, shape: &Shape) -> Vec<usize> {
    let extra = full.rank() - shape.rank();
    (0..full.rank()).filter(|&axis| axis < extra || (shape[axis - extra] == 1 && full[axis] != 1)).collect()
}

/// The gradient of input `index` from `full`, that of what the input was broadcast to: summed down to the input's shape, for a
/// parameter onto what it has collected before.
pub(crate) fn summed(cx: &mut Backward<'_>, index: usize, full: &Tensor) -> Tensor {
    let meta = cx.input(index);
    if *full.shape() == meta.shape || !cx.collects(index) || !full.dtype().is_float() {
        return full.reduce_like(meta);
    }
    let (full, axes) = (full.contiguous(), broadcast_axes(full.shape(), &meta.shape));
    let mut sum = RunningSum::new(cx, index, wide(full.dtype()));
    with_float!("sum", full.dtype(), T => {
        reduce::sum_dims_onto(full.slice_of::<T>(), *full.shape(), &axes, sum.slice());
    });
    sum.finish()
}

/// The dimensions that a reduction's `axes` name, in rising order: an empty list means all.
#[track_caller]
pub(crate) fn reduced_axes(op: &str, shape: &Shape, axes: &[isize]) -> Vec<usize> {
    if axes.is_empty() {
        return (0..shape.rank()).collect();
    }
    let mut found: Vec<usize> = axes.iter().map(|&axis| shape.axis(axis, op)).collect();
    found.sort_unstable();
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{op}: dimensions {axes:?} name one twice");
    found
}

impl Tensor {
    /// The sum down to a shape that broadcasts to this one.
    pub(crate) fn sum_to(&self, shape: Shape) -> Tensor {
        let x = self.contiguous();
        let summed = broadcast_axes(x.shape(), &shape);
        if x.dtype().is_float() {
            return with_float!("sum", x.dtype(), T => Tensor::build::<T>(shape, |y| {
                reduce::sum_dims(x.slice_of::<T>(), *x.shape(), &summed, y);
            }));
        }
        let mut x = x;
        for &axis in summed.iter().rev() {
            let dims = dims_of(x.shape(), axis..axis + 1);
            let kept = x.shape().with_dim(axis, 1);
            x = with_integer!("sum", x.dtype(), T => Tensor::build::<T>(kept, |y| {
                reduce::reduce_integers(reduce::Reduction::Sum, x.slice_of::<T>(), dims, y);
            }));
        }
        x.reshape(shape)
    }

    /// The sum over `axes` (-1 is the last; none named means all), which disappear. Sums of floats are kept in f32 lanes that
    /// are added in a fixed order (f64 for f64); bool is counted in i64.
    ///
    /// ```
    /// # use cupola_tensor::Tensor;
    /// let m = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(m.sum([0]).to_vec::<f32>(), [4.0, 6.0]);
    /// assert_eq!(m.sum([]).item(), 10.0);
    /// ```
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice.
    #[track_caller]
    pub fn sum<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        Sum { axes: reduced_axes("sum", self.shape(), &axes), keepdim: false }.apply(&[self])
    }

    /// The sum over `axes`, which stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::sum`].
    #[track_caller]
    pub fn sum_keepdim<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        Sum { axes: reduced_axes("sum", self.shape(), &axes), keepdim: true }.apply(&[self])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("all", [uniform([3, 33], 1)], |x| vec![x[0].sum([])])
            .reference(|x| vec![Array::new(&[], vec![x[0].data.iter().sum()])]),
        Case::new("rows", [uniform([3, 33], 1)], |x| vec![x[0].sum([-1])])
            .reference(|x| vec![Array::from_fn(&[3], |i| (0..33).map(|k| x[0].at(&[i[0], k])).sum())]),
        Case::new("outer and inner", [uniform([3, 4, 5], 1)], |x| vec![x[0].sum_keepdim([2, 0])]).reference(|x| {
            let cell =
                |j: usize| (0..3).flat_map(|i| (0..5).map(move |k| (i, k))).map(|(i, k)| x[0].at(&[i, j, k])).sum();
            vec![Array::from_fn(&[1, 4, 1], |i| cell(i[1]))]
        }),
    ]
}
