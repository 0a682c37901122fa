//! `a + b`, `a - b`, `a * b`, `a / b`, element by element, broadcast to a common shape.

use cupola_core::{DType, Element, Shape};

use crate::dispatch::with_element;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// What this file offers.
pub const OPS: &[OpInfo] = &[Add::INFO, Sub::INFO, Mul::INFO, Div::INFO];

/// `y = a + b`.
pub struct Add;
/// `y = a - b`.
pub struct Sub;
/// `y = a * b`.
pub struct Mul;
/// `y = a / b`; of integers, towards zero.
pub struct Div;

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

impl Tensor {
    /// `self` summed over the dimensions that broadcasting had added or stretched, and converted: the gradient of an operand
    /// from the gradient of the result.
    pub(crate) fn reduce_like(&self, meta: crate::autograd::graph::Meta) -> Tensor {
        let x = if *self.shape() == meta.shape { self.clone() } else { self.sum_to(meta.shape) };
        x.to_dtype(meta.dtype)
    }

    /// The sum down to a shape that broadcasts to this one.
    pub(crate) fn sum_to(&self, shape: Shape) -> Tensor {
        with_element!(self.dtype(), T => naive::sum_to::<T>(self, shape))
    }
}

impl Op for Add {
    const NAME: &'static str = "add";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let (a, b, shape) = prepare(Self::NAME, inputs);
        with_element!(a.dtype(), T => naive::zip::<T, T>(&a, &b, shape, |a, b| {
            if T::DTYPE.is_float() { T::from_f64(a.to_f64() + b.to_f64()) } else { T::from_i64(a.to_i64().wrapping_add(b.to_i64())) }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.dy();
        [0, 1].map(|i| cx.needs(i).then(|| dy.reduce_like(cx.input(i)))).into()
    }
}

impl Op for Sub {
    const NAME: &'static str = "sub";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let (a, b, shape) = prepare(Self::NAME, inputs);
        with_element!(a.dtype(), T => naive::zip::<T, T>(&a, &b, shape, |a, b| {
            if T::DTYPE.is_float() { T::from_f64(a.to_f64() - b.to_f64()) } else { T::from_i64(a.to_i64().wrapping_sub(b.to_i64())) }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.dy();
        let da = cx.needs(0).then(|| dy.reduce_like(cx.input(0)));
        [da, cx.needs(1).then(|| (-&dy).reduce_like(cx.input(1)))].into()
    }
}

impl Op for Mul {
    const NAME: &'static str = "mul";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (a, b, shape) = prepare(Self::NAME, inputs);
        saved.keep([inputs[0], inputs[1]]);
        with_element!(a.dtype(), T => naive::zip::<T, T>(&a, &b, shape, |a, b| {
            if T::DTYPE.is_float() { T::from_f64(a.to_f64() * b.to_f64()) } else { T::from_i64(a.to_i64().wrapping_mul(b.to_i64())) }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([a, b], dy) = (cx.saved(), cx.dy());
        let da = cx.needs(0).then(|| (&dy * b).reduce_like(cx.input(0)));
        [da, cx.needs(1).then(|| (&dy * a).reduce_like(cx.input(1)))].into()
    }
}

impl Op for Div {
    const NAME: &'static str = "div";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let (a, b, shape) = prepare(Self::NAME, inputs);
        saved.keep([inputs[0], inputs[1]]);
        with_element!(a.dtype(), T => naive::zip::<T, T>(&a, &b, shape, |a, b| {
            if T::DTYPE.is_float() {
                return T::from_f64(a.to_f64() / b.to_f64());
            }
            assert!(b.to_i64() != 0, "div: an integer was divided by zero");
            T::from_i64(a.to_i64().wrapping_div(b.to_i64()))
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([a, b], dy) = (cx.saved(), cx.dy());
        let over_b = &dy / b;
        let da = cx.needs(0).then(|| over_b.reduce_like(cx.input(0)));
        [da, cx.needs(1).then(|| (-(&over_b * a / b)).reduce_like(cx.input(1)))].into()
    }
}

impl Tensor {
    /// `self + other`, broadcast; see [`Add`].
    #[allow(clippy::should_implement_trait)]
    #[track_caller]
    pub fn add(&self, other: &Tensor) -> Tensor {
        Add.apply(&[self, other])
    }

    /// `self - other`, broadcast; see [`Sub`].
    #[allow(clippy::should_implement_trait)]
    #[track_caller]
    pub fn sub(&self, other: &Tensor) -> Tensor {
        Sub.apply(&[self, other])
    }

    /// `self * other`, broadcast; see [`Mul`].
    #[allow(clippy::should_implement_trait)]
    #[track_caller]
    pub fn mul(&self, other: &Tensor) -> Tensor {
        Mul.apply(&[self, other])
    }

    /// `self / other`, broadcast; see [`Div`].
    #[allow(clippy::should_implement_trait)]
    #[track_caller]
    pub fn div(&self, other: &Tensor) -> Tensor {
        Div.apply(&[self, other])
    }

    /// `self + other`, in this tensor's memory when nobody else holds it: how gradients add up.
    pub(crate) fn accumulate(mut self, other: &Tensor) -> Tensor {
        let other = other.contiguous();
        if !self.is_donatable() || self.dtype() != other.dtype() {
            return &self + &other;
        }
        with_element!(self.dtype(), T => {
            let out = self.as_mut_slice::<T>().expect("a donatable tensor is writable");
            for (y, x) in out.iter_mut().zip(other.slice_of::<T>()) {
                *y = T::from_f64(y.to_f64() + x.to_f64());
            }
        });
        self
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    type Binary = fn(&Tensor, &Tensor) -> Tensor;
    type Plain = fn(f64, f64) -> f64;
    let operations: [(&str, Binary, Plain); 4] = [
        ("add", Tensor::add, |a, b| a + b),
        ("sub", Tensor::sub, |a, b| a - b),
        ("mul", Tensor::mul, |a, b| a * b),
        ("div", Tensor::div, |a, b| a / b),
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
            let inputs = [uniform(left, 1), between(0.5, 2.0, right, 2)];
            let shape = inputs[0].shape().broadcast(inputs[1].shape()).expect("the shapes above broadcast");
            let reference = move |x: &[Array]| vec![Array::from_fn(&shape, |i| f(x[0].at(i), x[1].at(i)))];
            cases.push(Case::new(format!("{name} {left:?} {right:?}"), inputs, move |x| vec![run(&x[0], &x[1])]).reference(reference));
        }
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
