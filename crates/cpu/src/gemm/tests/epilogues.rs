//! Epilogues against the same steps one after the other.

use super::*;
use crate::unary;

/// `exp` and `erf` in f64 from their definitions, independent of what ships.
fn erf(x: f64) -> f64 {
    // Simpson's rule; the integrand is smooth and below 1.
    let steps = 2_000;
    let h = x / f64::from(steps);
    let f = |i: i32| (-(h * f64::from(i)).powi(2)).exp();
    let inner: f64 = (1..steps).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    std::f64::consts::FRAC_2_SQRT_PI * h / 3.0 * (f(0) + inner + f(steps))
}

fn reference(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

const ACTIVATIONS: [Activation; 5] =
    [Activation::None, Activation::Relu, Activation::GeluErf, Activation::GeluTanh, Activation::Silu];

/// An epilogue applied alone: the product of an [M, 1] of sums with a [1, 1] of 1.
fn activated<P: Product<Acc = A>, A>(activation: Activation, x: &[A]) -> Vec<A>
where
    A: Accumulator<Activation = Activation> + Lhs<P> + Rhs<P> + Output<A>,
{
    let mut y = vec![A::default(); x.len()];
    let epilogue = Epilogue { activation, ..Epilogue::default() };
    P::matmul(MatRef::new(x, x.len(), 1), MatRef::new(&[A::ONE], 1, 1), MatMut::new(&mut y, x.len(), 1), epilogue);
    y
}

#[test]
fn activations_are_their_formulas() {
    let x: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 80.0).collect();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    every_tier(|tier| {
        for activation in ACTIVATIONS {
            for (y, &x) in activated::<F32, f32>(activation, &x).into_iter().zip(&wide) {
                let want = reference(activation, x);
                assert!(
                    (f64::from(y) - want).abs() <= 4e-7 * x.abs().max(0.1),
                    "{activation:?}({x}) = {y}, {want}, {tier:?}"
                );
            }
            for (y, &x) in activated::<F64, f64>(activation, &wide).into_iter().zip(&wide) {
                let want = reference(activation, x);
                assert!((y - want).abs() <= 1e-12 * x.abs().max(0.1), "{activation:?}({x}) = {y}, {want}, {tier:?}");
            }
        }
    });
}

#[test]
fn gelu_keeps_its_relative_precision_in_the_tail() {
    every_tier(|tier| {
        for i in 0..=100 {
            let x = -f64::from(i) / 10.0;
            let y = f64::from(activated::<F32, f32>(Activation::GeluErf, &[x as f32])[0]);
            // From the other side of the series: the same polynomial cannot err in f64.
            let want = -x * upper_tail(x);
            assert!((y + want).abs() <= 4e-6 * want.abs(), "gelu({x}) = {y}, expected {}, {tier:?}", -want);
        }
        assert_eq!(activated::<F32, f32>(Activation::GeluErf, &[f32::NEG_INFINITY])[0], 0.0, "{tier:?}");
    });
}

/// `Phi(x)` for negative x by Simpson's rule over `exp(-t^2 / 2)` from x - 12 to x.
fn upper_tail(x: f64) -> f64 {
    let steps = 20_000;
    let x = f64::from(x as f32);
    let h = 12.0 / f64::from(steps);
    let f = |i: i32| (-(x - 12.0 + h * f64::from(i)).powi(2) / 2.0).exp();
    let inner: f64 = (1..steps).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    h / 3.0 * (f(0) + inner + f(steps)) / (2.0 * std::f64::consts::PI).sqrt()
}

