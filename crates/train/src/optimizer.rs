//! The optimisers of a run behind one face.

use std::collections::{BTreeMap, BTreeSet};

use cupola_nn::Module;
use cupola_nn::optim::{
    AdamW, AdamWConfig, LrAdjustment, Muon, MuonConfig, Optimizer as Single, OptimizerState, Rule, Sgd, SgdConfig,
    matches,
};
use cupola_tensor::{Gradients, Tensor};
use serde_json::{Value, json};

use crate::config::{OptimizerConfig, OptimizerKind};

/// One optimiser, or two that share the parameters.
#[derive(Clone)]
pub enum Optimizer {
    /// Muon for the layers' matrices, AdamW for the rest.
    Muon(Box<(Muon, AdamW)>),
    /// AdamW for all.
    Adamw(Box<AdamW>),
    /// Stochastic gradient descent.
    Sgd(Box<Sgd>),
}

/// Patterns that match these names and no others among `all`: numbers become stars where that is exact.
fn patterns(chosen: &BTreeSet<String>, all: &[String]) -> Vec<String> {
    let mut result = BTreeSet::new();
    for name in chosen {
        let general: Vec<&str> =
            name.split('.').map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part }).collect();
        let general = general.join(".");
        let exact = all.iter().all(|other| !matches(&general, other) || chosen.contains(other));
        result.insert(if exact { general } else { name.clone() });
    }
    result.into_iter().collect()
}

/// Whether a parameter of this name and rank is of a kind.
pub type Kind = fn(&str, usize) -> bool;

/// Words for parameters of a kind, in `optimizer.no_decay`: the word, and whether a parameter of this name and rank is meant.
pub const KINDS: [(&str, Kind); 5] = [
    ("vectors", |_, rank| rank < 2),
    ("biases", |name, _| last(name).ends_with("bias")),
    ("norms", |name, _| name.split('.').any(|part| part.contains("norm"))),
    // What scans step by, which the reference implementation of Mamba marks so; `A_log` of Mamba-1 is a matrix by its shape alone.
    ("scans", |name, _| ["A_log", "D", "dt_bias"].contains(&last(name))),
    ("embeddings", |name, _| name.starts_with("embed_")),
];

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// Whether an entry of `optimizer.no_decay` means a parameter: one of the words of [`KINDS`], or a pattern over names.
pub fn means(entry: &str, name: &str, rank: usize) -> bool {
    match KINDS.iter().find(|(word, _)| *word == entry) {
        Some((_, kind)) => kind(name, rank),
        None => matches(entry, name),
    }
}

/// Whether Muon may turn a parameter: the matrices between two widths inside the layers. Taps of convolutions are a list of small
/// filters, and low-rank additions begin at zero: both are AdamW's.
pub(crate) fn is_inner_matrix(name: &str, rank: usize) -> bool {
    let outside = |part: &str| part.contains("conv") || part.starts_with("lora_");
    let norm = |part: &str| part.contains("norm");
    let parts = || name.split('.');
    rank == 2 && name.starts_with("layers.") && name.ends_with("weight") && !parts().any(outside) && !parts().any(norm)
}

impl Optimizer {
    /// The optimiser of this configuration for this model.
    pub fn new(config: &OptimizerConfig, lr: f64, model: &impl Module) -> Self {
        let mut all = Vec::new();
        let (mut constant, mut inner) = (BTreeSet::new(), BTreeSet::new());
        for (path, param) in model.named_parameters() {
            for (name, rows) in param.parts(&path) {
                let rank = param.part_shape(&rows).rank();
                all.push(name.clone());
                if !param.is_trainable() {
                    continue;
                }
                if config.no_decay.iter().any(|entry| means(entry, &name, rank)) {
                    constant.insert(name.clone());
                }
                if is_inner_matrix(&name, rank) {
                    inner.insert(name);
                }
            }
        }
        let adamw = AdamWConfig {
            lr,
            betas: config.betas,
            eps: config.eps,
            weight_decay: config.weight_decay,
            ..AdamWConfig::default()
        };
        let plain = AdamWConfig { weight_decay: 0.0, ..adamw.clone() };
        let with_groups = |names: &BTreeSet<String>| {
            let new = AdamW::new(adamw.clone());
            patterns(names, &all).into_iter().fold(new, |optimizer, name| optimizer.group(name, plain.clone()))
        };
        match config.kind {
            OptimizerKind::Muon if !inner.is_empty() => {
                let muon = MuonConfig {
                    lr,
                    weight_decay: config.weight_decay,
                    momentum: config.momentum,
                    adjust_lr: LrAdjustment::MatchRmsAdamw,
                    ..MuonConfig::default()
                };
                let plain = MuonConfig { weight_decay: 0.0, ..muon.clone() };
                let names = patterns(&inner, &all);
                let [turned, others] = [true, false].map(|turned| {
                    constant.iter().filter(|name| inner.contains(*name) == turned).cloned().collect::<BTreeSet<_>>()
                });
                let muon = names.iter().fold(Muon::new(muon), |optimizer, name| optimizer.only(name.clone()));
                let muon = patterns(&turned, &all).into_iter().fold(muon, |muon, name| muon.group(name, plain.clone()));
                let rest = names.iter().fold(with_groups(&others), |optimizer, name| optimizer.except(name.clone()));
                Self::Muon(Box::new((muon, rest)))
            }
            OptimizerKind::Muon | OptimizerKind::Adamw => Self::Adamw(Box::new(with_groups(&constant))),
            OptimizerKind::Sgd => {
                let sgd = SgdConfig {
                    lr,
                    momentum: config.momentum,
                    weight_decay: config.weight_decay,
                    ..SgdConfig::default()
                };
                let plain = SgdConfig { weight_decay: 0.0, ..sgd.clone() };
                let new = Sgd::new(sgd);
                let groups = patterns(&constant, &all);
                Self::Sgd(Box::new(groups.into_iter().fold(new, |sgd, name| sgd.group(name, plain.clone()))))
            }
        }
    }

