//! How much a step computes.

use cupola_models::spec::MixerKind;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;

use crate::config::Config;

/// Floating-point operations of a token in forward and backward: two for each weight that a product reads in forward, two for the
/// gradient of its input, and two for its own where it is trained; and those of attention over the window. Of experts those count
/// that a token is sent to. The multiplications of scans, norms and activations are left out, as is usual.
///
/// The model needs no values.
pub fn per_token(model: &Decoder, config: &Config) -> f64 {
    let spec = model.spec();
    let mut all = 0.0;
    for (path, param) in model.named_parameters() {
        if param.shape().rank() != 2 || path.starts_with("embed") {
            continue;
        }
        let each = if param.is_trainable() { 6.0 } else { 4.0 };
        all += each * param.shape().numel() as f64 * active(spec, &path);
    }
    if spec.tie_word_embeddings {
        let each = if model.embed_tokens.weight.is_trainable() { 6.0 } else { 4.0 };
        all += each * (spec.vocab_size * spec.hidden_size) as f64;
    }
    all + attention(spec, config.batch.window.unwrap_or(1))
}

/// The part of a parameter that a token passes through: of the experts those that it is sent to.
pub fn active(spec: &ModelSpec, path: &str) -> f64 {
    match &spec.moe {
        Some(moe) if path.contains(".experts.") => moe.num_experts_per_tok as f64 / moe.num_experts.max(1) as f64,
        _ => 1.0,
    }
}

/// Scores and sums of attention, forward and backward, counted over all of the window as is usual.
fn attention(spec: &ModelSpec, window: usize) -> f64 {
    let of = |seen: Option<usize>, keys: usize, values: usize| {
        (6 * (keys + values) * window.min(seen.unwrap_or(window))) as f64
    };
    let layer = |layer| match (spec.layer(layer).0, &spec.attention, &spec.mla) {
        (MixerKind::Attention, Some(attention), _) => {
            let heads = attention.num_attention_heads;
            let width = heads * attention.head_dim.unwrap_or(spec.hidden_size / heads.max(1));
            of(attention.sliding_window, width, width)
        }
        (MixerKind::Mla, _, Some(mla)) => {
            let heads = mla.num_attention_heads;
            let keys = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim);
            of(mla.sliding_window, keys, heads * mla.v_head_dim)
        }
        _ => 0.0,
    };
    (0..spec.num_hidden_layers).map(layer).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_models::ModelSpec;

    fn per_token_of(fields: &str) -> f64 {
        let head = "vocab_size = 10\nhidden_size = 8\nnum_hidden_layers = 1\nintermediate_size = 16\n";
        let spec = ModelSpec::from_toml(&format!("{head}{fields}")).expect("a specification");
        let config = Config {
            batch: crate::config::BatchConfig { window: Some(4), ..Default::default() },
            ..Default::default()
        };
        per_token(&Decoder::new(&spec), &config)
    }

    #[test]
    fn weights_count_six_times_and_attention_over_the_window() {
        let plain = per_token_of("attention = { num_attention_heads = 2 }");
        let weights = 4 * 8 * 8 + 3 * 8 * 16 + 10 * 8;
        assert_eq!(plain, (6 * weights + 12 * 8 * 4) as f64);
        let narrow = per_token_of("attention = { num_attention_heads = 2, sliding_window = 3 }");
        assert_eq!(plain - narrow, (12 * 8) as f64);
        let tied = per_token_of("tie_word_embeddings = true\nattention = { num_attention_heads = 2 }");
        assert_eq!(tied, plain);
    }

    #[test]
    fn of_experts_those_count_that_a_token_is_sent_to() {
        let moe = |experts, chosen, shared| {
            per_token_of(&format!(
                "channel = \"moe\"\nattention = {{ num_attention_heads = 2 }}\nmoe = {{ num_experts = {experts}, \
                 num_experts_per_tok = {chosen}, num_shared_experts = {shared}, moe_intermediate_size = 12 }}"
            ))
        };
        let expert = (6 * 3 * 8 * 12) as f64;
        let router = (6 * 8) as f64;
        assert_eq!(moe(8, 2, 0) - moe(4, 2, 0), 4.0 * router);
        assert_eq!(moe(8, 3, 0) - moe(8, 2, 0), expert);
        assert_eq!(moe(8, 2, 1) - moe(8, 2, 0), expert);
    }
}
