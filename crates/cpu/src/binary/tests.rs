//! Every function against a plain formula in f64 over layouts of every kind.

use super::*;
use crate::testing::{close, each_tier_same_on_threads, tolerance, uniform};
use cupola_core::Element;

const ALL: [Binary; 7] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Pow, Binary::Min, Binary::Max];

fn formula(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
    }
}

fn difference(op: Binary, side: Side, a: f64, b: f64) -> f64 {
    let h = 1e-6;
    let (da, db) = if side == Side::Left { (h, 0.0) } else { (0.0, h) };
    (formula(op, a + da, b + db) - formula(op, a - da, b - db)) / (2.0 * h)
}

/// Shapes of results with two layouts that broadcast to them.
fn layouts() -> Vec<(Shape, Layout, Layout)> {
    let plain = |dims: &[usize]| Layout::contiguous(dims.into());
    let mut all = vec![];
    for n in [0, 1, 31, 33, 65, 257, 1025] {
        all.push((Shape::new(&[n]), plain(&[n]), plain(&[n])));
        all.push((Shape::new(&[n, 3]), plain(&[n, 3]), plain(&[])));
        all.push((Shape::new(&[5, n]), plain(&[5, n]), plain(&[n])));
        all.push((Shape::new(&[5, n]), plain(&[5, 1]), plain(&[5, n])));
        let turned = Layout::strided([n, 5].into(), &[1, n as isize], 0);
        all.push((Shape::new(&[n, 5]), turned, plain(&[n, 5])));
        let flipped = Layout::strided([n].into(), &[-1], n.max(1) - 1);
        all.push((Shape::new(&[2, n]), flipped, plain(&[2, n])));
    }
    all.push((Shape::new(&[]), plain(&[]), plain(&[])));
    all.push((Shape::new(&[300, 301]), plain(&[300, 301]), plain(&[300, 1])));
    let every_other = Layout::strided([3, 4, 7].into(), &[56, 14, 2], 1);
    all.push((Shape::new(&[3, 4, 7]), every_other, plain(&[4, 1])));
    all
}

fn operands<T: Element>(shape: Shape, a: &Layout, b: &Layout, seed: u64) -> (Vec<T>, Vec<T>, Vec<f64>, Vec<f64>) {
    let x: Vec<T> = uniform(a.extent().1 + 1, 0.3, 3.0, seed);
    let y: Vec<T> = uniform(b.extent().1 + 1, 0.3, 3.0, seed + 1);
    let at = |data: &[T], layout: &Layout| -> Vec<f64> {
        let layout = layout.broadcast_to(shape).expect("the case fits");
        layout.positions().map(|p| data[p].to_f64()).collect()
    };
    let (wide_a, wide_b) = (at(&x, a), at(&y, b));
    (x, y, wide_a, wide_b)
}

fn check<T: Arithmetic<T> + Differentiable<T> + cupola_core::Float>() {
    for (seed, (shape, la, lb)) in layouts().into_iter().enumerate() {
        let (a, b, wide_a, wide_b) = operands::<T>(shape, &la, &lb, seed as u64 * 10);
        let dy: Vec<T> = uniform(shape.numel(), -1.0, 1.0, seed as u64 * 10 + 2);
        let pairs = || wide_a.iter().zip(&wide_b);
        for op in ALL {
            let expected: Vec<f64> = pairs().map(|(&a, &b)| formula(op, a, b)).collect();
            let what = format!("{} {} {shape}", op.name(), T::DTYPE);
            let results = each_tier_same_on_threads(|| {
                let mut y = vec![T::default(); shape.numel()];
                forward(op, shape, (&a, &la), (&b, &lb), &mut y);
                let mut da = y.clone();
                backward(op, Side::Left, shape, &dy, (&a, &la), (&b, &lb), &mut da);
                let mut db = y.clone();
                backward(op, Side::Right, shape, &dy, (&a, &la), (&b, &lb), &mut db);
                for (swapped, contiguous, other) in [(false, &la, (&b, &lb)), (true, &lb, (&a, &la))] {
                    if contiguous.shape == shape && contiguous.is_contiguous() {
                        let mut same = (if swapped { &b } else { &a })[..shape.numel()].to_vec();
                        assign(op, &mut same, shape, (other.0, other.1), swapped);
                        assert!(same == y, "{what} in place");
                    }
                }
                (y, da, db)
            });
            for (y, da, db) in results {
                close(&y, &expected, tolerance::<T>(), &what);
                for (side, gradient) in [(Side::Left, da), (Side::Right, db)] {
                    let slopes = pairs().map(|(&a, &b)| {
                        if op == Binary::Min || op == Binary::Max {
                            let first = formula(op, a, b) == a;
                            if a == b { 0.5 } else { f64::from(u8::from(first == (side == Side::Left))) }
                        } else {
                            difference(op, side, a, b)
                        }
                    });
                    let expected: Vec<f64> = slopes.zip(&dy).map(|(s, dy)| s * dy.to_f64()).collect();
                    close(&gradient, &expected, tolerance::<T>().max(1e-8), &format!("{what} {side:?}"));
                }
            }
        }
    }
}

