//! Both normalisations against plain formulas in f64 and central differences.

use super::*;
use crate::testing::{close, each_tier_same_on_threads, normal, tolerance, wide};

/// y, h, mean and rstd by the formulas.
fn reference(h: &[f64], w: &[f64], b: &[f64], eps: f64, centred: bool) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = w.len();
    let (mut y, mut means, mut rstds) = (vec![], vec![], vec![]);
    for h in h.chunks(n) {
        let mean = if centred { h.iter().sum::<f64>() / n as f64 } else { 0.0 };
        let rstd = 1.0 / (h.iter().map(|h| (h - mean) * (h - mean)).sum::<f64>() / n as f64 + eps).sqrt();
        y.extend((0..n).map(|k| (h[k] - mean) * rstd * w[k] + b[k]));
        means.push(mean);
        rstds.push(rstd);
    }
    (y, means, rstds)
}

/// dx, dw and db by the formulas of backpropagation, term by term.
fn reference_backward(h: &[f64], w: &[f64], dy: &[f64], eps: f64, centred: bool) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = w.len();
    let (_, means, rstds) = reference(h, w, &vec![0.0; n], eps, centred);
    let (mut dx, mut dw, mut db) = (vec![], vec![0.0; n], vec![0.0; n]);
    for (row, (h, dy)) in h.chunks(n).zip(dy.chunks(n)).enumerate() {
        let (mean, rstd) = (means[row], rstds[row]);
        let d_rstd: f64 = (0..n).map(|k| dy[k] * w[k] * (h[k] - mean)).sum();
        let d_var = d_rstd * -0.5 * rstd.powi(3);
        let direct: Vec<f64> = (0..n).map(|k| dy[k] * w[k] * rstd + d_var * 2.0 * (h[k] - mean) / n as f64).collect();
        let d_mean = if centred { direct.iter().sum::<f64>() } else { 0.0 };
        dx.extend(direct.iter().map(|d| d - d_mean / n as f64));
        for k in 0..n {
            dw[k] += dy[k] * (h[k] - mean) * rstd;
            db[k] += dy[k];
        }
    }
    (dx, dw, db)
}

struct Run<T: Number> {
    y: Vec<T>,
    sum: Vec<T>,
    mean: Vec<T::Real>,
    rstd: Vec<T::Real>,
    dx: Vec<T>,
    dw: Vec<T::Real>,
    db: Vec<T::Real>,
}

#[derive(Clone, Copy)]
struct Variant {
    centred: bool,
    residual: bool,
    weight: bool,
    bias: bool,
}

#[allow(clippy::too_many_arguments)]
fn run<T: Norm<T>>(v: Variant, n: usize, x: &[T], r: &[T], w: &[T::Real], b: &[T::Real], dy: &[T], dh: &[T]) -> Run<T> {
    let rows = x.len() / n;
    let zero = T::Real::ZERO;
    let means = if v.centred { rows } else { 0 };
    let (mut y, mut sum) = (x.to_vec(), vec![T::default(); if v.residual { x.len() } else { 0 }]);
    let (mut mean, mut rstd) = (vec![zero; means], vec![zero; rows]);
    let weight = v.weight.then_some(w);
    let input = Input { x, residual: v.residual.then_some(r), weight, bias: v.bias.then_some(b), eps: 1e-5, width: n };
    let output = Output { y: &mut y, sum: v.residual.then_some(&mut sum), mean: &mut mean, rstd: &mut rstd };
    if v.centred {
        layer_norm(input, output)
    } else {
        rms_norm(input, output)
    }
    // The gradients of weight and bias are added to what is there.
    let (mut dx, mut dw, mut db) = (x.to_vec(), vec![T::Real::ONE; n], vec![T::Real::ONE; n]);
    let h = if v.residual { &sum } else { x };
    let saved = Saved { h, weight, mean: &mean, rstd: &rstd, dh: v.residual.then_some(dh), width: n };
    let gradient = Gradient { dx: &mut dx, dweight: v.weight.then_some(&mut dw), dbias: v.bias.then_some(&mut db) };
    if v.centred {
        layer_norm_backward(saved, dy, gradient)
    } else {
        rms_norm_backward(saved, dy, gradient)
    }
    Run { y, sum, mean, rstd, dx, dw, db }
}

fn variants() -> impl Iterator<Item = Variant> {
    (0..16)
        .map(|k| Variant { centred: k & 1 == 0, residual: k & 2 == 0, weight: k & 4 == 0, bias: k & 8 == 0 })
        .filter(|v| v.centred || !v.bias)
}

