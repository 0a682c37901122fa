//! What Mamba-3 comes to where its formula becomes another one, in f64: a recurrence of complex numbers, Mamba-2's where nothing turns and the
//! newest input alone counts, one input and output where the second of two counts for nothing.

use std::f64::consts::PI;

use cupola_models::ModelSpec;
use cupola_models::mixers::Mamba3;
use cupola_nn::{Module, StateDict};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

const WIDTH: usize = 8;
const HEADS: usize = 4;
const HEAD: usize = 4;
const STATES: usize = 6;
const TOKENS: usize = 37;
const FLOOR: f64 = 0.3;

fn spec(rank: usize, rope_fraction: f64) -> ModelSpec {
    ModelSpec::from_toml(&format!(
        "vocab_size = 13\nhidden_size = {WIDTH}\nnorm_eps = 1e-5\npattern = [\"mamba3\"]\nposition = \"none\"\n\
         mamba3 = {{ state_size = {STATES}, head_dim = {HEAD}, mimo_rank = {rank}, rope_fraction = {rope_fraction}, a_floor = {FLOOR} }}"
    ))
    .unwrap_or_else(|error| panic!("{error}"))
}

/// A mixer all of whose parameters were moved from where they begin.
fn mixer(spec: &ModelSpec) -> Mamba3 {
    let mut mixer = Mamba3::new(spec).init(3).to_dtype(DType::F64);
    for (path, param) in mixer.named_parameters_mut() {
        let noise = Tensor::randn(*param.shape(), Rng::seed(4).named(&path)).to_dtype(DType::F64) * 0.4;
        let value = param.detach() + noise;
        param.set(&value);
    }
    mixer
}

fn input() -> Tensor {
    Tensor::randn([TOKENS, WIDTH], Rng::seed(5)).to_dtype(DType::F64)
}

fn values(mixer: &Mamba3, name: &str) -> Vec<f64> {
    mixer.state_dict()[name].contiguous().to_vec::<f64>()
}

fn run(mixer: &Mamba3, x: &Tensor) -> Vec<f64> {
    no_grad(|| mixer.forward(x, &Segments::one(TOKENS), None)).contiguous().to_vec::<f64>()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert!(size > 1e-3, "there is something to compare");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-11 * size.max(1.0), "value {index}: {found} instead of {expected}");
    }
}

/// One head's quantities at one token.
struct Step {
    gate: Vec<f64>,
    x: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
    dt: f64,
    decay: f64,
    own: f64,
    /// How far each pair of states turns.
    turns: Vec<f64>,
}

/// What the projection says, for each token and head of a mixer with one input and output.
fn steps(mixer: &Mamba3, x: &Tensor, angles: usize) -> Vec<Vec<Step>> {
    let (weight, x) = (values(mixer, "in_proj.weight"), x.to_vec::<f64>());
    let inner = HEADS * HEAD;
    let (bias, b_norm, c_norm) =
        (values(mixer, "dt_bias"), values(mixer, "B_norm.weight"), values(mixer, "C_norm.weight"));
    let (b_bias, c_bias) = (values(mixer, "B_bias"), values(mixer, "C_bias"));
    let normal = |raw: &[f64], weight: &[f64], bias: &[f64]| -> Vec<f64> {
        let size = (raw.iter().map(|x| x * x).sum::<f64>() / STATES as f64 + 1e-5).sqrt();
        raw.iter().zip(weight).zip(bias).map(|((x, w), b)| x / size * w + b).collect()
    };
    x.chunks_exact(WIDTH)
        .map(|x| {
            let all: Vec<f64> = weight.chunks_exact(WIDTH).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
            let (z, rest) = all.split_at(inner);
            let (v, rest) = rest.split_at(inner);
            let (b, rest) = rest.split_at(STATES);
            let (c, rest) = rest.split_at(STATES);
            let (dt, rest) = rest.split_at(HEADS);
            let (a, rest) = rest.split_at(HEADS);
            let (own, turns) = rest.split_at(HEADS);
            assert_eq!(turns.len(), angles);
            (0..HEADS)
                .map(|head| {
                    let dt = (dt[head] + bias[head]).exp().ln_1p();
                    let a = if a[head] >= 0.0 { 1.0 + a[head] } else { 1.0 / (1.0 - a[head]) };
                    let (values, states) = (head * HEAD..(head + 1) * HEAD, head * STATES..(head + 1) * STATES);
                    Step {
                        gate: z[values.clone()].iter().map(|z| z / (1.0 + (-z).exp())).collect(),
                        x: v[values].to_vec(),
                        b: normal(b, &b_norm, &b_bias[states.clone()]),
                        c: normal(c, &c_norm, &c_bias[states]),
                        dt,
                        decay: (-a.max(FLOOR) * dt).exp(),
                        own: 1.0 / (1.0 + (-own[head]).exp()),
                        turns: turns.iter().map(|w| dt * PI * w.tanh()).collect(),
                    }
                })
                .collect()
        })
        .collect()
}

/// The results of all tokens, from each token's and head's `c S`.
fn outputs(mixer: &Mamba3, steps: &[Vec<Step>], read: &mut dyn FnMut(usize, usize) -> Vec<f64>) -> Vec<f64> {
    let (weight, skip) = (values(mixer, "out_proj.weight"), values(mixer, "D"));
    let mut all = Vec::new();
    for (token, heads) in steps.iter().enumerate() {
        let mut joined = Vec::new();
        for (head, step) in heads.iter().enumerate() {
            let y = read(token, head);
            joined.extend((0..HEAD).map(|p| (y[p] + skip[head] * step.x[p]) * step.gate[p]));
        }
        all.extend(weight.chunks_exact(HEADS * HEAD).map(|w| w.iter().zip(&joined).map(|(w, y)| w * y).sum::<f64>()));
    }
    all
}