    /// Sets the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        match self {
            Self::Muon(both) => {
                both.0.set_lr(lr);
                both.1.set_lr(lr);
            }
            Self::Adamw(one) => one.set_lr(lr),
            Self::Sgd(one) => one.set_lr(lr),
        }
    }

    /// Changes all parameters by their gradients times `scale`.
    pub fn step(&mut self, model: &mut impl Module, grads: &Gradients, scale: f64) {
        match self {
            Self::Muon(both) => {
                both.0.step_scaled(model, grads, scale);
                both.1.step_scaled(model, grads, scale);
            }
            Self::Adamw(one) => one.step_scaled(model, grads, scale),
            Self::Sgd(one) => one.step_scaled(model, grads, scale),
        }
    }

    /// All that is needed to go on: text, and tensors by name.
    pub fn state(&self) -> (Value, BTreeMap<String, Tensor>) {
        match self {
            Self::Muon(both) => {
                let ((muon, mut tensors), (adamw, more)) = (both.0.state(), both.1.state());
                tensors.extend(more);
                (json!({ "muon": muon, "adamw": adamw }), tensors)
            }
            Self::Adamw(one) => {
                let (text, tensors) = one.state();
                (json!({ "adamw": text }), tensors)
            }
            Self::Sgd(one) => {
                let (text, tensors) = one.state();
                (json!({ "sgd": text }), tensors)
            }
        }
    }

    /// This optimiser with a state that [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// When text and tensors do not belong together, or to an optimiser of another kind.
    pub fn restore(&mut self, text: &Value, tensors: BTreeMap<String, Tensor>) -> Result<(), String> {
        match self {
            Self::Muon(both) => {
                let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
                for (name, tensor) in tensors {
                    let side = if name.ends_with(".momentum_buffer") { &mut first } else { &mut second };
                    side.insert(name, tensor);
                }
                both.0 = restored(text, "muon", first)?;
                both.1 = restored(text, "adamw", second)?;
            }
            Self::Adamw(one) => **one = restored(text, "adamw", tensors)?,
            Self::Sgd(one) => **one = restored(text, "sgd", tensors)?,
        }
        Ok(())
    }
}

