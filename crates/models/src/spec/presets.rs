//! Presets, as data: `FAMILY-SIZE`.

use super::{AttentionSpec, ChannelKind, ModelFields, NormKind, PositionKind, ResidualKind, SpecError, nearest};

/// Families of presets.
pub const FAMILIES: &[&str] = &["gpt2", "llama", "mistral", "phi"];

/// Sizes of presets: layers, width, heads.
pub const SIZES: &[(&str, usize, usize, usize)] = &[("nano", 4, 128, 4), ("baby", 6, 384, 6), ("124m", 12, 768, 12)];

/// The names of all presets.
pub fn preset_names() -> impl Iterator<Item = String> {
    FAMILIES.iter().flat_map(|family| SIZES.iter().map(move |(size, ..)| format!("{family}-{size}")))
}

/// The fields of the preset `FAMILY-SIZE`.
pub fn fields(name: &str, vocab_size: usize) -> Result<ModelFields, SpecError> {
    let unknown = || {
        let all: Vec<String> = preset_names().collect();
        let near = nearest(name, all.iter().map(String::as_str));
        SpecError::Preset {
            name: name.to_string(),
            suggestion: near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default(),
            families: FAMILIES.join(" "),
            sizes: SIZES.iter().map(|(size, ..)| *size).collect::<Vec<_>>().join(" "),
        }
    };
    let (family, size) = name.split_once('-').ok_or_else(unknown)?;
    let &(_, layers, width, heads) = SIZES.iter().find(|(known, ..)| *known == size).ok_or_else(unknown)?;
    let base = ModelFields {
        vocab_size,
        hidden_size: width,
        num_hidden_layers: layers,
        attention: Some(AttentionSpec::heads(heads)),
        ..ModelFields::default()
    };
    let fields = match family {
        "gpt2" => gpt2(base),
        "llama" => ModelFields { tie_word_embeddings: true, ..base },
        "mistral" => mistral(base, heads),
        "phi" => phi(base, heads),
        _ => return Err(unknown()),
    };
    Ok(fields)
}

/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
fn gpt2(base: ModelFields) -> ModelFields {
    let heads = base.attention.as_ref().map_or(1, |a| a.num_attention_heads);
    ModelFields {
        channel: ChannelKind::MlpTanh,
        mlp_bias: true,
        norm: NormKind::LayerNorm,
        position: PositionKind::Learned,
        max_position_embeddings: 1024,
        tie_word_embeddings: true,
        scale_residual_init: true,
        attention: Some(AttentionSpec { attention_bias: true, output_bias: true, ..AttentionSpec::heads(heads) }),
        ..base
    }
}

/// Jiang et al., "Mistral 7B", 2023, arXiv:2310.06825: grouped heads and a sliding window.
fn mistral(base: ModelFields, heads: usize) -> ModelFields {
    let shared = if heads.is_multiple_of(4) { heads / 4 } else { heads / 3 };
    let attention =
        AttentionSpec { num_key_value_heads: Some(shared), sliding_window: Some(1024), ..AttentionSpec::heads(heads) };
    ModelFields { attention: Some(attention), tie_word_embeddings: true, ..base }
}

/// Li et al., "Textbooks Are All You Need II: phi-1.5", 2023, arXiv:2309.05463: mixer and channel mixer side by side.
fn phi(base: ModelFields, heads: usize) -> ModelFields {
    ModelFields {
        channel: ChannelKind::MlpTanh,
        mlp_bias: true,
        norm: NormKind::LayerNorm,
        residual: ResidualKind::Parallel,
        partial_rotary_factor: 0.5,
        lm_head_bias: true,
        attention: Some(AttentionSpec { attention_bias: true, output_bias: true, ..AttentionSpec::heads(heads) }),
        ..base
    }
}
