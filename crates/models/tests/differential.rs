//! Differential attention against its definition, probability by probability.

use cupola_models::ModelSpec;
use cupola_models::mixers::{Attention, Context};
use cupola_nn::Module;
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

const WIDTH: usize = 16;
const TOKENS: usize = 7;

#[test]
fn it_is_the_normalised_difference_of_two_attentions() {
    for (heads, shared) in [(4, 4), (8, 4), (2, 2)] {
        let text = format!(
            "vocab_size = 5\nhidden_size = {WIDTH}\nposition = \"none\"\n\
             attention = {{ num_attention_heads = {heads}, num_key_value_heads = {shared}, differential = true }}"
        );
        let spec = ModelSpec::from_toml(&text).unwrap_or_else(|error| panic!("{error}"));
        let layer = 3;
        let mut model = Attention::new(&spec, layer).init(0).to_dtype(DType::F64);
        for (path, param) in model.named_parameters_mut() {
            let value = Tensor::randn(*param.shape(), Rng::seed(1).named(&path)).to_dtype(DType::F64) * 0.5;
            param.set(&value);
        }
        let x = Tensor::randn([TOKENS, WIDTH], Rng::seed(2)).to_dtype(DType::F64);
        let context = Context {
            segments: Segments::one(TOKENS),
            positions: Tensor::range(0, TOKENS as i64),
            rotary: None,
            latent_rotary: None,
            causal: true,
        };
        let y = no_grad(|| model.forward(&x, &context, None));

        let head = WIDTH / heads;
        let differential = model.differential.as_ref().expect("asked for");
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let learned = |q: &Tensor, k: &Tensor| dot(&q.to_f64_vec(), &k.to_f64_vec()).exp();
        let first = 0.8 - 0.6 * (-0.3 * layer as f64).exp();
        let lambda = learned(&differential.lambda_q1, &differential.lambda_k1)
            - learned(&differential.lambda_q2, &differential.lambda_k2)
            + first;
        let qkv = no_grad(|| x.matmul(&model.qkv.weight.transpose(0, 1))).to_f64_vec();
        let columns = (heads + 2 * shared) * head;
        let at =
            |token: usize, begin: usize, width: usize| &qkv[token * columns + begin..token * columns + begin + width];
        let mut joined = Vec::new();
        for t in 0..TOKENS {
            for pair in 0..heads / 2 {
                let own = pair / (heads / shared);
                let attend = |half: usize| -> Vec<f64> {
                    let q = at(t, (2 * pair + half) * head, head);
                    let scores: Vec<f64> = (0..=t)
                        .map(|j| (dot(q, at(j, (heads + 2 * own + half) * head, head)) / (head as f64).sqrt()).exp())
                        .collect();
                    let sum: f64 = scores.iter().sum();
                    let value = |d: usize| {
                        let v = |j: usize| at(j, (heads + shared + 2 * own) * head, 2 * head)[d];
                        (0..=t).map(|j| scores[j] / sum * v(j)).sum()
                    };
                    (0..2 * head).map(value).collect()
                };
                let (one, two) = (attend(0), attend(1));
                let difference: Vec<f64> = one.iter().zip(&two).map(|(a, b)| a - lambda * b).collect();
                let root = (dot(&difference, &difference) / (2 * head) as f64 + 1e-5).sqrt();
                let weight = differential.subln.weight.to_f64_vec();
                joined.extend(difference.iter().zip(weight).map(|(d, w)| (1.0 - first) * d / root * w));
            }
        }
        let joined = Tensor::from_vec(joined, [TOKENS, WIDTH]);
        let expected = no_grad(|| joined.matmul(&model.o_proj.weight.transpose(0, 1)));
        let error = y.relative_error(&expected);
        assert!(error < 1e-12, "{heads} heads, {shared} of keys: {error}");
    }
}
