//! Encoders are read, computed and written as transformers does (`tools/golden/models.py`), and keep what they promise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupola_io::safetensors::Shards;
use cupola_models::spec::{ChannelKind, EncoderHead};
use cupola_models::{Encoder, EncoderFields, EncoderSpec, load_encoder, save_encoder};
use cupola_nn::files::load_tensors;
use cupola_nn::{Module, training};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

#[path = "support/twin.rs"]
mod twin;

const NAMES: [&str; 3] = ["bert", "bert-classes", "bert-masked"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders").join(name)
}

fn read(dir: &Path) -> Encoder {
    load_encoder(dir).unwrap_or_else(|error| panic!("{error}"))
}

/// What the encoder is for: logits of tokens or classes, or pooled vectors.
fn says(model: &Encoder, hidden: &Tensor, segments: &Segments) -> Tensor {
    match model.spec().head {
        EncoderHead::MaskedLm => model.masked_lm_logits(hidden),
        EncoderHead::Classification => model.class_logits(hidden, segments),
        _ => model.pooled(hidden, segments),
    }
}

#[test]
fn vectors_and_logits_are_those_of_transformers() {
    for name in NAMES {
        let expected =
            load_tensors(folder(name).join("expected.safetensors")).unwrap_or_else(|error| panic!("{error}"));
        let (batch, time) = (expected["tokens"].dim(0), expected["tokens"].dim(1));
        let segments = Segments::uniform(batch, time);
        let flat = |key: &str| expected[key].reshape([batch * time]);
        for (dtype, most) in [(DType::F64, 1e-6), (DType::F32, 1e-5)] {
            let model = read(&folder(name)).to_dtype(dtype);
            let hidden = no_grad(|| model.hidden(&flat("tokens"), Some(&flat("token_types")), &segments));
            let logits = no_grad(|| says(&model, &hidden, &segments));
            let rows = |x: &Tensor| x.reshape([x.numel() / x.dim(-1), x.dim(-1)]);
            for (what, ours, theirs) in
                [("hidden", hidden, &expected["hidden"]), ("logits", logits, &expected["logits"])]
            {
                let error = ours.to_dtype(DType::F32).relative_error(&rows(theirs));
                assert!(error < most, "{name}, {what} in {dtype}: {error}");
            }
        }
    }
}

#[test]
fn twenty_losses_are_those_of_pytorch() {
    for name in ["bert-classes", "bert-masked"] {
        let expected =
            load_tensors(folder(name).join("expected.safetensors")).unwrap_or_else(|error| panic!("{error}"));
        let (batches, losses) = (&expected["batches"], expected["losses"].to_vec::<f64>());
        assert_eq!(losses.len(), 20, "{name}");
        let (rows, length) = (batches.dim(1), batches.dim(2));
        let segments = Segments::uniform(rows, length);
        let mut model = read(&folder(name)).to_dtype(DType::F64);
        let mut optimizer = twin::adamw(&model);
        for (step, expected_loss) in losses.into_iter().enumerate() {
            let of = |key: &str| {
                let x = expected[key].select(0, step);
                x.reshape([x.numel()])
            };
            let (tokens, types, targets) = (of("batches"), of("batch_types"), of("targets"));
            let scope = training(0, step as u64);
            let loss = if model.spec().head == EncoderHead::MaskedLm {
                let learnt = targets.to_indices().iter().filter(|&&target| target != -100).count();
                model.masked_lm_loss_sum(&tokens, Some(&types), &targets, &segments) / learnt as f64
            } else {
                let hidden = model.hidden(&tokens, Some(&types), &segments);
                model.class_logits(&hidden, &segments).cross_entropy(&targets, &Default::default())
            };
            let mut grads = loss.backward();
            scope.finish(&mut model);
            grads.clip_norm(1.0);
            optimizer.step(&mut model, &grads);
            let error = (loss.item() - expected_loss).abs() / expected_loss;
            assert!(error < 1e-5, "{name}: loss {step} is {}, expected {expected_loss}", loss.item());
        }
    }
}

