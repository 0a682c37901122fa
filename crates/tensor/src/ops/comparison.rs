//! Comparisons, and logic on bools. The results carry no gradient.

use cupola_core::DType;
use cupola_cpu::binary::{self, Comparison};
use cupola_cpu::reduce::{self, Dims};

use super::arithmetic::broadcast_shapes;
use super::reduction::dims_of;
use super::sum::{dropped_shape, kept_shape, reduced_axes};
use crate::dispatch::with_number;
use crate::op::{Differentiable, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Compare::INFO, AllAny::INFO];

/// `y = a < b` and the like, broadcast; bool. Every comparison with NaN is false but "differs".
pub struct Compare(pub Comparison);

impl Op for Compare {
    const NAME: &'static str = "compare";
    const DIFFERENTIABLE: Differentiable = Differentiable::Discrete;

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [a, b] = inputs else { unreachable!("compare has two inputs") };
        let shape = broadcast_shapes(Self::NAME, a, b);
        let dtype = match a.dtype().promote(b.dtype()) {
            DType::Bool => DType::U8,
            dtype => dtype,
        };
        let (a, b) = (a.to_dtype(dtype), b.to_dtype(dtype));
        with_number!(Self::NAME, dtype, T => Tensor::build::<bool>(shape, |y| {
            let (a, b) = ((a.buffer().as_slice::<T>(), a.layout()), (b.buffer().as_slice::<T>(), b.layout()));
            binary::compare(self.0, shape, a, b, y);
        }))
        .into()
    }
}

/// Whether all, or any, of the elements along dimensions are true.
pub struct AllAny {
    /// The dimensions, in rising order.
    pub axes: Vec<usize>,
    /// All of them, else any.
    pub all: bool,
}

impl Op for AllAny {
    const NAME: &'static str = "all_any";
    const DIFFERENTIABLE: Differentiable = Differentiable::Discrete;

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("all_any has one input") };
        let mut x = x.to_dtype(DType::Bool).contiguous();
        let shape = dropped_shape(x.shape(), &self.axes);
        for &axis in &self.axes {
            let dims: Dims = dims_of(x.shape(), axis..axis + 1);
            let join = if self.all { reduce::all } else { reduce::any };
            x = Tensor::build::<bool>(kept_shape(x.shape(), &[axis]), |y| join(x.slice_of::<bool>(), dims, y));
        }
        x.reshape(shape).into()
    }
}

macro_rules! comparisons {
    ($($(#[$meta:meta])* $method:ident, $scalar:ident => $comparison:ident;)*) => {
        impl Tensor {
            $(
                $(#[$meta])*
                ///
                /// # Panics
                /// When the shapes do not broadcast.
                #[allow(clippy::should_implement_trait)]
                #[track_caller]
                pub fn $method(&self, other: &Tensor) -> Tensor {
                    Compare(Comparison::$comparison).apply(&[self, other])
                }

                #[doc = concat!("[`Tensor::", stringify!($method), "`] with one number, converted to this tensor's dtype.")]
                #[track_caller]
                pub fn $scalar(&self, number: f64) -> Tensor {
                    self.$method(&Tensor::full_of([], number, self.dtype()))
                }
            )*
        }
    };
}

comparisons! {
    /// Where the elements are equal; bool, broadcast.
    eq, eq_scalar => Eq;
    /// Where the elements differ; bool, broadcast.
    ne, ne_scalar => Ne;
    /// Where this tensor's element is smaller; bool, broadcast.
    lt, lt_scalar => Lt;
    /// Where this tensor's element is smaller or equal; bool, broadcast.
    le, le_scalar => Le;
    /// Where this tensor's element is larger; bool, broadcast.
    gt, gt_scalar => Gt;
    /// Where this tensor's element is larger or equal; bool, broadcast.
    ge, ge_scalar => Ge;
}

impl Tensor {
    /// Whether all elements along `axes` (none named means all) are true, or not zero.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice.
    #[track_caller]
    pub fn all<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        AllAny { axes: reduced_axes("all", self.shape(), &axes), all: true }.apply(&[self])
    }

    /// As [`Tensor::all`], and the reduced dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::all`].
    #[track_caller]
    pub fn all_keepdim<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        self.all(axes).reshape(kept_shape(self.shape(), &reduced_axes("all", self.shape(), &axes)))
    }

    /// Whether any element along `axes` (none named means all) is true, or not zero.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice.
    #[track_caller]
    pub fn any<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        AllAny { axes: reduced_axes("any", self.shape(), &axes), all: false }.apply(&[self])
    }

    /// As [`Tensor::any`], and the reduced dimensions stay with size 1.
    ///
    /// # Panics
    /// As [`Tensor::any`].
    #[track_caller]
    pub fn any_keepdim<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        self.any(axes).reshape(kept_shape(self.shape(), &reduced_axes("any", self.shape(), &axes)))
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case};
    let flag = f64::from;
    let grid = || Tensor::from_vec((0..66).map(|i| f64::from(i * 7 % 5)).collect(), [2, 33]);
    let middle = || Tensor::full_of([33], 2.0, DType::F64);
    let compare = move |name: &str, run: fn(&Tensor, &Tensor) -> Tensor, f: fn(f64, f64) -> bool| {
        Case::new(name, [grid(), middle()], move |x| vec![run(&x[0], &x[1])])
            .reference(move |x| vec![x[0].map(|v| flag(f(v, 2.0)))])
            .forward_only()
    };
    vec![
        compare("eq", Tensor::eq, |a, b| a == b),
        compare("ne", Tensor::ne, |a, b| a != b),
        compare("lt", Tensor::lt, |a, b| a < b),
        compare("le", Tensor::le, |a, b| a <= b),
        compare("gt", Tensor::gt, |a, b| a > b),
        compare("ge", Tensor::ge, |a, b| a >= b),
        Case::new("all and any that stay", [grid()], |x| vec![x[0].all_keepdim([1]), x[0].any_keepdim([0])])
            .reference(move |x| {
                let zero = |i: usize, j: usize| x[0].at(&[i, j]) == 0.0;
                vec![
                    Array::from_fn(&[2, 1], |i| flag(!(0..33).any(|j| zero(i[0], j)))),
                    Array::from_fn(&[1, 33], |i| flag(!(zero(0, i[1]) && zero(1, i[1])))),
                ]
            })
            .forward_only(),
        Case::new("all and any", [grid()], |x| vec![x[0].all([1]), x[0].any([0]), x[0].gt_scalar(9.0).any([])])
            .reference(move |x| {
                let zero = |i: usize, j: usize| x[0].at(&[i, j]) == 0.0;
                vec![
                    Array::from_fn(&[2], |i| flag(!(0..33).any(|j| zero(i[0], j)))),
                    Array::from_fn(&[33], |j| flag(!(zero(0, j[0]) && zero(1, j[0])))),
                    Array::new(&[], vec![0.0]),
                ]
            })
            .forward_only(),
    ]
}
