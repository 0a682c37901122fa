//! Naming, initialising, saving, loading, freezing and tying, as a user meets them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use cupola_nn::init::Init;
use cupola_nn::{Files, LoadError, Module, ModuleBuffer, Param, StateDict, alias, copied_parameter_bytes, summary};
use cupola_tensor::{DType, Tensor};

#[derive(Module, Clone)]
struct Linear {
    weight: Param,
    bias: Option<Param>,
    features: usize,
}

fn linear(bias: bool) -> Linear {
    Linear {
        weight: Param::new([3, 2], Init::LINEAR),
        bias: bias.then(|| Param::new([3], Init::uniform_within(0.5))),
        features: 3,
    }
}

#[derive(Module, Clone)]
enum Mixer {
    Dense(Linear),
    Pair { left: Linear, right: Linear },
    Wide(Linear, Linear),
    Nothing,
}

#[derive(Module)]
struct Newtype(Linear);

#[derive(Module)]
struct Generic<M, T, const N: usize> {
    many: [M; N],
    marker: PhantomData<T>,
}

#[derive(Module)]
struct Everything {
    list: Vec<Linear>,
    boxed: Box<Linear>,
    tuple: (Linear, Param),
    mixers: Vec<Mixer>,
    #[module(rename = "head")]
    output: Linear,
    #[module(flatten)]
    inner: Newtype,
    generic: Generic<Newtype, Tensor, 2>,
    running: ModuleBuffer,
    r#type: Param,
    #[module(skip)]
    _cache: Option<Tensor>,
    rate: f64,
    causal: bool,
    label: String,
}

fn everything() -> Everything {
    Everything {
        list: vec![linear(true), linear(false)],
        boxed: Box::new(linear(false)),
        tuple: (linear(false), Param::new([1], Init::Ones)),
        mixers: vec![
            Mixer::Dense(linear(false)),
            Mixer::Pair { left: linear(false), right: linear(false) },
            Mixer::Wide(linear(false), linear(false)),
            Mixer::Nothing,
        ],
        output: linear(false),
        inner: Newtype(linear(false)),
        generic: Generic { many: [Newtype(linear(false)), Newtype(linear(false))], marker: PhantomData },
        running: ModuleBuffer::new([4], 1.0),
        r#type: Param::new([1], Init::Zeros),
        _cache: None,
        rate: 0.1,
        causal: true,
        label: String::from("x"),
    }
}

#[test]
fn every_kind_of_field_has_the_path_that_its_place_says() {
    let mut model = everything();
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "list.0.weight",
            "list.0.bias",
            "list.1.weight",
            "boxed.weight",
            "tuple.0.weight",
            "tuple.1",
            "mixers.0.weight",
            "mixers.1.left.weight",
            "mixers.1.right.weight",
            "mixers.2.0.weight",
            "mixers.2.1.weight",
            "head.weight",
            "weight",
            "generic.many.0.weight",
            "generic.many.1.weight",
            "type",
        ]
    );
    let again: Vec<String> = model.named_parameters_mut().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, again);
    assert_eq!(model.named_buffers()[0].0, "running");
    assert_eq!(model.named_buffers_mut()[0].0, "running");
    assert_eq!(model.parameter_count(), 13 * 6 + 3 + 2);
    assert!(model.rate > 0.0 && model.causal && !model.label.is_empty() && model.list[0].features == 3);
}

#[test]
fn numbers_depend_on_seed_and_path_and_on_nothing_else() {
    let (a, b) = (everything().init(7), everything().init(7));
    let other = everything().init(8);
    for ((name, x), (_, y)) in a.named_parameters().into_iter().zip(b.named_parameters()) {
        assert!(x.same_bits(y), "{name}");
    }
    assert!(!a.output.weight.equals(&other.output.weight));
    assert!(!a.output.weight.equals(&a.boxed.weight));
    // The same path in a model of another make.
    #[derive(Module)]
    struct Small {
        head: Linear,
    }
    assert!(Small { head: linear(false) }.init(7).head.weight.same_bits(&a.output.weight));
}

#[test]
#[should_panic(expected = "two parameters are called weight")]
fn two_parameters_of_one_path_are_refused() {
    #[derive(Module)]
    struct Clash {
        #[module(flatten)]
        a: Linear,
        #[module(flatten)]
        b: Linear,
    }
    let _ = Clash { a: linear(false), b: linear(false) }.init(0);
}