#[test]
fn an_encoder_is_written_as_it_was_read() {
    let copies = tempfile::tempdir().expect("a folder");
    for name in NAMES {
        let (original, copy) = (folder(name), copies.path().join(name));
        save_encoder(&copy, &read(&original)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read(&copy).spec(), read(&original).spec(), "{name}");
        let tensors = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
            let all = Shards::open(dir).unwrap_or_else(|error| panic!("{error}"));
            all.iter().map(|view| (view.name().to_string(), view.bytes().to_vec())).collect()
        };
        let (ours, theirs) = (tensors(&copy), tensors(&original));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        assert!(ours == theirs, "{name}: values differ");
    }
}

fn small(head: EncoderHead) -> Encoder {
    let fields = EncoderFields {
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: Some(12),
        channel: ChannelKind::MlpTanh,
        max_position_embeddings: 9,
        dropout: 0.0,
        attention_dropout: 0.0,
        head,
        num_labels: 3,
        ..EncoderFields::default()
    };
    let spec = EncoderSpec::new(fields).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Encoder::new(&spec).init(0).to_dtype(DType::F64);
    for (path, param) in model.named_parameters_mut() {
        let noise = Tensor::randn(*param.shape(), Rng::seed(1).named(&path)).to_dtype(DType::F64) * 0.3;
        let value = param.detach() + noise;
        param.set(&value);
    }
    model
}

fn texts() -> (Tensor, Tensor, Segments) {
    let tokens = Tensor::randint(0, 11, [11], Rng::seed(2));
    (tokens, Tensor::randint(0, 2, [11], Rng::seed(3)), Segments::from_lengths(&[5, 6]))
}

#[test]
fn a_token_sees_all_of_its_text_and_nothing_of_others() {
    let model = small(EncoderHead::MaskedLm);
    let (tokens, types, segments) = texts();
    let before = no_grad(|| model.hidden(&tokens, Some(&types), &segments));
    for changed in [0, 4, 5, 10] {
        let mut all = tokens.to_vec::<i64>();
        all[changed] = (all[changed] + 1) % 11;
        let after = no_grad(|| model.hidden(&Tensor::from_vec(all, [11]), Some(&types), &segments));
        for row in 0..11 {
            let same = before.narrow(0, row, 1).same_bits(&after.narrow(0, row, 1));
            assert_eq!(same, (row < 5) != (changed < 5), "token {changed}, row {row}");
        }
    }
    let without = no_grad(|| model.hidden(&tokens, None, &segments));
    let zeros = Tensor::from_vec(vec![0i64; 11], [11]);
    assert!(without.same_bits(&no_grad(|| model.hidden(&tokens, Some(&zeros), &segments))));
    assert!(!without.equals(&before));
}

