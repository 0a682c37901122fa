//! Elementary functions.

use super::{Saves, Unary, UnaryKernel, unary_kernels};
use crate::Isa;
use crate::real::Real;
use crate::tier::Tier;

macro_rules! functions {
    ($(
        $(#[$meta:meta])*
        $name:ident, $text:literal, $saves:ident, [$tier:ident, $real:ident]
        |$x:ident| $value:expr, |$s:ident| $slope:expr;
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, Default, PartialEq)]
            pub struct $name;
            impl Unary for $name {
                const NAME: &'static str = $text;
                const SAVES: Saves = Saves::$saves;
                #[inline(always)]
                fn value<$tier: Tier, $real: Real>(self, $x: $real) -> $real { $value }
                #[inline(always)]
                fn slope<$tier: Tier, $real: Real>(self, $s: $real) -> $real { $slope }
            }
        )*
        unary_kernels!($($name),*);
    };
}

functions! {
    /// -x.
    Neg, "neg", Nothing, [I, R] |x| -x, |_s| -R::ONE;
    /// |x|, with slope 0 at 0.
    Abs, "abs", Input, [I, R] |x| x.abs(), |x| sign(x);
    /// The natural logarithm.
    Log, "log", Input, [I, R] |x| x.ln::<I>(), |x| R::ONE / x;
    /// The square root.
    Sqrt, "sqrt", Output, [I, R] |x| x.sqrt(), |y| R::of(0.5) / y;
    /// 1 / sqrt(x).
    Rsqrt, "rsqrt", Input, [I, R] |x| R::ONE / x.sqrt(), |x| R::of(-0.5) / (x * x.sqrt());
    /// x^2.
    Square, "square", Input, [I, R] |x| x * x, |x| x + x;
    /// The sine.
    Sin, "sin", Input, [I, R] |x| x.sin::<I>(), |x| x.cos::<I>();
    /// The cosine.
    Cos, "cos", Input, [I, R] |x| x.cos::<I>(), |x| -x.sin::<I>();
    /// The hyperbolic tangent.
    Tanh, "tanh", Output, [I, R] |x| x.tanh::<I>(), |y| R::ONE - y * y;
    /// 1 / (1 + e^-x).
    Sigmoid, "sigmoid", Output, [I, R] |x| x.sigmoid::<I>(), |y| y * (R::ONE - y);
    /// The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x.
    Erf, "erf", Input, [I, R] |x| x.erf::<I>(),
        |x| R::of(std::f64::consts::FRAC_2_SQRT_PI) * (-(x * x)).exp::<I>();
    /// The largest integer not above x; slope 0.
    Floor, "floor", Nothing, [I, R] |x| x.floor(), |_s| R::ZERO;
    /// The smallest integer not below x; slope 0.
    Ceil, "ceil", Nothing, [I, R] |x| x.ceil(), |_s| R::ZERO;
    /// The nearest integer, ties to even; slope 0.
    Round, "round", Nothing, [I, R] |x| x.round(), |_s| R::ZERO;
    /// -1, 0 or 1 as x is negative, zero or positive, and NaN for NaN; slope 0.
    Sign, "sign", Nothing, [I, R] |x| sign(x), |_s| R::ZERO;
    /// 1 / x.
    Recip, "recip", Output, [I, R] |x| R::ONE / x, |y| -(y * y);
}

/// e^x.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exp;

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const SAVES: Saves = Saves::Output;
    const ABREAST: bool = true;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x.exp::<I>()
    }
    #[inline(always)]
    fn values<I: Tier, R: Real, const N: usize>(self, x: [R; N]) -> [R; N] {
        R::exp_of::<I, N>(x)
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, y: R) -> R {
        y
    }
}

unary_kernels!(Exp);

#[inline(always)]
fn sign<R: Real>(x: R) -> R {
    let s = if x > R::ZERO { R::ONE } else { R::ZERO };
    let s = if x < R::ZERO { -R::ONE } else { s };
    if x.is_nan() { x } else { s }
}