#[test]
fn activations_at_the_ends_of_the_range() {
    use Activation::*;
    every_tier(|tier| {
        for activation in ACTIVATIONS {
            let at = |x: f32| activated::<F32, f32>(activation, &[x])[0];
            assert!(at(f32::NAN).is_nan(), "{activation:?}, {tier:?}");
            assert_eq!(at(f32::INFINITY), f32::INFINITY, "{activation:?}, {tier:?}");
            assert_eq!(at(1e30), 1e30, "{activation:?}, {tier:?}");
            assert_eq!(at(0.0), 0.0, "{activation:?}, {tier:?}");
            assert_eq!(
                at(1e-40),
                if matches!(activation, None | Relu) { 1e-40 } else { 0.5 * 1e-40 },
                "{activation:?}, {tier:?}"
            );
            if activation != None {
                assert_eq!(at(-1e30), 0.0, "{activation:?}, {tier:?}");
            }
        }
        // As by itself, bit for bit.
        for (activation, alone) in
            [(GeluErf, alone(unary::Gelu)), (GeluTanh, alone(unary::GeluTanh)), (Silu, alone(unary::Silu))]
        {
            assert_eq!(activated::<F32, f32>(activation, &SAMPLE), alone, "{activation:?}, {tier:?}");
        }
    });
}

const SAMPLE: [f32; 9] = [-40.0, -3.3, -0.7, -1e-3, 0.2, 0.9, 2.5, 7.0, 50.0];

fn alone(function: impl unary::UnaryKernel) -> Vec<f32> {
    let mut y = vec![0.0; SAMPLE.len()];
    unary::forward(function, &SAMPLE, &mut y);
    y
}

/// Steps of the epilogue one after the other, from the sums.
struct Separate<C> {
    pre: Vec<C>,
    result: Vec<C>,
}

fn check<P: Product<Acc = f32>, A: Number + Lhs<P>, B: Number + Rhs<P>, C>(sizes: (usize, usize, usize))
where
    C: Number + Output<f32>,
{
    let (m, k, n) = sizes;
    let (a, b) = (stored::<A>(1, m, k, 0), stored::<B>(2, k, n, 1));
    let before = stored::<C>(3, m, n, 2);
    let residual = [stored::<C>(4, m, n, 3), stored::<C>(4, m, n, 2)];
    let bias: Vec<f32> = (0..n).map(|j| noise(5, j, 0)).collect();
    every_tier(|tier| {
        for (index, &activation) in ACTIVATIONS.iter().enumerate() {
            for accumulate in [false, true] {
                let scale = [1.0, 0.37][index % 2];
                // The sums, in f32: C widened, then the chain.
                let mut sums = vec![0.0f32; m * n];
                for i in 0..m {
                    for j in 0..n {
                        sums[i * n + j] = if accumulate { before.get(i, j).widen() } else { 0.0 };
                    }
                }
                P::matmul(a.view(), b.view(), MatMut::new(&mut sums, m, n), Epilogue::accumulate());
                let mut pre = sums;
                for (x, bias) in pre.iter_mut().zip(bias.iter().cycle()) {
                    *x = *x * scale + bias;
                }
                let active = activated_f32(activation, &pre);
                let mut result = active;
                for (i, x) in result.iter_mut().enumerate() {
                    *x += residual[0].get(i / n, i % n).widen();
                }
                let narrow = |v: Vec<f32>| v.into_iter().map(C::narrow).collect::<Vec<C>>();
                let want = Separate { pre: narrow(pre), result: narrow(result) };

                for residual in &residual {
                    let mut got = before.clone();
                    let mut stored_pre = vec![C::default(); m * n];
                    let epilogue = Epilogue {
                        accumulate,
                        scale,
                        bias: Some(&bias),
                        pre_activation: Some(MatMut::new(&mut stored_pre, m, n)),
                        activation,
                        residual: Some(residual.view()),
                    };
                    let (offset, stride) = (got.offset, got.strides.0 as usize);
                    P::matmul(a.view(), b.view(), MatMut::strided(&mut got.data, offset, m, n, stride), epilogue);
                    let what = format!("{sizes:?} {activation:?} accumulate {accumulate} {tier:?}");
                    assert_eq!(bits(&stored_pre), bits(&want.pre), "pre-activation, {what}");
                    for i in 0..m {
                        let row: Vec<C> = (0..n).map(|j| got.get(i, j)).collect();
                        assert_eq!(bits(&row), bits(&want.result[i * n..(i + 1) * n]), "row {i}, {what}");
                    }
                    let mut untouched = got.clone();
                    for i in 0..m {
                        for j in 0..n {
                            let at = untouched.at(i, j);
                            untouched.data[at] = before.data[at];
                        }
                    }
                    assert_eq!(bits(&untouched.data), bits(&before.data), "memory between rows, {what}");
                }
            }
        }
    });
}

