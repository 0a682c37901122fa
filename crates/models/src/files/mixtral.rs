//! Mixtral (Jiang et al., "Mixtral of Experts", 2024, arXiv:2401.04088).

use serde_json::{Value, json};

use super::family::Family;
use super::llama;
use super::names::{Entry, Form::Same, Names};
use super::settings::Settings;
use crate::spec::{AttentionSpec, ChannelKind, ModelFields, ModelSpec, MoeSpec};

/// Mixtral.
pub const MIXTRAL: Family = Family { name: "mixtral", read, write, names: NAMES };

const fn entry(ours: &'static str, theirs: &'static str) -> Entry {
    Entry { ours, theirs, form: Same }
}

const NAMES: Names = Names {
    entries: &[
        entry("embed_tokens.weight", "embed_tokens.weight"),
        entry("layers.*.input_layernorm.weight", "layers.*.input_layernorm.weight"),
        entry("layers.*.self_attn.q_proj.weight", "layers.*.self_attn.q_proj.weight"),
        entry("layers.*.self_attn.k_proj.weight", "layers.*.self_attn.k_proj.weight"),
        entry("layers.*.self_attn.v_proj.weight", "layers.*.self_attn.v_proj.weight"),
        entry("layers.*.self_attn.o_proj.weight", "layers.*.self_attn.o_proj.weight"),
        entry("layers.*.post_attention_layernorm.weight", "layers.*.post_attention_layernorm.weight"),
        entry("layers.*.mlp.gate.weight", "layers.*.block_sparse_moe.gate.weight"),
        entry("layers.*.mlp.experts.*.gate_proj.weight", "layers.*.block_sparse_moe.experts.*.w1.weight"),
        entry("layers.*.mlp.experts.*.up_proj.weight", "layers.*.block_sparse_moe.experts.*.w3.weight"),
        entry("layers.*.mlp.experts.*.down_proj.weight", "layers.*.block_sparse_moe.experts.*.w2.weight"),
        entry("norm.weight", "norm.weight"),
        entry("lm_head.weight", "lm_head.weight"),
    ],
    prefix: "model.",
    ignored: &["layers.*.self_attn.rotary_emb.inv_freq"],
};

fn read(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let (fields, attention) = llama::common(settings, &llama::OF_MIXTRAL)?;
    settings.only("router_jitter_noise", &[json!(0.0), json!(0)])?;
    // The balance of experts is part of the loss where the router's logits are part of the output.
    let coefficient = settings.number("router_aux_loss_coef", 0.001)?;
    let balanced = settings.flag("output_router_logits", false)?;
    let moe = MoeSpec {
        num_experts: settings.required("num_local_experts")?,
        num_experts_per_tok: settings.size("num_experts_per_tok")?.unwrap_or(2),
        norm_topk_prob: Some(true),
        router_aux_loss_coef: if balanced { coefficient } else { 0.0 },
        ..MoeSpec::default()
    };
    let sliding_window = settings.size("sliding_window")?;
    Ok(ModelFields {
        channel: ChannelKind::Moe,
        moe: Some(moe),
        attention: Some(AttentionSpec { sliding_window, ..attention }),
        ..fields
    })
}

fn write(spec: &ModelSpec) -> Value {
    let mut config = llama::write_common(spec, "mixtral", "MixtralForCausalLM");
    let moe = spec.moe.clone().unwrap_or_default();
    config["sliding_window"] = json!(spec.attention.as_ref().and_then(|attention| attention.sliding_window));
    config["num_local_experts"] = json!(moe.num_experts);
    config["num_experts_per_tok"] = json!(moe.num_experts_per_tok);
    config["output_router_logits"] = json!(moe.router_aux_loss_coef > 0.0);
    config["router_aux_loss_coef"] = json!(moe.router_aux_loss_coef);
    config
}
