//! Defaults and rules of the recurrent mixers' tables.

use super::validate::{MOST, broken};
use super::{MixerKind, ModelFields, SpecError, TimeSteps};

/// Fills in tables of mixers that layers have, and widths that depend on the model's.
pub fn complete(fields: &mut ModelFields, has: impl Fn(MixerKind) -> bool) {
    let width = fields.hidden_size;
    macro_rules! default_of {
        ($($kind:ident: $field:ident),*) => {
            $(if has(MixerKind::$kind) { fields.$field.get_or_insert_default(); })*
        };
    }
    default_of!(
        Mamba: mamba,
        Mamba2: mamba2,
        Mamba3: mamba3,
        LinearAttention: linear_attention,
        Gla: gla,
        DeltaNet: deltanet,
        GatedDeltaNet: gated_deltanet
    );
    if let Some(mamba) = &mut fields.mamba {
        mamba.time_step_rank.get_or_insert(width.div_ceil(16));
    }
    // Left open where heads do not divide a width, which `check` then reports.
    let divided = |width: usize, heads: usize| (heads > 0 && width.is_multiple_of(heads)).then(|| width / heads);
    let fill = |place: &mut Option<usize>, value: Option<usize>| *place = place.or(value);
    if let Some(linear) = &mut fields.linear_attention {
        fill(&mut linear.head_dim, divided(width, linear.num_heads));
    }
    if let Some(gla) = &mut fields.gla {
        fill(&mut gla.head_dim, divided(width / 2, gla.num_heads));
        fill(&mut gla.head_v_dim, divided(width, gla.num_heads));
    }
    if let Some(delta) = &mut fields.deltanet {
        fill(&mut delta.head_dim, divided(width, delta.num_heads));
    }
    if let Some(delta) = &mut fields.gated_deltanet {
        fill(&mut delta.head_dim, divided(width.min(MOST) * 3 / 4, delta.num_heads));
        let keys = delta.head_dim;
        fill(&mut delta.head_v_dim, keys.map(|keys| keys.saturating_mul(2)));
    }
}

/// Refuses a size of 0 or beyond all bounds.
fn sizes(table: &str, named: &[(&str, usize)]) -> Result<(), SpecError> {
    match named.iter().find(|(_, value)| *value == 0 || *value > MOST) {
        Some((name, value)) => broken(format!("{table}.{name} = {value} is not between 1 and {MOST}")),
        None => Ok(()),
    }
}

/// Refuses heads that do not divide the width they share, unless a width is given.
fn heads(table: &str, width: usize, of: &str, heads: usize, dims: &[Option<usize>]) -> Result<(), SpecError> {
    sizes(table, &[("num_heads", heads)])?;
    for dim in dims {
        let Some(dim) = dim else {
            return broken(format!("{table}.num_heads = {heads} does not divide {of} = {width}"));
        };
        if *dim == 0 || heads.saturating_mul(*dim) > MOST {
            return broken(format!("{table}: {heads} heads of {dim} are no width"));
        }
    }
    Ok(())
}

fn steps(table: &str, steps: TimeSteps) -> Result<(), SpecError> {
    let TimeSteps { min, max, floor } = steps;
    if !(min > 0.0 && min <= max && max.is_finite() && floor > 0.0 && floor.is_finite()) {
        return broken(format!(
            "{table}: time_step_min = {min}, time_step_max = {max}, time_step_floor = {floor} are not positive and in order"
        ));
    }
    Ok(())
}

/// The inner width of a model that is made of heads of this width.
fn inner(table: &str, fields: &ModelFields, expand: usize, head_dim: usize, groups: usize) -> Result<(), SpecError> {
    sizes(table, &[("expand", expand), ("head_dim", head_dim), ("n_groups", groups)])?;
    let inner = fields.hidden_size.saturating_mul(expand);
    if inner > MOST || !inner.is_multiple_of(head_dim) {
        return broken(format!("{table}.head_dim = {head_dim} does not divide expand * hidden_size = {inner}"));
    }
    let heads = inner / head_dim;
    if !heads.is_multiple_of(groups) {
        return broken(format!("{table}.n_groups = {groups} does not divide {heads} heads"));
    }
    Ok(())
}

