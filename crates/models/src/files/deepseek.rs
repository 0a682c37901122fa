//! DeepSeek-V2 (DeepSeek-AI, 2024, arXiv:2405.04434): latent attention, and experts behind some dense layers.

use serde_json::{Value, json};

use super::family::Family;
use super::names::{Entry, Form::Same, Names};
use super::settings::{Settings, rope_parameters};
use crate::spec::{ChannelKind, LayerKind, MixerKind, MlaSpec, ModelFields, ModelSpec, MoeSpec, NormKind};

/// DeepSeek-V2.
pub const DEEPSEEK_V2: Family = Family { name: "deepseek_v2", read, write, names: NAMES };

macro_rules! same {
    ($($name:literal),* $(,)?) => {
        &[$(Entry { ours: $name, theirs: $name, form: Same }),*]
    };
}

/// Our names are theirs, without the prefix.
const NAMES: Names = Names {
    entries: same![
        "embed_tokens.weight",
        "layers.*.input_layernorm.weight",
        "layers.*.self_attn.q_proj.weight",
        "layers.*.self_attn.q_a_proj.weight",
        "layers.*.self_attn.q_a_proj.bias",
        "layers.*.self_attn.q_a_layernorm.weight",
        "layers.*.self_attn.q_b_proj.weight",
        "layers.*.self_attn.kv_a_proj_with_mqa.weight",
        "layers.*.self_attn.kv_a_proj_with_mqa.bias",
        "layers.*.self_attn.kv_a_layernorm.weight",
        "layers.*.self_attn.kv_b_proj.weight",
        "layers.*.self_attn.o_proj.weight",
        "layers.*.self_attn.o_proj.bias",
        "layers.*.post_attention_layernorm.weight",
        "layers.*.mlp.gate_proj.weight",
        "layers.*.mlp.up_proj.weight",
        "layers.*.mlp.down_proj.weight",
        "layers.*.mlp.gate.weight",
        "layers.*.mlp.experts.*.gate_proj.weight",
        "layers.*.mlp.experts.*.up_proj.weight",
        "layers.*.mlp.experts.*.down_proj.weight",
        "layers.*.mlp.shared_experts.gate_proj.weight",
        "layers.*.mlp.shared_experts.up_proj.weight",
        "layers.*.mlp.shared_experts.down_proj.weight",
        "norm.weight",
        "lm_head.weight",
    ],
    prefix: "model.",
    ignored: &["layers.*.self_attn.rotary_emb.inv_freq"],
};

const DENSE: LayerKind = LayerKind { mixer: MixerKind::Mla, channel: Some(ChannelKind::Swiglu) };

