//! Presets, as data: `FAMILY-SIZE`.

use super::{
    AttentionSpec, ChannelKind, DeltaNetSpec, GatedDeltaNetSpec, GlaSpec, LayerKind, LinearAttentionSpec, Mamba2Spec,
    Mamba3Spec, MambaSpec, MixerKind, MlaSpec, ModelFields, MoeSpec, NormKind, PositionKind, ResidualKind, SpecError,
    TernaryKind, nearest,
};

/// Families of presets.
pub const FAMILIES: &[&str] = &[
    "gpt2",
    "llama",
    "mistral",
    "phi",
    "mamba",
    "mamba2",
    "mamba3",
    "linear_attention",
    "gla",
    "deltanet",
    "gdn",
    "deepseek",
    "hydra",
    "trident",
    "chimera",
];

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
        "hydra" => hydra(base, heads),
        "trident" => trident(base, heads),
        "chimera" => chimera(base, heads),
        "mamba" => mamba(base),
        "mamba2" => mamba2(base),
        "mamba3" => mamba3(base),
        "linear_attention" => linear_attention(base, heads),
        "gla" => gla(base, heads),
        "deltanet" => deltanet(base, heads),
        "gdn" => gdn(base, heads),
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
        seq_aux: true,
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

/// Ren et al., "Samba", 2024, arXiv:2406.07522: Mamba and attention in a window in turn, each with a gated channel mixer.
fn hydra(base: ModelFields, heads: usize) -> ModelFields {
    ModelFields {
        pattern: vec![MixerKind::Mamba.into(), MixerKind::Attention.into()],
        tie_word_embeddings: true,
        attention: Some(AttentionSpec { sliding_window: Some(2048), ..AttentionSpec::heads(heads) }),
        mamba: Some(MambaSpec::default()),
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

/// Layers of one kind of recurrent mixer; positions follow from the recurrence.
fn recurrent(base: ModelFields, mixer: MixerKind) -> ModelFields {
    ModelFields {
        pattern: vec![LayerKind { mixer, channel: None }],
        position: PositionKind::None,
        tie_word_embeddings: true,
        scale_residual_init: true,
        attention: None,
        ..base
    }
}

/// Gu and Dao, "Mamba", 2023, arXiv:2312.00752: mixers alone, twice as many layers as a transformer has.
fn mamba(base: ModelFields) -> ModelFields {
    ModelFields {
        num_hidden_layers: 2 * base.num_hidden_layers,
        channel: ChannelKind::None,
        mamba: Some(MambaSpec::default()),
        ..recurrent(base, MixerKind::Mamba)
    }
}

/// States of a channel of the models with heads: as published from the largest size on.
fn state_size(width: usize) -> usize {
    if width < 768 { 64 } else { 128 }
}

/// Dao and Gu, "Transformers are SSMs", 2024, arXiv:2405.21060: as Mamba.
fn mamba2(base: ModelFields) -> ModelFields {
    ModelFields {
        num_hidden_layers: 2 * base.num_hidden_layers,
        channel: ChannelKind::None,
        mamba2: Some(Mamba2Spec { state_size: state_size(base.hidden_size), ..Mamba2Spec::default() }),
        ..recurrent(base, MixerKind::Mamba2)
    }
}

/// Mamba-3, 2026, arXiv:2603.15569: mixers and gated channel mixers in turn.
fn mamba3(base: ModelFields) -> ModelFields {
    ModelFields {
        mamba3: Some(Mamba3Spec { state_size: state_size(base.hidden_size), ..Mamba3Spec::default() }),
        ..recurrent(base, MixerKind::Mamba3)
    }
}

/// Katharopoulos et al., "Transformers are RNNs", 2020, arXiv:2006.16236: mixers and gated channel mixers in turn. Order is known
/// from the recurrence, which does not forget.
fn linear_attention(base: ModelFields, num_heads: usize) -> ModelFields {
    ModelFields {
        linear_attention: Some(LinearAttentionSpec { num_heads, ..LinearAttentionSpec::default() }),
        ..recurrent(base, MixerKind::LinearAttention)
    }
}

/// Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training", 2023, arXiv:2312.06635: mixers and gated
/// channel mixers in turn.
fn gla(base: ModelFields, num_heads: usize) -> ModelFields {
    ModelFields { gla: Some(GlaSpec { num_heads, ..GlaSpec::default() }), ..recurrent(base, MixerKind::Gla) }
}

/// Yang et al., "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", 2024, arXiv:2406.06484: mixers and
/// gated channel mixers in turn.
fn deltanet(base: ModelFields, num_heads: usize) -> ModelFields {
    ModelFields {
        deltanet: Some(DeltaNetSpec { num_heads, ..DeltaNetSpec::default() }),
        ..recurrent(base, MixerKind::DeltaNet)
    }
}

/// Yang et al., "Gated Delta Networks", 2024, arXiv:2412.06464: mixers and gated channel mixers in turn.
fn gdn(base: ModelFields, num_heads: usize) -> ModelFields {
    ModelFields {
        gated_deltanet: Some(GatedDeltaNetSpec { num_heads, ..GatedDeltaNetSpec::default() }),
        ..recurrent(base, MixerKind::GatedDeltaNet)
    }
}
