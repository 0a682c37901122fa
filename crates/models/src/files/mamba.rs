//! Mamba (Gu and Dao, 2023) and Mamba-2 (Dao and Gu, 2024).

use serde_json::{Value, json};

use super::family::Family;
use super::names::{Entry, Form::Same, Names};
use super::settings::Settings;
use crate::spec::{ChannelKind, LayerKind, Mamba2Spec, MambaSpec, MixerKind, ModelFields, ModelSpec, PositionKind};

/// Mamba.
pub const MAMBA: Family = Family { name: "mamba", read: read_mamba, write: write_mamba, names: NAMES };

/// Mamba-2.
pub const MAMBA2: Family = Family { name: "mamba2", read: read_mamba2, write: write_mamba2, names: NAMES };

macro_rules! mixer {
    ($($name:literal),* $(,)?) => {
        &[
            Entry { ours: "embed_tokens.weight", theirs: "embeddings.weight", form: Same },
            Entry { ours: "layers.*.input_layernorm.weight", theirs: "layers.*.norm.weight", form: Same },
            Entry { ours: "norm.weight", theirs: "norm_f.weight", form: Same },
            Entry { ours: "lm_head.weight", theirs: "lm_head.weight", form: Same },
            $(Entry {
                ours: concat!("layers.*.mixer.", $name),
                theirs: concat!("layers.*.mixer.", $name),
                form: Same,
            }),*
        ]
    };
}

/// Inside a mixer our names are Mamba's.
const NAMES: Names = Names {
    entries: mixer![
        "A_log",
        "D",
        "conv1d.bias",
        "conv1d.weight",
        "dt_bias",
        "dt_proj.bias",
        "dt_proj.weight",
        "in_proj.bias",
        "in_proj.weight",
        "norm.weight",
        "out_proj.bias",
        "out_proj.weight",
        "x_proj.weight",
    ],
    prefix: "backbone.",
    ignored: &[],
};

fn common(settings: &Settings<'_>, mixer: MixerKind, tied: bool) -> Result<ModelFields, String> {
    settings.only("hidden_act", &[json!("silu")])?;
    // How first values are drawn, and how the same results are computed.
    for key in ["time_step_scale", "time_step_init_scheme", "use_mambapy", "use_associative_scan", "chunk_size"] {
        settings.get(key);
    }
    // The stream is kept in f32 where the model is.
    settings.get("residual_in_fp32");
    let (width, layers) = (settings.required("hidden_size")?, settings.required("num_hidden_layers")?);
    // What the converter of the authors' own files leaves of theirs beside the public words: sizes once more, kernels to compute the
    // same with, a padding that has been done.
    settings.determined("d_model", width)?;
    settings.determined("n_layer", layers)?;
    settings.only("ssm_cfg", &[json!({})])?;
    settings.only("rms_norm", &[json!(true)])?;
    settings.get("fused_add_norm");
    settings.get("pad_vocab_size_multiple");
    Ok(ModelFields {
        vocab_size: settings.required("vocab_size")?,
        hidden_size: width,
        num_hidden_layers: layers,
        pattern: vec![LayerKind { mixer, channel: None }],
        channel: ChannelKind::None,
        norm_eps: settings.number("layer_norm_epsilon", 1e-5)?,
        position: PositionKind::None,
        tie_word_embeddings: settings.flag("tie_word_embeddings", tied)?,
        initializer_range: settings.number("initializer_range", 0.1)?,
        scale_residual_init: settings.flag("rescale_prenorm_residual", false)?,
        ..ModelFields::default()
    })
}

fn inner(fields: &ModelFields, expand: usize) -> usize {
    fields.hidden_size.saturating_mul(expand)
}

fn read_mamba(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let fields = common(settings, MixerKind::Mamba, true)?;
    let default = MambaSpec::default();
    let time_step_rank = match settings.get("time_step_rank") {
        Some(Value::String(word)) if word == "auto" => None,
        _ => settings.size("time_step_rank")?,
    };
    let mamba = MambaSpec {
        state_size: settings.size("state_size")?.unwrap_or(default.state_size),
        expand: settings.size("expand")?.unwrap_or(default.expand),
        conv_kernel: settings.size("conv_kernel")?.unwrap_or(default.conv_kernel),
        time_step_rank,
        use_bias: settings.flag("use_bias", default.use_bias)?,
        use_conv_bias: settings.flag("use_conv_bias", default.use_conv_bias)?,
        time_step_min: settings.number("time_step_min", default.time_step_min)?,
        time_step_max: settings.number("time_step_max", default.time_step_max)?,
        time_step_floor: settings.number("time_step_floor", default.time_step_floor)?,
    };
    settings.determined("intermediate_size", inner(&fields, mamba.expand))?;
    settings.determined("d_inner", inner(&fields, mamba.expand))?;
    Ok(ModelFields { mamba: Some(mamba), ..fields })
}