#[test]
#[should_panic(
    expected = "a parameter of shape [3, 2] has no values yet: give the model some with init(seed) or from a file"
)]
fn a_parameter_without_values_says_how_to_get_some() {
    let _ = Tensor::ones([2]) * &linear(false).weight;
}

#[test]
fn init_missing_leaves_what_is_there() {
    let mut model = everything();
    model.output.weight.set(&Tensor::full([3, 2], 4.0));
    let model = model.init_missing(7);
    assert!(model.output.weight.detach().equals(&Tensor::full([3, 2], 4.0)));
    assert!(model.boxed.weight.same_bits(&everything().init(7).boxed.weight));
}

#[test]
fn a_state_dict_loads_into_another_model_and_shares_memory() {
    let source = everything().init(1);
    let state = source.state_dict();
    assert_eq!(state.len(), 17);
    let mut target = everything();
    target.load_state_dict(&state).expect("the same model");
    assert!(target.output.weight.same_bits(&source.output.weight));
    assert!(std::sync::Arc::ptr_eq(target.output.weight.buffer(), source.output.weight.buffer()));
    assert!(target.output.weight.is_leaf());
}

#[test]
fn loading_lists_all_that_is_wrong_at_once_and_changes_nothing() {
    let mut state = everything().init(1).state_dict();
    state.remove("head.weight");
    state.remove("running");
    state.insert("extra".into(), Tensor::ones([1]));
    state.insert("type".into(), Tensor::ones([2]));
    state.insert("tuple.1".into(), Tensor::zeros_of([1], DType::I64));
    let mut target = everything().init(2);
    let before = target.boxed.weight.to_vec::<f32>();
    let error: LoadError = target.load_state_dict(&state).expect_err("it does not fit");
    assert_eq!(
        error.to_string(),
        "the values do not fit the module; missing: head.weight, running; unexpected: extra; tuple.1 is i64 [1], expected f32 \
         [1]; type is f32 [2], expected f32 [1]"
    );
    assert_eq!(target.boxed.weight.to_vec::<f32>(), before);
}

#[test]
fn half_precision_files_load_into_f32_parameters() {
    let values = Tensor::from_vec(vec![0.5f32, -1.25, 3.0, 0.0, 8.0, 1.0], [3, 2]);
    let state = BTreeMap::from([("weight".to_string(), values.to_dtype(DType::BF16))]);
    let mut target = linear(false);
    target.load_state_dict(&state).expect("floats convert");
    assert!(target.weight.detach().equals(&values));
}

#[test]
fn parts_are_parameters_of_their_own_in_files() {
    #[derive(Module)]
    struct Attention {
        #[module(flatten)]
        qkv: Linear,
    }
    let fused = || {
        let mut qkv = linear(true);
        qkv.weight = Param::new([3, 2], Init::LINEAR).with_parts([("q_proj.weight", 2), ("k_proj.weight", 1)]);
        Attention { qkv }
    };
    let model = fused().init(3);
    let state = model.state_dict();
    let names: Vec<_> = state.keys().cloned().collect();
    assert_eq!(names, ["bias", "k_proj.weight", "q_proj.weight"]);
    assert_eq!(state["q_proj.weight"].shape().dims(), [2, 2]);
    let mut other = fused();
    other.load_state_dict(&state).expect("the same model");
    assert!(other.qkv.weight.same_bits(&model.qkv.weight));
    // Each part draws what it would draw alone.
    #[derive(Module)]
    struct Separate {
        q_proj: Single,
    }
    #[derive(Module)]
    struct Single {
        weight: Param,
    }
    let alone = Separate { q_proj: Single { weight: Param::new([2, 2], Init::LINEAR) } }.init(3);
    assert!(alone.q_proj.weight.detach().equals(&state["q_proj.weight"]));
}

#[test]
fn a_frozen_parameter_is_a_constant() {
    let mut model = linear(true).init(0);
    assert_eq!(model.set_trainable(false, |name| name == "weight"), 1);
    let bias = model.bias.as_ref().expect("it has one");
    let y = (&model.weight * &Tensor::ones([2])).sum([1]) + bias;
    let grads = y.sum([]).backward();
    assert_eq!(grads.len(), 1);
    assert_eq!((model.parameter_count(), model.trainable_count()), (9, 3));
    assert!(grads.get(bias).is_some());
}

