//! Every family of models behind the wire.

use std::sync::Arc;

use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tensor::{Segments, Tensor, no_grad};
use serde_json::{Value, json};

use crate::engine::Stats;
use crate::http::ServerConfig;
use crate::registry::Registry;
use crate::served::Served;
use crate::testing::{Running, byte_tokenizer, config};

/// The logarithms of the probabilities of a row of logits.
fn logarithms(row: &[f32]) -> Vec<f64> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - most).exp()).sum();
    row.iter().map(|&x| f64::from(x - most) - sum.ln()).collect()
}

#[test]
fn every_preset_s_probabilities_over_http_are_those_of_the_library() {
    let text: String = (0..70u8).map(|i| char::from(b' ' + (u16::from(i) * 37 % 95) as u8)).collect();
    let tokens = Tensor::from_vec(text.bytes().map(i64::from).collect(), [text.len()]);
    for family in cupola_models::spec::FAMILIES {
        let spec = ModelSpec::preset(&format!("{family}-nano"), 260).unwrap();
        let model = Decoder::new(&spec).init(5);
        let logits = no_grad(|| model.forward(&tokens, &Segments::one(text.len()), None)).to_vec::<f32>();
        let stats: Arc<Stats> = Arc::default();
        let served = Served::new(model, byte_tokenizer(), vec![256], "small", config(), Arc::clone(&stats)).unwrap();
        let server = Running::of(ServerConfig::default(), Registry::of(served, Arc::clone(&stats)), stats);
        let body = json!({"prompt": text, "max_tokens": 0, "echo": true, "logprobs": 5});
        let told = server.post("/v1/completions", &body).json()["choices"][0]["logprobs"].clone();
        let own = told["token_logprobs"].as_array().unwrap();
        assert_eq!((own.len(), &own[0]), (text.len(), &Value::Null), "{family}");
        for (place, row) in logits.chunks_exact(260).take(text.len() - 1).enumerate() {
            let expected = logarithms(row);
            let close = |found: f64, expected: f64| {
                assert!((found - expected).abs() < 2e-5, "{family}, row {place}: {found}, expected {expected}");
            };
            close(own[place + 1].as_f64().unwrap(), expected[usize::from(text.as_bytes()[place + 1])]);
            let top = told["top_logprobs"][place + 1].as_object().unwrap();
            let mut top: Vec<f64> = top.values().map(|value| value.as_f64().unwrap()).collect();
            top.sort_by(|a, b| b.total_cmp(a));
            let mut all = expected;
            all.sort_by(|a, b| b.total_cmp(a));
            // The token itself is there too where it is none of the likeliest, and bytes that are no text may share a name.
            close(top[0], all[0]);
            assert!(top.iter().all(|found| all.iter().any(|value| (found - value).abs() < 2e-5)), "{family}: {top:?}");
        }
    }
}