/// The first rule that is broken.
pub fn check(fields: &ModelFields) -> Result<(), SpecError> {
    let width = fields.hidden_size;
    if let Some(mamba) = &fields.mamba {
        let rank = mamba.rank(width);
        let named = [
            ("state_size", mamba.state_size),
            ("expand", mamba.expand),
            ("conv_kernel", mamba.conv_kernel),
            ("time_step_rank", rank),
        ];
        sizes("mamba", &named)?;
        if width.saturating_mul(mamba.expand).saturating_mul(mamba.state_size) > MOST {
            return broken(format!("mamba.expand = {} with hidden_size = {width} is too wide", mamba.expand));
        }
        steps("mamba", mamba.time_steps())?;
    }
    if let Some(mamba) = &fields.mamba2 {
        sizes("mamba2", &[("state_size", mamba.state_size), ("conv_kernel", mamba.conv_kernel)])?;
        inner("mamba2", fields, mamba.expand, mamba.head_dim, mamba.n_groups)?;
        steps("mamba2", mamba.time_steps())?;
        if let Some([low, high]) = mamba.time_step_limit.filter(|[low, high]| !(*low >= 0.0 && low <= high)) {
            return broken(format!("mamba2.time_step_limit = [{low}, {high}] is no range of positive numbers"));
        }
    }
    if let Some(mamba) = &fields.mamba3 {
        sizes("mamba3", &[("state_size", mamba.state_size), ("mimo_rank", mamba.mimo_rank)])?;
        inner("mamba3", fields, mamba.expand, mamba.head_dim, mamba.n_groups)?;
        steps("mamba3", mamba.time_steps())?;
        if !(0.0..=1.0).contains(&mamba.rope_fraction) {
            return broken(format!("mamba3.rope_fraction = {} is not from 0 to 1", mamba.rope_fraction));
        }
        if mamba.angles() == 0 {
            return broken(format!(
                "mamba3.rope_fraction = {} of state_size = {} turns no pair",
                mamba.rope_fraction, mamba.state_size
            ));
        }
        if !(mamba.a_floor >= 0.0 && mamba.a_floor.is_finite()) {
            return broken(format!("mamba3.a_floor = {} is not a number from 0 on", mamba.a_floor));
        }
    }
    if let Some(linear) = &fields.linear_attention {
        heads("linear_attention", width, "hidden_size", linear.num_heads, &[linear.head_dim])?;
    }
    if let Some(gla) = &fields.gla {
        heads("gla", width / 2, "hidden_size / 2", gla.num_heads, &[gla.head_dim, gla.head_v_dim])?;
        sizes("gla", &[("gate_low_rank_dim", gla.gate_low_rank_dim)])?;
        if !(gla.gate_logit_normalizer > 0.0 && gla.gate_logit_normalizer.is_finite()) {
            return broken(format!(
                "gla.gate_logit_normalizer = {} is not a positive number",
                gla.gate_logit_normalizer
            ));
        }
    }
    if let Some(delta) = &fields.deltanet {
        heads("deltanet", width, "hidden_size", delta.num_heads, &[delta.head_dim])?;
        sizes("deltanet", &[("conv_kernel", delta.conv_kernel)])?;
    }
    if let Some(delta) = &fields.gated_deltanet {
        let dims = [delta.head_dim, delta.head_v_dim];
        heads("gated_deltanet", width * 3 / 4, "3 / 4 hidden_size", delta.num_heads, &dims)?;
        sizes("gated_deltanet", &[("conv_kernel", delta.conv_kernel)])?;
        steps("gated_deltanet", delta.time_steps())?;
    }
    Ok(())
}
