//! Initialisers: bounds, moments and structure (the numbers themselves come from another generator than PyTorch's).

mod support;

use cupola_nn::init::{FanMode, Init, Nonlinearity};
use cupola_nn::{Module, Param};

#[derive(Module)]
struct One {
    weight: Param,
}

fn drawn(shape: &[usize], init: Init) -> Vec<f64> {
    One { weight: Param::new(shape, init) }.init(11).weight.to_f64_vec()
}

fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt())
}

#[track_caller]
fn check_uniform(x: &[f64], bound: f64) {
    let (mean, std) = moments(x);
    let largest = x.iter().fold(0f64, |m, v| m.max(v.abs()));
    assert!(largest <= bound * (1.0 + 1e-6) && largest > 0.999 * bound, "{largest} within {bound}");
    assert!(mean.abs() < 0.02 * bound && (std * 3f64.sqrt() / bound - 1.0).abs() < 0.01, "{mean} {std} {bound}");
}

#[track_caller]
fn check_normal(x: &[f64], expected: f64) {
    let (mean, std) = moments(x);
    let kurtosis = x.iter().map(|v| ((v - mean) / std).powi(4)).sum::<f64>() / x.len() as f64;
    assert!(mean.abs() < 0.02 * expected && (std / expected - 1.0).abs() < 0.01, "{mean} {std} {expected}");
    assert!((kurtosis - 3.0).abs() < 0.15, "{kurtosis}");
}

#[test]
fn fans_and_gains_are_those_of_pytorch() {
    // A convolution [out 40, in 30, 5, 5]: fan_in 750, fan_out 1000.
    let shape = [40, 30, 5, 5];
    check_uniform(&drawn(&shape, Init::XavierUniform { gain: 2.0 }), 2.0 * (6.0f64 / 1750.0).sqrt());
    check_normal(&drawn(&shape, Init::XavierNormal { gain: 1.0 }), (2.0f64 / 1750.0).sqrt());
    check_uniform(&drawn(&shape, Init::KAIMING_UNIFORM), (6.0f64 / 750.0).sqrt());
    check_normal(&drawn(&shape, Init::KAIMING_NORMAL), (2.0f64 / 750.0).sqrt());
    let backward = Init::KaimingNormal { mode: FanMode::FanOut, nonlinearity: Nonlinearity::Tanh };
    check_normal(&drawn(&shape, backward), 5.0 / 3.0 / 1000f64.sqrt());
    let selu = Init::KaimingUniform { mode: FanMode::FanOut, nonlinearity: Nonlinearity::Selu };
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
    assert_eq!((drawn(&[2], Init::Zeros), drawn(&[2], Init::Ones)), (vec![0.0; 2], vec![1.0; 2]));
}

