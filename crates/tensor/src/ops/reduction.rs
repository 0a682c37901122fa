//! Reductions over dimensions: mean, product, largest, smallest, Euclidean norm, log-sum-exp, variance.
//!
//! The operations themselves reduce a run of neighbouring dimensions; dimensions that lie apart are brought together first.

use std::ops::Range;

use cupola_core::{DType, Element, Shape};
use cupola_cpu::reduce::{self, Dims, Reduction};

use super::sum::{dropped_shape, kept_shape, reduced_axes};
use crate::dispatch::{with_float, with_integer};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Mean::INFO, Prod::INFO, Max::INFO, Min::INFO, Norm::INFO, LogSumExp::INFO, Variance::INFO];

/// The sizes `[outer, n, inner]` around a run of dimensions.
pub(crate) fn dims_of(shape: &Shape, axes: Range<usize>) -> Dims {
    let product = |range: &[usize]| range.iter().product();
    Dims { outer: product(&shape[..axes.start]), n: product(&shape[axes.clone()]), inner: product(&shape[axes.end..]) }
}

fn reduced(shape: &Shape, axes: &Range<usize>) -> Shape {
    dropped_shape(shape, &axes.clone().collect::<Vec<_>>())
}

/// A result read as the shape it had before the reduction, its reduced dimensions with size 1.
fn kept(y: &Tensor, shape: &Shape, axes: &Range<usize>) -> Tensor {
    y.reshape(kept_shape(shape, &axes.clone().collect::<Vec<_>>()))
}

#[track_caller]
fn reduce_tensor(op: Reduction, x: &Tensor, axes: &Range<usize>) -> Tensor {
    let (dims, shape) = (dims_of(x.shape(), axes.clone()), reduced(x.shape(), axes));
    let x = x.contiguous();
    if x.dtype().is_integer() {
        return with_integer!(op.name(), x.dtype(), T => Tensor::build::<T>(shape, |y| {
            reduce::reduce_integers(op, x.slice_of::<T>(), dims, y);
        }));
    }
    with_float!(op.name(), x.dtype(), T => Tensor::build::<T>(shape, |y| reduce::reduce(op, x.slice_of::<T>(), dims, y)))
}

/// Declares an operation that reduces a run of dimensions, with its backward from x, y and dy.
macro_rules! reduction {
    ($(#[$meta:meta])* $op:ident, $name:literal, |$x:ident, $axes:ident| $forward:expr,
     |$sx:ident, $sy:ident, $dy:ident, $sa:ident| $backward:expr) => {
        $(#[$meta])*
        pub struct $op {
            /// The neighbouring dimensions that are reduced.
            pub axes: Range<usize>,
        }

        impl Op for $op {
            const NAME: &'static str = $name;

            fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
                let [$x] = inputs else { unreachable!("{} has one input", $name) };
                let $axes = &self.axes;
                let y: Tensor = $forward;
                saved.keep([$x, &y]);
                y.into()
            }

            fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
                let [$sx, y] = cx.saved();
                let shape = *$sx.shape();
                let $sa = &self.axes;
                let $sy = kept(y, &shape, &self.axes);
                let $dy = kept(&cx.dy(), &shape, &self.axes);
                let dx: Tensor = $backward;
                dx.into()
            }
        }
    };
}

/// `y = sum(x) / n`.
pub struct Mean {
    /// The neighbouring dimensions that are reduced.
    pub axes: Range<usize>,
}

impl Op for Mean {
    const NAME: &'static str = "mean";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("mean has one input") };
        assert!(x.dtype().is_float(), "mean: dtype is {}, expected a floating-point type", x.dtype());
        reduce_tensor(Reduction::Mean, x, &self.axes).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let shape = cx.input_shape(0);
        let n = dims_of(&shape, self.axes.clone()).n;
        (kept(&cx.dy(), &shape, &self.axes) * (1.0 / n as f64)).expand(shape).into()
    }
}

