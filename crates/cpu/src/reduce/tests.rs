//! Every reduction against a plain loop in f64.

use super::*;
use crate::testing::{close, each_tier_same_on_threads, tolerance, uniform, wide};
use cupola_core::{Element, Float, Rng, Shape};

const SHAPES: [(usize, usize, usize); 16] = [
    (1, 0, 3),
    (2, 1, 1),
    (3, 31, 1),
    (1, 33, 1),
    (5, 65, 1),
    (2, 257, 1),
    (1, 4097, 1),
    (3, 40_001, 1),
    (700, 100, 1),
    (1, 1, 31),
    (2, 31, 33),
    (3, 65, 5),
    (1, 257, 65),
    (2, 600, 257),
    (1, 30, 5000),
    (4, 3, 2),
];

fn columns(x: &[f64], (outer, n, inner): (usize, usize, usize)) -> Vec<Vec<f64>> {
    let at = |o: usize, k: usize, i: usize| x[(o * n + k) * inner + i];
    let cell = |r: usize| (0..n).map(|k| at(r / inner, k, r % inner)).collect();
    (0..outer * inner).map(cell).collect()
}

fn formula(op: Reduction, x: &[f64]) -> f64 {
    let squares = || x.iter().map(|x| x * x).sum::<f64>();
    match op {
        Reduction::Sum => x.iter().sum(),
        Reduction::Mean => x.iter().sum::<f64>() / x.len() as f64,
        Reduction::Prod => x.iter().product(),
        Reduction::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduction::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
        Reduction::SumSquares => squares(),
        Reduction::Norm => squares().sqrt(),
        Reduction::Norm1 => x.iter().map(|x| x.abs()).sum(),
    }
}

fn variance(x: &[f64], correction: f64) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (x.len() as f64 - correction).max(0.0)
}

fn check<T: Reducible<T> + Number<Real: Element>>() {
    let ops = [
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Prod,
        Reduction::Max,
        Reduction::Min,
        Reduction::SumSquares,
        Reduction::Norm,
        Reduction::Norm1,
    ];
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let dims = Dims { outer: shape.0, n: shape.1, inner: shape.2 };
        // Near one, so that products of many neither vanish nor overflow, f16 included.
        let spread = if T::DTYPE == cupola_core::DType::F16 && shape.1 > 1000 { 0.1 } else { 0.2 };
        let x: Vec<T> = uniform(dims.numel(), 1.0 - spread, 1.0 + spread, seed as u64);
        // The sum of squares of long f16 rows is beyond its range.
        let long = T::DTYPE == cupola_core::DType::F16 && shape.1 > 40_000;
        // The mean of nothing, which is not a number, has its own test.
        let skip = |op| if op == Reduction::Mean { shape.1 == 0 } else { long };
        let columns = columns(&wide(&x), shape);
        for op in ops.into_iter().filter(|&op| !skip(op)) {
            let expected: Vec<f64> = columns.iter().map(|x| formula(op, x)).collect();
            let results = each_tier_same_on_threads(|| {
                let mut y = vec![T::from_f64(7.0); dims.results()];
                reduce(op, &x, dims, &mut y);
                y
            });
            for y in results {
                // A product's error grows with its length.
                let factor = if op == Reduction::Prod { 1.0 + shape.1 as f64 / 20.0 } else { 1.0 };
                let bound = if T::DTYPE.size() == 2 { tolerance::<T>() } else { tolerance::<T>() * factor };
                close(&y, &expected, bound, &format!("{} {} {shape:?}", op.name(), T::DTYPE));
            }
        }
        let expected: Vec<f64> = columns.iter().map(|x| variance(x, 1.0)).collect();
        let sums: Vec<f64> = columns.iter().map(|x| x.iter().map(|x| x.exp()).sum::<f64>().ln()).collect();
        let results = each_tier_same_on_threads(|| {
            let mut y = vec![T::from_f64(7.0); dims.results()];
            let mut means = vec![<T::Real as Default>::default(); dims.results()];
            var(&x, dims, 1.0, &mut means, &mut y);
            let mut l = y.clone();
            logsumexp(&x, dims, &mut l);
            (y.iter().map(|y| y.to_f64().to_bits()).collect::<Vec<_>>(), l)
        });
        for (bits, l) in results {
            let y: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
            if shape.1 > 1 {
                close(&y, &expected, tolerance::<T>(), &format!("var {} {shape:?}", T::DTYPE));
            } else {
                assert!(y.iter().all(|y| y.is_nan()), "var of one element is not a number");
            }
            close(&l, &sums, tolerance::<T>(), &format!("logsumexp {} {shape:?}", T::DTYPE));
        }
    }
}

