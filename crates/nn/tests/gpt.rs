//! A tiny GPT trained for twenty steps: PyTorch's losses, norms, gradients and weights, and the same bits however it is computed.

mod support;

use cupola_core::pool::with_threads;
use cupola_nn::prelude::*;
use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{DType, Gradients, Segments, Tensor};
use support::{Case, Golden};

const LAYERS: usize = 2;
const HEADS: usize = 2;
const D: usize = 16;
const V: usize = 17;
const T: usize = 8;

#[derive(Module, Clone)]
struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    ln2: LayerNorm,
    fc: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Block {
    fn new(bias: bool) -> Self {
        let linear = |inputs, outputs| {
            if bias { Linear::new(inputs, outputs) } else { Linear::new(inputs, outputs).without_bias() }
        };
        Self {
            ln1: norm(bias),
            qkv: linear(D, 3 * D),
            proj: linear(D, D),
            ln2: norm(bias),
            fc: linear(D, 4 * D),
            fc2: linear(4 * D, D),
            activation: if bias { Activation::GeluTanh } else { Activation::Gelu },
        }
    }

    fn forward(&self, x: &Tensor, segments: &Segments) -> Tensor {
        let qkv = self.qkv.forward(&self.ln1.forward(x)).reshape([x.dim(0), 3 * HEADS, D / HEADS]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.narrow(1, part * HEADS, HEADS));
        let config = AttentionConfig { causal: true, ..AttentionConfig::of(segments) };
        let x = x + self.proj.forward(&attention(&q, &k, &v, &config).flatten_dims(1, 2));
        let hidden = self.fc.forward_activated(&self.ln2.forward(&x), self.activation);
        &x + self.fc2.forward(&hidden)
    }
}

#[derive(Module, Clone)]
struct Gpt {
    wte: Embedding,
    wpe: LearnedPositions,
    h: Vec<Block>,
    lnf: LayerNorm,
}

fn norm(bias: bool) -> LayerNorm {
    if bias { LayerNorm::new(D) } else { LayerNorm::new(D).without_bias() }
}

impl Gpt {
    fn new(bias: bool) -> Self {
        Self {
            wte: Embedding::new(V, D),
            wpe: LearnedPositions::new(T, D),
            h: (0..LAYERS).map(|_| Block::new(bias)).collect(),
            lnf: norm(bias),
        }
    }

    /// Tokens `[B, T]` to logits `[B * T, V]`; `kept` says whether blocks keep their activations for backward.
    fn forward(&self, tokens: &Tensor, kept: bool) -> Tensor {
        let segments = Segments::uniform(tokens.dim(0), tokens.dim(1));
        let mut x = self.wpe.forward(&self.wte.forward(&tokens.flatten()), &segments);
        for block in &self.h {
            x = if kept {
                block.forward(&x, &segments)
            } else {
                let segments = segments.clone();
                checkpointed(block, &[&x], move |block, x| vec![block.forward(&x[0], &segments)]).swap_remove(0)
            };
        }
        linear(&self.lnf.forward(&x), &self.wte.weight, None, Activation::None)
    }
}

/// How a run is computed; its numbers must not depend on it.
#[derive(Clone, Copy)]
struct Way {
    threads: usize,
    checkpoint: bool,
}

const PLAIN: Way = Way { threads: 2, checkpoint: false };

struct Run {
    model: Gpt,
    losses: Vec<f64>,
    norms: Vec<f64>,
    first: Gradients,
    logits: Tensor,
}

fn train(case: &Case, bias: bool, dtype: DType, way: Way) -> Run {
    with_threads(way.threads, || {
        let mut model = Gpt::new(bias).to_dtype(dtype);
        model.load_state_dict(&case.kind("param")).expect("the golden model's names");
        let config = AdamWConfig { lr: 1e-2, betas: [0.9, 0.99], weight_decay: 0.1, ..AdamWConfig::default() };
        let still = AdamWConfig { weight_decay: 0.0, ..config.clone() };
        let mut optimizer = AdamW::new(config).group("*ln?.weight", still.clone());
        if bias {
            optimizer = optimizer.group("*.bias", still);
        }
        let (mut losses, mut norms, mut first, mut logits) = (Vec::new(), Vec::new(), Gradients::new(), None);
        for step in 0..20 {
            let scope = training(1, step as u64);
            let tokens = case.tensor("in.tokens").select(0, step);
            let targets = case.tensor("in.targets").select(0, step).flatten();
            let scores = model.forward(&tokens, !way.checkpoint);
            let loss = cross_entropy(&scores, &targets);
            losses.push(loss.item());
            let grads = loss.backward();
            scope.finish(&mut model);
            if step == 0 {
                first = grads.clone();
                logits = Some(scores.detach().reshape([tokens.dim(0), T, V]));
            }
            norms.push(optimizer.step_clipped(&mut model, &grads, 1.0));
        }
        let logits = logits.expect("there is a first step");
        Run { model, losses, norms, first, logits }
    })
}