#[test]
fn a_clone_trains_by_itself_and_an_alias_does_not() {
    let model = linear(false).init(0);
    let (twin, same) = (model.clone(), alias(&model));
    let grads = (&model.weight * &*same.weight).sum([]).backward();
    assert!(grads.get(&twin.weight).is_none());
    assert!(grads[&*same.weight].same_bits(&grads[&*model.weight]));
    assert_eq!(grads.len(), 1);
}

#[test]
fn writing_copies_exactly_when_somebody_else_holds_the_values() {
    let mut model = linear(false).init(0);
    let before = copied_parameter_bytes();
    let leaf = model.weight.leaf_id();
    model.weight.modify::<f32>(|w| w[0] = 1.0);
    assert_eq!(copied_parameter_bytes(), before);
    let snapshot = model.state_dict();
    model.weight.modify::<f32>(|w| w[0] = 2.0);
    assert_eq!(copied_parameter_bytes(), before + 6 * 4);
    assert_eq!(snapshot["weight"].to_vec::<f32>()[0], 1.0);
    assert_eq!(snapshot["weight"].to_vec::<f32>()[1..], model.weight.to_vec::<f32>()[1..]);
    assert_eq!(model.weight.leaf_id(), leaf);
    model.weight.modify::<f32>(|w| w[0] = 3.0);
    assert_eq!(copied_parameter_bytes(), before + 6 * 4);
}

#[test]
fn tied_weights_have_one_name_and_both_gradients() {
    #[derive(Module)]
    struct Tied {
        embedding: Param,
    }
    impl Tied {
        fn forward(&self, x: &Tensor) -> Tensor {
            (x * &self.embedding).exp() * &self.embedding
        }
    }
    let model = Tied { embedding: Param::new([1], Init::Constant(0.5)) }.init(0);
    let grads = model.forward(&Tensor::ones([1])).sum([]).backward();
    // d/dw w exp(w) = (1 + w) exp(w)
    assert!((grads[&*model.embedding].item() - 1.5 * 0.5f64.exp()).abs() < 1e-6);
    assert_eq!(model.state_dict().len(), 1);
}

#[test]
fn conversion_keeps_values_and_freezes_nothing() {
    let model = everything().init(5);
    let expected = model.output.weight.to_f64();
    let model = model.to_dtype(DType::F64);
    assert!(model.output.weight.detach().equals(&expected.detach()));
    assert!(model.output.weight.is_leaf());
    assert_eq!(model.running.value().dtype(), DType::F64);
}

#[test]
fn the_tree_needs_no_values() {
    let text = summary(&everything()).to_string();
    assert!(text.starts_with("Everything\n  list.0: Linear\n    weight [3, 2] f32\n    bias [3] f32\n"), "{text}");
    assert!(text.contains("  running [4] f32, buffer\n"), "{text}");
    assert!(text.ends_with("83 parameters, 83 trainable, 348 bytes"), "{text}");
}

#[test]
fn files_return_what_was_saved_and_equal_models_give_equal_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, twin) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let mut model = everything().init(4);
    model.running.set(&Tensor::full([4], 0.25));
    model.save(&path).expect("it can be written");
    let mut read = everything();
    read.load(&path).expect("it can be read");
    for ((name, x), (_, y)) in model.named_parameters().into_iter().zip(read.named_parameters()) {
        assert!(x.same_bits(y), "{name}");
    }
    assert!(read.running.value().equals(&model.running.value()));
    read.save(&twin).expect("it can be written");
    let bytes = |path| std::fs::read(path).expect("it is there");
    assert_eq!(bytes(&path), bytes(&twin));
    // What is mapped from a file is not written in place.
    read.output.weight.modify::<f32>(|w| w[0] = 9.0);
    read.load(&path).expect("the file is as it was");
    assert!(read.output.weight.same_bits(&model.output.weight));
    let error = linear(true).load(&path).expect_err("another model");
    assert!(error.to_string().starts_with(&format!("{}: the values do not fit", path.display())), "{error}");
    assert!(error.to_string().contains("missing: bias; unexpected: "), "{error}");
}
