//! Every step against the formula in f64, over several steps, parameters and sizes.

use super::*;
use crate::testing::{close, each_tier_same_on_threads, normal, wide};

const LENGTHS: [usize; 7] = [0, 1, 31, 33, 65, 257, 100_001];
const STEPS: u64 = 4;

fn tolerance<R: Real>() -> f64 {
    if R::DTYPE == cupola_core::DType::F64 { 1e-12 } else { 3e-6 }
}

/// Parameters after some steps of `run` in every tier, against `formula`, which updates one element: (p, g, state, step).
fn check<R: Steps<R> + Real>(
    name: &str,
    states: usize,
    run: impl Fn(u64, Vec<Slices<'_, R, 3>>),
    formula: impl Fn(&mut f64, f64, &mut [f64; 3], u64),
) {
    let start: Vec<Vec<R>> = LENGTHS.iter().map(|&n| normal(n, 1.0, n as u64)).collect();
    let gradients = |step| LENGTHS.iter().map(|&n| normal::<R>(n, 0.5, 1000 * step + n as u64)).collect();
    let grads: Vec<Vec<Vec<R>>> = (1..=STEPS).map(gradients).collect();
    let mut expected: Vec<(Vec<f64>, Vec<[f64; 3]>)> =
        start.iter().map(|p| (wide(p), vec![[0.0; 3]; p.len()])).collect();
    for step in 1..=STEPS {
        for ((p, state), g) in expected.iter_mut().zip(&grads[step as usize - 1]) {
            for ((p, g), state) in p.iter_mut().zip(g).zip(state) {
                formula(p, g.to_f64(), state, step);
            }
        }
    }
    for params in each_tier_same_on_threads(|| {
        let mut params = start.clone();
        let mut state: Vec<[Vec<R>; 3]> =
            LENGTHS.iter().map(|&n| std::array::from_fn(|k| vec![R::ZERO; if k < states { n } else { 0 }])).collect();
        for step in 1..=STEPS {
            let list = params.iter_mut().zip(&grads[step as usize - 1]).zip(&mut state);
            let list = list.map(|((param, grad), state)| {
                let state = state.each_mut().map(|state| &mut state[..]);
                Slices { param, grad, state }
            });
            run(step, list.collect());
        }
        params
    }) {
        for (param, (expected, _)) in params.iter().zip(&expected) {
            close(param, expected, tolerance::<R>(), &format!("{name} {} {}", R::DTYPE, expected.len()));
        }
    }
}

fn first<R>(slices: Slices<'_, R, 3>) -> Slices<'_, R, 1> {
    let Slices { param, grad, state: [state, ..] } = slices;
    Slices { param, grad, state: [state] }
}

fn check_sgd<R: Steps<R> + Real>() {
    for (momentum, dampening, nesterov, weight_decay) in [
        (0.0, 0.0, false, 0.0),
        (0.0, 0.0, false, 0.1),
        (0.9, 0.0, false, 0.1),
        (0.8, 0.3, false, 0.0),
        (0.9, 0.0, true, 0.1),
    ] {
        let settings =
            |step| Sgd { lr: 0.1, momentum, dampening, nesterov, weight_decay, first: step == 1, grad_scale: 0.5 };
        let states = usize::from(momentum > 0.0);
        let run = |step, list: Vec<Slices<'_, R, 3>>| {
            sgd(list.into_iter().map(|s| (settings(step), first::<R>(s))).collect())
        };
        check::<R>("sgd", states, run, |p, g, state, step| {
            let g = 0.5 * g + weight_decay * *p;
            state[0] = if step == 1 { g } else { momentum * state[0] + (1.0 - dampening) * g };
            let direction = if momentum == 0.0 {
                g
            } else if nesterov {
                g + momentum * state[0]
            } else {
                state[0]
            };
            *p -= 0.1 * direction;
        });
    }
}

fn check_adam<R: Steps<R> + Real>() {
    for (decoupled, amsgrad, weight_decay) in
        [(true, false, 0.1), (false, false, 0.1), (true, true, 0.0), (false, true, 0.2)]
    {
        let settings = |step| Adam {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay,
            decoupled,
            amsgrad,
            step,
            grad_scale: 2.0,
        };
        let run = |step, list: Vec<Slices<'_, R, 3>>| adam(list.into_iter().map(|s| (settings(step), s)).collect());
        check::<R>("adam", if amsgrad { 3 } else { 2 }, run, |p, g, [m, v, largest], step| {
            let mut g = 2.0 * g;
            if decoupled {
                *p *= 1.0 - 0.01 * weight_decay;
            } else {
                g += weight_decay * *p;
            }
            *m = 0.9 * *m + (1.0 - 0.9) * g;
            *v = 0.99 * *v + (1.0 - 0.99) * g * g;
            *largest = largest.max(*v);
            let square = if amsgrad { *largest } else { *v };
            let m_hat = *m / (1.0 - 0.9f64.powi(step as i32));
            let denominator = square.sqrt() / (1.0 - 0.99f64.powi(step as i32)).sqrt() + 1e-8;
            *p -= 0.01 * m_hat / denominator;
        });
    }
}

fn check_rmsprop<R: Steps<R> + Real>() {
    for (momentum, centered, weight_decay) in [(0.0, false, 0.0), (0.9, true, 0.1), (0.5, true, 0.0)] {
        let settings = RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-3, momentum, centered, weight_decay, grad_scale: 1.0 };
        let run = |_, list: Vec<Slices<'_, R, 3>>| {
            let trimmed = list.into_iter().map(|Slices { param, grad, state: [v, mean, buffer] }| {
                let mean = if centered { mean } else { &mut [] };
                let buffer = if momentum > 0.0 { buffer } else { &mut [] };
                (settings, Slices { param, grad, state: [v, mean, buffer] })
            });
            rmsprop(trimmed.collect());
        };
        check::<R>("rmsprop", 3, run, |p, g, [v, mean, buffer], _| {
            let g = g + weight_decay * *p;
            *v = 0.9 * *v + (1.0 - 0.9) * g * g;
            *mean = 0.9 * *mean + (1.0 - 0.9) * g;
            let spread = if centered { *v - *mean * *mean } else { *v };
            *buffer = momentum * *buffer + g / (spread.sqrt() + 1e-3);
            *p -= 0.01 * *buffer;
        });
    }
}

