//! Functions of two arguments, element by element, broadcast to a common shape: sums, differences, products, quotients, powers,
//! minima and maxima.

use cupola_core::{DType, Shape};
use cupola_cpu::binary::{self, Binary, Side};

use super::sum::summed;
use crate::autograd::graph::Meta;
use crate::dispatch::{with_float, with_number};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// The shape that two shapes broadcast to.
///
/// # Panics
/// When they do not, with the operation's name.
#[track_caller]
pub(crate) fn broadcast_shapes(op: &str, a: &Tensor, b: &Tensor) -> Shape {
    match a.shape().broadcast(b.shape()) {
        Some(shape) => shape,
        None => panic!("{op}: shapes {} and {} do not broadcast", a.shape(), b.shape()),
    }
}

/// Both operands in the dtype that the result has, and the shape it has.
#[track_caller]
fn prepare(op: &str, inputs: &[&Tensor]) -> (Tensor, Tensor, Shape) {
    let [a, b] = inputs else { unreachable!("{op} has two inputs") };
    let dtype = a.dtype().promote(b.dtype());
    assert!(dtype != DType::Bool, "{op}: both operands are bool; convert one with to_dtype");
    (a.to_dtype(dtype), b.to_dtype(dtype), broadcast_shapes(op, a, b))
}

#[track_caller]
fn forward(op: Binary, inputs: &[&Tensor]) -> Tensor {
    let (a, b, shape) = prepare(op.name(), inputs);
    with_number!(op.name(), a.dtype(), T => Tensor::build::<T>(shape, |y| {
        let operand = |x: &Tensor| (x.buffer().clone(), *x.layout());
        let ((a, a_layout), (b, b_layout)) = (operand(&a), operand(&b));
        binary::forward(op, shape, (a.as_slice::<T>(), &a_layout), (b.as_slice::<T>(), &b_layout), y);
    }))
}

/// The gradient of one operand, in the result's shape and dtype.
fn gradient(op: Binary, side: Side, dy: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let (shape, dtype) = (*dy.shape(), dy.dtype());
    let (dy, a, b) = (dy.contiguous(), a.to_dtype(dtype), b.to_dtype(dtype));
    with_float!(op.name(), dtype, T => Tensor::build::<T>(shape, |out| {
        let a = (a.buffer().as_slice::<T>(), a.layout());
        let b = (b.buffer().as_slice::<T>(), b.layout());
        binary::backward(op, side, shape, dy.slice_of::<T>(), a, b, out);
    }))
}

