//! Presets, as data: `FAMILY-SIZE`.

use super::{
    AttentionSpec, ChannelKind, LayerKind, MixerKind, MlaSpec, ModelFields, MoeSpec, NormKind, PositionKind,
    ResidualKind, SpecError, TernaryKind, nearest,
};

/// Families of presets.
pub const FAMILIES: &[&str] = &["gpt2", "llama", "mistral", "phi", "deepseek", "trident", "chimera"];

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
        "deepseek" => deepseek(base, heads),
        "trident" => trident(base, heads),
        "chimera" => chimera(base, heads),
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

/// Width of a gated channel mixer in a model of this width.
fn gated_width(width: usize) -> usize {
    (8 * width).div_ceil(3).next_multiple_of(64)
}

/// DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434: latent attention with a latent vector of four heads' width and a rotary key
/// of half a head's, fine-grained experts beside shared ones, the first layer dense. A token meets 8 experts of an eighth of a
/// dense layer's width.
fn deepseek(base: ModelFields, heads: usize) -> ModelFields {
    let (width, head) = (base.hidden_size, base.hidden_size / heads);
    let mla = MlaSpec {
        num_attention_heads: heads,
        kv_lora_rank: 4 * head,
        qk_nope_head_dim: head,
        qk_rope_head_dim: head / 2,
        v_head_dim: head,
        ..MlaSpec::default()
    };
    let moe = MoeSpec {
        num_experts: 16,
        num_experts_per_tok: 6,
        num_shared_experts: 2,
        moe_intermediate_size: Some(gated_width(width) / 8),
        norm_topk_prob: Some(false),
        router_aux_loss_coef: 0.001,
        ..MoeSpec::default()
    };
    ModelFields {
        prologue: vec![LayerKind { mixer: MixerKind::Mla, channel: Some(ChannelKind::Swiglu) }],
        pattern: vec![MixerKind::Mla.into()],
        channel: ChannelKind::Moe,
        intermediate_size: Some(gated_width(width)),
        norm_eps: 1e-6,
        initializer_range: 0.006,
        attention: None,
        mla: Some(mla),
        moe: Some(moe),
        ..base
    }
}

/// LLaMA with weights of three values in all layers (Ma et al., "The Era of 1-bit LLMs", 2024, arXiv:2402.17764).
fn trident(base: ModelFields, heads: usize) -> ModelFields {
    let attention = AttentionSpec { num_key_value_heads: Some(heads / 2), ..AttentionSpec::heads(heads) };
    ModelFields { ternary: Some(TernaryKind::A16), tie_word_embeddings: true, attention: Some(attention), ..base }
}

/// Differential attention (Ye et al., 2024, arXiv:2410.05258) and experts as Mixtral's (Jiang et al., 2024, arXiv:2401.04088),
/// two of eight, each of half a dense layer's width.
fn chimera(base: ModelFields, heads: usize) -> ModelFields {
    let moe = MoeSpec {
        num_experts: 8,
        num_experts_per_tok: 2,
        moe_intermediate_size: Some(gated_width(base.hidden_size) / 2),
        router_aux_loss_coef: 0.01,
        ..MoeSpec::default()
    };
    ModelFields {
        channel: ChannelKind::Moe,
        tie_word_embeddings: true,
        attention: Some(AttentionSpec { differential: true, ..AttentionSpec::heads(heads) }),
        moe: Some(moe),
        ..base
    }
}