#[test]
fn truncated_normals_stay_inside_and_keep_their_shape() {
    // Known moments: standard normal cut at 2 has deviation 0.87963; the tail above 3 has mean 3.2831.
    let x = drawn(&[30_000], Init::trunc_normal(1.0));
    let (mean, std) = moments(&x);
    assert!(x.iter().all(|v| v.abs() <= 2.0));
    assert!(mean.abs() < 0.02 && (std - 0.87963).abs() < 0.01, "{mean} {std}");
    let tail = drawn(&[30_000], Init::TruncNormal { mean: 0.0, std: 1.0, low: 3.0, high: 8.0 });
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
                assert!((dot - if i == j { 4.0 } else { 0.0 }).abs() < 1e-5, "{shape:?} {i} {j} {dot}");
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
fn state_space_models_start_from_their_decays_and_time_steps() {
    let range = drawn(&[2, 3], Init::LogRange);
    let expected = [1.0f64, 2.0, 3.0, 1.0, 2.0, 3.0].map(f64::ln);
    assert!(range.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{range:?}");
    check_uniform(
        &drawn(&[30_000], Init::LogUniform { low: 1.0, high: 17.0 }).iter().map(|x| x.exp() - 9.0).collect::<Vec<_>>(),
        8.0,
    );
    // softplus of the values, and its logarithm around the middle of the range.
    let steps = drawn(&[30_000], Init::TimeStep { low: 1e-3, high: 0.1, floor: 1e-4 });
    let middle = (1e-3f64.ln() + 0.1f64.ln()) / 2.0;
    let logs: Vec<f64> = steps.iter().map(|x| x.exp().ln_1p().ln() - middle).collect();
    check_uniform(&logs, 10f64.ln());
    let floored = drawn(&[1000], Init::TimeStep { low: 1e-3, high: 0.1, floor: 0.05 });
    let least = floored.iter().map(|x| x.exp().ln_1p()).fold(f64::INFINITY, f64::min);
    assert!((least - 0.05).abs() < 1e-6, "{least}");
}

#[test]
fn sparse_columns_have_their_share_of_zeros_in_changing_places() {
    let x = drawn(&[10, 50], Init::Sparse { sparsity: 0.25, std: 0.1 });
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

/// The initialiser that a golden case is about, if we have it as one value.
fn initializer(case: &support::Case) -> Option<Init> {
    let name = case.name.as_str();
    let nonlinearity = || match case.text("nonlinearity") {
        "linear" => Nonlinearity::Linear,
        "relu" => Nonlinearity::Relu,
        "tanh" => Nonlinearity::Tanh,
        "selu" => Nonlinearity::Selu,
        "leaky_relu" => Nonlinearity::LeakyRelu(case.number("a")),
        other => panic!("{other} is no nonlinearity"),
    };
    let mode = || {
        if case.text("mode") == "fan_in" { FanMode::FanIn } else { FanMode::FanOut }
    };
    Some(match name {
        _ if name.starts_with("kaiming_uniform") => Init::KaimingUniform { mode: mode(), nonlinearity: nonlinearity() },
        _ if name.starts_with("kaiming_normal") => Init::KaimingNormal { mode: mode(), nonlinearity: nonlinearity() },
        _ if name.starts_with("xavier_uniform") => Init::XavierUniform { gain: case.number("gain") },
        _ if name.starts_with("xavier_normal") => Init::XavierNormal { gain: case.number("gain") },
        "uniform" => Init::Uniform { low: case.number("low"), high: case.number("high") },
        "normal" => Init::Normal { mean: case.number("mean"), std: case.number("std") },
        "trunc_normal" => Init::TruncNormal {
            mean: case.number("mean"),
            std: case.number("std"),
            low: case.number("low"),
            high: case.number("high"),
        },
        "constant" => Init::Constant(case.number("value")),
        "eye" => Init::Eye,
        _ if name.starts_with("dirac") => Init::Dirac { groups: case.size("groups") },
        _ if name.starts_with("orthogonal") => Init::Orthogonal { gain: case.number("gain") },
        "sparse" => Init::Sparse { sparsity: case.number("sparsity"), std: case.number("std") },
        _ => return None,
    })
}

#[test]
fn draws_have_the_moments_of_pytorch_s() {
    let mut checked = 0;
    for case in &support::Golden::open("init").cases {
        let Some(init) = initializer(case) else { continue };
        let shape = case.sizes("shape").expect("a shape");
        let x = drawn(&shape, init);
        checked += 1;
        if let Some(expected) = case.get("out.y") {
            assert_eq!(x, expected.to_f64_vec(), "{}", case.name);
        } else if let Some(gram) = case.get("out.gram") {
            let rows = shape[0];
            let cols = x.len() / rows;
            let at = |i: usize, k: usize| if rows <= cols { x[i * cols + k] } else { x[k * cols + i] };
            let size = rows.min(cols);
            for (index, expected) in gram.to_f64_vec().into_iter().enumerate() {
                let dot: f64 = (0..rows.max(cols)).map(|k| at(index / size, k) * at(index % size, k)).sum();
                assert!((dot - expected).abs() < 1e-5, "{}", case.name);
            }
        } else if let Some(zeros) = case.get("out.zeros_per_column") {
            let cols = shape[1];
            for (col, expected) in zeros.to_indices().into_iter().enumerate() {
                let found = (0..shape[0]).filter(|row| x[row * cols + col] == 0.0).count();
                assert_eq!(found as i64, expected);
            }
        } else {
            let [mean, std, low, high] = case.tensor("out.moments").to_f64_vec().try_into().expect("four moments");
            let (found_mean, found_std) = moments(&x);
            let width = (high - low).max(1e-12);
            assert!((found_mean - mean).abs() < 0.03 * width, "{}: mean {found_mean}, not {mean}", case.name);
            assert!((found_std - std).abs() < 0.06 * std + 1e-12, "{}: deviation {found_std}, not {std}", case.name);
            if case.text("distribution") == "uniform" {
                // The ends of a uniform are known to a hundredth from as many draws as the shape has.
                let (least, most) = x.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
                assert!((least - low).abs() < 0.01 * width && (most - high).abs() < 0.01 * width, "{}", case.name);
            }
        }
    }
    assert!(checked >= 30, "{checked}");
}
