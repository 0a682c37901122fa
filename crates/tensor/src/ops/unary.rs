//! Functions of one argument, element by element: the form that [`super::functions`] and [`super::activations`] fill.

use cupola_cpu::unary::{self, Saves, UnaryKernel};

use crate::dispatch::with_float;
use crate::op::{Backward, Differentiable, InputGrads, Op, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = f(x)` for every element, computed in f32 (f64 for f64) and rounded once.
pub struct Elementwise<F>(pub F);

impl<F: UnaryKernel> Op for Elementwise<F> {
    const NAME: &'static str = F::NAME;
    const DIFFERENTIABLE: Differentiable = match F::SAVES {
        // The kernels without a saved value that are applied here are steps: floor, ceil, round, sign.
        Saves::Nothing => Differentiable::Zero,
        _ => Differentiable::Yes,
    };

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("{} has one input", F::NAME) };
        let x = x.contiguous();
        let y = with_float!(F::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            unary::forward(self.0, x.slice_of::<T>(), y);
        }));
        match F::SAVES {
            Saves::Nothing => {}
            Saves::Input => saved.keep([&x]),
            Saves::Output => saved.keep([&y]),
        }
        y.into()
    }

    fn fixed(&self) -> Option<u64> {
        (size_of::<F>() == 0).then_some(0)
    }

    fn recomputes(&self) -> bool {
        matches!(F::SAVES, Saves::Input)
    }

    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let x = saved[0].as_ref().expect("a function's argument is kept as it is");
        self.forward(&[x], &mut Saved::default()).into_first()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [saved] = cx.saved();
        super::unary_backward(self.0, saved, cx.take_dy()).into()
    }
}

/// Declares functions of one argument: the user's method, the kernel, and for the test cases a range of arguments (without
/// points where the derivative jumps) and a reference in f64.
macro_rules! elementwise {
    ($(
        $(#[$meta:meta])*
        $method:ident($($field:ident: $type:ty = $example:expr),*) => $kernel:ident $(($new:expr))?,
        on $low:literal..$high:literal as $reference:expr;
    )*) => {
        impl crate::tensor::Tensor {
            $(
                $(#[$meta])*
                ///
                /// # Panics
                /// When the dtype is not floating-point.
                #[track_caller]
                pub fn $method(&self, $($field: $type),*) -> crate::tensor::Tensor {
                    let kernel = elementwise!(@kernel $kernel $($new)?);
                    crate::op::Op::apply(crate::ops::unary::Elementwise(kernel), &[self])
                }
            )*
        }

        /// What this file offers.
        pub const OPS: &[crate::op::OpInfo] =
            &[$(<crate::ops::unary::Elementwise<$kernel> as crate::op::Op>::INFO),*];

        #[cfg(test)]
        pub(super) fn cases() -> Vec<crate::testing::Case> {
            let mut cases = Vec::new();
            $({
                let differentiable = <crate::ops::unary::Elementwise<$kernel> as crate::op::Op>::DIFFERENTIABLE
                    == crate::op::Differentiable::Yes;
                let reference: fn(f64) -> f64 = $reference;
                for n in [0, 1, 31, 33, 65, 257] {
                    let x = crate::testing::between($low, $high, [n], 1);
                    let name = format!("{} of {n}", stringify!($method));
                    let case = crate::testing::Case::new(name, [x], |x| vec![x[0].$method($($example),*)])
                        .reference(move |x| vec![x[0].map(reference)]);
                    cases.push(if differentiable { case } else { case.forward_only().no_half_precision() });
                }
            })*
            cases
        }
    };
    (@kernel $kernel:ident) => { $kernel };
    (@kernel $kernel:ident $new:expr) => { $new };
}

pub(super) use elementwise;
