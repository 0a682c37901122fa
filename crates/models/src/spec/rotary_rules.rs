//! The rules of rotary angles: tables that have an end and hold numbers.

use super::validate::broken;
use super::{ModelFields, PositionKind, RopeScaling, SpecError};

/// Stretching by more than this is a slip.
const MOST_FACTOR: f64 = (1u64 << 24) as f64;

/// The first rule that is broken.
pub fn check(fields: &ModelFields) -> Result<(), SpecError> {
    if fields.position != PositionKind::Rotary {
        return Ok(());
    }
    let part = fields.partial_rotary_factor;
    let mut widths = Vec::new();
    if let Some(attention) = &fields.attention {
        let head = attention.head_width(fields.hidden_size);
        let turned = (head as f64 * part) as usize;
        if part > 1.0 || !turned.is_multiple_of(2) || turned == 0 {
            return broken(format!(
                "partial_rotary_factor = {part} of head_dim = {head} is {turned}, not an even number of values from 2 to {head}"
            ));
        }
        widths.push(turned);
    } else if fields.mla.is_some() && part != 1.0 {
        return broken(format!("partial_rotary_factor = {part}: latent attention has its qk_rope_head_dim for that"));
    }
    widths.extend(fields.mla.as_ref().map(|mla| mla.qk_rope_head_dim));
    match (&fields.rope_scaling, widths.iter().min()) {
        (Some(scaling), Some(&narrowest)) => stretching(scaling, fields.rope_theta, narrowest),
        _ => Ok(()),
    }
}

fn stretching(scaling: &RopeScaling, theta: f64, narrowest: usize) -> Result<(), SpecError> {
    let context = |positions: usize| match positions {
        0 => broken("original_max_position_embeddings = 0 is no context".to_string()),
        _ => Ok(()),
    };
    let ordered = |low: (&str, f64), high: (&str, f64)| {
        if 0.0 < low.1 && low.1 < high.1 && high.1.is_finite() {
            return Ok(());
        }
        broken(format!("{} = {} and {} = {} are not positive numbers in this order", low.0, low.1, high.0, high.1))
    };
    let factor = match *scaling {
        RopeScaling::Linear { factor } => factor,
        RopeScaling::Ntk { factor } => {
            if narrowest < 4 {
                return broken(format!(
                    "rope_type = \"ntk\" needs at least 4 turned values of a head, there are {narrowest}"
                ));
            }
            factor
        }
        RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor } => {
            context(original_max_position_embeddings)?;
            ordered(("beta_slow", beta_slow), ("beta_fast", beta_fast))?;
            if let Some(sharpened) = attention_factor.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return broken(format!("attention_factor = {sharpened} is not a positive number"));
            }
            if theta <= 1.0 {
                return broken(format!("rope_theta = {theta} with rope_type = \"yarn\" is not above 1"));
            }
            factor
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            context(original_max_position_embeddings)?;
            ordered(("low_freq_factor", low_freq_factor), ("high_freq_factor", high_freq_factor))?;
            factor
        }
    };
    if !(1.0..=MOST_FACTOR).contains(&factor) {
        return broken(format!("rope_scaling factor = {factor} is not a number from 1 to {MOST_FACTOR}"));
    }
    Ok(())
}
