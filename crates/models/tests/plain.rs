//! What layers compute, beside loops that say the same in the plainest way, in f64.

mod support;

use cupola_models::channels::Mlp;
use cupola_models::mixers::{Attention, Context};
use cupola_models::positions::sinusoids;
use cupola_models::spec::ChannelKind;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::{Layer, Module, StateDict};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};
use support::{model, tokens};

fn spec(fields: &str) -> ModelSpec {
    let head = "vocab_size = 13\nhidden_size = 8\nintermediate_size = 6\nmax_position_embeddings = 32\n";
    ModelSpec::from_toml(&format!("{head}{fields}")).unwrap_or_else(|error| panic!("{error}"))
}

type Activation = fn(f64) -> f64;

/// Values with two dimensions, to be looked at one by one.
struct Matrix(Vec<f64>, usize);

impl Matrix {
    fn of(x: &Tensor) -> Self {
        Self(x.contiguous().to_vec::<f64>(), x.dim(-1))
    }

    fn row(&self, index: usize) -> &[f64] {
        &self.0[index * self.1..][..self.1]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `w x + b`, a row of w for each output.
fn affine(w: &Matrix, b: Option<&Tensor>, x: &[f64]) -> Vec<f64> {
    let bias = b.map(|b| b.to_vec::<f64>());
    let rows = w.0.len() / w.1;
    (0..rows).map(|row| dot(w.row(row), x) + bias.as_ref().map_or(0.0, |b| b[row])).collect()
}

#[test]
fn channel_mixers_without_a_gate_apply_their_activation_between_two_products() {
    let cases: [(ChannelKind, Activation); 3] = [
        (ChannelKind::MlpRelu, |x| if x > 0.0 { x } else { 0.0 }),
        (ChannelKind::MlpRelu2, |x| if x > 0.0 { x * x } else { 0.0 }),
        (ChannelKind::MlpSilu, |x| x / (1.0 + (-x).exp())),
    ];
    for (kind, activation) in cases {
        let spec = spec("mlp_bias = true\ninitializer_range = 0.7\nattention = { num_attention_heads = 2 }");
        let mut mlp = Mlp::new(kind, &spec).init(3).to_dtype(DType::F64);
        for (path, param) in mlp.named_parameters_mut() {
            let noise = Tensor::randn(*param.shape(), Rng::seed(4).named(&path)).to_dtype(DType::F64) * 0.3;
            let value = param.detach() + noise;
            param.set(&value);
        }
        let x = Tensor::randn([5, 8], Rng::seed(5)).to_dtype(DType::F64);
        let y = Matrix::of(&no_grad(|| mlp.forward(&x)));
        let all = mlp.state_dict();
        let (up, down) = (Matrix::of(&all["up_proj.weight"]), Matrix::of(&all["down_proj.weight"]));
        for row in 0..5 {
            let inner = affine(&up, all.get("up_proj.bias"), Matrix::of(&x).row(row));
            let inner: Vec<f64> = inner.into_iter().map(activation).collect();
            for (found, expected) in y.row(row).iter().zip(affine(&down, all.get("down_proj.bias"), &inner)) {
                assert!((found - expected).abs() < 1e-12, "{kind}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn queries_and_keys_are_normalised_by_head_before_scores_are_scaled_and_capped() {
    let spec = spec(
        "position = \"none\"\nnorm_eps = 0.01\n\
         attention = { num_attention_heads = 2, num_key_value_heads = 1, qk_norm = true, soft_cap = 1.5, scale = 0.7 }",
    );
    let mut attention = Attention::new(&spec, 0).init(1).to_dtype(DType::F64);
    for (path, param) in attention.named_parameters_mut() {
        let noise = Tensor::randn(*param.shape(), Rng::seed(2).named(&path)).to_dtype(DType::F64) * 0.5;
        let value = param.detach() + noise;
        param.set(&value);
    }
    let (count, width) = (4, 4);
    let x = Tensor::randn([count, 8], Rng::seed(6)).to_dtype(DType::F64);
    let context = Context {
        segments: Segments::one(count),
        positions: Tensor::from_vec((0..count as i64).collect(), [count]),
        rotary: None,
        latent_rotary: None,
        causal: true,
    };
    let y = Matrix::of(&no_grad(|| attention.forward(&x, &context, None)));
    let all = attention.state_dict();
    let matrix = |name: &str| Matrix::of(&all[&format!("{name}.weight")]);
    let x = Matrix::of(&x);
    let heads = |name: &str, row: usize| affine(&matrix(name), None, x.row(row));
    let normalised = |head: &[f64], norm: &str| -> Vec<f64> {
        let size = (dot(head, head) / width as f64 + 0.01).sqrt();
        head.iter().zip(&matrix(norm).0).map(|(value, weight)| value / size * weight).collect()
    };
    for row in 0..count {
        let mut joined = Vec::new();
        for head in 0..2 {
            let q = normalised(&heads("q_proj", row)[head * width..][..width], "q_norm");
            let score = |key: usize| {
                let score = 0.7 * dot(&q, &normalised(&heads("k_proj", key), "k_norm"));
                (1.5 * (score / 1.5).tanh()).exp()
            };
            let sum: f64 = (0..=row).map(score).sum();
            for d in 0..width {
                joined.push((0..=row).map(|key| score(key) / sum * heads("v_proj", key)[d]).sum::<f64>());
            }
        }
        for (found, expected) in y.row(row).iter().zip(affine(&matrix("o_proj"), None, &joined)) {
            assert!((found - expected).abs() < 1e-12, "token {row}: {found} instead of {expected}");
        }
    }
}

#[test]
fn sinusoids_are_those_of_the_paper_and_are_added_to_the_embedding() {
    let expected = [
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
        [0.841_470_984_8, 0.540_302_305_9, 0.046_399_223_5, 0.998_922_976_0, 0.002_154_433_0, 0.999_997_679_2],
        [-0.643_538_133_4, 0.765_414_052_0, 0.989_274_687_0, -0.146_067_085_9, 0.079_629_688_7, 0.996_824_514_5],
    ];
    let table = sinusoids(38, 6).to_vec::<f32>();
    for (row, expected) in [0, 1, 37].into_iter().zip(expected) {
        for (k, expected) in expected.into_iter().enumerate() {
            assert!((f64::from(table[row * 6 + k]) - expected).abs() < 1e-6, "position {row}, value {k}");
        }
    }
    // A model without anything between embedding and last norm: a norm of weight one over the sum of both.
    let spec = spec("position = \"sinusoidal\"\nattention = { num_attention_heads = 2 }");
    let mut plain: Decoder = model(&spec, 1);
    for (path, param) in plain.named_parameters_mut() {
        if path.ends_with("o_proj.weight") || path.ends_with("down_proj.weight") {
            let zeros = param.detach() * 0.0;
            param.set(&zeros);
        }
        if path == "norm.weight" {
            let ones = param.detach() * 0.0 + 1.0;
            param.set(&ones);
        }
    }
    let x = tokens(5, 2);
    let found = Matrix::of(&no_grad(|| plain.hidden(&x, &Segments::one(5), None)));
    let embedding = Matrix::of(&plain.state_dict()["embed_tokens.weight"]);
    for (position, token) in x.to_vec::<i64>().into_iter().enumerate() {
        let angle = |k: usize| position as f64 * 10_000f64.powf(-((k / 2 * 2) as f64) / 8.0);
        let wave = |k: usize| if k.is_multiple_of(2) { angle(k).sin() } else { angle(k).cos() };
        let sum: Vec<f64> = embedding.row(token as usize).iter().enumerate().map(|(k, e)| e + wave(k)).collect();
        let size = (dot(&sum, &sum) / 8.0 + spec.norm_eps).sqrt();
        for (found, expected) in found.row(position).iter().zip(sum) {
            assert!((found - expected / size).abs() < 1e-6, "position {position}");
        }
    }
}