fn follow(file: &str, bias: bool, dtype: DType, tolerance: f64) {
    let golden = Golden::open(file);
    let case = &golden.cases[0];
    let Run { model, losses, norms, first, logits } = train(case, bias, dtype, PLAIN);
    case.close("out.logits", &logits, tolerance);
    for (found, name) in [(&losses, "out.losses"), (&norms, "out.norms")] {
        for (step, (found, expected)) in found.iter().zip(case.tensor(name).to_f64_vec()).enumerate() {
            assert!(
                (found - expected).abs() <= tolerance * expected,
                "{file}: {name} of step {step}: {found}, not {expected}"
            );
        }
    }
    assert_eq!(first.len(), case.kind("dparam").len());
    for (name, now) in model.named_parameters() {
        let grad = first.get(now).expect("every parameter has a gradient");
        assert!(grad.to_f64_vec().iter().any(|&g| g != 0.0), "{name}");
        case.close(&format!("dparam.{name}"), grad, tolerance);
        let expected = case.tensor(&format!("out.{name}"));
        // Attention does not depend on the biases of keys. Their gradient is rounding alone, which Adam takes for a direction, so
        // only f64, where it drowns in eps, has PyTorch's values there.
        let parts = if name.ends_with("qkv.bias") && dtype == DType::F32 {
            vec![(0, D), (2 * D, D)]
        } else {
            vec![(0, now.dim(0))]
        };
        for (start, rows) in parts {
            let error = now.detach().narrow(0, start, rows).relative_error(&expected.narrow(0, start, rows));
            assert!(error <= tolerance, "{file} in {dtype}: {name} differs by {error:e}");
        }
    }
    assert!(losses[19] < losses[0]);
}

#[test]
fn a_gpt_without_biases_follows_pytorch() {
    follow("gpt_plain", false, DType::F64, 1e-8);
    follow("gpt_plain", false, DType::F32, 1e-3);
}

#[test]
fn a_gpt_with_biases_follows_pytorch() {
    follow("gpt_bias", true, DType::F64, 1e-8);
    follow("gpt_bias", true, DType::F32, 1e-3);
}

fn bits(run: &Run) -> Vec<Vec<f32>> {
    run.model.named_parameters().into_iter().map(|(_, param)| param.to_vec()).collect()
}

#[test]
fn threads_and_checkpointing_leave_every_bit() {
    let golden = Golden::open("gpt_bias");
    let case = &golden.cases[0];
    let expected = bits(&train(case, true, DType::F32, Way { threads: 1, checkpoint: false }));
    for (threads, checkpoint) in [(2, false), (4, false), (7, false), (2, true)] {
        let found = bits(&train(case, true, DType::F32, Way { threads, checkpoint }));
        assert!(found == expected, "{threads} threads, checkpointing {checkpoint}");
    }
}

#[test]
fn a_run_that_is_saved_and_resumed_has_the_bits_of_one_that_is_not() {
    let golden = Golden::open("gpt_plain");
    let case = &golden.cases[0];
    let batch =
        |step: usize| (case.tensor("in.tokens").select(0, step), case.tensor("in.targets").select(0, step).flatten());
    let step = |model: &mut Gpt, optimizer: &mut AdamW, schedule: &Schedule, index: usize| {
        let scope = training(1, index as u64);
        let (tokens, targets) = batch(index);
        let grads = cross_entropy(&model.forward(&tokens, true).dropout(0.1), &targets).backward();
        scope.finish(model);
        optimizer.set_lr(schedule.at(index as u64));
        optimizer.step_clipped(model, &grads, 1.0);
    };
    let fresh = || {
        let mut model = Gpt::new(false);
        model.load_state_dict(&case.kind("param")).expect("the golden model's names");
        let schedule = Schedule::new(1e-2, Decay::Cosine { steps: 8, min_lr: 1e-3 }).with_warmup(3);
        (model, AdamW::new(AdamWConfig::default()), schedule)
    };
    let (mut whole, mut optimizer, schedule) = fresh();
    (0..10).for_each(|index| step(&mut whole, &mut optimizer, &schedule, index));
    for cut in [1, 4, 9] {
        let (mut model, mut optimizer, schedule) = fresh();
        (0..cut).for_each(|index| step(&mut model, &mut optimizer, &schedule, index));
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        model.save(at("model.safetensors")).expect("it can be written");
        let (text, tensors) = optimizer.state();
        cupola_nn::files::save_tensors(at("optimizer.safetensors"), &tensors, &Default::default())
            .expect("it can be written");
        let text = serde_json::to_string(&(text, schedule)).expect("it can be written");
        drop((model, optimizer));
        let mut model = Gpt::new(false);
        model.load(at("model.safetensors")).expect("it can be read");
        let (text, schedule) = serde_json::from_str(&text).expect("it can be read");
        let tensors = cupola_nn::files::load_tensors(at("optimizer.safetensors")).expect("it can be read");
        let mut optimizer = AdamW::from_state(text, tensors).expect("they belong together");
        (cut..10).for_each(|index| step(&mut model, &mut optimizer, &schedule, index));
        for ((name, x), (_, y)) in model.named_parameters().into_iter().zip(whole.named_parameters()) {
            assert!(x.same_bits(y), "{name} after a cut at {cut}");
        }
    }
}