fn check<T: Norm<T>>() {
    for (rows, n) in [(0, 3), (5, 1), (3, 31), (300, 33), (2, 65), (600, 257), (1, 5000)] {
        let [x, r, dy, dh] = [1, 2, 3, 4].map(|seed| normal::<T>(rows * n, 1.0, seed));
        let vector = |seed| normal::<T>(n, 1.0, seed).into_iter().map(|x| x.load()).collect::<Vec<_>>();
        let (w, b) = (vector(5), vector(6));
        for v in variants() {
            let h: Vec<f64> = match v.residual {
                true => x.iter().zip(&r).map(|(x, r)| T::from_f64(x.to_f64() + r.to_f64()).to_f64()).collect(),
                false => wide(&x),
            };
            let wide_w = if v.weight { wide(&w) } else { vec![1.0; n] };
            let wide_b = if v.bias { wide(&b) } else { vec![0.0; n] };
            let (y, mean, rstd) = reference(&h, &wide_w, &wide_b, 1e-5, v.centred);
            let (mut dx, mut dw, mut db) = reference_backward(&h, &wide_w, &wide(&dy), 1e-5, v.centred);
            if v.residual {
                dx.iter_mut().zip(&dh).for_each(|(dx, dh)| *dx += dh.to_f64());
            }
            dw.iter_mut().chain(&mut db).for_each(|g| *g += 1.0);
            let what = format!("{} {rows}x{n} centred {} residual {}", T::DTYPE, v.centred, v.residual);
            let bits = |x: &[T]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
            let all = |r: &Run<T>| (bits(&r.y), bits(&r.dx), r.dw.clone(), r.db.clone(), r.rstd.clone());
            each_tier_same_on_threads(|| all(&run(v, n, &x, &r, &w, &b, &dy, &dh)));
            crate::testing::each_tier(|_| {
                let out = run(v, n, &x, &r, &w, &b, &dy, &dh);
                // A row of one element has no variance: eps alone decides, and its gradient is a difference of equals.
                let real = if T::DTYPE == cupola_core::DType::F64 { 1e-12 } else { 4e-6 };
                let bound = tolerance::<T>().max(real);
                close(&out.y, &y, bound, &format!("{what} y"));
                close(&out.rstd, &rstd, real, &format!("{what} rstd"));
                if v.centred {
                    close(&out.mean, &mean, real, &format!("{what} mean"));
                }
                if v.residual {
                    close(&out.sum, &h, 0.0, &format!("{what} sum"));
                }
                if n > 1 {
                    close(&out.dx, &dx, 2.0 * bound, &format!("{what} dx"));
                }
                if v.weight {
                    close(&out.dw, &dw, real, &format!("{what} dw"));
                }
                if v.bias {
                    close(&out.db, &db, real, &format!("{what} db"));
                }
            });
        }
    }
}

#[test]
fn rows_agree_with_the_formulas() {
    check::<f64>();
    check::<f32>();
    check::<bf16>();
    check::<f16>();
}

#[test]
fn gradients_agree_with_central_differences() {
    let n = 7;
    let [x, dy]: [Vec<f64>; 2] = [1, 2].map(|seed| normal(3 * n, 1.0, seed));
    let w: Vec<f64> = normal(n, 1.0, 5);
    for centred in [true, false] {
        let loss = |x: &[f64], w: &[f64]| {
            let y = reference(x, w, &vec![0.0; n], 1e-5, centred).0;
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
        };
        let v = Variant { centred, residual: false, weight: true, bias: false };
        let out = run(v, n, &x, &[], &w, &[], &dy, &[]);
        for k in 0..3 * n {
            let moved = |h: f64| {
                let mut x = x.clone();
                x[k] += h;
                loss(&x, &w)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((difference - out.dx[k]).abs() < 1e-8, "dx {k}: {difference} {}", out.dx[k]);
        }
        for k in 0..n {
            let moved = |h: f64| {
                let mut w = w.clone();
                w[k] += h;
                loss(&x, &w)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((difference + 1.0 - out.dw[k]).abs() < 1e-8, "dw {k}: {difference} {}", out.dw[k]);
        }
    }
}

#[test]
fn weight_gradients_of_two_halves_have_the_bits_of_the_whole() {
    let (n, rows) = (33, 1024);
    let [x, dy]: [Vec<f32>; 2] = [1, 2].map(|seed| normal(rows * n, 1.0, seed));
    let (mut mean, mut rstd, mut y) = (vec![0.0; rows], vec![0.0; rows], x.clone());
    let input = Input { x: &x, residual: None, weight: None, bias: None, eps: 1e-5, width: n };
    layer_norm(input, Output { y: &mut y, sum: None, mean: &mut mean, rstd: &mut rstd });
    let sums = |cuts: &[(usize, usize)]| {
        let (mut dw, mut db) = (vec![0.0; n], vec![0.0; n]);
        for &(top, bottom) in cuts {
            let mut dx = vec![0.0; (bottom - top) * n];
            let (mean, rstd) = (&mean[top..bottom], &rstd[top..bottom]);
            let saved = Saved { h: &x[top * n..bottom * n], weight: None, mean, rstd, dh: None, width: n };
            let gradient = Gradient { dx: &mut dx, dweight: Some(&mut dw), dbias: Some(&mut db) };
            layer_norm_backward(saved, &dy[top * n..bottom * n], gradient);
        }
        (dw, db)
    };
    assert_eq!(sums(&[(0, rows)]), sums(&[(0, 512), (512, rows)]));
    assert_eq!(sums(&[(0, rows)]), sums(&[(0, 256), (256, 512), (512, 768), (768, rows)]));
}
