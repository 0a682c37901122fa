//! Presets: how their parameters begin, and how many there are.

use cupola_models::spec::{FAMILIES, SIZES};
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::{Module, StateDict};

fn preset(name: &str, vocabulary: usize) -> ModelSpec {
    ModelSpec::preset(name, vocabulary).unwrap_or_else(|error| panic!("{error}"))
}

/// What the paper's rule makes the deviation of a matrix's first values, or of a vector of vectors; `None` where its values are no
/// random ones around zero.
fn deviation(family: &str, name: &str, shape: &[usize]) -> Option<f64> {
    // Radford et al.: smaller by the square root of what is added to the stream. The four layers of a nano model add two parts each,
    // the eight of Mamba's one.
    let added = 8f64;
    let normal = if family == "deepseek" { 0.006 } else { 0.02 };
    let scaled = !["llama", "mistral", "phi", "deepseek", "hydra", "trident", "chimera"].contains(&family);
    let last = name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
    let uniform = |bound: f64| Some(bound / 3f64.sqrt());
    let inputs = *shape.last().unwrap_or(&1) as f64;
    match last {
        "A_log" | "D" | "dt_bias" | "B_bias" | "C_bias" => None,
        _ if last.starts_with("lambda_") => Some(0.1),
        _ if name.ends_with("bias") || shape.len() < 2 => None,
        // As PyTorch draws convolutions and linear layers, which Mamba leaves as they are.
        "conv1d" => uniform(1.0 / 2.0),
        "in_proj" | "x_proj" => uniform(1.0 / inputs.sqrt()),
        "dt_proj" => uniform(1.0 / inputs.sqrt()),
        // Hydra leaves the projection out of Mamba as it is, as all of its others.
        "out_proj" if family == "hydra" => uniform(1.0 / inputs.sqrt()),
        "out_proj" => uniform(1.0 / (inputs * added).sqrt()),
        "o_proj" | "down_proj" if scaled => Some(normal / added.sqrt()),
        _ => Some(normal),
    }
}

#[test]
fn every_preset_begins_as_its_paper_says() {
    for family in FAMILIES {
        let model = Decoder::new(&preset(&format!("{family}-nano"), 300)).init(0);
        let mut matrices = 0;
        for (name, x) in model.state_dict() {
            let values: Vec<f64> = x.to_vec::<f32>().into_iter().map(f64::from).collect();
            let count = values.len() as f64;
            let Some(expected) = deviation(family, &name, x.shape().dims()) else {
                continue;
            };
            matrices += 1;
            let (mean, square) =
                (values.iter().sum::<f64>() / count, values.iter().map(|v| v * v).sum::<f64>() / count);
            let found = square.sqrt();
            // Of n values the estimate is off by 1 / sqrt(2 n) of itself, seldom by five times that.
            let off = (found / expected - 1.0).abs();
            assert!(off < 5.0 / (2.0 * count).sqrt(), "{family}: {name} begins at {found}, expected {expected}");
            assert!(mean.abs() < 5.0 * expected / count.sqrt(), "{family}: {name} has the mean {mean}");
        }
        assert!(matrices >= 20, "{family}: {matrices}");
    }
}

#[test]
fn what_is_not_random_around_zero_begins_where_its_paper_says() {
    for family in FAMILIES {
        let model = Decoder::new(&preset(&format!("{family}-nano"), 300)).init(0);
        for (name, x) in model.state_dict() {
            let values: Vec<f64> = x.to_vec::<f32>().into_iter().map(f64::from).collect();
            let last = name.rsplit('.').next().unwrap_or_default();
            let all = |low: f64, high: f64| values.iter().all(|v| (low..=high).contains(v));
            let holds = match (last, name.contains("norm") || name.contains("subln")) {
                ("weight", true) | ("D" | "B_bias" | "C_bias", _) => all(1.0, 1.0),
                // S4D-Real: minus the decays of state n are n + 1.
                ("A_log", _) if x.rank() == 2 => {
                    values.iter().enumerate().all(|(i, v)| (v.exp() - (i % x.dim(1) + 1) as f64).abs() < 1e-4)
                }
                ("A_log", _) => all(-7.0, 16f64.ln() + 1e-6) && (x.dim(0) == 1 || values[0] != values[1]),
                // The softplus of which is a time step from 0.001 to 0.1.
                ("dt_bias", _) => values.iter().all(|v| (0.00099..0.1001).contains(&v.exp().ln_1p())),
                ("bias", _) if name.ends_with("dt_proj.bias") => {
                    values.iter().all(|v| (0.00099..0.1001).contains(&v.exp().ln_1p()))
                }
                ("bias", false) if name.ends_with("conv1d.bias") => all(-0.5, 0.5),
                ("bias", _) => all(0.0, 0.0),
                _ => true,
            };
            assert!(holds, "{family}: {name} begins with {:?}", &values[..values.len().min(4)]);
        }
    }
}

