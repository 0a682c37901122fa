//! Every function against a plain formula in f64, its derivative against central differences.

use super::*;
use crate::testing::{SIZES, close, each_tier_same_on_threads, tolerance, uniform, wide};
use cupola_core::{bf16, f16};

/// Argument range and formula of a function.
type Case = (f64, f64, fn(f64) -> f64);

fn check_type<T: Number<Real: UnaryReal>, F: UnaryKernel>(op: F, (low, high, formula): Case) {
    for (seed, len) in SIZES.into_iter().enumerate() {
        let x: Vec<T> = uniform(len, low, high, seed as u64);
        let dy: Vec<T> = uniform(len, -2.0, 2.0, 100 + seed as u64);
        let expected: Vec<f64> = wide(&x).into_iter().map(formula).collect();
        let results = each_tier_same_on_threads(|| {
            let mut y = vec![T::default(); len];
            forward(op, &x, &mut y);
            for (x, y) in x.iter().zip(&y).take(300) {
                let mut alone = [T::default()];
                forward(op, &[*x], &mut alone);
                assert!(alone == [*y], "{}: one number alone differs from the same among others", F::NAME);
            }
            let mut same = x.clone();
            forward_in_place(op, &mut same);
            assert!(same == y, "{}: in place differs", F::NAME);
            let saved = if F::SAVES == Saves::Output { &y } else { &x };
            let mut dx = vec![T::default(); len];
            backward(op, saved, &dy, &mut dx);
            let mut same = dy.clone();
            backward_in_place(op, saved, &mut same);
            assert!(same == dx, "{}: backward in place differs", F::NAME);
            (y, dx)
        });
        for (y, dx) in results {
            close(&y, &expected, tolerance::<T>(), F::NAME);
            // From the saved numbers as they were rounded; that the slope is the derivative is checked in f64.
            let saved = if F::SAVES == Saves::Output { &y } else { &x };
            let slope = |s: &T| op.slope::<crate::tier::Portable, f64>(s.to_f64());
            let slopes = saved.iter().zip(&dy).map(|(s, dy)| slope(s) * dy.to_f64());
            close(&dx, &slopes.collect::<Vec<_>>(), 2.0 * tolerance::<T>(), &format!("{} backward", F::NAME));
        }
    }
}

fn check<F: UnaryKernel>(op: F, case: Case) {
    let slope = |x: f64| {
        let saved = if F::SAVES == Saves::Output { case.2(x) } else { x };
        op.slope::<crate::tier::Portable, f64>(saved)
    };
    // Points with no kink nearby: none of the functions has one between these.
    for k in 0..200 {
        let x = case.0 + (case.1 - case.0) * (f64::from(k) + 0.437) / 200.0;
        let h = 1e-5 * x.abs().max(0.1);
        let difference = (case.2(x + h) - case.2(x - h)) / (2.0 * h);
        let error = (slope(x) - difference).abs();
        assert!(error <= 1e-7 * difference.abs().max(1.0), "{}'({x}) = {} but {difference}", F::NAME, slope(x));
    }
    check_type::<f64, F>(op, case);
    check_type::<f32, F>(op, case);
    check_type::<bf16, F>(op, case);
    check_type::<f16, F>(op, case);
}

fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

#[test]
fn elementary_functions() {
    check(Neg, (-3.0, 3.0, |x| -x));
    check(Abs, (-3.0, 3.0, f64::abs));
    check(Exp, (-4.0, 4.0, f64::exp));
    check(Log, (0.1, 9.0, f64::ln));
    check(Sqrt, (0.1, 9.0, f64::sqrt));
    check(Rsqrt, (0.1, 9.0, |x| 1.0 / x.sqrt()));
    check(Square, (-3.0, 3.0, |x| x * x));
    check(Sin, (-9.0, 9.0, f64::sin));
    check(Cos, (-9.0, 9.0, f64::cos));
    check(Tanh, (-2.0, 2.0, f64::tanh));
    check(Sigmoid, (-4.0, 4.0, |x| 1.0 / (1.0 + (-x).exp())));
    check(Erf, (-3.0, 3.0, libm::erf));
    check(Floor, (-4.0, 4.0, f64::floor));
    check(Ceil, (-4.0, 4.0, f64::ceil));
    check(Round, (-4.0, 4.0, f64::round_ties_even));
    check(Sign, (-4.0, 4.0, f64::signum));
    check(Affine { scale: -1.75, shift: 0.3 }, (-3.0, 3.0, |x| -1.75 * x + 0.3));
    check(Clamp { min: -1.0, max: 1.5 }, (-3.0, 3.0, |x| x.clamp(-1.0, 1.5)));
    check(Recip, (0.2, 5.0, |x| 1.0 / x));
}