fn read_mamba2(settings: &Settings<'_>) -> Result<ModelFields, String> {
    let fields = common(settings, MixerKind::Mamba2, false)?;
    let default = Mamba2Spec::default();
    // Not used by this architecture.
    settings.get("time_step_rank");
    // Where the norm stands in the authors' own library; transformers never reads it and has it behind the gate.
    settings.get("norm_before_gate");
    let mamba = Mamba2Spec {
        state_size: settings.size("state_size")?.unwrap_or(default.state_size),
        head_dim: settings.size("head_dim")?.unwrap_or(default.head_dim),
        expand: settings.size("expand")?.unwrap_or(default.expand),
        n_groups: settings.size("n_groups")?.unwrap_or(8),
        conv_kernel: settings.size("conv_kernel")?.unwrap_or(default.conv_kernel),
        use_bias: settings.flag("use_bias", default.use_bias)?,
        use_conv_bias: settings.flag("use_conv_bias", default.use_conv_bias)?,
        time_step_min: settings.number("time_step_min", default.time_step_min)?,
        time_step_max: settings.number("time_step_max", default.time_step_max)?,
        time_step_floor: settings.number("time_step_floor", default.time_step_floor)?,
        time_step_limit: settings.get("time_step_limit").map(limit).transpose()?.flatten(),
    };
    let inner = inner(&fields, mamba.expand);
    settings.determined("num_heads", inner / mamba.head_dim.max(1))?;
    settings.determined("intermediate_size", inner)?;
    settings.determined("d_inner", inner)?;
    Ok(ModelFields { mamba2: Some(mamba), ..fields })
}

/// Bounds of time steps. An upper bound of infinity, which JSON cannot say, is null or a tagged word.
fn limit(value: &Value) -> Result<Option<[f64; 2]>, String> {
    let infinite = |value: &Value| value.is_null() || value.to_string().contains("Infinity");
    match value.as_array().map(Vec::as_slice) {
        Some([low, high]) if low.as_f64() == Some(0.0) && infinite(high) => Ok(None),
        Some([low, high]) => match (low.as_f64(), high.as_f64()) {
            (Some(low), Some(high)) => Ok(Some([low, high])),
            _ => Err(format!("time_step_limit = {value}, expected two numbers")),
        },
        None | Some(_) => Err(format!("time_step_limit = {value}, expected two numbers")),
    }
}

fn write_common(spec: &ModelSpec, name: &str, class: &str) -> Value {
    json!({
        "architectures": [class],
        "model_type": name,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "hidden_act": "silu",
        "layer_norm_epsilon": spec.norm_eps,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "initializer_range": spec.initializer_range,
        // How first values are made, and these are made: where it says true, transformers scales the weights that it has read.
        "rescale_prenorm_residual": false,
        "torch_dtype": "float32",
    })
}

/// Adds the keys of one object to another.
fn extend(config: &mut Value, more: Value) {
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        config.extend(more);
    }
}

fn write_mamba(spec: &ModelSpec) -> Value {
    let mamba = spec.mamba.clone().unwrap_or_default();
    let mut config = write_common(spec, "mamba", "MambaForCausalLM");
    extend(
        &mut config,
        json!({
            "state_size": mamba.state_size,
            "expand": mamba.expand,
            "intermediate_size": spec.hidden_size.saturating_mul(mamba.expand),
            "conv_kernel": mamba.conv_kernel,
            "time_step_rank": mamba.rank(spec.hidden_size),
            "use_bias": mamba.use_bias,
            "use_conv_bias": mamba.use_conv_bias,
            "time_step_min": mamba.time_step_min,
            "time_step_max": mamba.time_step_max,
            "time_step_floor": mamba.time_step_floor,
        }),
    );
    config
}

fn write_mamba2(spec: &ModelSpec) -> Value {
    let mamba = spec.mamba2.clone().unwrap_or_default();
    let mut config = write_common(spec, "mamba2", "Mamba2ForCausalLM");
    let inner = spec.hidden_size.saturating_mul(mamba.expand);
    extend(
        &mut config,
        json!({
            "state_size": mamba.state_size,
            "head_dim": mamba.head_dim,
            "num_heads": inner / mamba.head_dim.max(1),
            "expand": mamba.expand,
            "n_groups": mamba.n_groups,
            "conv_kernel": mamba.conv_kernel,
            "use_bias": mamba.use_bias,
            "use_conv_bias": mamba.use_conv_bias,
            "time_step_min": mamba.time_step_min,
            "time_step_max": mamba.time_step_max,
            "time_step_floor": mamba.time_step_floor,
        }),
    );
    if let Some(limit) = mamba.time_step_limit {
        config["time_step_limit"] = json!(limit);
    }
    config
}
