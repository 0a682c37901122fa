//! LLaMA (Touvron et al., 2023) and the families that differ from it by a few settings: Mistral and Qwen2.

use serde_json::{Value, json};

use super::family::Family;
use super::names::{Entry, Form::Same, Names};
use super::settings::{Settings, rope_parameters};
use crate::spec::{AttentionSpec, ChannelKind, ModelFields, ModelSpec, NormKind};

/// LLaMA.
pub const LLAMA: Family = Family { name: "llama", read: read_llama, write: write_llama, names: NAMES };

/// Mistral: a sliding window.
pub const MISTRAL: Family = Family { name: "mistral", read: read_mistral, write: write_mistral, names: NAMES };

/// Qwen2: biases of queries, keys and values.
pub const QWEN2: Family = Family { name: "qwen2", read: read_qwen2, write: write_qwen2, names: NAMES };

macro_rules! same {
    ($($name:literal),* $(,)?) => {
        &[$(Entry { ours: $name, theirs: $name, form: Same }),*]
    };
}

/// Our names are LLaMA's, without the prefix.
const NAMES: Names = Names {
    entries: same![
        "embed_tokens.weight",
        "layers.*.input_layernorm.weight",
        "layers.*.self_attn.q_proj.weight",
        "layers.*.self_attn.q_proj.bias",
        "layers.*.self_attn.k_proj.weight",
        "layers.*.self_attn.k_proj.bias",
        "layers.*.self_attn.v_proj.weight",
        "layers.*.self_attn.v_proj.bias",
        "layers.*.self_attn.o_proj.weight",
        "layers.*.self_attn.o_proj.bias",
        "layers.*.post_attention_layernorm.weight",
        "layers.*.mlp.gate_proj.weight",
        "layers.*.mlp.gate_proj.bias",
        "layers.*.mlp.up_proj.weight",
        "layers.*.mlp.up_proj.bias",
        "layers.*.mlp.down_proj.weight",
        "layers.*.mlp.down_proj.bias",
        "norm.weight",
        "lm_head.weight",
    ],
    prefix: "model.",
    ignored: &["layers.*.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
};

/// What a family's configuration means where a key is absent, as transformers fills it in.
pub(super) struct Absent {
    /// Heads of keys and values; none for as many as there are query heads.
    pub num_key_value_heads: Option<usize>,
    /// Added to mean squares.
    pub rms_norm_eps: f64,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
}

const OF_LLAMA: Absent =
    Absent { num_key_value_heads: None, rms_norm_eps: 1e-6, max_position_embeddings: 2048, rope_theta: 1e4 };
const OF_MISTRAL: Absent = Absent { num_key_value_heads: Some(8), max_position_embeddings: 131_072, ..OF_LLAMA };
const OF_QWEN2: Absent = Absent { num_key_value_heads: Some(32), max_position_embeddings: 32_768, ..OF_LLAMA };
/// Mixtral's.
pub(super) const OF_MIXTRAL: Absent = Absent { rms_norm_eps: 1e-5, rope_theta: 1e6, ..OF_MISTRAL };

/// What all of these families say alike.
pub(super) fn common(settings: &Settings<'_>, absent: &Absent) -> Result<(ModelFields, AttentionSpec), String> {
    settings.only("hidden_act", &[json!("silu")])?;
    settings.whole_rotary()?;
    settings.only("rope_interleaved", &[json!(false)])?;
    let (rope_theta, rope_scaling) = settings.rotary(absent.rope_theta)?;
    let heads = settings.required("num_attention_heads")?;
    let attention = AttentionSpec {
        num_key_value_heads: match absent.num_key_value_heads {
            Some(shared) => settings.size_or("num_key_value_heads", shared)?,
            None => settings.size("num_key_value_heads")?,
        },
        head_dim: settings.size("head_dim")?,
        dropout: settings.number("attention_dropout", 0.0)?,
        ..AttentionSpec::heads(heads)
    };
    let fields = ModelFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: settings.required("hidden_size")?,
        num_hidden_layers: settings.required("num_hidden_layers")?,
        intermediate_size: Some(settings.required("intermediate_size")?),
        channel: ChannelKind::Swiglu,
        norm: NormKind::RmsNorm,
        norm_eps: settings.number("rms_norm_eps", absent.rms_norm_eps)?,
        max_position_embeddings: settings.size("max_position_embeddings")?.unwrap_or(absent.max_position_embeddings),
        rope_theta,
        rope_scaling,
        tie_word_embeddings: settings.flag("tie_word_embeddings", false)?,
        initializer_range: settings.number("initializer_range", 0.02)?,
        ..ModelFields::default()
    };
    Ok((fields, attention))
}