#[test]
fn powers() {
    check(Pow { exponent: 2.0 }, (-3.0, 3.0, |x| x * x));
    check(Pow { exponent: 3.0 }, (-3.0, 3.0, |x| x * x * x));
    check(Pow { exponent: 4.0 }, (-3.0, 3.0, |x| x.powi(4)));
    check(Pow { exponent: 0.5 }, (0.2, 3.0, f64::sqrt));
    check(Pow { exponent: -0.5 }, (0.2, 3.0, |x| 1.0 / x.sqrt()));
    check(Pow { exponent: -1.0 }, (0.2, 3.0, |x| 1.0 / x));
    check(Pow { exponent: 1.7 }, (0.2, 3.0, |x| x.powf(1.7)));
    check(Pow { exponent: 0.0 }, (0.2, 3.0, |_| 1.0));
}

#[test]
fn activation_functions() {
    check(Relu, (-3.0, 3.0, |x| x.max(0.0)));
    check(LeakyRelu { slope: 0.1 }, (-3.0, 3.0, |x| if x > 0.0 { x } else { 0.1 * x }));
    check(Elu { alpha: 1.3 }, (-4.0, 3.0, |x| if x > 0.0 { x } else { 1.3 * x.exp_m1() }));
    check(Gelu, (-5.0, 5.0, |x| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)));
    let gelu_tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    check(GeluTanh, (-5.0, 5.0, gelu_tanh));
    check(Silu, (-6.0, 6.0, |x| x / (1.0 + (-x).exp())));
    check(Mish, (-6.0, 6.0, |x| x * softplus(x).tanh()));
    check(Softplus, (-9.0, 9.0, softplus));
    check(Hardswish, (-5.0, 5.0, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0));
}

#[test]
fn activations_have_limits_at_large_arguments_and_pass_nan() {
    let x = [1e20f32, -1e20, 1e38, -1e38, f32::NAN, 0.0];
    let mut y = [0.0f32; 6];
    let mut check = |name: &str, value: [f32; 6], slope: [f32; 6], run: &dyn Fn(&mut [f32], bool)| {
        run(&mut y, false);
        for (y, e) in y.iter().zip(value) {
            assert!(*y == e || y.is_nan() && e.is_nan(), "{name}: {y} {e}");
        }
        run(&mut y, true);
        for (y, e) in y.iter().zip(slope) {
            assert!((*y - e).abs() < 1e-6 || y.is_nan() && e.is_nan(), "{name}': {y} {e}");
        }
    };
    fn run<F: UnaryKernel>(op: F, x: &[f32], y: &mut [f32], slope: bool) {
        if slope { backward(op, x, &[1.0; 6], y) } else { forward(op, x, y) }
    }
    let up = [1e20, 0.0, 1e38, 0.0, f32::NAN, 0.0];
    let one = [1.0, 0.0, 1.0, 0.0, f32::NAN];
    let slopes = |at_zero| [one[0], one[1], one[2], one[3], one[4], at_zero];
    check("gelu", up, slopes(0.5), &|y, s| run(Gelu, &x, y, s));
    check("gelu_tanh", up, slopes(0.5), &|y, s| run(GeluTanh, &x, y, s));
    check("silu", up, slopes(0.5), &|y, s| run(Silu, &x, y, s));
    check("mish", up, slopes(0.6), &|y, s| run(Mish, &x, y, s));
    let softplus = [1e20, 0.0, 1e38, 0.0, f32::NAN, std::f32::consts::LN_2];
    check("softplus", softplus, slopes(0.5), &|y, s| run(Softplus, &x, y, s));
}