#[test]
fn reductions_agree_with_plain_loops() {
    check::<f64>();
    check::<f32>();
    check::<bf16>();
    check::<f16>();
}

#[test]
fn a_sum_of_millions_stays_accurate() {
    let x: Vec<f32> = uniform(3_000_000, 0.0, 1.0, 1);
    let exact: f64 = wide(&x).iter().sum();
    for y in each_tier_same_on_threads(|| {
        let (mut row, mut column) = ([0.0], [0.0; 2]);
        reduce(Reduction::Sum, &x, Dims::rows(1, x.len()), &mut row);
        reduce(Reduction::Sum, &x, Dims { outer: 1, n: x.len() / 2, inner: 2 }, &mut column);
        [row[0], column[0] + column[1]]
    }) {
        assert!((f64::from(y[0]) / exact - 1.0).abs() < 2e-7, "{y:?} {exact}");
        assert!((f64::from(y[1]) / exact - 1.0).abs() < 2e-5, "{y:?} {exact}");
    }
}

#[test]
fn a_mean_of_nothing_is_not_a_number() {
    let mut y = [0.0f32; 2];
    reduce(Reduction::Mean, &[], Dims::rows(2, 0), &mut y);
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
fn a_variance_does_not_cancel() {
    let x: Vec<f32> = (0..1000).map(|k| 1e4 + (k % 2) as f32).collect();
    let (mut mean, mut y) = ([0.0], [0.0]);
    var(&x, Dims::rows(1, 1000), 0.0, &mut mean, &mut y);
    assert!((y[0] - 0.25).abs() < 1e-6, "{y:?}");
}

#[test]
fn logsumexp_has_limits() {
    let (inf, mut y) = (f32::INFINITY, [0.0; 4]);
    let x = [-inf, -inf, inf, 0.0, 1e30, 1e30, f32::NAN, 0.0];
    logsumexp(&x, Dims::rows(4, 2), &mut y);
    assert_eq!(y[..3], [-inf, inf, 1e30]);
    assert!(y[3].is_nan());
}

#[test]
fn extrema_and_their_places_put_nan_first() {
    let x = [1.0f32, 3.0, 3.0, f32::NAN, 2.0, f32::NAN, 5.0, -1.0, -1.0];
    let mut y = [0.0f32; 3];
    reduce(Reduction::Max, &x, Dims::rows(3, 3), &mut y);
    assert!(y[0] == 3.0 && y[1].is_nan() && y[2] == 5.0);
    let mut at = [0; 3];
    argmax(&x, Dims::rows(3, 3), &mut at);
    assert_eq!(at, [1, 0, 0]);
    argmin(&x, Dims::rows(3, 3), &mut at);
    assert_eq!(at, [0, 0, 1]);
    argmax(&x, Dims { outer: 1, n: 3, inner: 3 }, &mut at);
    assert_eq!(at, [1, 0, 1]);
}

fn check_integers<T: Integer + ReducibleInteger<T> + scan::Scannable<T>>() {
    for (seed, shape) in SHAPES.into_iter().enumerate() {
        let dims = Dims { outer: shape.0, n: shape.1, inner: shape.2 };
        let rng = Rng::seed(seed as u64);
        let x: Vec<T> = (0..dims.numel() as u64).map(|i| T::from_i64(rng.u64(i) as i64)).collect();
        let cells = columns(&(0..x.len()).map(|k| k as f64).collect::<Vec<_>>(), shape);
        let fold = |begin: T, merge: fn(T, T) -> T| -> Vec<T> {
            cells.iter().map(|cell| cell.iter().fold(begin, |a, &k| merge(a, x[k as usize]))).collect()
        };
        let mut y = vec![T::default(); dims.results()];
        reduce_integers(Reduction::Sum, &x, dims, &mut y);
        assert_eq!(y, fold(T::from_i64(0), T::add));
        reduce_integers(Reduction::Prod, &x, dims, &mut y);
        assert_eq!(y, fold(T::from_i64(1), T::mul));
        if dims.n > 0 {
            reduce_integers(Reduction::Max, &x, dims, &mut y);
            assert_eq!(y, fold(x[0].min(T::from_f64(f64::NEG_INFINITY)), Ord::max));
            let mut y = vec![T::default(); x.len()];
            cumsum(&x, dims, false, &mut y);
            let last: Vec<T> = cells.iter().map(|cell| y[*cell.last().expect("n > 0") as usize]).collect();
            assert_eq!(last, fold(T::from_i64(0), T::add));
        }
    }
}

#[test]
fn integer_reductions_are_exact() {
    check_integers::<i64>();
    check_integers::<i32>();
    check_integers::<u32>();
    check_integers::<i8>();
    check_integers::<u8>();
}

#[test]
fn any_and_all_join_booleans() {
    let x = [true, false, false, false, true, true];
    let dims = Dims { outer: 3, n: 2, inner: 1 };
    let mut y = [false; 3];
    any(&x, dims, &mut y);
    assert_eq!(y, [true, false, true]);
    all(&x, dims, &mut y);
    assert_eq!(y, [false, false, true]);
    let dims = Dims { outer: 1, n: 2, inner: 3 };
    all(&x, dims, &mut y);
    assert_eq!(y, [false, false, false]);
    any(&x, dims, &mut y);
    assert_eq!(y, [true, true, true]);
    any(&[], Dims { outer: 1, n: 0, inner: 3 }, &mut y);
    assert_eq!(y, [false; 3]);
}

#[test]
fn cumulative_sums_run_both_ways() {
    let x: Vec<f32> = uniform(2 * 40_000 * 2, -1.0, 1.0, 3);
    let dims = Dims { outer: 2, n: 40_000, inner: 2 };
    let [mut forward, mut backward] = [vec![0.0; x.len()], vec![0.0; x.len()]];
    cumsum(&x, dims, false, &mut forward);
    cumsum(&x, dims, true, &mut backward);
    for (k, column) in columns(&wide(&x), (2, 40_000, 2)).iter().enumerate() {
        let total: f64 = column.iter().sum();
        let mut sum = 0.0;
        for (row, x) in column.iter().enumerate() {
            let at = (k / 2 * 40_000 + row) * 2 + k % 2;
            assert!((f64::from(backward[at]) - (total - sum)).abs() < 1e-4);
            sum += x;
            assert!((f64::from(forward[at]) - sum).abs() < 1e-5 * sum.abs().max(1.0));
        }
    }
}

#[test]
fn sums_over_any_dimensions_undo_broadcasting() {
    fn check<T: dims::Summable<T> + Float>() {
        let shape = Shape::new(&[3, 5, 1, 4, 70]);
        let x: Vec<T> = uniform(shape.numel(), -1.0, 1.0, 9);
        for mask in 0..32usize {
            let summed: Vec<usize> = (0..5).filter(|axis| mask >> axis & 1 == 1).collect();
            let mut expected = std::collections::BTreeMap::<Vec<usize>, f64>::new();
            for (k, x) in x.iter().enumerate() {
                let index = [k / 1400, k / 280 % 5, 0, k / 70 % 4, k % 70];
                let key = (0..5).filter(|axis| !summed.contains(axis)).map(|axis| index[axis]).collect();
                *expected.entry(key).or_default() += x.to_f64();
            }
            let expected: Vec<f64> = expected.into_values().collect();
            for y in each_tier_same_on_threads(|| {
                let mut y = vec![T::default(); expected.len()];
                sum_dims(&x, shape, &summed, &mut y);
                y
            }) {
                close(&y, &expected, tolerance::<T>(), &format!("{summed:?}"));
            }
        }
    }
    check::<f64>();
    check::<f32>();
    check::<bf16>();
}