fn restored<C: Rule>(text: &Value, key: &str, tensors: BTreeMap<String, Tensor>) -> Result<Single<C>, String> {
    let text = text.get(key).ok_or_else(|| format!("the optimiser's state has no `{key}`"))?;
    let state: OptimizerState<C> = serde_json::from_value(text.clone()).map_err(|error| error.to_string())?;
    Single::from_state(state, tensors).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_models::{Decoder, ModelSpec};

    #[test]
    fn every_parameter_has_one_optimiser_and_few_patterns_say_which() {
        let spec = ModelSpec::preset("gpt2-nano", 65).expect("a preset");
        let model = Decoder::new(&spec).init(1);
        let config = OptimizerConfig::default();
        let Optimizer::Muon(both) = Optimizer::new(&config, 1e-3, &model) else { panic!("muon") };
        both.0.check(&model).expect("matrices alone");
        both.1.check(&model).expect("all patterns match");
        let (muon, _) = both.0.state();
        assert!(muon.only.len() <= 8, "{:?}", muon.only);
        assert!(muon.only.iter().all(|pattern| pattern.contains(".*.")), "{:?}", muon.only);
    }

    /// The weight decay of every parameter under AdamW, and whether Muon turns it.
    fn treatment(fields: &str, config: &OptimizerConfig) -> BTreeMap<String, (f64, bool)> {
        let head = "vocab_size = 13\nhidden_size = 16\nnum_hidden_layers = 2\nposition = \"none\"\n";
        let spec = ModelSpec::from_toml(&format!("{head}{fields}")).expect("a specification");
        let model = Decoder::new(&spec).init(1);
        let Optimizer::Muon(both) = Optimizer::new(config, 1e-3, &model) else { panic!("muon") };
        both.0.check(&model).expect("matrices alone");
        both.1.check(&model).expect("all patterns match");
        let ((muon, _), (adamw, _)) = (both.0.state(), both.1.state());
        let claims = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let decay = |name: &str| match claims(&muon.only, name) {
            true => {
                let claimed = muon.groups[1..].iter().find(|(pattern, _)| matches(pattern, name));
                claimed.map_or(&muon.groups[0].1, |(_, rule)| rule).weight_decay
            }
            false => {
                let claimed = adamw.groups[1..].iter().find(|(pattern, _)| matches(pattern, name));
                claimed.map_or(&adamw.groups[0].1, |(_, rule)| rule).weight_decay
            }
        };
        let all = model.named_parameters().into_iter().flat_map(|(path, param)| param.parts(&path));
        all.map(|(name, _)| (name.clone(), (decay(&name), claims(&muon.only, &name)))).collect()
    }

    #[test]
    fn what_scans_step_by_and_all_vectors_do_not_decay_and_are_not_turned() {
        for fields in [
            "pattern = [\"mamba\"]\nmamba = { state_size = 4 }",
            "pattern = [\"mamba2+none\"]\nmamba2 = { state_size = 4, head_dim = 8 }",
            "pattern = [\"mamba3\"]\nmamba3 = { state_size = 8, head_dim = 8 }",
            "pattern = [\"gated_deltanet\"]\ngated_deltanet = { num_heads = 2 }",
            "norm = \"layer_norm\"\nattention = { num_attention_heads = 2, attention_bias = true }",
        ] {
            let all = treatment(fields, &OptimizerConfig::default());
            for (name, &(decay, turned)) in &all {
                let last = name.rsplit('.').next().expect("a name");
                let exempt =
                    ["A_log", "D", "dt_bias", "B_bias", "C_bias", "bias"].contains(&last) || name.contains("norm");
                let matrix = name.ends_with("proj.weight") || name.ends_with("embed_tokens.weight");
                assert!(!exempt || (decay, turned) == (0.0, false), "{name}: {decay} {turned}");
                assert!(!matrix || decay == 0.1, "{name}: {decay}");
                assert_eq!(turned, name.starts_with("layers.") && matrix, "{name}");
            }
            assert!(all.values().any(|&(decay, _)| decay == 0.0) && all.values().any(|&(_, turned)| turned));
        }
        let mamba = treatment("pattern = [\"mamba\"]\nmamba = { state_size = 4 }", &OptimizerConfig::default());
        // A matrix by its shape, and no matrix by what it means.
        assert_eq!(mamba["layers.0.mixer.A_log"], (0.0, false));
    }

    #[test]
    fn what_does_not_decay_is_what_the_configuration_names() {
        let fields =
            "pattern = [\"mamba\", \"attention\"]\nmamba = { state_size = 4 }\nattention = { num_attention_heads = 2 }";
        let spared =
            |entries: &[&str]| {
                let no_decay = entries.iter().map(|entry| entry.to_string()).collect();
                let all = treatment(fields, &OptimizerConfig { no_decay, ..OptimizerConfig::default() });
                // Whatever decays, the same matrices are turned.
                assert!(all.iter().all(
                    |(name, &(_, turned))| turned == (name.starts_with("layers.") && name.ends_with("proj.weight"))
                ));
                all.into_iter().filter(|(_, (decay, _))| *decay == 0.0).map(|(name, _)| name).collect::<Vec<_>>()
            };
        assert!(spared(&[]).is_empty());
        assert_eq!(spared(&["scans"]), ["layers.0.mixer.A_log", "layers.0.mixer.D"]);
        assert_eq!(spared(&["biases"]), ["layers.0.mixer.conv1d.bias", "layers.0.mixer.dt_proj.bias"]);
        let norms = spared(&["norms"]);
        assert!(norms.len() == 5 && norms.iter().all(|name| name.contains("norm")), "{norms:?}");
        assert_eq!(spared(&["embeddings", "lm_head*"]), ["embed_tokens.weight", "lm_head.weight"]);
        let matrices = spared(&["layers.1.*.q_proj.weight", "*down_proj*"]);
        let expected =
            ["layers.0.mlp.down_proj.weight", "layers.1.mlp.down_proj.weight", "layers.1.self_attn.q_proj.weight"];
        assert_eq!(matrices, expected);
        assert_eq!(spared(&["*"]).len(), treatment(fields, &OptimizerConfig::default()).len());
    }
}
