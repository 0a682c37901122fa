//! Phi-1.5 and Phi-2 (Li et al., "Textbooks Are All You Need II", 2023, arXiv:2309.05463).

use serde_json::{Value, json};

use super::family::Family;
use super::names::{Entry, Form, Names};
use super::settings::{Settings, rope_parameters};
use crate::spec::{AttentionSpec, ChannelKind, ModelFields, ModelSpec, NormKind, ResidualKind};

/// Phi.
pub const PHI: Family = Family { name: "phi", read, write, names: NAMES };

const fn entry(ours: &'static str, theirs: &'static str) -> Entry {
    Entry { ours, theirs, form: Form::Same }
}

const NAMES: Names = Names {
    entries: &[
        entry("embed_tokens.weight", "embed_tokens.weight"),
        entry("layers.*.input_layernorm.weight", "layers.*.input_layernorm.weight"),
        entry("layers.*.input_layernorm.bias", "layers.*.input_layernorm.bias"),
        entry("layers.*.self_attn.q_proj.weight", "layers.*.self_attn.q_proj.weight"),
        entry("layers.*.self_attn.q_proj.bias", "layers.*.self_attn.q_proj.bias"),
        entry("layers.*.self_attn.k_proj.weight", "layers.*.self_attn.k_proj.weight"),
        entry("layers.*.self_attn.k_proj.bias", "layers.*.self_attn.k_proj.bias"),
        entry("layers.*.self_attn.v_proj.weight", "layers.*.self_attn.v_proj.weight"),
        entry("layers.*.self_attn.v_proj.bias", "layers.*.self_attn.v_proj.bias"),
        entry("layers.*.self_attn.o_proj.weight", "layers.*.self_attn.dense.weight"),
        entry("layers.*.self_attn.o_proj.bias", "layers.*.self_attn.dense.bias"),
        entry("layers.*.mlp.up_proj.weight", "layers.*.mlp.fc1.weight"),
        entry("layers.*.mlp.up_proj.bias", "layers.*.mlp.fc1.bias"),
        entry("layers.*.mlp.down_proj.weight", "layers.*.mlp.fc2.weight"),
        entry("layers.*.mlp.down_proj.bias", "layers.*.mlp.fc2.bias"),
        entry("norm.weight", "final_layernorm.weight"),
        entry("norm.bias", "final_layernorm.bias"),
        entry("lm_head.weight", "lm_head.weight"),
        entry("lm_head.bias", "lm_head.bias"),
    ],
    prefix: "model.",
    ignored: &["layers.*.self_attn.rotary_emb.inv_freq"],
};

fn read(settings: &Settings<'_>) -> Result<ModelFields, String> {
    settings.only("hidden_act", &[json!("gelu_new"), json!("gelu_pytorch_tanh")])?;
    settings.only("qk_layernorm", &[json!(false)])?;
    let (rope_theta, rope_scaling) = settings.rotary(1e4)?;
    let dropout = settings.number("resid_pdrop", 0.0)?;
    let embedding_dropout = Some(settings.number("embd_pdrop", 0.0)?);
    let attention = AttentionSpec {
        num_key_value_heads: settings.size("num_key_value_heads")?,
        attention_bias: true,
        output_bias: true,
        dropout: settings.number("attention_dropout", 0.0)?,
        ..AttentionSpec::heads(settings.required("num_attention_heads")?)
    };
    let tied = settings.flag("tie_word_embeddings", false)?;
    Ok(ModelFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: settings.required("hidden_size")?,
        num_hidden_layers: settings.required("num_hidden_layers")?,
        intermediate_size: Some(settings.required("intermediate_size")?),
        channel: ChannelKind::MlpTanh,
        mlp_bias: true,
        norm: NormKind::LayerNorm,
        norm_eps: settings.number("layer_norm_eps", 1e-5)?,
        residual: ResidualKind::Parallel,
        max_position_embeddings: settings.size("max_position_embeddings")?.unwrap_or(2048),
        rope_theta,
        partial_rotary_factor: settings.partial_rotary(0.5)?,
        rope_scaling,
        tie_word_embeddings: tied,
        lm_head_bias: !tied,
        initializer_range: settings.number("initializer_range", 0.02)?,
        dropout,
        embedding_dropout,
        attention: Some(attention),
        ..ModelFields::default()
    })
}

fn write(spec: &ModelSpec) -> Value {
    let attention = spec.attention.clone().unwrap_or_default();
    let mut rope = rope_parameters(spec.rope_theta, spec.rope_scaling.as_ref());
    rope["partial_rotary_factor"] = json!(spec.partial_rotary_factor);
    json!({
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "intermediate_size": spec.intermediate_size,
        "num_attention_heads": attention.num_attention_heads,
        "num_key_value_heads": attention.key_value_heads(),
        "hidden_act": "gelu_new",
        "layer_norm_eps": spec.norm_eps,
        "max_position_embeddings": spec.max_position_embeddings,
        "rope_theta": spec.rope_theta,
        "partial_rotary_factor": spec.partial_rotary_factor,
        "rope_parameters": rope,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "initializer_range": spec.initializer_range,
        "resid_pdrop": spec.dropout,
        "embd_pdrop": spec.embedding_dropout.unwrap_or(spec.dropout),
        "attention_dropout": attention.dropout,
        "torch_dtype": "float32",
    })
}