/// Declares the operations: their names, and what they save.
macro_rules! operations {
    ($($(#[$meta:meta])* $op:ident => $method:ident;)*) => {
        $(
            $(#[$meta])*
            pub struct $op;

            impl Op for $op {
                const NAME: &'static str = Binary::$op.name();

                fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
                    if !matches!(Binary::$op, Binary::Add | Binary::Sub) {
                        saved.keep([inputs[0], inputs[1]]);
                    }
                    forward(Binary::$op, inputs).into()
                }

                fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
                    let dy = cx.dy();
                    // Sums and differences save nothing: their derivatives are 1 and -1.
                    let (a, b) = match cx.all_saved() {
                        [a, b] => (a, b),
                        _ => (&dy, &dy),
                    };
                    [(Side::Left, 0), (Side::Right, 1)]
                        .map(|(side, index)| {
                            let full = cx.needs(index).then(|| match (Binary::$op, side) {
                                (Binary::Add, _) | (Binary::Sub, Side::Left) => dy.clone(),
                                (Binary::Sub, Side::Right) => -&dy,
                                (op, side) => gradient(op, side, &dy, a, b),
                            });
                            full.map(|full| summed(cx, index, &full))
                        })
                        .into()
                }
            }
        )*

        /// What this file offers.
        pub const OPS: &[OpInfo] = &[$($op::INFO),*];

        impl Tensor {
            $(
                $(#[$meta])*
                ///
                /// Operands of different dtypes are converted to the one that holds both, see [`DType::promote`].
                ///
                /// # Panics
                /// When the shapes do not broadcast, or both operands are bool.
                #[allow(clippy::should_implement_trait)]
                #[track_caller]
                pub fn $method(&self, other: &Tensor) -> Tensor {
                    $op.apply(&[self, other])
                }
            )*
        }
    };
}

operations! {
    /// `a + b`, broadcast.
    Add => add;
    /// `a - b`, broadcast.
    Sub => sub;
    /// `a * b`, broadcast.
    Mul => mul;
    /// `a / b`, broadcast; of integers, towards zero.
    Div => div;
    /// `a` to the power `b`, broadcast.
    Pow => pow;
    /// The smaller of `a` and `b`, broadcast; NaN when either is. At ties each gets half of the gradient.
    Min => minimum;
    /// The larger of `a` and `b`, broadcast; NaN when either is. At ties each gets half of the gradient.
    Max => maximum;
}

impl Tensor {
    /// [`Tensor::pow`] with one exponent, converted to this tensor's dtype.
    ///
    /// # Panics
    /// When the dtype is bool.
    #[track_caller]
    pub fn pow_scalar(&self, exponent: f64) -> Tensor {
        self.pow(&Tensor::full_of([], exponent, self.dtype()))
    }

    /// `self` summed over the dimensions that broadcasting had added or stretched, and converted: the gradient of an operand
    /// from the gradient of the result.
    pub(crate) fn reduce_like(&self, meta: Meta) -> Tensor {
        let x = if *self.shape() == meta.shape { self.clone() } else { self.sum_to(meta.shape) };
        x.to_dtype(meta.dtype)
    }

    /// `self + other`, in this tensor's memory when nobody else holds it: how gradients add up.
    pub(crate) fn accumulate(mut self, other: &Tensor) -> Tensor {
        if !self.is_donatable() || self.dtype() != other.dtype() || !self.dtype().is_float() {
            return &self + other;
        }
        let shape = *self.shape();
        with_float!("add", self.dtype(), T => {
            let sum = self.as_mut_slice::<T>().expect("a donatable tensor is writable");
            binary::assign(Binary::Add, sum, shape, (other.buffer().as_slice::<T>(), other.layout()), false);
        });
        self
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between};
    type Binary = fn(&Tensor, &Tensor) -> Tensor;
    type Plain = fn(f64, f64) -> f64;
    let operations: [(&str, Binary, Plain); 7] = [
        ("add", Tensor::add, |a, b| a + b),
        ("sub", Tensor::sub, |a, b| a - b),
        ("mul", Tensor::mul, |a, b| a * b),
        ("div", Tensor::div, |a, b| a / b),
        ("pow", Tensor::pow, f64::powf),
        ("minimum", Tensor::minimum, f64::min),
        ("maximum", Tensor::maximum, f64::max),
    ];
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[3, 5], &[3, 5]),
        (&[257], &[257]),
        (&[3, 5], &[5]),
        (&[3, 1], &[1, 33]),
        (&[2, 3, 4], &[3, 1]),
        (&[1], &[2, 2]),
        (&[], &[4]),
        (&[0, 3], &[1, 3]),
    ];
    let mut cases = Vec::new();
    for (name, run, f) in operations {
        for (left, right) in shapes {
            // A power of a negative number is none.
            let low = if name == "pow" { 0.5 } else { -1.0 };
            let inputs = [between(low, 1.5, left, 1), between(0.5, 2.0, right, 2)];
            let shape = inputs[0].shape().broadcast(inputs[1].shape()).expect("the shapes above broadcast");
            let reference = move |x: &[Array]| vec![Array::from_fn(&shape, |i| f(x[0].at(i), x[1].at(i)))];
            cases.push(
                Case::new(format!("{name} {left:?} {right:?}"), inputs, move |x| vec![run(&x[0], &x[1])])
                    .reference(reference),
            );
        }
    }
    for exponent in [-1.5, 0.5, 3.0] {
        let case = Case::new(format!("power {exponent}"), [between(0.5, 2.0, [33], 1)], move |x| {
            vec![x[0].pow_scalar(exponent)]
        });
        cases.push(case.reference(move |x| vec![x[0].map(|v| v.powf(exponent))]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "add: shapes [2, 3] and [4] do not broadcast")]
    fn shapes_that_do_not_fit_are_named() {
        let _ = Tensor::zeros([2, 3]) + Tensor::zeros([4]);
    }

    #[test]
    fn integers_stay_integers_and_mix_with_floats() {
        let a = Tensor::range(1, 4);
        assert_eq!((&a * &a).to_vec::<i64>(), [1, 4, 9]);
        assert_eq!((&a + Tensor::full([3], 0.5)).to_vec::<f32>(), [1.5, 2.5, 3.5]);
        assert_eq!((&a - 1.0).to_vec::<i64>(), [0, 1, 2]);
    }
}
