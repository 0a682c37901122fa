//! Trajectories of PyTorch.

use std::collections::BTreeMap;

use cupola_nn::init::Init;
use cupola_nn::optim::{
    AdamConfig, AdamWConfig, Ema, LambConfig, LionConfig, LrAdjustment, Muon, MuonConfig, Optimizer, OptimizerState,
    Precision, RmsPropConfig, Rule, SgdConfig,
};
use cupola_nn::{Module, Param};
use cupola_tensor::{DType, Gradients, Rng, Tensor};
use serde_json::Value;

use crate::support::{Case, Golden};

/// Parameters by name.
#[derive(Module, Clone)]
struct Bag {
    #[module(flatten)]
    entries: Entries,
}

#[derive(Module, Clone)]
struct Entries {
    weight: Option<Param>,
    bias: Option<Param>,
    tall: Option<Param>,
    wide: Option<Param>,
    square: Option<Param>,
}

fn bag(values: &BTreeMap<String, Tensor>, dtype: DType) -> Bag {
    let param = |name: &str| {
        let value = values.get(name)?;
        let mut param = Param::new(*value.shape(), Init::Zeros);
        param.set_dtype(dtype);
        param.set(value);
        Some(param)
    };
    let entries = Entries {
        weight: param("weight"),
        bias: param("bias"),
        tall: param("tall"),
        wide: param("wide"),
        square: param("square"),
    };
    Bag { entries }
}

/// The gradients of step `step` of a case.
fn gradients(case: &Case, model: &Bag, step: usize) -> Gradients {
    let mut grads = Gradients::new();
    for (name, param) in model.named_parameters() {
        let grad = case.tensor(&format!("in.{name}")).select(0, step).contiguous();
        grads.insert(param, grad.to_dtype(param.dtype()));
    }
    grads
}

/// Runs all 20 steps and compares each. Half way the optimiser is replaced by one made of its saved state.
fn follow<C: Rule>(case: &Case, config: C, dtype: DType, tolerance: f64) {
    let mut model = bag(&case.kind("param"), dtype);
    let mut optimizer = Optimizer::new(config);
    let changes = case.attributes["lr_changes"].as_object();
    for step in 0..20 {
        if let Some(lr) = changes.and_then(|changes| changes.get(&step.to_string())) {
            optimizer.set_lr(lr.as_f64().expect("a rate"));
        }
        let grads = gradients(case, &model, step);
        optimizer.step(&mut model, &grads);
        for (name, param) in model.named_parameters() {
            let expected = case.tensor(&format!("out.{name}")).select(0, step);
            let error = param.relative_error(&expected);
            assert!(error <= tolerance, "{}: {name} after step {step} differs by {error:e}", case.name);
        }
        if step == 9 {
            let (text, tensors) = optimizer.state();
            let text = serde_json::to_string(&text).expect("it can be written");
            let text: OptimizerState<C> = serde_json::from_str(&text).expect("it can be read");
            optimizer = Optimizer::from_state(text, tensors).expect("it belongs together");
        }
    }
    for (name, tensor) in optimizer.state().1 {
        let key = format!("out.{name}");
        // Of Muon's state in bf16 runs too: the average of gradients is exact there.
        let expected = case.get(&key).unwrap_or_else(|| panic!("{}: no state {name}", case.name));
        let error = tensor.relative_error(expected);
        assert!(error <= tolerance, "{}: state {name} differs by {error:e}", case.name);
    }
}

