//! `+ - * / -x` on tensors and numbers, by value and by reference.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::tensor::Tensor;

macro_rules! binary {
    ($trait:ident, $method:ident, $scalar_right:expr, $scalar_left:expr) => {
        binary!(@pair $trait, $method, &Tensor, &Tensor);
        binary!(@pair $trait, $method, Tensor, &Tensor);
        binary!(@pair $trait, $method, &Tensor, Tensor);
        binary!(@pair $trait, $method, Tensor, Tensor);
        binary!(@scalar $trait, $method, &Tensor, $scalar_right, $scalar_left);
        binary!(@scalar $trait, $method, Tensor, $scalar_right, $scalar_left);
    };
    (@pair $trait:ident, $method:ident, $left:ty, $right:ty) => {
        impl $trait<$right> for $left {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor {
                Tensor::$method(&self, &other)
            }
        }
    };
    (@scalar $trait:ident, $method:ident, $tensor:ty, $right:expr, $left:expr) => {
        impl $trait<f64> for $tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, number: f64) -> Tensor {
                let apply: fn(&Tensor, f64) -> Tensor = $right;
                apply(&self, number)
            }
        }
        impl $trait<$tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, tensor: $tensor) -> Tensor {
                let apply: fn(f64, &Tensor) -> Tensor = $left;
                apply(self, &tensor)
            }
        }
    };
}

binary!(Add, add, |x, c| x.affine(1.0, c), |c, x| x.affine(1.0, c));
binary!(Sub, sub, |x, c| x.affine(1.0, -c), |c, x| x.affine(-1.0, c));
binary!(Mul, mul, |x, c| x.affine(c, 0.0), |c, x| x.affine(c, 0.0));
binary!(Div, div, |x, c| x.affine(1.0 / c, 0.0), |c, x| x.recip().affine(c, 0.0));

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.affine(-1.0, 0.0)
    }
}

impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.affine(-1.0, 0.0)
    }
}