fn read(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let accepted: [(&str, &[Value]); 7] = [
        ("hidden_act", &[json!("silu")]),
        ("pretraining_tp", &[json!(1)]),
        ("mlp_bias", &[json!(false)]),
        // Their code never divides by the sum.
        ("norm_topk_prob", &[json!(false)]),
        ("scoring_func", &[json!("softmax")]),
        ("moe_layer_freq", &[json!(1)]),
        ("topk_method", &[json!("greedy"), json!("group_limited_greedy")]),
    ];
    accepted.iter().try_for_each(|(key, values)| settings.only(key, values))?;
    // What these say follows from the others, or from how a training was spread.
    for key in ["head_dim", "qk_head_dim", "ep_size", "auto_map"] {
        settings.get(key);
    }
    settings.whole_rotary()?;
    let (rope_theta, rope_scaling) = settings.rotary(1e4)?;
    let heads = settings.required("num_attention_heads")?;
    settings.only("num_key_value_heads", &[json!(heads)])?;
    let layers = settings.required("num_hidden_layers")?;
    let dense = settings.size("first_k_dense_replace")?.unwrap_or(0);
    if dense > layers.min(1 << 16) {
        return Err(format!("first_k_dense_replace = {dense} of num_hidden_layers = {layers}"));
    }
    let mla = MlaSpec {
        num_attention_heads: heads,
        q_lora_rank: settings.size_or("q_lora_rank", 1536)?,
        kv_lora_rank: settings.required("kv_lora_rank")?,
        qk_nope_head_dim: settings.required("qk_nope_head_dim")?,
        qk_rope_head_dim: settings.required("qk_rope_head_dim")?,
        v_head_dim: settings.required("v_head_dim")?,
        attention_bias: settings.flag("attention_bias", false)?,
        mscale_all_dim: settings.mscale_all_dim().filter(|_| rope_scaling.is_some()),
        dropout: settings.number("attention_dropout", 0.0)?,
        ..MlaSpec::default()
    };
    let groups = (settings.size("n_group")?, settings.size("topk_group")?);
    let (n_group, topk_group) = if settings.word("topk_method", "greedy")? == "greedy" { (None, None) } else { groups };
    let moe = MoeSpec {
        num_experts: settings.required("n_routed_experts")?,
        num_experts_per_tok: settings.required("num_experts_per_tok")?,
        moe_intermediate_size: Some(settings.required("moe_intermediate_size")?),
        num_shared_experts: settings.size_or("n_shared_experts", 2)?.unwrap_or(0),
        norm_topk_prob: Some(false),
        routed_scaling_factor: settings.number("routed_scaling_factor", 1.0)?,
        n_group,
        topk_group,
        router_aux_loss_coef: settings.number("aux_loss_alpha", 0.0)?,
        seq_aux: settings.flag("seq_aux", true)?,
        ..MoeSpec::default()
    };
    Ok(ModelFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: settings.required("hidden_size")?,
        num_hidden_layers: layers,
        intermediate_size: Some(settings.required("intermediate_size")?),
        prologue: vec![DENSE; dense],
        pattern: vec![MixerKind::Mla.into()],
        channel: ChannelKind::Moe,
        norm: NormKind::RmsNorm,
        norm_eps: settings.number("rms_norm_eps", 1e-6)?,
        max_position_embeddings: settings.size("max_position_embeddings")?.unwrap_or(2048),
        rope_theta,
        rope_scaling,
        tie_word_embeddings: settings.flag("tie_word_embeddings", false)?,
        initializer_range: settings.number("initializer_range", 0.02)?,
        mla: Some(mla),
        moe: Some(moe),
        ..ModelFields::default()
    })
}

fn write(spec: &ModelSpec) -> Value {
    let (mla, moe) = (spec.mla.clone().unwrap_or_default(), spec.moe.clone().unwrap_or_default());
    let mut rope = rope_parameters(spec.rope_theta, spec.rope_scaling.as_ref());
    if let Some(mscale) = mla.mscale_all_dim {
        rope["mscale_all_dim"] = json!(mscale);
    }
    let mut config = json!({
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "intermediate_size": spec.intermediate_size,
        "num_attention_heads": mla.num_attention_heads,
        "num_key_value_heads": mla.num_attention_heads,
        "q_lora_rank": mla.q_lora_rank,
        "kv_lora_rank": mla.kv_lora_rank,
        "qk_nope_head_dim": mla.qk_nope_head_dim,
        "qk_rope_head_dim": mla.qk_rope_head_dim,
        "v_head_dim": mla.v_head_dim,
        "attention_bias": mla.attention_bias,
        "attention_dropout": mla.dropout,
        "first_k_dense_replace": spec.prologue.len(),
        "n_routed_experts": moe.num_experts,
        "num_experts_per_tok": moe.num_experts_per_tok,
        "moe_intermediate_size": moe.moe_intermediate_size,
        "n_shared_experts": moe.num_shared_experts,
        "norm_topk_prob": false,
        "seq_aux": moe.seq_aux,
        "routed_scaling_factor": moe.routed_scaling_factor,
        "topk_method": if moe.n_group.is_some() { "group_limited_greedy" } else { "greedy" },
        "n_group": moe.n_group,
        "topk_group": moe.topk_group,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm_eps,
        "max_position_embeddings": spec.max_position_embeddings,
        "rope_theta": spec.rope_theta,
        "rope_parameters": rope,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "initializer_range": spec.initializer_range,
        "torch_dtype": "float32",
    });
    if moe.router_aux_loss_coef > 0.0 {
        config["aux_loss_alpha"] = json!(moe.router_aux_loss_coef);
    }
    config
}
