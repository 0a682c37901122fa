//! Groups, freezing, memory, saved state, threads.

use cupola_core::pool::with_threads;
use cupola_nn::init::Init;
use cupola_nn::optim::{
    Adam, AdamConfig, AdamW, AdamWConfig, Ema, Lamb, LambConfig, LionConfig, Muon, MuonConfig, Optimizer,
    OptimizerError, RmsPropConfig, Rule, Sgd, SgdConfig, StateError,
};
use cupola_nn::{Module, Param, copied_parameter_bytes};
use cupola_tensor::{DType, Gradients, Rng, Tensor};

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
    let layer =
        || Layer { weight: Param::new([70, 300], Init::LINEAR), bias: Param::new([70], Init::uniform_within(0.5)) };
    Model { layers: vec![layer(), layer()], norm: Param::new([300], Init::Ones) }.init(7)
}

fn loss(model: &Model, step: u64) -> Tensor {
    let x = Tensor::randn([300], Rng::seed(step)) * &model.norm;
    let out = |layer: &Layer| (&layer.weight * &x).sum([1]) + &layer.bias;
    let (a, b) = (out(&model.layers[0]), out(&model.layers[1]));
    (&a * &a + &b * &b).sum([])
}

fn adamw() -> AdamWConfig {
    AdamWConfig { lr: 1e-4, weight_decay: 0.1, ..AdamWConfig::default() }
}

#[test]
fn the_ordinary_loop_copies_no_parameter() {
    let mut model = model();
    let mut optimizers =
        (AdamW::new(adamw()), Muon::new(MuonConfig::default()).only("*weight"), Lamb::new(LambConfig::default()));
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
    let still = SgdConfig { lr: 0.0, ..SgdConfig::default() };
    let half = SgdConfig { lr: 0.5, ..SgdConfig::default() };
    let full = SgdConfig { lr: 1.0, ..SgdConfig::default() };
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
        let (a, b) = (model.parameter(name).expect("named"), start.parameter(name).expect("named"));
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
    let error = AdamW::new(adamw()).group("*.biass", adamw()).check(&model).expect_err("a typing error");
    assert_eq!(
        error.to_string(),
        "the pattern `*.biass` matches none of the 5 parameters; the first is `layers.0.weight`"
    );
    assert!(AdamW::new(adamw()).only("nothing").check(&model).is_err());
    assert!(AdamW::new(adamw()).except("nothing").check(&model).is_err());
    let error = Muon::new(MuonConfig::default()).check(&model).expect_err("a vector");
    assert!(matches!(error, OptimizerError::Shape { ref name, .. } if name == "layers.0.bias"), "{error}");
    assert!(Muon::new(MuonConfig::default()).except("*bias").except("norm").check(&model).is_ok());
    let half = model.to_dtype(DType::BF16);
    let error = AdamW::new(adamw()).check(&half).expect_err("bf16");
    assert_eq!(error.to_string(), "`layers.0.weight` is bf16, and parameters are updated in f32 or f64");
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
    let fused =
        || Fused { weight: Param::new([6, 4], Init::LINEAR).with_parts([("q.weight", 2), ("k.weight", 4)]) }.init(3);
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
    assert_eq!(names, ["k.weight.exp_avg", "k.weight.exp_avg_sq", "q.weight.exp_avg", "q.weight.exp_avg_sq"]);
    // LAMB's norms are those of the part.
    #[derive(Module, Clone)]
    struct Single {
        weight: Param,
    }
    let mut alone = Single { weight: Param::new([2, 4], Init::Zeros) };
    alone.weight.set(&fused().weight.narrow(0, 0, 2));
    let mut grads = Gradients::new();
    grads.insert(&alone.weight, whole.narrow(0, 0, 2).contiguous());
    Lamb::new(LambConfig::default()).step(&mut alone, &grads);
    assert!(alone.weight.detach().equals(&model.weight.narrow(0, 0, 2).contiguous().detach()));
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
        model.named_parameters().into_iter().map(|(_, param)| param.to_vec()).collect()
    })
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    fn check<C: Rule>(config: C) {
        let one = clipped_run(config.clone(), 1);
        for threads in [2, 4, 7] {
            assert!(clipped_run(config.clone(), threads) == one, "{} with {threads} threads", C::NAME);
        }
    }
    check(adamw());
    check(AdamConfig { amsgrad: true, ..AdamConfig::default() });
    check(LambConfig::default());
    check(SgdConfig { momentum: 0.9, ..SgdConfig::default() });
    check(RmsPropConfig { centered: true, ..RmsPropConfig::default() });
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
        let outside: Vec<Vec<f32>> = model.named_parameters().into_iter().map(|(_, param)| param.to_vec()).collect();
        assert!(inside == outside, "{}", C::NAME);
    }
    check(adamw());
    check(SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() });
    check(LambConfig::default());
    check(LionConfig::default());
    check(RmsPropConfig::default());
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
    assert_eq!(error, Some(StateError::Rule { found: "lion".into(), expected: "adam" }));
    let mut fewer = tensors.clone();
    fewer.remove("norm.exp_avg");
    assert_eq!(Adam::from_state(text.clone(), fewer).err(), Some(StateError::Missing { name: "norm.exp_avg".into() }));
    let mut more = tensors.clone();
    more.insert("x.exp_avg".into(), Tensor::ones([1]));
    assert_eq!(
        Adam::from_state(text.clone(), more).err(),
        Some(StateError::Unexpected { names: vec!["x.exp_avg".into()] })
    );
    let mut wrong = tensors;
    wrong.insert("norm.exp_avg_sq".into(), Tensor::ones([1]));
    assert!(matches!(Adam::from_state(text, wrong).err(), Some(StateError::Shape { .. })));
}

#[derive(Module, Clone)]
struct Decay {
    log: Param,
}

/// A function of a parameter alone is gone through once for all parts of a batch. Between two steps it is another function.
#[test]
fn gradients_that_are_collected_across_a_step_are_those_of_both_places() {
    let mut model = Decay { log: Param::new([3], Init::Constant(0.5)) }.init(0);
    let x = Tensor::randn([3], Rng::seed(1));
    let pass = |model: &Decay, grads: &mut Gradients| (model.log.exp() * &x).sum([]).backward_into(grads);
    let mut grads = Gradients::new();
    let mut separate = Vec::new();
    let mut sgd = Sgd::new(SgdConfig { lr: 0.5, ..SgdConfig::default() });
    for _ in 0..2 {
        let mut own = Gradients::new();
        pass(&model, &mut own);
        pass(&model, &mut grads);
        sgd.step(&mut model, &own);
        separate.push(own[&*model.log].to_vec::<f32>());
    }
    assert_ne!(separate[0], separate[1]);
    let sum: Vec<f32> = separate[0].iter().zip(&separate[1]).map(|(a, b)| a + b).collect();
    assert_eq!(grads[&*model.log].to_vec::<f32>(), sum);
}