#[test]
fn every_parameter_receives_its_gradient() {
    let (tokens, types, segments) = texts();
    let targets = Tensor::from_vec(vec![-100i64, 3, -100, -100, 7, -100, 1, -100, -100, -100, 2], [11]);
    let classes = Tensor::from_vec(vec![2i64, 0], [2]);
    for head in [EncoderHead::MaskedLm, EncoderHead::Classification] {
        let mut model = small(head);
        let loss = |model: &Encoder| match head {
            EncoderHead::MaskedLm => model.masked_lm_loss_sum(&tokens, Some(&types), &targets, &segments),
            _ => {
                let hidden = model.hidden(&tokens, Some(&types), &segments);
                model.class_logits(&hidden, &segments).cross_entropy(&classes, &Default::default())
            }
        };
        let grads = loss(&model).backward();
        let paths: Vec<String> = model.named_parameters().into_iter().map(|(path, _)| path).collect();
        for path in paths {
            let param = model.parameter(&path).expect("its own path");
            let grad = grads.get(param).unwrap_or_else(|| panic!("{path} has no gradient")).to_vec::<f64>();
            let value = param.detach();
            let largest = (0..grad.len()).max_by(|&a, &b| grad[a].abs().total_cmp(&grad[b].abs())).expect("an element");
            assert!(grad[largest].abs() > 1e-9, "{head}: the gradient of {path} is zero");
            let mut moved = |step: f64| {
                let mut all = value.to_vec::<f64>();
                all[largest] += step;
                model.parameter_mut(&path).expect("its own path").set(&Tensor::from_vec(all, *value.shape()));
                no_grad(|| loss(&model)).item()
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (numeric - grad[largest]).abs() / grad[largest].abs().max(1e-3);
            assert!(error < 1e-5, "{head}: {path}[{largest}] is {}, by differences {numeric}", grad[largest]);
            model.parameter_mut(&path).expect("its own path").set(&value);
        }
    }
}

#[test]
fn presets_are_valid_and_have_the_parameters_of_the_published_model() {
    for size in ["nano", "baby", "124m"] {
        let spec = EncoderSpec::preset(&format!("bert-{size}"), 30_522).unwrap_or_else(|error| panic!("{error}"));
        let json = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(serde_json::from_str::<EncoderSpec>(&json).ok().as_ref(), Some(&spec));
        let mut model = Encoder::new(&spec);
        if size == "124m" {
            // As published for BERT base with its head for hidden tokens.
            assert_eq!(model.parameter_count(), 109_514_298);
        } else {
            model = model.init(0);
            // Dropout is part of the training alone.
            let x = Tensor::randint(0, 30_522, [7], Rng::seed(0));
            let loss = |model: &Encoder| model.masked_lm_loss_sum(&x, None, &x, &Segments::one(7)).item();
            let scope = training(0, 0);
            let dropped = loss(&model);
            scope.finish(&mut model);
            assert!(dropped != no_grad(|| loss(&model)));
        }
    }
    let error = EncoderSpec::preset("bert-nan", 10).expect_err("no such preset").to_string();
    assert!(error.contains("did you mean `bert-nano`?"), "{error}");
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let refused = |key: &str, value: serde_json::Value| {
        let dir = tempfile::tempdir().expect("a folder");
        let original = folder("bert-classes");
        std::fs::copy(original.join("model.safetensors"), dir.path().join("model.safetensors")).expect("a copy");
        let text = std::fs::read_to_string(original.join("config.json")).expect("a configuration");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config[key] = value.clone();
        std::fs::write(dir.path().join("config.json"), config.to_string()).expect("a writable folder");
        load_encoder(dir.path()).err().unwrap_or_else(|| panic!("{key} = {value} was accepted")).to_string()
    };
    assert!(refused("model_type", "llama".into()).contains("model_type = \"llama\" is not modelled"));
    assert!(
        refused("architectures", serde_json::json!(["BertForQuestionAnswering"])).contains("BertForQuestionAnswering")
    );
    assert!(refused("hidden_act", "mish".into()).contains("hidden_act = mish"));
    assert!(refused("position_embedding_type", "relative_key".into()).contains("position_embedding_type"));
    assert!(
        refused("num_attention_heads", 5.into()).contains("num_attention_heads = 5 does not divide hidden_size = 32")
    );
    assert!(refused("type_vocab_size", 0.into()).contains("type_vocab_size = 0 is not between 1"));
    assert!(refused("new_thing", 1.into()).contains("settings that are not modelled: new_thing = 1"));
    assert!(refused("num_hidden_layers", 3.into()).contains("layers.2.self_attn.q_proj.weight"));
    let error = cupola_models::load(folder("bert")).err().expect("no decoder").to_string();
    assert!(error.contains("model_type `bert`"), "{error}");
}

#[test]
#[should_panic(expected = "masked_lm_logits: an encoder with head = \"classification\" has not such a head")]
fn a_head_that_is_not_there_is_named() {
    let model = small(EncoderHead::Classification);
    model.masked_lm_logits(&Tensor::zeros_of([1, 8], DType::F64));
}