/// The parameters of a preset of L layers of width D with H heads and V tokens, written down from the papers.
fn counted(family: &str, [v, l, d, h]: [usize; 4]) -> usize {
    let gated = |width: usize| 3 * d * width;
    let wide = (8 * d).div_ceil(3).div_ceil(64) * 64;
    let (swiglu, norms, inner) = (gated(wide), 2 * d, 2 * d);
    let states = if d < 768 { 64 } else { 128 };
    let attention = |shared: usize| 2 * d * d + 2 * d * (d / h * shared);
    let mamba = {
        let rank = d.div_ceil(16);
        2 * inner * d + inner * 5 + inner * (rank + 32) + rank * inner + inner + 16 * inner + inner + inner * d
    };
    match family {
        "gpt2" => v * d + 1024 * d + l * (12 * d * d + 13 * d) + 2 * d,
        "llama" => v * d + l * (attention(h) + swiglu + norms) + d,
        "mistral" => v * d + l * (attention(if h.is_multiple_of(4) { h / 4 } else { h / 3 }) + swiglu + norms) + d,
        // Two tables; one norm in a layer.
        "phi" => 2 * v * d + v + l * (12 * d * d + 11 * d) + 2 * d,
        "mamba" => v * d + 2 * l * (mamba + d) + d,
        "mamba2" => {
            let heads = inner / 64;
            let mixer = d * (2 * inner + 2 * states + heads) + 5 * (inner + 2 * states) + 3 * heads + inner + inner * d;
            v * d + 2 * l * (mixer + d) + d
        }
        "mamba3" => {
            let heads = inner / 64;
            let read = d * (2 * inner + 2 * states + 3 * heads + states / 4);
            let mixer = read + 2 * heads + 2 * states + 2 * heads * states + inner * d;
            v * d + l * (mixer + swiglu + norms) + d
        }
        "linear_attention" => v * d + l * (4 * d * d + swiglu + norms) + d,
        "gla" => {
            let mixer = d * d + 2 * d * d + 16 * d + (16 + 1) * d / 2 + d / h + d * d;
            v * d + l * (mixer + swiglu + norms) + d
        }
        "deltanet" => v * d + l * (4 * d * d + d * h + 4 * 3 * d + d / h + swiglu + norms) + d,
        "gdn" => {
            let (keys, values) = (3 * d / 4, 3 * d / 2);
            let mixer = d * (2 * keys + 2 * values + 2 * h) + 4 * (2 * keys + values) + 2 * h + values / h + values * d;
            v * d + l * (mixer + swiglu + norms) + d
        }
        "deepseek" => {
            let head = d / h;
            let latent = 4 * head;
            let mixer = d * h * (head + head / 2) + d * (latent + head / 2) + latent + latent * h * 2 * head + d * d;
            let experts = 16 * d + (16 + 2) * gated(wide / 8);
            2 * v * d + l * (mixer + norms) + swiglu + (l - 1) * experts + d
        }
        "hydra" => v * d + l / 2 * (mamba + attention(h)) + l * (swiglu + norms) + d,
        "trident" => v * d + l * (attention(h / 2) + swiglu + norms) + d,
        "chimera" => {
            let differential = 4 * d / h + 2 * d / h;
            v * d + l * (attention(h) + differential + 8 * d + 8 * gated(wide / 2) + norms) + d
        }
        other => panic!("no formula for {other}"),
    }
}

#[test]
fn every_preset_has_as_many_parameters_as_its_paper_s_formula() {
    for family in FAMILIES {
        for (size, layers, width, heads) in SIZES {
            let name = format!("{family}-{size}");
            let found = Decoder::new(&preset(&name, 32_000)).parameter_count();
            assert_eq!(found, counted(family, [32_000, *layers, *width, *heads]), "{name}");
        }
    }
}