#[test]
fn pairs_of_states_are_complex_numbers_that_turn_as_they_decay() {
    for rope_fraction in [0.5, 1.0] {
        let spec = spec(1, rope_fraction);
        let angles = spec.mamba3.as_ref().map_or(0, |mamba| mamba.angles());
        let (mixer, x) = (mixer(&spec), input());
        let steps = steps(&mixer, &x, angles);
        // S = e^(a dt - i turn) (S + (1 - l) dt b' v') + l dt b v, y = Re(conj(c) S), of which a pair that does not turn is a case.
        let mut states = vec![vec![[[0.0f64; 2]; HEAD]; STATES / 2]; HEADS];
        let mut read = |token: usize, head: usize| {
            let step = &steps[token][head];
            let before = token.checked_sub(1).map(|before| &steps[before][head]);
            (0..HEAD)
                .map(|p| {
                    let mut y = 0.0;
                    for (pair, state) in states[head].iter_mut().enumerate() {
                        let (sin, cos) = step.turns.get(pair).copied().unwrap_or(0.0).sin_cos();
                        let [re, im] = &mut state[p];
                        if let Some(before) = before {
                            let share = (1.0 - step.own) * step.dt * before.x[p];
                            *re += share * before.b[2 * pair];
                            *im += share * before.b[2 * pair + 1];
                        }
                        (*re, *im) = (step.decay * (cos * *re + sin * *im), step.decay * (cos * *im - sin * *re));
                        *re += step.own * step.dt * step.x[p] * step.b[2 * pair];
                        *im += step.own * step.dt * step.x[p] * step.b[2 * pair + 1];
                        y += step.c[2 * pair] * *re + step.c[2 * pair + 1] * *im;
                    }
                    y
                })
                .collect()
        };
        let expected = outputs(&mixer, &steps, &mut read);
        close(&run(&mixer, &x), &expected);
    }
}

#[test]
fn without_turns_and_with_the_newest_input_alone_it_is_mamba_2_s_recurrence() {
    let spec = spec(1, 0.5);
    let angles = spec.mamba3.as_ref().map_or(0, |mamba| mamba.angles());
    let (mut mixer, x) = (mixer(&spec), input());
    // The first input is one everywhere, so that a weight is a constant: the rule's so high that nothing is left for the input before.
    let ones = vec![1.0; TOKENS];
    let x = Tensor::cat(&[&Tensor::from_vec(ones, [TOKENS, 1]), &x.narrow(1, 1, WIDTH - 1)], 1);
    let mut weight = values(&mixer, "in_proj.weight");
    let rows = weight.len() / WIDTH;
    for (row, values) in weight.chunks_exact_mut(WIDTH).enumerate() {
        let (turns, rule) = (row >= rows - angles, row >= rows - angles - HEADS);
        if rule {
            values.fill(0.0);
            values[0] = if turns { 0.0 } else { 60.0 };
        }
    }
    for (path, param) in mixer.named_parameters_mut() {
        if path == "in_proj.weight" {
            param.set(&Tensor::from_vec(weight.clone(), [rows, WIDTH]));
        }
    }
    let steps = steps(&mixer, &x, angles);
    let mut states = vec![[[0.0f64; STATES]; HEAD]; HEADS];
    let mut read = |token: usize, head: usize| {
        let step = &steps[token][head];
        (0..HEAD)
            .map(|p| {
                let mut y = 0.0;
                for (s, state) in states[head][p].iter_mut().enumerate() {
                    *state = step.decay * *state + step.dt * step.x[p] * step.b[s];
                    y += step.c[s] * *state;
                }
                y
            })
            .collect()
    };
    let expected = outputs(&mixer, &steps, &mut read);
    close(&run(&mixer, &x), &expected);
}

#[test]
fn two_inputs_and_outputs_of_which_the_second_counts_for_nothing_are_one() {
    let (one, two) = (spec(1, 0.5), spec(2, 0.5));
    let (single, mut double) = (mixer(&one), mixer(&two));
    let inner = HEADS * HEAD;
    let per_head = |values: Vec<f64>, width: usize| -> Vec<f64> {
        // [H, 1, W] beside something that must not matter, [H, 2, W].
        values.chunks_exact(width).flat_map(|row| row.iter().copied().chain(row.iter().map(|x| 3.0 - x))).collect()
    };
    for (path, param) in double.named_parameters_mut() {
        let shape = *param.shape();
        let value = match path.as_str() {
            "in_proj.weight" => {
                // b and c of the second input stand behind those of the first.
                let weight = values(&single, "in_proj.weight");
                let rows = |from: usize, to: usize| weight[from * WIDTH..to * WIDTH].to_vec();
                let other = |from: usize, to: usize| rows(from, to).into_iter().map(|x| 0.5 - x).collect::<Vec<_>>();
                let (b, c) = (2 * inner, 2 * inner + STATES);
                let end = weight.len() / WIDTH;
                [rows(0, c), other(b, c), rows(c, c + STATES), other(c, c + STATES), rows(c + STATES, end)].concat()
            }
            "B_bias" | "C_bias" => per_head(values(&single, &path), STATES),
            "mimo_x" | "mimo_o" => [1.0, 0.0].map(|x| vec![x; HEAD]).concat().repeat(HEADS),
            "mimo_z" => vec![1.0; 2 * inner],
            _ => values(&single, &path),
        };
        param.set(&Tensor::from_vec(value, shape));
    }
    let x = input();
    close(&run(&double, &x), &run(&single, &x));
}
