//! Defaults that depend on other fields, and the rules that a specification keeps.

use super::recurrent_rules;
use super::{ChannelKind, LayerKind, MixerKind, ModelFields, ResidualKind, SpecError, rotary_rules};

/// More than any model that fits a machine: what is larger is a slip, and products of sizes stay far from overflowing.
pub(super) const MOST: usize = 1 << 24;

/// More layers than any model has: each takes memory before its parameters are looked at.
pub(super) const MOST_LAYERS: usize = 1 << 12;

/// More heads than any layer has: each has a slope where scores fall with distance.
pub(super) const MOST_HEADS: usize = 1 << 12;

/// Fills in what is left out.
pub fn complete(fields: &mut ModelFields) {
    let width = fields.hidden_size;
    let gated = fields.channel.is_gated();
    if fields.intermediate_size.is_none() && width <= MOST {
        fields.intermediate_size = Some(if gated { (8 * width).div_ceil(3).next_multiple_of(64) } else { 4 * width });
    }
    fields.embedding_dropout = fields.embedding_dropout.filter(|p| *p != fields.dropout);
    if let Some(moe) = &mut fields.moe {
        moe.complete(fields.intermediate_size);
    }
    if let Some(attention) = &mut fields.attention
        && attention.num_attention_heads > 0
    {
        attention.num_key_value_heads.get_or_insert(attention.num_attention_heads);
        if width.is_multiple_of(attention.num_attention_heads) {
            attention.head_dim.get_or_insert(width / attention.num_attention_heads);
        }
    }
    let kinds: Vec<MixerKind> = layers(fields).map(|kind| kind.mixer).collect();
    recurrent_rules::complete(fields, |kind| kinds.contains(&kind));
}

/// The first rule that is broken.
pub fn check(fields: &ModelFields) -> Result<(), SpecError> {
    sizes(fields)?;
    kinds(fields)?;
    attention(fields)?;
    if let Some(mla) = &fields.mla {
        mla.check(fields, MOST)?;
    }
    if let Some(moe) = &fields.moe {
        moe.check(fields, MOST)?;
    }
    recurrent_rules::check(fields)?;
    rotary_rules::check(fields)
}

pub(super) fn broken(rule: String) -> Result<(), SpecError> {
    Err(SpecError::Rule(rule))
}

fn sizes(fields: &ModelFields) -> Result<(), SpecError> {
    let named = [
        ("vocab_size", fields.vocab_size, MOST),
        ("hidden_size", fields.hidden_size, MOST),
        ("num_hidden_layers", fields.num_hidden_layers, MOST_LAYERS),
        ("intermediate_size", fields.intermediate_size.unwrap_or(1), MOST),
        ("max_position_embeddings", fields.max_position_embeddings, MOST),
    ];
    for (name, value, most) in named {
        if value == 0 || value > most {
            return broken(format!("{name} = {value} is not between 1 and {most}"));
        }
    }
    let probability = |name, p: f64| (name, p, (0.0..1.0).contains(&p), "at least 0 and below 1");
    let positive = |name, value: f64| (name, value, value > 0.0 && value.is_finite(), "a positive number");
    let numbers = [
        probability("dropout", fields.dropout),
        probability("embedding_dropout", fields.embedding_dropout.unwrap_or_default()),
        positive("norm_eps", fields.norm_eps),
        positive("rope_theta", fields.rope_theta),
        positive("partial_rotary_factor", fields.partial_rotary_factor),
        positive("initializer_range", fields.initializer_range),
    ];
    for (name, value, holds, expected) in numbers {
        if !holds {
            return broken(format!("{name} = {value} is not {expected}"));
        }
    }
    Ok(())
}

fn layers(fields: &ModelFields) -> impl Iterator<Item = &LayerKind> {
    let repeated = fields.num_hidden_layers.saturating_sub(fields.prologue.len());
    fields.prologue.iter().chain(fields.pattern.iter().take(repeated))
}

fn kinds(fields: &ModelFields) -> Result<(), SpecError> {
    if fields.pattern.is_empty() {
        return broken("pattern is empty: it needs the kind of at least one layer".to_string());
    }
    if fields.prologue.len() > fields.num_hidden_layers {
        return broken(format!(
            "prologue names {} layers, num_hidden_layers = {}",
            fields.prologue.len(),
            fields.num_hidden_layers
        ));
    }
    let attends = layers(fields).any(|kind| kind.mixer == MixerKind::Attention);
    if attends && fields.attention.is_none() {
        return broken("a layer is `attention`, and the table `attention` is missing".to_string());
    }
    if layers(fields).any(|kind| kind.mixer == MixerKind::Mla) && fields.mla.is_none() {
        return broken("a layer is `mla`, and the table `mla` is missing".to_string());
    }
    if layers(fields).any(|kind| kind.channel.unwrap_or(fields.channel) == ChannelKind::Moe) && fields.moe.is_none() {
        return broken("a layer has `moe`, and the table `moe` is missing".to_string());
    }
    let without = layers(fields).any(|kind| kind.channel.unwrap_or(fields.channel) == ChannelKind::None);
    if without && fields.residual == ResidualKind::Parallel {
        return broken("residual = \"parallel\" needs a channel mixer beside every mixer".to_string());
    }
    if fields.lm_head_bias && fields.tie_word_embeddings {
        return broken(
            "lm_head_bias = true with tie_word_embeddings = true: a head that is the embedding has no bias".to_string(),
        );
    }
    Ok(())
}

fn attention(fields: &ModelFields) -> Result<(), SpecError> {
    let Some(attention) = &fields.attention else { return Ok(()) };
    let (heads, width) = (attention.num_attention_heads, fields.hidden_size);
    if heads == 0 {
        return broken("num_attention_heads = 0: attention needs a head".to_string());
    }
    if heads > MOST_HEADS {
        return broken(format!("num_attention_heads = {heads} is more than {MOST_HEADS}"));
    }
    let Some(head_dim) = attention.head_dim else {
        return broken(format!("num_attention_heads = {heads} does not divide hidden_size = {width}"));
    };
    let shared = attention.key_value_heads();
    if shared == 0 || !heads.is_multiple_of(shared) {
        return broken(format!("num_key_value_heads = {shared} does not divide num_attention_heads = {heads}"));
    }
    if head_dim == 0 || heads.saturating_mul(head_dim) > MOST {
        return broken(format!("head_dim = {head_dim} with num_attention_heads = {heads} is no width of heads"));
    }
    if attention.differential && !(heads.is_multiple_of(2) && shared.is_multiple_of(2)) {
        return broken(format!(
            "differential attention pairs heads: num_attention_heads = {heads} and num_key_value_heads = {shared} are not both even"
        ));
    }
    if attention.sliding_window == Some(0) {
        return broken("sliding_window = 0: a query sees at least its own key".to_string());
    }
    for (name, value) in [("soft_cap", attention.soft_cap), ("attention.scale", attention.scale)] {
        if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
            return broken(format!("{name} = {value} is not a positive number"));
        }
    }
    if !(0.0..1.0).contains(&attention.dropout) {
        return broken(format!("attention.dropout = {} is not at least 0 and below 1", attention.dropout));
    }
    Ok(())
}