fn read_llama(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let (fields, attention) = common(settings, &OF_LLAMA)?;
    settings.determined("max_sequence_length", fields.max_position_embeddings)?;
    // A mark of a family's own, beside what it says about rotary angles.
    settings.get("is_llama_config");
    // One switch for all four projections.
    let bias = settings.flag("attention_bias", false)?;
    let attention = AttentionSpec { attention_bias: bias, output_bias: bias, ..attention };
    settings.only("pretraining_tp", &[json!(1)])?;
    Ok(ModelFields { attention: Some(attention), mlp_bias: settings.flag("mlp_bias", false)?, ..fields })
}

fn read_mistral(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let (fields, attention) = common(settings, &OF_MISTRAL)?;
    let sliding_window = settings.size_or("sliding_window", 4096)?;
    Ok(ModelFields { attention: Some(AttentionSpec { sliding_window, ..attention }), ..fields })
}

fn read_qwen2(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let (fields, attention) = common(settings, &OF_QWEN2)?;
    settings.only("use_sliding_window", &[json!(false)])?;
    settings.only("use_mrope", &[json!(false)])?;
    // Without the switch above these say nothing.
    let _ = (settings.get("sliding_window"), settings.get("max_window_layers"));
    if let Some(kinds) = settings.get("layer_types") {
        let full = |kind: &Value| kind == "full_attention";
        if !kinds.as_array().is_some_and(|kinds| kinds.iter().all(full)) {
            return Err(format!("layer_types = {kinds} is not modelled, only full_attention"));
        }
    }
    Ok(ModelFields { attention: Some(AttentionSpec { attention_bias: true, ..attention }), ..fields })
}

/// The other way.
pub(super) fn write_common(spec: &ModelSpec, name: &str, class: &str) -> Value {
    let attention = spec.attention.clone().unwrap_or_default();
    json!({
        "architectures": [class],
        "model_type": name,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "intermediate_size": spec.intermediate_size,
        "num_attention_heads": attention.num_attention_heads,
        "num_key_value_heads": attention.key_value_heads(),
        "head_dim": attention.head_width(spec.hidden_size),
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm_eps,
        "max_position_embeddings": spec.max_position_embeddings,
        "rope_theta": spec.rope_theta,
        "rope_parameters": rope_parameters(spec.rope_theta, spec.rope_scaling.as_ref()),
        "tie_word_embeddings": spec.tie_word_embeddings,
        "initializer_range": spec.initializer_range,
        "attention_dropout": attention.dropout,
        "torch_dtype": "float32",
    })
}

fn write_llama(spec: &ModelSpec) -> Value {
    let mut config = write_common(spec, "llama", "LlamaForCausalLM");
    config["attention_bias"] = json!(spec.attention.as_ref().is_some_and(|attention| attention.attention_bias));
    config["mlp_bias"] = json!(spec.mlp_bias);
    config
}

fn write_mistral(spec: &ModelSpec) -> Value {
    let mut config = write_common(spec, "mistral", "MistralForCausalLM");
    config["sliding_window"] = json!(spec.attention.as_ref().and_then(|attention| attention.sliding_window));
    config
}

fn write_qwen2(spec: &ModelSpec) -> Value {
    let mut config = write_common(spec, "qwen2", "Qwen2ForCausalLM");
    config["use_sliding_window"] = json!(false);
    config
}
