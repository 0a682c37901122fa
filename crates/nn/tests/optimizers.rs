//! Optimisers: trajectories of PyTorch, groups, freezing, memory, saved state, threads.

mod support;

use std::collections::BTreeMap;

use cupola_core::pool::with_threads;
use cupola_nn::init::Init;
use cupola_nn::optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Ema, Lamb, LambConfig, Lion, LionConfig, LrAdjustment, Muon, MuonConfig,
    Optimizer, OptimizerError, OptimizerState, Precision, RmsProp, RmsPropConfig, Rule, Sgd, SgdConfig, StateError,
};
use cupola_nn::{Module, Param, copied_parameter_bytes};
use cupola_tensor::{DType, Gradients, Rng, Tensor};
use serde_json::Value;
use support::{Case, Golden};

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
            assert!(
                error <= tolerance,
                "{}: {name} after step {step} differs by {error:e}",
                case.name
            );
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
        let expected = case
            .get(&key)
            .unwrap_or_else(|| panic!("{}: no state {name}", case.name));
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
    let cases: Vec<&Case> = golden
        .cases
        .iter()
        .filter(|case| !case.attributes.contains_key("maximize"))
        .collect();
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
        let config = MuonConfig {
            precision: Precision::Full,
            ..config(case, &renames)
        };
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
        Muon::new(MuonConfig {
            adjust_lr,
            ..MuonConfig::default()
        })
        .step(&mut model, &grads);
        model.entries.tall.expect("it is there").to_f64_vec()[0]
    };
    // [8, 2]: twice in both forms; its transpose tells them apart.
    assert_eq!(step(LrAdjustment::Original), step(LrAdjustment::SpectralUnclamped));
    let start = BTreeMap::from([("wide".to_string(), Tensor::zeros([2, 8]))]);
    let step = |adjust_lr| {
        let mut model = bag(&start, DType::F32);
        let mut grads = Gradients::new();
        grads.insert(
            model.entries.wide.as_ref().expect("it is there"),
            Tensor::randn([2, 8], Rng::seed(1)),
        );
        Muon::new(MuonConfig {
            adjust_lr,
            ..MuonConfig::default()
        })
        .step(&mut model, &grads);
        model.entries.wide.expect("it is there").to_f64_vec()[0]
    };
    assert!((step(LrAdjustment::Original) / step(LrAdjustment::SpectralUnclamped) - 2.0).abs() < 1e-6);
}

#[derive(Module, Clone)]
struct Model {
    layers: Vec<Layer>,
    norm: Param,
}

#[derive(Module, Clone)]
struct Layer {
    weight: Param,
    bias: Param,
}

fn model() -> Model {
    let layer = || Layer {
        weight: Param::new([70, 300], Init::LINEAR),
        bias: Param::new([70], Init::uniform_within(0.5)),
    };
    Model {
        layers: vec![layer(), layer()],
        norm: Param::new([300], Init::Ones),
    }
    .init(7)
}

fn loss(model: &Model, step: u64) -> Tensor {
    let x = Tensor::randn([300], Rng::seed(step)) * &model.norm;
    let out = |layer: &Layer| (&layer.weight * &x).sum([1]) + &layer.bias;
    let (a, b) = (out(&model.layers[0]), out(&model.layers[1]));
    (&a * &a + &b * &b).sum([])
}

fn adamw() -> AdamWConfig {
    AdamWConfig {
        lr: 1e-4,
        weight_decay: 0.1,
        ..AdamWConfig::default()
    }
}

#[test]
fn the_ordinary_loop_copies_no_parameter() {
    let mut model = model();
    let mut optimizers = (
        AdamW::new(adamw()),
        Muon::new(MuonConfig::default()).only("*weight"),
        Lamb::new(LambConfig::default()),
    );
    let before = copied_parameter_bytes();
    let first = loss(&model, 0).item();
    for step in 0..5 {
        let loss = loss(&model, 0);
        let mut grads = loss.backward();
        grads.clip_norm(1.0);
        match step {
            3 => optimizers.1.step(&mut model, &grads),
            4 => optimizers.2.step(&mut model, &grads),
            _ => optimizers.0.step(&mut model, &grads),
        }
    }
    assert_eq!(copied_parameter_bytes(), before);
    assert!(loss(&model, 0).item() < first);
}