reduction!(
    /// `y = product of x`.
    Prod, "prod", |x, axes| reduce_tensor(Reduction::Prod, x, axes),
    |x, _y, dy, axes| others(x, axes) * dy
);
reduction!(
    /// `y = max of x`; NaN when there is one. Elements that share the largest value share the gradient.
    Max, "max", |x, axes| nonempty_extreme(Reduction::Max, x, axes),
    |x, y, dy, axes| shared(x, &y, &dy, axes)
);
reduction!(
    /// `y = min of x`; NaN when there is one. Elements that share the smallest value share the gradient.
    Min, "min", |x, axes| nonempty_extreme(Reduction::Min, x, axes),
    |x, y, dy, axes| shared(x, &y, &dy, axes)
);
reduction!(
    /// `y = sqrt(sum of x^2)`, with gradient 0 at the origin.
    Norm, "norm", |x, axes| reduce_tensor(Reduction::Norm, x, axes),
    |x, y, dy, _axes| x * (dy * inverse_or_zero(&y))
);
reduction!(
    /// `y = ln(sum of e^x)`, without overflow.
    LogSumExp, "logsumexp", |x, axes| {
        let (dims, shape, x) = (dims_of(x.shape(), axes.clone()), reduced(x.shape(), axes), x.contiguous());
        with_float!("logsumexp", x.dtype(), T => Tensor::build::<T>(shape, |y| reduce::logsumexp(x.slice_of::<T>(), dims, y)))
    },
    |x, y, dy, _axes| (x - y).exp() * dy
);

#[track_caller]
fn nonempty_extreme(op: Reduction, x: &Tensor, axes: &Range<usize>) -> Tensor {
    let n = dims_of(x.shape(), axes.clone()).n;
    assert!(n > 0 || x.numel() > 0, "{}: nothing to choose from in shape {}", op.name(), x.shape());
    reduce_tensor(op, x, axes)
}

/// `dy` for the elements of `x` that equal `y`, in equal shares.
fn shared(x: &Tensor, y: &Tensor, dy: &Tensor, axes: &Range<usize>) -> Tensor {
    let hits = x.eq(y).to_dtype(x.dtype());
    let counts = kept(&reduce_tensor(Reduction::Sum, &hits, axes), x.shape(), axes);
    hits * (dy / counts)
}

/// `1 / y`, 0 where y is 0.
fn inverse_or_zero(y: &Tensor) -> Tensor {
    with_float!("norm", y.dtype(), T => {
        let inverse = |v: T| <T as Element>::from_f64(if v.to_f64() == 0.0 { 0.0 } else { 1.0 / v.to_f64() });
        Tensor::from_vec(y.to_vec::<T>().into_iter().map(inverse).collect(), *y.shape())
    })
}

/// For each element the product of the others in its line, from products of what comes before and after: no division, so zeros
/// do no harm.
fn others(x: &Tensor, axes: &Range<usize>) -> Tensor {
    let dims = dims_of(x.shape(), axes.clone());
    let x = x.contiguous();
    with_float!("prod", x.dtype(), T => Tensor::build::<T>(*x.shape(), |out| {
        let data = x.slice_of::<T>();
        let mut befores = vec![1.0f64; dims.n];
        for line in 0..dims.outer * dims.inner {
            let (outer, inner) = (line / dims.inner, line % dims.inner);
            let at = |k: usize| (outer * dims.n + k) * dims.inner + inner;
            let mut before = 1.0;
            for (k, product) in befores.iter_mut().enumerate() {
                *product = before;
                before *= data[at(k)].to_f64();
            }
            let mut after = 1.0;
            for k in (0..dims.n).rev() {
                out[at(k)] = <T as Element>::from_f64(befores[k] * after);
                after *= data[at(k)].to_f64();
            }
        }
    }))
}

/// `y = sum((x - mean)^2) / (n - correction)`, in two passes.
pub struct Variance {
    /// The neighbouring dimensions that are reduced.
    pub axes: Range<usize>,
    /// What is subtracted from the number of elements: 1 for the unbiased estimate, 0 for the mean of squares.
    pub correction: f64,
}

