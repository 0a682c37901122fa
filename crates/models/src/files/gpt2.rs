//! GPT-2 (Radford et al., 2019).

use serde_json::{Value, json};

use super::family::Family;
use super::names::{Entry, Form, Names};
use super::settings::Settings;
use crate::spec::{AttentionSpec, ChannelKind, ModelFields, ModelSpec, NormKind, PositionKind};

/// GPT-2.
pub const GPT2: Family = Family { name: "gpt2", read, write, names: NAMES };

const fn entry(ours: &'static str, theirs: &'static str, form: Form) -> Entry {
    Entry { ours, theirs, form }
}

/// Its projections are `[in, out]`, queries, keys and values beside each other.
const NAMES: Names = Names {
    entries: &[
        entry("embed_tokens.weight", "wte.weight", Form::Same),
        entry("embed_positions.weight", "wpe.weight", Form::Same),
        entry("layers.*.input_layernorm.weight", "h.*.ln_1.weight", Form::Same),
        entry("layers.*.input_layernorm.bias", "h.*.ln_1.bias", Form::Same),
        entry("layers.*.self_attn.q_proj.weight", "h.*.attn.c_attn.weight", Form::TransposedPart(0)),
        entry("layers.*.self_attn.k_proj.weight", "h.*.attn.c_attn.weight", Form::TransposedPart(1)),
        entry("layers.*.self_attn.v_proj.weight", "h.*.attn.c_attn.weight", Form::TransposedPart(2)),
        entry("layers.*.self_attn.q_proj.bias", "h.*.attn.c_attn.bias", Form::Part(0)),
        entry("layers.*.self_attn.k_proj.bias", "h.*.attn.c_attn.bias", Form::Part(1)),
        entry("layers.*.self_attn.v_proj.bias", "h.*.attn.c_attn.bias", Form::Part(2)),
        entry("layers.*.self_attn.o_proj.weight", "h.*.attn.c_proj.weight", Form::Transposed),
        entry("layers.*.self_attn.o_proj.bias", "h.*.attn.c_proj.bias", Form::Same),
        entry("layers.*.post_attention_layernorm.weight", "h.*.ln_2.weight", Form::Same),
        entry("layers.*.post_attention_layernorm.bias", "h.*.ln_2.bias", Form::Same),
        entry("layers.*.mlp.up_proj.weight", "h.*.mlp.c_fc.weight", Form::Transposed),
        entry("layers.*.mlp.up_proj.bias", "h.*.mlp.c_fc.bias", Form::Same),
        entry("layers.*.mlp.down_proj.weight", "h.*.mlp.c_proj.weight", Form::Transposed),
        entry("layers.*.mlp.down_proj.bias", "h.*.mlp.c_proj.bias", Form::Same),
        entry("norm.weight", "ln_f.weight", Form::Same),
        entry("norm.bias", "ln_f.bias", Form::Same),
        entry("lm_head.weight", "lm_head.weight", Form::Same),
    ],
    prefix: "transformer.",
    ignored: &["h.*.attn.bias", "h.*.attn.masked_bias"],
};

fn read(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let channel = match settings.word("activation_function", "gelu_new")?.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" => ChannelKind::MlpTanh,
        "gelu" => ChannelKind::Mlp,
        "relu" => ChannelKind::MlpRelu,
        "silu" => ChannelKind::MlpSilu,
        other => return Err(format!("activation_function = {other} is not modelled")),
    };
    settings.only("scale_attn_weights", &[json!(true)])?;
    settings.only("scale_attn_by_inverse_layer_idx", &[json!(false)])?;
    // A way to compute the same with less rounding in half precision.
    settings.get("reorder_and_upcast_attn");
    // A classifier's head, and words of the first conversion from the original files.
    for key in ["summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"] {
        settings.get(key);
    }
    settings.get("summary_use_proj");
    settings.get("predict_special_tokens");
    settings.only("n_special", &[json!(0)])?;
    let longest = settings.size("n_positions")?.unwrap_or(1024);
    settings.determined("n_ctx", longest)?;
    let dropout = settings.number("resid_pdrop", 0.1)?;
    let embedding_dropout = Some(settings.number("embd_pdrop", 0.1)?);
    let attention = AttentionSpec {
        attention_bias: true,
        output_bias: true,
        dropout: settings.number("attn_pdrop", 0.1)?,
        ..AttentionSpec::heads(settings.required("n_head")?)
    };
    Ok(ModelFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: settings.required("n_embd")?,
        num_hidden_layers: settings.required("n_layer")?,
        intermediate_size: settings.size("n_inner")?,
        channel,
        mlp_bias: true,
        norm: NormKind::LayerNorm,
        norm_eps: settings.number("layer_norm_epsilon", 1e-5)?,
        position: PositionKind::Learned,
        max_position_embeddings: longest,
        tie_word_embeddings: settings.flag("tie_word_embeddings", true)?,
        initializer_range: settings.number("initializer_range", 0.02)?,
        scale_residual_init: true,
        dropout,
        embedding_dropout,
        attention: Some(attention),
        ..ModelFields::default()
    })
}

fn write(spec: &ModelSpec) -> Value {
    let attention = spec.attention.clone().unwrap_or_default();
    let activation = match spec.channel {
        ChannelKind::Mlp => "gelu",
        ChannelKind::MlpRelu => "relu",
        ChannelKind::MlpSilu => "silu",
        _ => "gelu_new",
    };
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": spec.vocab_size,
        "n_embd": spec.hidden_size,
        "n_layer": spec.num_hidden_layers,
        "n_inner": spec.intermediate_size,
        "n_head": attention.num_attention_heads,
        "n_positions": spec.max_position_embeddings,
        "activation_function": activation,
        "layer_norm_epsilon": spec.norm_eps,
        "initializer_range": spec.initializer_range,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "resid_pdrop": spec.dropout,
        "embd_pdrop": spec.embedding_dropout.unwrap_or(spec.dropout),
        "attn_pdrop": attention.dropout,
        "torch_dtype": "float32",
    })
}