/// The attributes of a case as a configuration of ours, whose fields have PyTorch's names.
fn config<C: Rule>(case: &Case, renames: &[(&str, &str)]) -> C {
    let mut fields = case.attributes.clone();
    fields.remove("lr_changes");
    for (theirs, ours) in renames {
        if let Some(value) = fields.remove(*theirs) {
            fields.insert(ours.to_string(), value);
        }
    }
    serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn follow_all<C: Rule>(file: &str, at_least: usize) {
    let golden = Golden::open(file);
    let cases: Vec<&Case> = golden.cases.iter().filter(|case| !case.attributes.contains_key("maximize")).collect();
    assert!(cases.len() >= at_least, "{file}: {} cases", cases.len());
    for case in cases {
        follow::<C>(case, config(case, &[]), DType::F64, 1e-10);
        follow::<C>(case, config(case, &[]), DType::F32, 2e-5);
    }
}

#[test]
fn sgd_follows_pytorch() {
    follow_all::<SgdConfig>("sgd", 6);
}

#[test]
fn adam_follows_pytorch() {
    follow_all::<AdamConfig>("adam", 5);
}

#[test]
fn adamw_follows_pytorch() {
    follow_all::<AdamWConfig>("adamw", 5);
}

#[test]
fn rmsprop_follows_pytorch() {
    follow_all::<RmsPropConfig>("rmsprop", 5);
}

#[test]
fn lamb_follows_its_paper() {
    follow_all::<LambConfig>("lamb", 3);
}

#[test]
fn lion_follows_its_paper() {
    follow_all::<LionConfig>("lion", 3);
}

#[test]
fn muon_follows_pytorch_in_its_precision_and_its_formula_in_full() {
    let renames = [("adjust_lr_fn", "adjust_lr")];
    for case in &Golden::open("muon_f64").cases {
        let config = MuonConfig { precision: Precision::Full, ..config(case, &renames) };
        follow(case, config.clone(), DType::F64, 1e-10);
        follow(case, config, DType::F32, 2e-5);
    }
    let golden = Golden::open("muon");
    assert!(golden.cases.len() >= 5);
    for case in &golden.cases {
        follow::<MuonConfig>(case, config(case, &renames), DType::F32, 1e-2);
    }
}

#[test]
fn the_unclamped_adjustment_follows_the_shape() {
    let start = BTreeMap::from([("tall".to_string(), Tensor::zeros([8, 2]))]);
    let step = |adjust_lr| {
        let mut model = bag(&start, DType::F32);
        let mut grads = Gradients::new();
        let param = model.entries.tall.as_ref().expect("it is there");
        grads.insert(param, Tensor::randn([8, 2], Rng::seed(1)));
        Muon::new(MuonConfig { adjust_lr, ..MuonConfig::default() }).step(&mut model, &grads);
        model.entries.tall.expect("it is there").to_f64_vec()[0]
    };
    // [8, 2]: twice in both forms; its transpose tells them apart.
    assert_eq!(step(LrAdjustment::Original), step(LrAdjustment::SpectralUnclamped));
    let start = BTreeMap::from([("wide".to_string(), Tensor::zeros([2, 8]))]);
    let step = |adjust_lr| {
        let mut model = bag(&start, DType::F32);
        let mut grads = Gradients::new();
        grads.insert(model.entries.wide.as_ref().expect("it is there"), Tensor::randn([2, 8], Rng::seed(1)));
        Muon::new(MuonConfig { adjust_lr, ..MuonConfig::default() }).step(&mut model, &grads);
        model.entries.wide.expect("it is there").to_f64_vec()[0]
    };
    assert!((step(LrAdjustment::Original) / step(LrAdjustment::SpectralUnclamped) - 2.0).abs() < 1e-6);
}

#[test]
fn clipping_is_pytorch_s() {
    for case in &Golden::open("clip").cases {
        let leaves: BTreeMap<String, Tensor> =
            case.kind("in").into_iter().map(|(n, g)| (n, g.requires_grad())).collect();
        let mut grads = Gradients::new();
        leaves.values().for_each(|leaf| {
            grads.insert(leaf, leaf.detach());
        });
        if case.name == "value" {
            grads.clip_value(case.number("clip_value"));
        } else if case.text("norm_type") == "2.0" {
            let norm = grads.clip_norm(case.number("max_norm"));
            assert!((norm - case.tensor("out.norm").item()).abs() < 1e-12);
        } else {
            continue;
        }
        leaves.iter().for_each(|(name, leaf)| case.close(&format!("out.{name}"), &grads[leaf], 1e-12));
    }
}

#[test]
fn averages_are_pytorch_s_and_can_be_swapped_in() {
    let case = &Golden::open("ema").cases[0];
    let weights = case.tensor("in.weight");
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let at = |step: usize| BTreeMap::from([("weight".to_string(), weights.select(0, step).contiguous())]);
        let mut model = bag(&at(0), dtype);
        let mut average = Ema::new(&model, case.number("decay"));
        for step in 0..weights.dim(0) {
            if step > 0 {
                model.entries.weight.as_mut().expect("it is there").set(&at(step)["weight"]);
                average.update(&model);
            }
            let expected = case.tensor("out.average").select(0, step);
            assert!(average.values()["weight"].relative_error(&expected) < tolerance, "step {step}");
        }
        let trained = model.entries.weight.as_ref().expect("it is there").to_f64_vec();
        average.swap(&mut model).expect("the same model");
        assert!(model.entries.weight.as_ref().expect("it is there").to_f64_vec() != trained);
        average.swap(&mut model).expect("the same model");
        assert_eq!(model.entries.weight.as_ref().expect("it is there").to_f64_vec(), trained);
    }
}