#[test]
fn floats_agree_with_formulas_over_all_layouts() {
    check::<f64>();
    check::<f32>();
    check::<bf16>();
    check::<f16>();
}

fn check_integers<T: Integer + Arithmetic<T> + compare::Comparable<T>>() {
    for (seed, (shape, la, lb)) in layouts().into_iter().enumerate() {
        let (a, b, wide_a, wide_b) = operands::<T>(shape, &la, &lb, seed as u64);
        // Values 1 to 5, so that every type holds all results but those of mul and pow, which stay below 5^5 modulo 2^8.
        let lift = |x: Vec<T>| x.into_iter().map(|x| x.add(T::from_i64(1))).collect::<Vec<_>>();
        let (a, b) = (lift(a), lift(b));
        for op in ALL {
            let exact = wide_a.iter().zip(&wide_b).map(|(a, b)| formula(op, a + 1.0, b + 1.0).trunc() as i64);
            let exact: Vec<T> = exact.map(T::from_i64).collect();
            let mut y = vec![T::default(); shape.numel()];
            forward(op, shape, (&a, &la), (&b, &lb), &mut y);
            assert_eq!(y, exact, "{} {} {shape}", op.name(), T::DTYPE);
        }
        let mut less = vec![false; shape.numel()];
        compare(Comparison::Lt, shape, (&a, &la), (&b, &lb), &mut less);
        assert!(less.iter().zip(wide_a.iter().zip(&wide_b)).all(|(y, (a, b))| *y == (a < b)));
    }
}

#[test]
fn integers_are_exact_modulo_their_range() {
    check_integers::<i64>();
    check_integers::<i32>();
    check_integers::<u32>();
    check_integers::<i8>();
    check_integers::<u8>();
    let one = Layout::contiguous([2].into());
    let mut y = [0i8; 2];
    forward(Binary::Add, one.shape, (&[127i8, -128], &one), (&[1i8, -1], &one), &mut y);
    assert_eq!(y, [-128, 127]);
    forward(Binary::Pow, one.shape, (&[-1i8, 3], &one), (&[-3i8, -1], &one), &mut y);
    assert_eq!(y, [-1, 0]);
}

#[test]
#[should_panic(expected = "div: an integer was divided by zero")]
fn dividing_an_integer_by_zero_is_named() {
    let one = Layout::contiguous([1].into());
    forward(Binary::Div, one.shape, (&[1i32], &one), (&[0i32], &one), &mut [0]);
}

#[test]
fn comparisons_treat_nan_as_unordered() {
    let layout = Layout::contiguous([5].into());
    let a = [1.0f32, 2.0, 3.0, f32::NAN, f32::NAN];
    let b = [2.0f32, 2.0, 2.0, 1.0, f32::NAN];
    let cases = [
        (Comparison::Eq, [false, true, false, false, false]),
        (Comparison::Ne, [true, false, true, true, true]),
        (Comparison::Lt, [true, false, false, false, false]),
        (Comparison::Le, [true, true, false, false, false]),
        (Comparison::Gt, [false, false, true, false, false]),
        (Comparison::Ge, [false, true, true, false, false]),
    ];
    for (op, expected) in cases {
        let mut y = [false; 5];
        compare(op, layout.shape, (&a, &layout), (&b, &layout), &mut y);
        assert_eq!(y, expected, "{}", op.name());
        let mut y = [false; 5];
        let half = |x: [f32; 5]| x.map(bf16::from_f32);
        compare(op, layout.shape, (&half(a), &layout), (&half(b), &layout), &mut y);
        assert_eq!(y, expected, "{} bf16", op.name());
    }
}

#[test]
fn extrema_pass_nan_and_share_the_gradient_of_ties() {
    let layout = Layout::contiguous([3].into());
    let (a, b) = ([f32::NAN, 1.0, 2.0], [1.0f32, f32::NAN, 2.0]);
    for op in [Binary::Min, Binary::Max] {
        let mut y = [0.0f32; 3];
        forward(op, layout.shape, (&a, &layout), (&b, &layout), &mut y);
        assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 2.0);
        backward(op, Side::Left, layout.shape, &[4.0; 3], (&a, &layout), (&b, &layout), &mut y);
        assert_eq!(y[2], 2.0);
    }
}
