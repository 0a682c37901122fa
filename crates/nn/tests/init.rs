//! Initialisers: bounds, moments and structure (the numbers themselves come from another generator than PyTorch's).

use cupola_nn::init::{FanMode, Init, Nonlinearity};
use cupola_nn::{Module, Param};

#[derive(Module)]
struct One {
    weight: Param,
}

fn drawn(shape: &[usize], init: Init) -> Vec<f64> {
    One {
        weight: Param::new(shape, init),
    }
    .init(11)
    .weight
    .to_f64_vec()
}

fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (
        mean,
        (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt(),
    )
}

#[track_caller]
fn check_uniform(x: &[f64], bound: f64) {
    let (mean, std) = moments(x);
    let largest = x.iter().fold(0f64, |m, v| m.max(v.abs()));
    assert!(
        largest <= bound * (1.0 + 1e-6) && largest > 0.999 * bound,
        "{largest} within {bound}"
    );
    assert!(
        mean.abs() < 0.02 * bound && (std * 3f64.sqrt() / bound - 1.0).abs() < 0.01,
        "{mean} {std} {bound}"
    );
}

#[track_caller]
fn check_normal(x: &[f64], expected: f64) {
    let (mean, std) = moments(x);
    let kurtosis = x.iter().map(|v| ((v - mean) / std).powi(4)).sum::<f64>() / x.len() as f64;
    assert!(
        mean.abs() < 0.02 * expected && (std / expected - 1.0).abs() < 0.01,
        "{mean} {std} {expected}"
    );
    assert!((kurtosis - 3.0).abs() < 0.15, "{kurtosis}");
}

#[test]
fn fans_and_gains_are_those_of_pytorch() {
    // A convolution [out 40, in 30, 5, 5]: fan_in 750, fan_out 1000.
    let shape = [40, 30, 5, 5];
    check_uniform(
        &drawn(&shape, Init::XavierUniform { gain: 2.0 }),
        2.0 * (6.0f64 / 1750.0).sqrt(),
    );
    check_normal(
        &drawn(&shape, Init::XavierNormal { gain: 1.0 }),
        (2.0f64 / 1750.0).sqrt(),
    );
    check_uniform(&drawn(&shape, Init::KAIMING_UNIFORM), (6.0f64 / 750.0).sqrt());
    check_normal(&drawn(&shape, Init::KAIMING_NORMAL), (2.0f64 / 750.0).sqrt());
    let backward = Init::KaimingNormal {
        mode: FanMode::FanOut,
        nonlinearity: Nonlinearity::Tanh,
    };
    check_normal(&drawn(&shape, backward), 5.0 / 3.0 / 1000f64.sqrt());
    let selu = Init::KaimingUniform {
        mode: FanMode::FanOut,
        nonlinearity: Nonlinearity::Selu,
    };
    check_uniform(&drawn(&shape, selu), 0.75 * (3.0f64 / 1000.0).sqrt());
    check_uniform(&drawn(&[200, 150], Init::LINEAR), 1.0 / 150f64.sqrt());
}

#[test]
fn plain_draws_have_the_moments_asked_for() {
    check_uniform(&drawn(&[30_000], Init::uniform_within(0.3)), 0.3);
    check_normal(&drawn(&[30_001], Init::normal(0.02)), 0.02);
    let shifted = drawn(&[30_000], Init::Normal { mean: 5.0, std: 0.1 });
    assert!((moments(&shifted).0 - 5.0).abs() < 0.005);
    assert_eq!(drawn(&[3], Init::Constant(0.25)), [0.25; 3]);
    assert_eq!(
        (drawn(&[2], Init::Zeros), drawn(&[2], Init::Ones)),
        (vec![0.0; 2], vec![1.0; 2])
    );
}

#[test]
fn truncated_normals_stay_inside_and_keep_their_shape() {
    // Known moments: standard normal cut at 2 has deviation 0.87963; the tail above 3 has mean 3.2831.
    let x = drawn(&[30_000], Init::trunc_normal(1.0));
    let (mean, std) = moments(&x);
    assert!(x.iter().all(|v| v.abs() <= 2.0));
    assert!(mean.abs() < 0.02 && (std - 0.87963).abs() < 0.01, "{mean} {std}");
    let tail = drawn(
        &[30_000],
        Init::TruncNormal {
            mean: 0.0,
            std: 1.0,
            low: 3.0,
            high: 8.0,
        },
    );
    assert!(tail.iter().all(|v| (3.0..=8.0).contains(v)));
    assert!((moments(&tail).0 - 3.2831).abs() < 0.01, "{}", moments(&tail).0);
}

#[test]
fn orthogonal_rows_or_columns_are_orthonormal_times_the_gain() {
    for shape in [[5usize, 9], [9, 5], [7, 7]] {
        let x = drawn(&shape, Init::Orthogonal { gain: 2.0 });
        let [rows, cols] = shape;
        let at = |i: usize, k: usize| if rows <= cols { x[i * cols + k] } else { x[k * cols + i] };
        for i in 0..rows.min(cols) {
            for j in 0..rows.min(cols) {
                let dot: f64 = (0..rows.max(cols)).map(|k| at(i, k) * at(j, k)).sum();
                assert!(
                    (dot - if i == j { 4.0 } else { 0.0 }).abs() < 1e-5,
                    "{shape:?} {i} {j} {dot}"
                );
            }
        }
    }
}

#[test]
fn identities_pass_their_input_through() {
    assert_eq!(drawn(&[2, 3], Init::Eye), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    // Two groups of two outputs with two inputs each, kernel 3: the centre of the matching channel.
    let x = drawn(&[4, 2, 3], Init::Dirac { groups: 2 });
    let ones: Vec<usize> = (0..24).filter(|&i| x[i] == 1.0).collect();
    assert_eq!((ones, x.iter().sum::<f64>()), (vec![1, 10, 13, 22], 4.0));
}

#[test]
fn sparse_columns_have_their_share_of_zeros_in_changing_places() {
    let x = drawn(
        &[10, 50],
        Init::Sparse {
            sparsity: 0.25,
            std: 0.1,
        },
    );
    let zero_rows = |col: usize| (0..10).filter(|row| x[row * 50 + col] == 0.0).collect::<Vec<_>>();
    assert!((0..50).all(|col| zero_rows(col).len() == 3));
    assert!((1..50).any(|col| zero_rows(col) != zero_rows(0)));
    check_moderate(moments(&x.iter().copied().filter(|v| *v != 0.0).collect::<Vec<_>>()).1);
}

#[track_caller]
fn check_moderate(std: f64) {
    assert!((std - 0.1).abs() < 0.02, "{std}");
}

#[test]
#[should_panic(expected = "init: shape [5] has no fans")]
fn a_vector_has_no_fans() {
    drawn(&[5], Init::LINEAR);
}
