//! Low-rank additions: exact gradients, frozen weights, merging.

use cupola_nn::layers::{Linear, Ternary};
use cupola_nn::lora::{LoraConfig, LoraError, adapt, attach, candidates, merge, stored};
use cupola_nn::{Layer, Module, StateDict, gradcheck_module, training};
use cupola_tensor::ops::linear::Activation;
use cupola_tensor::{Rng, Tensor, no_grad};

#[derive(Module, Clone)]
struct Attention {
    #[module(flatten)]
    qkv: Linear,
    o_proj: Linear,
}

impl Attention {
    fn new() -> Self {
        Self {
            qkv: Linear::fused(5, &[("q_proj", 4), ("k_proj", 2), ("v_proj", 3)]),
            o_proj: Linear::new(9, 5).without_bias(),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.o_proj.forward(&self.qkv.forward_activated(x, Activation::GeluTanh))
    }
}

/// With additions to these projections that are not zero.
fn adapted(config: &LoraConfig, names: &[&str]) -> Attention {
    let mut model = Attention::new().init(1);
    let chosen = adapt(&mut model, config, |name| names.contains(&name)).expect("plain projections");
    assert_eq!(chosen, names);
    let mut model = model.init_missing(2);
    for (path, param) in model.named_parameters_mut() {
        if path.ends_with("lora_B") {
            param.initialize(&path, Rng::seed(3));
            param.set(&Tensor::randn(*param.shape(), Rng::seed(4).named(&path)));
        }
    }
    model
}

#[test]
fn names_are_those_of_the_projections() {
    let mut model = Attention::new().init(1);
    assert_eq!(candidates(&mut model), ["q_proj", "k_proj", "v_proj", "o_proj"]);
    let model = adapted(&LoraConfig { rank: 2, ..LoraConfig::default() }, &["q_proj", "v_proj", "o_proj"]);
    let trained: Vec<String> =
        model.named_parameters().into_iter().filter(|(_, p)| p.is_trainable()).map(|(name, _)| name).collect();
    let expected = ["q_proj", "v_proj", "o_proj"].map(|name| [format!("{name}.lora_A"), format!("{name}.lora_B")]);
    assert_eq!(trained, expected.concat());
    assert_eq!(stored(&model).iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["q_proj", "v_proj", "o_proj"]);
    assert_eq!(model.state_dict().len(), 6 + 1 + 6);
}

#[test]
fn gradients_are_exact() {
    let x = Tensor::randn([7, 5], Rng::seed(5));
    for names in [&["q_proj", "k_proj", "v_proj", "o_proj"][..], &["k_proj"], &["q_proj", "v_proj"], &["o_proj"]] {
        let model = adapted(&LoraConfig { rank: 3, alpha: 5.0, dropout: 0.0 }, names);
        gradcheck_module(&model, &[&x], |model, x| model.forward(&x[0])).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    }
}

#[test]
fn a_merged_model_computes_what_the_two_did_apart() {
    let x = Tensor::randn([7, 5], Rng::seed(5));
    for names in [&["q_proj", "k_proj", "v_proj", "o_proj"][..], &["k_proj"], &["o_proj"]] {
        let mut model = adapted(&LoraConfig { rank: 2, alpha: 3.0, dropout: 0.3 }, names);
        let plain = no_grad(|| Attention::new().init(1).forward(&x));
        let apart = no_grad(|| model.forward(&x));
        assert!(apart.relative_error(&plain) > 0.01, "{names:?}: the addition counts");
        assert_eq!(merge(&mut model), names.len());
        assert_eq!(model.named_parameters().len(), 3);
        let error = no_grad(|| model.forward(&x)).relative_error(&apart);
        assert!(error < 1e-5, "{names:?}: {error}");
    }
}

#[test]
fn the_weight_that_others_compute_with_has_the_addition() {
    let model = adapted(&LoraConfig { rank: 2, ..LoraConfig::default() }, &["k_proj", "o_proj"]);
    let x = Tensor::randn([3, 9], Rng::seed(6));
    let apart = no_grad(|| model.o_proj.forward(&x));
    let by_weight = no_grad(|| x.matmul(&model.o_proj.effective_weight().transpose(0, 1)));
    assert!(by_weight.relative_error(&apart) < 1e-5);
}

#[test]
fn a_new_addition_changes_no_bit_and_the_weight_gets_no_gradient() {
    let mut model = Attention::new().init(1);
    let x = Tensor::randn([7, 5], Rng::seed(5));
    let before = no_grad(|| model.forward(&x));
    adapt(&mut model, &LoraConfig::default(), |_| true).expect("plain projections");
    let model = model.init_missing(9);
    assert!(no_grad(|| model.forward(&x)).equals(&before));
    let grads = model.forward(&x).sum([]).backward();
    assert_eq!(grads.len(), 8);
    // Through a second matrix of zeros nothing reaches the first.
    let largest = |name: &str| grads[&**model.parameter(name).expect("a parameter")].abs().max([]).item();
    assert!(largest("o_proj.lora_B") > 0.0 && largest("o_proj.lora_A") == 0.0);
}

#[test]
fn dropout_is_the_additions_alone_and_only_in_training() {
    let model = adapted(&LoraConfig { rank: 2, alpha: 2.0, dropout: 0.5 }, &["o_proj"]);
    let x = Tensor::randn([7, 5], Rng::seed(5));
    let still = no_grad(|| model.forward(&x));
    let step = |step| {
        let _scope = training(1, step);
        model.forward(&x).detach()
    };
    assert!(!step(0).equals(&still) && !step(0).equals(&step(1)) && step(0).equals(&step(0)));
}

#[test]
fn what_cannot_be_adapted_is_named() {
    let mut ternary = Linear::new(4, 4).with_ternary(Ternary::A16).init(0);
    assert!(matches!(adapt(&mut ternary, &LoraConfig::default(), |_| true), Err(LoraError::Ternary { .. })));
    assert_eq!(ternary.trainable_count(), 20);
    let mut twice = adapted(&LoraConfig::default(), &["q_proj"]);
    let error = adapt(&mut twice, &LoraConfig::default(), |_| true).expect_err("it has one");
    assert_eq!(error.to_string(), "q_proj: the projection has a low-rank addition already");
    for (config, name) in [
        (LoraConfig { rank: 0, ..LoraConfig::default() }, "rank = 0"),
        (LoraConfig { alpha: f64::NAN, ..LoraConfig::default() }, "alpha = NaN"),
        (LoraConfig { dropout: 1.0, ..LoraConfig::default() }, "dropout = 1"),
    ] {
        let error = adapt(&mut Linear::new(2, 2).init(0), &config, |_| true).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    let (a, b) = (Tensor::ones([2, 5]), Tensor::ones([3, 2]));
    let error = attach(&mut Attention::new().init(0), "k_proj", (&a, &b), (1.0, 0.0)).expect_err("three rows of two");
    assert!(
        error.contains("k_proj: matrices of shapes [2, 5] and [3, 2], expected [rank, 5] and [2, rank]"),
        "{error}"
    );
    let error = attach(&mut Attention::new().init(0), "x_proj", (&a, &b), (1.0, 0.0)).expect_err("no such name");
    assert!(error.contains("no projection of this name"), "{error}");
}