#[test]
fn a_snapshot_is_free_until_the_next_step_and_keeps_its_values() {
    use cupola_nn::StateDict;
    let mut model = model();
    let mut twin = model.clone();
    let (mut a, mut b) = (AdamW::new(adamw()), AdamW::new(adamw()));
    let snapshot = model.state_dict();
    let kept: Vec<f32> = snapshot["layers.0.weight"].to_vec();
    let before = copied_parameter_bytes();
    let grads = loss(&model, 0).backward();
    a.step(&mut model, &grads);
    // All of the model is held by the snapshot, and by the clone.
    assert_eq!(copied_parameter_bytes() - before, model.parameter_count() * 4);
    assert_eq!(snapshot["layers.0.weight"].to_vec::<f32>(), kept);
    drop(snapshot);
    let grads = loss(&twin, 0).backward();
    b.step(&mut twin, &grads);
    assert_eq!(copied_parameter_bytes() - before, model.parameter_count() * 4);
    for ((name, x), (_, y)) in model.named_parameters().into_iter().zip(twin.named_parameters()) {
        assert!(x.same_bits(y), "{name}: out of place and in place agree");
    }
}

#[test]
fn frozen_parameters_do_not_change_and_others_do() {
    let mut model = model();
    model.set_trainable(false, |name| name.starts_with("layers.0"));
    let before = model.clone();
    let mut optimizer = AdamW::new(adamw());
    let grads = loss(&model, 0).backward();
    optimizer.step(&mut model, &grads);
    for ((name, x), (_, y)) in model.named_parameters().into_iter().zip(before.named_parameters()) {
        assert_eq!(x.same_bits(y), name.starts_with("layers.0"), "{name}");
    }
    assert!(optimizer.state().1.keys().all(|name| !name.starts_with("layers.0")));
}

#[test]
fn a_group_has_its_own_options_and_follows_the_schedule() {
    let (mut model, mut other) = (model(), model());
    let still = SgdConfig {
        lr: 0.0,
        ..SgdConfig::default()
    };
    let half = SgdConfig {
        lr: 0.5,
        ..SgdConfig::default()
    };
    let full = SgdConfig {
        lr: 1.0,
        ..SgdConfig::default()
    };
    let mut grouped = Sgd::new(full.clone()).group("*.bias", half).group("norm", still);
    grouped.set_lr(1e-3);
    assert_eq!(grouped.lr(), 1e-3);
    let start = model.clone();
    let grads = loss(&model, 0).backward();
    grouped.step(&mut model, &grads);
    let mut plain = Sgd::new(full);
    plain.set_lr(1e-3);
    let grads = loss(&other, 0).backward();
    plain.step(&mut other, &grads);
    let change = |model: &Model, name: &str| {
        let (a, b) = (
            model.parameter(name).expect("named"),
            start.parameter(name).expect("named"),
        );
        a.to_f64_vec()[3] - b.to_f64_vec()[3]
    };
    assert_eq!(change(&model, "layers.1.weight"), change(&other, "layers.1.weight"));
    assert!((change(&model, "layers.1.bias") / change(&other, "layers.1.bias") - 0.5).abs() < 1e-2);
    assert_eq!(change(&model, "norm"), 0.0);
    assert!(change(&other, "norm") != 0.0);
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let model = model();
    let error = AdamW::new(adamw())
        .group("*.biass", adamw())
        .check(&model)
        .expect_err("a typing error");
    assert_eq!(
        error.to_string(),
        "the pattern `*.biass` matches none of the 5 parameters; the first is `layers.0.weight`"
    );
    assert!(AdamW::new(adamw()).only("nothing").check(&model).is_err());
    assert!(AdamW::new(adamw()).except("nothing").check(&model).is_err());
    let error = Muon::new(MuonConfig::default()).check(&model).expect_err("a vector");
    assert!(
        matches!(error, OptimizerError::Shape { ref name, .. } if name == "layers.0.bias"),
        "{error}"
    );
    assert!(
        Muon::new(MuonConfig::default())
            .except("*bias")
            .except("norm")
            .check(&model)
            .is_ok()
    );
    let half = model.to_dtype(DType::BF16);
    let error = AdamW::new(adamw()).check(&half).expect_err("bf16");
    assert_eq!(
        error.to_string(),
        "`layers.0.weight` is bf16, and parameters are updated in f32 or f64"
    );
}