impl Op for Variance {
    const NAME: &'static str = "var";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("var has one input") };
        let (dims, shape, x) = (dims_of(x.shape(), self.axes.clone()), reduced(x.shape(), &self.axes), x.contiguous());
        saved.keep([&x]);
        with_float!("var", x.dtype(), T => Tensor::build::<T>(shape, |y| {
            let mut means = vec![Default::default(); y.len()];
            reduce::var(x.slice_of::<T>(), dims, self.correction, &mut means, y);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x] = cx.saved();
        let n = dims_of(x.shape(), self.axes.clone()).n as f64;
        let mean = kept(&reduce_tensor(Reduction::Mean, x, &self.axes), x.shape(), &self.axes);
        let dy = kept(&cx.dy(), x.shape(), &self.axes) * (2.0 / (n - self.correction).max(0.0));
        ((x - mean) * dy).into()
    }
}

/// Which dimensions are reduced, and whether they stay: what every reduction's method is given.
pub(super) struct Reduced {
    pub x: Tensor,
    pub axes: Range<usize>,
    pub shape: Shape,
}

impl Reduced {
    /// `x` with the dimensions `axes` made neighbours, and the shape of the result.
    #[track_caller]
    pub fn new(op: &str, x: &Tensor, axes: &[isize], keepdim: bool) -> Self {
        let found = reduced_axes(op, x.shape(), axes);
        let shape = if keepdim { kept_shape(x.shape(), &found) } else { dropped_shape(x.shape(), &found) };
        let (start, count) = (found.first().copied().unwrap_or(0), found.len());
        if found.last().is_none_or(|&last| last + 1 == start + count) {
            return Self { x: x.clone(), axes: start..start + count, shape };
        }
        let rest: Vec<usize> = (0..x.rank()).filter(|axis| !found.contains(axis)).collect();
        let axes = rest.len()..x.rank();
        Self { x: x.permute(&[rest, found].concat()), axes, shape }
    }
}

macro_rules! methods {
    ($($(#[$meta:meta])* $method:ident, $keepdim:ident => $op:ident;)*) => {
        impl Tensor {
            $(
                $(#[$meta])*
                ///
                /// Over `axes` (-1 is the last; none named means all), which disappear.
                ///
                /// # Panics
                /// When a dimension does not exist or is named twice, or the dtype does not fit.
                #[track_caller]
                pub fn $method<const N: usize>(&self, axes: [isize; N]) -> Tensor {
                    let Reduced { x, axes, shape } = Reduced::new($op::NAME, self, &axes, false);
                    $op { axes }.apply(&[&x]).reshape(shape)
                }

                #[doc = concat!("As [`Tensor::", stringify!($method), "`], and the reduced dimensions stay with size 1.")]
                ///
                /// # Panics
                #[doc = concat!("As [`Tensor::", stringify!($method), "`].")]
                #[track_caller]
                pub fn $keepdim<const N: usize>(&self, axes: [isize; N]) -> Tensor {
                    let Reduced { x, axes, shape } = Reduced::new($op::NAME, self, &axes, true);
                    $op { axes }.apply(&[&x]).reshape(shape)
                }
            )*
        }
    };
}

methods! {
    /// The mean.
    mean, mean_keepdim => Mean;
    /// The product.
    prod, prod_keepdim => Prod;
    /// The largest element; elements that share it share its gradient.
    max, max_keepdim => Max;
    /// The smallest element; elements that share it share its gradient.
    min, min_keepdim => Min;
    /// `ln(sum of e^x)`.
    logsumexp, logsumexp_keepdim => LogSumExp;
}

impl Tensor {
    /// The variance over `axes` (none named means all), which disappear: `sum((x - mean)^2) / (n - correction)`, where a
    /// correction of 1 gives the unbiased estimate.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice, or the dtype is not floating-point.
    #[track_caller]
    pub fn var<const N: usize>(&self, axes: [isize; N], correction: f64) -> Tensor {
        let Reduced { x, axes, shape } = Reduced::new("var", self, &axes, false);
        Variance { axes, correction }.apply(&[&x]).reshape(shape)
    }

    /// As [`Tensor::var`], and the reduced dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::var`].
    #[track_caller]
    pub fn var_keepdim<const N: usize>(&self, axes: [isize; N], correction: f64) -> Tensor {
        let Reduced { x, axes, shape } = Reduced::new("var", self, &axes, true);
        Variance { axes, correction }.apply(&[&x]).reshape(shape)
    }

    /// The square root of [`Tensor::var`].
    ///
    /// # Panics
    /// As [`Tensor::var`].
    #[track_caller]
    pub fn std<const N: usize>(&self, axes: [isize; N], correction: f64) -> Tensor {
        self.var(axes, correction).sqrt()
    }

    /// As [`Tensor::std`], and the reduced dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::std`].
    #[track_caller]
    pub fn std_keepdim<const N: usize>(&self, axes: [isize; N], correction: f64) -> Tensor {
        self.var_keepdim(axes, correction).sqrt()
    }

    /// The Euclidean norm of all elements, in f32 (f64 for f64).
    ///
    /// # Panics
    /// When the dtype is not floating-point.
    #[track_caller]
    pub fn norm(&self) -> Tensor {
        let wide = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        self.to_dtype(wide).norm_of([])
    }

    /// The Euclidean norm over `axes` (none named means all), which disappear.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice, or the dtype is not floating-point.
    #[track_caller]
    pub fn norm_of<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        let Reduced { x, axes, shape } = Reduced::new("norm", self, &axes, false);
        Norm { axes }.apply(&[&x]).reshape(shape)
    }

    /// As [`Tensor::norm_of`], and the reduced dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::norm_of`].
    #[track_caller]
    pub fn norm_keepdim<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        let Reduced { x, axes, shape } = Reduced::new("norm", self, &axes, true);
        Norm { axes }.apply(&[&x]).reshape(shape)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    type Line = fn(&[f64]) -> f64;
    type Call = fn(&Tensor) -> Vec<Tensor>;
    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }
    fn variance(x: &[f64], correction: f64) -> f64 {
        x.iter().map(|v| (v - mean(x)).powi(2)).sum::<f64>() / (x.len() as f64 - correction)
    }
    // Each over the first and last, the middle, and all dimensions of [3, 4, 5].
    let operations: [(&str, Call, Line); 9] = [
        ("mean", |x| vec![x.mean([0, 2]), x.mean_keepdim([1]), x.mean([])], mean),
        ("prod", |x| vec![x.prod([0, 2]), x.prod_keepdim([1]), x.prod([])], |x| x.iter().product()),
        ("max", |x| vec![x.max([0, 2]), x.max_keepdim([1]), x.max([])], |x| x.iter().copied().fold(f64::MIN, f64::max)),
        ("min", |x| vec![x.min([0, 2]), x.min_keepdim([1]), x.min([])], |x| x.iter().copied().fold(f64::MAX, f64::min)),
        (
            "logsumexp",
            |x| vec![x.logsumexp([0, 2]), x.logsumexp_keepdim([1]), x.logsumexp([])],
            |x| x.iter().map(|v| v.exp()).sum::<f64>().ln(),
        ),
        (
            "norm",
            |x| vec![x.norm_of([0, 2]), x.norm_keepdim([1]), x.norm_of([])],
            |x| x.iter().map(|v| v * v).sum::<f64>().sqrt(),
        ),
        ("var", |x| vec![x.var([0, 2], 1.0), x.var_keepdim([1], 1.0), x.var([], 1.0)], |x| variance(x, 1.0)),
        ("biased var", |x| vec![x.var([0, 2], 0.0), x.var_keepdim([1], 0.0), x.var([], 0.0)], |x| variance(x, 0.0)),
        ("std", |x| vec![x.std([0, 2], 1.0), x.std_keepdim([1], 1.0), x.std([], 1.0)], |x| variance(x, 1.0).sqrt()),
    ];
    let mut cases: Vec<Case> = operations
        .into_iter()
        .map(|(name, run, line)| {
            let reference = move |x: &[Array]| {
                let x = &x[0];
                let pick = |keep: &dyn Fn(usize, usize, usize) -> bool| -> f64 {
                    let all = (0..60).map(|i| (i / 20, i / 5 % 4, i % 5)).filter(|&(i, j, k)| keep(i, j, k));
                    line(&all.map(|(i, j, k)| x.at(&[i, j, k])).collect::<Vec<_>>())
                };
                vec![
                    Array::from_fn(&[4], |m| pick(&|_, j, _| j == m[0])),
                    Array::from_fn(&[3, 1, 5], |m| pick(&|i, _, k| i == m[0] && k == m[2])),
                    Array::new(&[], vec![pick(&|_, _, _| true)]),
                ]
            };
            Case::new(name, [uniform([3, 4, 5], 1)], move |x| run(&x[0])).reference(reference)
        })
        .collect();
    for n in [1, 33, 65, 257] {
        let reference = move |x: &[Array]| vec![Array::from_fn(&[2], |i| mean(&x[0].data[i[0] * n..(i[0] + 1) * n]))];
        cases.push(
            Case::new(format!("mean of {n}"), [uniform([2, n], 1)], |x| vec![x[0].mean([-1])]).reference(reference),
        );
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_leaves_the_variance_its_digits() {
        let x = Tensor::from_vec(vec![1e4f32, 1e4 + 1.0, 1e4 + 2.0], [3]);
        assert!((x.var([], 0.0).item() - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn the_product_s_gradient_survives_zeros() {
        let x = Tensor::from_vec(vec![2.0f64, 0.0, 5.0], [3]).requires_grad();
        assert_eq!(x.prod([]).backward()[&x].to_vec::<f64>(), [0.0, 10.0, 0.0]);
    }

    #[test]
    fn ties_share_the_gradient() {
        let x = Tensor::from_vec(vec![3.0f32, 1.0, 3.0], [3]).requires_grad();
        assert_eq!(x.max([]).backward()[&x].to_vec::<f32>(), [0.5, 0.0, 0.5]);
    }

    #[test]
    fn integers_are_reduced_as_integers() {
        let x = Tensor::range(1, 5);
        assert_eq!((x.prod([]).item(), x.max([]).item(), x.min([]).item(), x.sum([]).item()), (24.0, 4.0, 1.0, 10.0));
    }
}
