//! Elementary functions, element by element. Each is computed in f32 (f64 for f64) with the error bounds that
//! `cupola_cpu::vmath` states, and rounded once.

use cupola_cpu::unary::{
    Abs, Ceil, Cos, Erf, Exp, Floor, Log, Recip, Round, Rsqrt, Sigmoid, Sign, Sin, Sqrt, Square, Tanh,
};

use super::unary::elementwise;

elementwise! {
    /// `|x|`; slope 0 at 0.
    abs() => Abs, on 0.1..2.0 as f64::abs;
    /// `e^x`.
    exp() => Exp, on -3.0..2.0 as f64::exp;
    /// The natural logarithm; NaN below 0.
    log() => Log, on 0.2..4.0 as f64::ln;
    /// The square root; NaN below 0.
    sqrt() => Sqrt, on 0.2..4.0 as f64::sqrt;
    /// `1 / sqrt(x)`.
    rsqrt() => Rsqrt, on 0.3..4.0 as |x| 1.0 / x.sqrt();
    /// `x^2`.
    square() => Square, on -2.0..2.0 as |x| x * x;
    /// `1 / x`.
    recip() => Recip, on 0.4..3.0 as f64::recip;
    /// The sine of an angle in radians.
    sin() => Sin, on -6.0..6.0 as f64::sin;
    /// The cosine of an angle in radians.
    cos() => Cos, on -6.0..6.0 as f64::cos;
    /// The hyperbolic tangent.
    tanh() => Tanh, on -3.0..3.0 as f64::tanh;
    /// `1 / (1 + e^-x)`.
    sigmoid() => Sigmoid, on -5.0..5.0 as |x| 1.0 / (1.0 + (-x).exp());
    /// The error function: `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to `x`.
    erf() => Erf, on -2.0..2.0 as crate::testing::erf;
    /// The largest integer not above `x`. Its derivative is zero.
    floor() => Floor, on -3.0..3.0 as f64::floor;
    /// The smallest integer not below `x`. Its derivative is zero.
    ceil() => Ceil, on -3.0..3.0 as f64::ceil;
    /// The nearest integer, ties to even. Its derivative is zero.
    round() => Round, on -3.0..3.0 as f64::round_ties_even;
    /// -1, 0 or 1 as `x` is negative, zero or positive; NaN for NaN. Its derivative is zero.
    sign() => Sign, on -3.0..3.0 as |x| if x == 0.0 { 0.0 } else { x.signum() };
}