/// x^exponent. Exponents 2, 3, 1/2, -1/2 and -1 are computed by products, roots and quotients, as PyTorch does; slope 0 for
/// exponent 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pow {
    /// The exponent.
    pub exponent: f64,
}

impl Unary for Pow {
    const NAME: &'static str = "pow";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x.pow::<I>(R::of(self.exponent))
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        R::of(self.exponent) * x.pow::<I>(R::of(self.exponent - 1.0))
    }
}

/// scale x + shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The factor.
    pub scale: f64,
    /// The summand.
    pub shift: f64,
}

impl Unary for Affine {
    const NAME: &'static str = "affine";
    const SAVES: Saves = Saves::Nothing;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x.fma::<I>(R::of(self.scale), R::of(self.shift))
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, _: R) -> R {
        R::of(self.scale)
    }
}

/// min where x is smaller, max where it is larger, x elsewhere, the ends included; NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// The smallest result.
    pub min: f64,
    /// The largest result; it wins over `min` where the two are out of order.
    pub max: f64,
}

impl Unary for Clamp {
    const NAME: &'static str = "clamp";
    const SAVES: Saves = Saves::Input;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        let x = if x < R::of(self.min) { R::of(self.min) } else { x };
        if x > R::of(self.max) { R::of(self.max) } else { x }
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        let above = if x >= R::of(self.min) { R::ONE } else { R::ZERO };
        if x <= R::of(self.max) { above } else { R::ZERO }
    }
}

unary_kernels!(Affine, Clamp);

#[derive(Clone, Copy)]
struct GeneralPow(Pow);

impl Unary for GeneralPow {
    const NAME: &'static str = Pow::NAME;
    const SAVES: Saves = Pow::SAVES;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        self.0.value::<I, R>(x)
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        self.0.slope::<I, R>(x)
    }
}

#[derive(Clone, Copy)]
struct Cube;

impl Unary for Cube {
    const NAME: &'static str = Pow::NAME;
    const SAVES: Saves = Pow::SAVES;
    #[inline(always)]
    fn value<I: Tier, R: Real>(self, x: R) -> R {
        x * x * x
    }
    #[inline(always)]
    fn slope<I: Tier, R: Real>(self, x: R) -> R {
        R::of(3.0) * x * x
    }
}

unary_kernels!(GeneralPow, Cube);

/// Calls the function that serves an exponent.
macro_rules! by_exponent {
    ($pow:expr, $method:ident($($arg:expr),*)) => {
        match $pow.exponent {
            2.0 => Square.$method($($arg),*),
            3.0 => Cube.$method($($arg),*),
            0.5 => Sqrt.$method($($arg),*),
            -0.5 => Rsqrt.$method($($arg),*),
            -1.0 => Recip.$method($($arg),*),
            _ => GeneralPow($pow).$method($($arg),*),
        }
    };
}

impl UnaryKernel for Pow {
    fn forward_f32(self, isa: Isa, x: &[f32], y: &mut [f32]) {
        by_exponent!(self, forward_f32(isa, x, y))
    }
    fn forward_f64(self, x: &[f64], y: &mut [f64]) {
        by_exponent!(self, forward_f64(x, y))
    }
    fn backward_f32(self, isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        // Only those whose slope is taken from x as well.
        match self.exponent {
            0.0 => dx.fill(0.0),
            2.0 => Square.backward_f32(isa, x, dy, dx),
            3.0 => Cube.backward_f32(isa, x, dy, dx),
            _ => GeneralPow(self).backward_f32(isa, x, dy, dx),
        }
    }
    fn backward_f64(self, x: &[f64], dy: &[f64], dx: &mut [f64]) {
        match self.exponent {
            0.0 => dx.fill(0.0),
            2.0 => Square.backward_f64(x, dy, dx),
            3.0 => Cube.backward_f64(x, dy, dx),
            _ => GeneralPow(self).backward_f64(x, dy, dx),
        }
    }
}
