//! Steps of training with experts, differential attention and latent attention beside steps of the plain model.
//!
//! `cargo bench -p cupola-models --bench layers`. Models of the size `baby` read 8 sequences of 256 tokens; variants run in turn, and
//! the fastest of several steps counts.

use std::time::Instant;

use cupola_models::{Decoder, ModelSpec};
use cupola_nn::optim::{AdamW, AdamWConfig};
use cupola_nn::{Module, training};
use cupola_tensor::{Rng, Segments, Tensor};

const VOCABULARY: usize = 4096;
const BATCH: usize = 8;
const TIME: usize = 256;
const ROUNDS: usize = 5;

/// Name, and what differs from a LLaMA of 6 layers of width 384 with a channel mixer of width 1024.
const VARIANTS: &[(&str, &str)] = &[
    ("plain", "attention = { num_attention_heads = 6 }"),
    (
        "2 of 8 experts",
        "attention = { num_attention_heads = 6 }\nchannel = \"moe\"\nmoe = { num_experts = 8, moe_intermediate_size = 512 }",
    ),
    (
        "6 of 16 experts and 2 shared",
        "attention = { num_attention_heads = 6 }\nchannel = \"moe\"\n\
         moe = { num_experts = 16, num_experts_per_tok = 6, num_shared_experts = 2, moe_intermediate_size = 128 }",
    ),
    ("differential attention", "attention = { num_attention_heads = 6, differential = true }"),
    (
        "latent attention",
        "pattern = [\"mla\"]\n\
         mla = { num_attention_heads = 6, kv_lora_rank = 256, qk_nope_head_dim = 64, qk_rope_head_dim = 32, v_head_dim = 64 }",
    ),
    ("weights of three values", "attention = { num_attention_heads = 6 }\nternary = \"a16\""),
];

fn main() {
    let tokens = Tensor::randint(0, VOCABULARY as i64, [BATCH * TIME], Rng::seed(0));
    let targets = Tensor::randint(0, VOCABULARY as i64, [BATCH * TIME], Rng::seed(1));
    let segments = Segments::uniform(BATCH, TIME);
    let mut runs: Vec<(&str, Decoder, AdamW, f64)> = VARIANTS
        .iter()
        .map(|(name, fields)| {
            let head = format!(
                "vocab_size = {VOCABULARY}\nhidden_size = 384\nnum_hidden_layers = 6\nintermediate_size = 1024\n\
                 tie_word_embeddings = true\n"
            );
            let spec =
                ModelSpec::from_toml(&format!("{head}{fields}")).unwrap_or_else(|error| panic!("{name}: {error}"));
            (*name, Decoder::new(&spec).init(0), AdamW::new(AdamWConfig::default()), f64::INFINITY)
        })
        .collect();
    for round in 0..=ROUNDS {
        for (_, model, optimizer, best) in &mut runs {
            let start = Instant::now();
            let scope = training(0, round as u64);
            let loss = model.loss_sum(&tokens, &targets, &segments) / (BATCH * TIME) as f64;
            let grads = loss.backward();
            scope.finish(model);
            optimizer.step(model, &grads);
            // The first step asks the system for memory.
            if round > 0 {
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
    }
    let plain = runs[0].3;
    for (name, model, _, best) in &runs {
        let rate = (BATCH * TIME) as f64 / best;
        let parameters = model.parameter_count() as f64 / 1e6;
        println!("{name:30} {parameters:6.1}M parameters {rate:9.0} tokens/s {:6.2} of plain", plain / best);
    }
}
