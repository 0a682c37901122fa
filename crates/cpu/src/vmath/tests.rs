//! The stated bounds, over all exponents and both signs, in every tier.

use super::*;
use crate::kernel;
use crate::testing::each_tier;

type Pair = (&'static str, fn(crate::Isa, &[f32], &mut [f32]), fn(f64) -> f64);

macro_rules! mapped {
    ($($name:ident),*) => { mod mapped { use super::*; kernel! {$(
        pub fn $name[I;](x: &[f32], y: &mut [f32]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = super::super::$name::<I>(x);
            }
        }
    )*} } };
}
mapped!(exp, exp_nonpositive, expm1, ln, log1p_unit, tanh, sigmoid, erf, sin, cos);

/// About a million arguments: every exponent with both signs, evenly spread fractions, the special values.
fn arguments() -> Vec<f32> {
    let mut all: Vec<f32> = (0..u32::MAX / 4099).map(|k| f32::from_bits(k.wrapping_mul(4099))).collect();
    all.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::MAX, f32::MIN]);
    all.extend([1e-45, -1e-45, 88.722_84, 88.722_85, -87.336_55, -103.278_93, -104.1, 1.0, -1.0]);
    all.extend((-100_000..100_000).map(|k| k as f32 * 1.234_567e-3));
    all
}

/// The distance of `actual` from `expected` in units of the last place of `expected` as f32.
fn ulps(actual: f32, expected: f64) -> f64 {
    let nearest = expected as f32;
    if actual.to_bits() == nearest.to_bits() || (actual.is_nan() && nearest.is_nan()) {
        return 0.0;
    }
    if nearest.is_infinite() && actual == f32::MAX.copysign(nearest) {
        return 1.0;
    }
    let exponent = (nearest.abs().max(f32::MIN_POSITIVE).log2().floor() as i32).max(-126);
    (f64::from(actual) - expected).abs() / 2f64.powi(exponent - 23)
}

/// `reference` with results below the smallest normal number replaced by 0.
fn flushed(y: f64) -> f64 {
    if y < f64::from(f32::MIN_POSITIVE) { 0.0 } else { y }
}

fn worst(x: &[f32], y: &[f32], reference: fn(f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(y) {
        let error = ulps(y, reference(f64::from(x)));
        assert!(!error.is_nan(), "at {x:e}: {y:e}, expected {:e}", reference(f64::from(x)));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

#[test]
fn bounds_hold_over_all_exponents() {
    let sigmoid = |x: f64| flushed(if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) });
    let cases: [(Pair, f64); 8] = [
        (("exp", mapped::exp, f64::exp), 1.0),
        (("expm1", mapped::expm1, f64::exp_m1), 2.0),
        (("ln", mapped::ln, f64::ln), 1.0),
        (("tanh", mapped::tanh, f64::tanh), 3.0),
        (("sigmoid", mapped::sigmoid, sigmoid), 3.0),
        (("erf", mapped::erf, libm::erf), 6.0),
        (("sin", mapped::sin, f64::sin), 2.0),
        (("cos", mapped::cos, f64::cos), 2.0),
    ];
    let x = arguments();
    let mut y = vec![0.0; x.len()];
    each_tier(|isa| {
        for ((name, run, reference), bound) in cases {
            run(isa, &x, &mut y);
            let (error, at) = worst(&x, &y, reference);
            println!("{} {name}: {error:.3} at {at:e}", isa.name());
            assert!(error <= bound, "{} {name}: {error} units at {at:e}", isa.name());
        }
        let unit: Vec<f32> = x.iter().copied().filter(|x| (0.0..=1.0).contains(x)).collect();
        mapped::log1p_unit(isa, &unit, &mut y[..unit.len()]);
        let (error, at) = worst(&unit, &y, f64::ln_1p);
        let negative: Vec<f32> = x.iter().copied().filter(|&x| x.is_nan() || x <= 0.0).collect();
        let mut z = vec![0.0; negative.len()];
        mapped::exp_nonpositive(isa, &negative, &mut z);
        let (low, place) = worst(&negative, &z, |x| flushed(x.exp()));
        assert!(low <= 1.0, "{} exp_nonpositive: {low} units at {place:e}", isa.name());
        println!("{} log1p: {error:.3} at {at:e}", isa.name());
        assert!(error <= 2.0, "{} log1p_unit: {error} units at {at:e}", isa.name());
    });
}

kernel! {
    fn normals[I;](x: &[f32], cdf: &mut [f32], pdf: &mut [f32]) {
        for ((x, c), p) in x.iter().zip(cdf).zip(pdf) {
            (*c, *p) = normal::<I>(*x);
        }
    }
    fn powers[I;](x: &[f32], y: &[f32], z: &mut [f32]) {
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            *z = pow::<I>(*x, *y);
        }
    }
}

#[test]
fn the_normal_distribution_keeps_its_lower_tail() {
    let x: Vec<f32> = (-13_000..13_000).map(|k| k as f32 * 1e-3).collect();
    let (mut cdf, mut pdf) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    each_tier(|isa| {
        normals(isa, &x, &mut cdf, &mut pdf);
        for ((&x, &c), &p) in x.iter().zip(&cdf).zip(&pdf) {
            let wide = f64::from(x);
            let expected = 0.5 * libm::erfc(-wide / std::f64::consts::SQRT_2);
            let density = (-0.5 * wide * wide).exp() / std::f64::consts::TAU.sqrt();
            let relative = 4e-7 * (1.0 + wide * wide);
            assert!((f64::from(c) - expected).abs() <= (expected * relative).min(2e-7) + 1e-44, "{x}: {c} {expected}");
            assert!((f64::from(p) - density).abs() <= density * relative + 1e-44, "{x}: {p} {density}");
        }
    });
}

#[test]
fn powers_follow_the_standard() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        0.5,
        -0.5,
        3.0,
        -3.0,
        1e30,
        -1e30,
        1e-40,
        16_777_217.0,
        -16_777_215.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let mut x = Vec::new();
    let mut y = Vec::new();
    for a in special {
        for b in special {
            x.push(a);
            y.push(b);
        }
    }
    for k in 0..300_000u32 {
        x.push(f32::from_bits(k.wrapping_mul(2_654_435_761) & 0x7fff_ffff));
        y.push((k % 1999) as f32 * 0.37 - 370.0);
        x.push(1.0 + (k % 4096) as f32 * 1e-3);
        y.push((k % 517) as f32 * 0.1 - 25.0);
    }
    let mut z = vec![0.0; x.len()];
    each_tier(|isa| {
        powers(isa, &x, &y, &mut z);
        for ((&x, &y), &z) in x.iter().zip(&y).zip(&z) {
            let expected = f64::from(x).powf(f64::from(y));
            assert!(ulps(z, expected) <= 1.0, "{x:e}^{y:e} = {z:e}, expected {expected:e}");
        }
    });
}