#[test]
#[should_panic(expected = "step: the pattern `*.biass` matches none of the 5 parameters")]
fn a_step_with_such_a_pattern_panics() {
    let mut model = model();
    let grads = loss(&model, 0).backward();
    AdamW::new(adamw()).group("*.biass", adamw()).step(&mut model, &grads);
}

#[test]
#[should_panic(expected = "none of the 5 gradients belongs to a trainable parameter of this model")]
fn gradients_of_another_model_are_refused() {
    let mut model = model();
    let grads = loss(&model.clone(), 0).backward();
    AdamW::new(adamw()).step(&mut model, &grads);
}

#[test]
fn two_optimisers_share_a_model() {
    let mut model = model();
    let start = model.clone();
    let mut matrices = Muon::new(MuonConfig::default()).only("*weight");
    let mut rest = AdamW::new(adamw()).except("*weight");
    let grads = loss(&model, 0).backward();
    matrices.step(&mut model, &grads);
    assert!(model.norm.same_bits(&start.norm) && !model.layers[0].weight.same_bits(&start.layers[0].weight));
    let middle = model.clone();
    rest.step(&mut model, &grads);
    assert!(!model.norm.same_bits(&middle.norm) && model.layers[0].weight.same_bits(&middle.layers[0].weight));
}

#[test]
fn parts_are_updated_as_parameters_of_their_own() {
    #[derive(Module, Clone)]
    struct Fused {
        weight: Param,
    }
    let fused = || {
        Fused {
            weight: Param::new([6, 4], Init::LINEAR).with_parts([("q.weight", 2), ("k.weight", 4)]),
        }
        .init(3)
    };
    let whole = Tensor::randn([6, 4], Rng::seed(5));
    let run = |optimizer: &mut Lamb, model: &mut Fused| {
        let mut grads = Gradients::new();
        grads.insert(&model.weight, whole.clone());
        optimizer.step(model, &grads);
    };
    let mut model = fused();
    let mut optimizer = Lamb::new(LambConfig::default());
    run(&mut optimizer, &mut model);
    let names: Vec<String> = optimizer.state().1.into_keys().collect();
    assert_eq!(
        names,
        [
            "k.weight.exp_avg",
            "k.weight.exp_avg_sq",
            "q.weight.exp_avg",
            "q.weight.exp_avg_sq"
        ]
    );
    // LAMB's norms are those of the part.
    #[derive(Module, Clone)]
    struct Single {
        weight: Param,
    }
    let mut alone = Single {
        weight: Param::new([2, 4], Init::Zeros),
    };
    alone.weight.set(&fused().weight.narrow(0, 0, 2));
    let mut grads = Gradients::new();
    grads.insert(&alone.weight, whole.narrow(0, 0, 2).contiguous());
    Lamb::new(LambConfig::default()).step(&mut alone, &grads);
    assert!(
        alone
            .weight
            .detach()
            .equals(&model.weight.narrow(0, 0, 2).contiguous().detach())
    );
    // A part that is left alone stays, also when the whole is written beside its old values.
    let mut model = fused();
    let snapshot = model.clone();
    run(&mut Lamb::new(LambConfig::default()).except("q.weight"), &mut model);
    let [top, bottom] = [(0, 2), (2, 4)].map(|(start, rows)| {
        let cut = |model: &Fused| model.weight.detach().narrow(0, start, rows).contiguous();
        cut(&model).equals(&cut(&snapshot))
    });
    assert!(top && !bottom);
}

fn clipped_run<C: Rule>(config: C, threads: usize) -> Vec<Vec<f32>> {
    with_threads(threads, || {
        let mut model = model();
        let mut optimizer = Optimizer::new(config);
        for step in 0..3 {
            let grads = loss(&model, step).backward();
            optimizer.step_clipped(&mut model, &grads, 1.0);
        }
        model
            .named_parameters()
            .into_iter()
            .map(|(_, param)| param.to_vec())
            .collect()
    })
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    fn check<C: Rule>(config: C) {
        let one = clipped_run(config.clone(), 1);
        for threads in [2, 4, 7] {
            assert!(
                clipped_run(config.clone(), threads) == one,
                "{} with {threads} threads",
                C::NAME
            );
        }
    }
    check(adamw());
    check(AdamConfig {
        amsgrad: true,
        ..AdamConfig::default()
    });
    check(LambConfig::default());
    check(SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    });
    check(RmsPropConfig {
        centered: true,
        ..RmsPropConfig::default()
    });
    check(LionConfig::default());
}