fn activated_f32(activation: Activation, x: &[f32]) -> Vec<f32> {
    activated::<F32, f32>(activation, x)
}

#[test]
fn fused_epilogues_equal_separate_steps() {
    check::<F32, f32, f32, f32>((9, 20, 45));
    check::<F32, f32, f32, bf16>((17, 5, 33));
    check::<F32, f16, f32, f16>((3, 40, 70));
    check::<Bf16, bf16, bf16, f32>((2, 33, 130));
    check::<Bf16, bf16, f32, bf16>((30, 21, 32));
    // Several blocks of depth, whose sums rest in C or beside it.
    check::<F32, f32, f32, f32>((20, 700, 40));
    check::<Bf16, bf16, bf16, bf16>((20, 1_200, 40));
    check::<Bf16, bf16, bf16, bf16>((150, 8_500, 3));
}

#[test]
fn integer_epilogues_wrap() {
    every_tier(|tier| {
        let (a, b) = ([100i8, -100], [100i8, 50]);
        let mut c = [i32::MAX];
        let epilogue = Epilogue { accumulate: true, scale: 3, bias: Some(&[11]), ..Epilogue::default() };
        Int8::matmul(MatRef::new(&a, 1, 2), MatRef::new(&b, 2, 1), MatMut::new(&mut c, 1, 1), epilogue);
        let want = i32::MAX.wrapping_add(5_000).wrapping_mul(3).wrapping_add(11);
        assert_eq!(c, [want], "{tier:?}");
    });
}

/// A bias and nothing else, which kernels add themselves, against the sums and the bias one after the other.
fn check_bias<P: Product<Acc = A>, A, L: Number + Lhs<P>, R: Number + Rhs<P>>(sizes: (usize, usize, usize))
where
    A: Accumulator + Number + Output<A>,
{
    let (m, k, n) = sizes;
    let (a, b) = (stored::<L>(1, m, k, 0), stored::<R>(2, k, n, 1));
    let before = stored::<A>(3, m, n, 0);
    let bias = stored::<A>(5, 1, n, 0);
    let bias: Vec<A> = (0..n).map(|j| bias.get(0, j)).collect();
    every_tier(|tier| {
        for accumulate in [false, true] {
            let rows: Vec<A> = (0..m * n).map(|i| before.get(i / n, i % n)).collect();
            let (mut want, mut got) = (rows.clone(), rows);
            let plain = Epilogue { accumulate, ..Epilogue::default() };
            P::matmul(a.view(), b.view(), MatMut::new(&mut want, m, n), plain);
            want.iter_mut().zip(bias.iter().cycle()).for_each(|(x, bias)| *x = x.plus(*bias));
            let epilogue = Epilogue { accumulate, bias: Some(&bias), ..Epilogue::default() };
            P::matmul(a.view(), b.view(), MatMut::new(&mut got, m, n), epilogue);
            assert_eq!(bits(&got), bits(&want), "{sizes:?} accumulate {accumulate} {tier:?}");
        }
    });
}

#[test]
fn a_bias_alone_is_added_to_finished_sums() {
    // Few rows and many, whole panels of columns and a part of one, one block of depth and several.
    for sizes in [(1, 20, 32), (3, 9, 130), (9, 20, 45), (150, 5, 64), (20, 700, 70)] {
        check_bias::<F32, f32, f32, f32>(sizes);
        check_bias::<F64, f64, f64, f64>(sizes);
        check_bias::<Bf16, f32, bf16, bf16>(sizes);
    }
}