fn check_lion<R: Steps<R> + Real>() {
    let settings = Lion { lr: 0.01, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, grad_scale: 1.0 };
    let run = |_, list: Vec<Slices<'_, R, 3>>| lion(list.into_iter().map(|s| (settings, first::<R>(s))).collect());
    check::<R>("lion", 1, run, |p, g, [m, ..], _| {
        let update = (0.9 * *m + (1.0 - 0.9) * g).signum();
        *p = *p * (1.0 - 0.01 * 0.1) - 0.01 * update;
        *m = 0.99 * *m + (1.0 - 0.99) * g;
    });
}

#[test]
fn every_step_follows_its_formula() {
    check_sgd::<f64>();
    check_sgd::<f32>();
    check_adam::<f64>();
    check_adam::<f32>();
    check_rmsprop::<f64>();
    check_rmsprop::<f32>();
    check_lion::<f64>();
    check_lion::<f32>();
}

#[test]
fn lamb_scales_its_step_by_the_norms() {
    let n = 40_000;
    let p: Vec<f64> = normal(n, 1.0, 1);
    let g: Vec<f64> = normal(n, 0.5, 2);
    let settings = Lamb { beta1: 0.9, beta2: 0.999, eps: 1e-6, weight_decay: 0.01, step: 1, grad_scale: 1.0 };
    for params in each_tier_same_on_threads(|| {
        let mut param = p.clone();
        let mut state = [(); 3].map(|()| vec![0.0; n]);
        let slices = Slices { param: &mut param, grad: &g, state: state.each_mut().map(|state| &mut state[..]) };
        lamb_update(vec![(settings, slices)]);
        lamb_apply(0.1, &mut param, &state[2]);
        param
    }) {
        // In the first step the corrected means are g and g^2.
        let update: Vec<f64> = p.iter().zip(&g).map(|(p, g)| g / (g.abs() + 1e-6) + 0.01 * p).collect();
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let trust = norm(&p) / norm(&update);
        let expected: Vec<f64> = p.iter().zip(&update).map(|(p, u)| p - 0.1 * trust * u).collect();
        close(&params, &expected, 1e-10, "lamb");
    }
    let mut zeros = [0.0f32; 3];
    assert_eq!(lamb_apply(0.5, &mut zeros, &[2.0; 3]), 1.0);
    assert_eq!(zeros, [-1.0; 3]);
}

#[test]
fn vectors_scale_add_and_blend() {
    for n in LENGTHS {
        let (x, y): (Vec<f32>, Vec<f32>) = (normal(n, 1.0, 1), normal(n, 1.0, 2));
        let squares: f64 = wide(&x).iter().map(|x| x * x).sum();
        for (scaled, added, blended, sum) in each_tier_same_on_threads(|| {
            let (mut scaled, mut added, mut blended) = (x.clone(), y.clone(), y.clone());
            scale(&mut scaled, 0.3);
            add_scaled(&mut added, -0.7, &x);
            lerp(&mut blended, 0.1, &x);
            (scaled, added, blended, sum_squares(&x))
        }) {
            let pairs = || wide(&x).into_iter().zip(wide(&y));
            close(&scaled, &pairs().map(|(x, _)| 0.3 * x).collect::<Vec<_>>(), 1e-6, "scale");
            close(&added, &pairs().map(|(x, y)| y - 0.7 * x).collect::<Vec<_>>(), 1e-6, "add_scaled");
            close(&blended, &pairs().map(|(x, y)| 0.9 * y + 0.1 * x).collect::<Vec<_>>(), 1e-6, "lerp");
            assert!((sum - squares).abs() <= 1e-6 * squares);
        }
    }
}

#[test]
fn a_gradient_that_is_no_number_reaches_the_parameter() {
    let (mut p, mut m) = ([1.0f32; 2], [0.0; 2]);
    let settings = Lion { lr: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.0, grad_scale: 1.0 };
    lion(vec![(settings, Slices { param: &mut p, grad: &[f32::NAN, 1.0], state: [&mut m] })]);
    assert!(p[0].is_nan() && p[1] == 0.9);
}

fn check_muon<R: Steps<R> + Real>() {
    for nesterov in [true, false] {
        let settings = Muon { momentum: 0.9, nesterov, grad_scale: 0.5 };
        let run = |_step, list: Vec<Slices<'_, R, 3>>| {
            for Slices { param, grad, state: [buffer, ..] } in list {
                let mut direction = vec![R::ZERO; param.len()];
                muon_direction(settings, grad, buffer, &mut direction);
                muon_apply(param, 0.99, 0.1, &direction);
            }
        };
        check::<R>("muon", 1, run, |p, g, [b, ..], _| {
            let g = 0.5 * g;
            *b = 0.9 * *b + 0.1 * g;
            let u = if nesterov { 0.9 * *b + 0.1 * g } else { *b };
            *p = 0.99 * *p - 0.1 * u;
        });
    }
}

#[test]
fn the_parts_of_muon_agree_with_the_formula() {
    check_muon::<f32>();
    check_muon::<f64>();
}