#[test]
fn clipping_inside_the_step_has_the_bits_of_clipping_before_it() {
    fn check<C: Rule>(config: C) {
        let inside = clipped_run(config.clone(), 2);
        let mut model = model();
        let mut optimizer = Optimizer::new(config);
        for step in 0..3 {
            let mut grads = loss(&model, step).backward();
            assert!(grads.clip_norm(1.0) > 1.0);
            optimizer.step(&mut model, &grads);
        }
        let outside: Vec<Vec<f32>> = model
            .named_parameters()
            .into_iter()
            .map(|(_, param)| param.to_vec())
            .collect();
        assert!(inside == outside, "{}", C::NAME);
    }
    check(adamw());
    check(SgdConfig {
        momentum: 0.9,
        nesterov: true,
        ..SgdConfig::default()
    });
    check(LambConfig::default());
    check(LionConfig::default());
    check(RmsPropConfig::default());
}

#[test]
fn clipping_is_pytorch_s() {
    for case in &Golden::open("clip").cases {
        let leaves: BTreeMap<String, Tensor> = case
            .kind("in")
            .into_iter()
            .map(|(n, g)| (n, g.requires_grad()))
            .collect();
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
        leaves
            .iter()
            .for_each(|(name, leaf)| case.close(&format!("out.{name}"), &grads[leaf], 1e-12));
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
                model
                    .entries
                    .weight
                    .as_mut()
                    .expect("it is there")
                    .set(&at(step)["weight"]);
                average.update(&model);
            }
            let expected = case.tensor("out.average").select(0, step);
            assert!(
                average.values()["weight"].relative_error(&expected) < tolerance,
                "step {step}"
            );
        }
        let trained = model.entries.weight.as_ref().expect("it is there").to_f64_vec();
        average.swap(&mut model).expect("the same model");
        assert!(model.entries.weight.as_ref().expect("it is there").to_f64_vec() != trained);
        average.swap(&mut model).expect("the same model");
        assert_eq!(
            model.entries.weight.as_ref().expect("it is there").to_f64_vec(),
            trained
        );
    }
}

#[test]
fn an_average_does_not_make_the_optimiser_copy() {
    let mut model = model();
    let mut average = Ema::new(&model, 0.99);
    let mut optimizer = AdamW::new(adamw());
    let before = copied_parameter_bytes();
    for step in 0..3 {
        let grads = loss(&model, step).backward();
        optimizer.step(&mut model, &grads);
        average.update(&model);
    }
    assert_eq!(copied_parameter_bytes(), before);
}

#[test]
fn a_state_that_does_not_belong_together_is_refused() {
    let mut model = model();
    let mut optimizer = Adam::new(AdamConfig::default());
    let grads = loss(&model, 0).backward();
    optimizer.step(&mut model, &grads);
    let (text, tensors) = optimizer.state();
    let mut other = text.clone();
    other.rule = "lion".into();
    let error = Adam::from_state(other, tensors.clone()).err();
    assert_eq!(
        error,
        Some(StateError::Rule {
            found: "lion".into(),
            expected: "adam"
        })
    );
    let mut fewer = tensors.clone();
    fewer.remove("norm.exp_avg");
    assert_eq!(
        Adam::from_state(text.clone(), fewer).err(),
        Some(StateError::Missing {
            name: "norm.exp_avg".into()
        })
    );
    let mut more = tensors.clone();
    more.insert("x.exp_avg".into(), Tensor::ones([1]));
    assert_eq!(
        Adam::from_state(text.clone(), more).err(),
        Some(StateError::Unexpected {
            names: vec!["x.exp_avg".into()]
        })
    );
    let mut wrong = tensors;
    wrong.insert("norm.exp_avg_sq".into(), Tensor::ones([1]));
    assert!(matches!(
        Adam::from_state(text, wrong).err(),
        Some(StateError::Shape { .. })
    ));
    let _ = (Lion::new(LionConfig::default()), RmsProp::new(RmsPropConfig::default()));
}
