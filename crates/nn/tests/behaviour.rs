//! What layers promise beyond their values: the explicit mode, causality, checkpointing, batches cut anywhere.

use cupola_nn::init::Init;
use cupola_nn::layers::*;
use cupola_nn::{Cache, Explicit, Layer, Module, StateDict, checkpointed, training};
use cupola_tensor::ops::{ConvConfig, Window};
use cupola_tensor::{DType, Gradients, Rng, Segments, Tensor, no_grad};

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    (Tensor::rand(shape, Rng::seed(seed)) * 2.0 - 1.0).to_dtype(DType::F64)
}

/// The explicit mode against autograd, with one set of weights used twice over depth.
fn check_explicit(name: &str, layer: impl Layer + Clone, shape: &[usize]) {
    let layer = layer.init(3).to_dtype(DType::F64);
    let x = uniform(shape, 1).requires_grad();
    let _scope = training(1, 0);
    let plain = layer.forward(&layer.forward(&x));
    let dy = uniform(plain.shape(), 2);
    let mut expected = Gradients::new();
    cupola_tensor::autograd::backward::backward_from(&[(&plain, dy.clone())], &mut expected);
    drop(_scope);
    let _scope = training(1, 0);
    let (h, first) = no_grad(|| layer.forward_explicit(&x));
    let (y, second) = layer.forward_explicit(&h);
    assert!(y.same_bits(&plain.detach()) && !y.needs_grad(), "{name}");
    let mut grads = Gradients::new();
    let dh = layer.backward_explicit(second, &dy, &mut grads);
    let dx = layer.backward_explicit(first, &dh, &mut grads);
    assert!(dx.relative_error(&expected[&x]) < 1e-12, "{name}");
    assert_eq!(grads.len(), layer.named_parameters().len(), "{name}");
    for (path, param) in layer.named_parameters() {
        assert!(grads[&**param].relative_error(&expected[&**param]) < 1e-12, "{name}: {path}");
    }
}

#[test]
fn explicit_backward_equals_autograd_with_weights_used_twice() {
    let same = ConvConfig { padding: [1, 1], ..ConvConfig::default() };
    check_explicit("Linear", Linear::new(4, 4), &[3, 4]);
    check_explicit("Conv1d", Conv1d::new(3, 3, [1]), &[2, 3, 5]);
    check_explicit("Conv2d", Conv2d::with(2, 2, [3, 3], same), &[2, 2, 4, 4]);
    check_explicit("ConvTranspose2d", ConvTranspose2d::with(2, 2, [3, 3], same), &[2, 2, 4, 4]);
    check_explicit("LayerNorm", LayerNorm::new(6), &[3, 6]);
    check_explicit("RmsNorm", RmsNorm::new(6), &[3, 6]);
    check_explicit("GroupNorm", GroupNorm::new(2, 4), &[2, 4, 3]);
    check_explicit("InstanceNorm", InstanceNorm::affine(4), &[2, 4, 3]);
    check_explicit("BatchNorm1d", BatchNorm1d::new(4), &[5, 4]);
    check_explicit("BatchNorm2d", BatchNorm2d::new(2), &[3, 2, 2, 2]);
    check_explicit("Dropout", Dropout::new(0.3), &[4, 6]);
    check_explicit("Dropout2d", Dropout2d::new(0.3), &[4, 6, 2]);
    check_explicit("AlphaDropout", AlphaDropout::new(0.3), &[4, 6]);
    let pool = Window { stride: [1, 1], padding: [1, 1], ..Window::new([3, 3]) };
    check_explicit("MaxPool2d", MaxPool2d(pool), &[1, 2, 4, 4]);
    check_explicit("AvgPool2d", AvgPool2d::new(pool), &[1, 2, 4, 4]);
    let net = Sequential::new().then(Linear::new(4, 6)).then(Function(Tensor::gelu)).then(Linear::new(6, 4));
    check_explicit("Sequential", net.clone(), &[3, 4]);
    check_explicit("Residual", Residual { inner: net }, &[3, 4]);
}

#[test]
fn modules_of_several_tensors_have_an_explicit_mode_too() {
    let lstm = Lstm::new(3, 4).init(1).to_dtype(DType::F64);
    let (x, h0, c0) = (uniform(&[2, 5, 3], 1), uniform(&[1, 2, 4], 2), uniform(&[1, 2, 4], 3));
    let run = |x: &[Tensor]| {
        let (y, (h, c)) = lstm.forward(&x[0], Some((&x[1], &x[2])), None);
        vec![y, h, c]
    };
    let (y, cache) = Cache::record(&[&x, &h0, &c0], run);
    let dy: Vec<Tensor> = y.iter().map(|y| uniform(y.shape(), 4)).collect();
    let mut grads = Gradients::new();
    let dx = cache.backward(&dy.iter().collect::<Vec<_>>(), &mut grads);
    let leaves = [&x, &h0, &c0].map(Tensor::requires_grad);
    let results = run(&leaves);
    let mut expected = Gradients::new();
    let all: Vec<(&Tensor, Tensor)> = results.iter().zip(dy).collect();
    cupola_tensor::autograd::backward::backward_from(&all, &mut expected);
    for (leaf, dx) in leaves.iter().zip(dx) {
        assert!(dx.expect("a float").same_bits(&expected[leaf]));
    }
    assert_eq!(grads.len(), 4);
}

#[test]
#[should_panic(expected = "backward_explicit: the input holds integers")]
fn integers_have_no_gradient_in_the_explicit_mode_either() {
    let table = Embedding::new(3, 2).init(0);
    let (y, cache) = table.forward_explicit(&Tensor::from_vec(vec![1i64], [1]));
    table.backward_explicit(cache, &y, &mut Gradients::new());
}

fn encoder_config() -> TransformerLayerConfig {
    TransformerLayerConfig { dim_feedforward: 12, dropout: 0.0, norm_first: true, ..TransformerLayerConfig::default() }
}

#[test]
fn changing_a_later_token_leaves_earlier_results() {
    let segments = Segments::from_lengths(&[3, 5]);
    let memory = uniform(&[4, 8], 9);
    let memories = Segments::from_lengths(&[1, 3]);
    let attention = MultiHeadAttention::new(8, 2).init(1).to_dtype(DType::F64);
    let encoder = TransformerEncoder::new(2, 8, 2, encoder_config()).init(1).to_dtype(DType::F64);
    let decoder = TransformerDecoder::new(2, 8, 2, encoder_config()).init(1).to_dtype(DType::F64);
    let run: [&dyn Fn(&Tensor) -> Tensor; 3] =
        [&|x| attention.forward(x, &segments, true), &|x| encoder.forward(x, &segments, true), &|x| {
            decoder.forward(x, &segments, &memory, &memories)
        }];
    let x = uniform(&[8, 8], 2);
    for (index, forward) in run.iter().enumerate() {
        let before = no_grad(|| forward(&x));
        for changed in 0..8 {
            let mut values = x.to_vec::<f64>();
            values[changed * 8] += 1.0;
            let after = no_grad(|| forward(&Tensor::from_vec(values, [8, 8])));
            for token in 0..8 {
                let same = before.narrow(0, token, 1).same_bits(&after.narrow(0, token, 1));
                let sees = token >= changed && (token < 3) == (changed < 3);
                assert_eq!(same, !sees, "layer {index}: token {token} when token {changed} changes");
            }
        }
    }
}

#[test]
fn a_memory_is_seen_by_its_own_sequence_alone() {
    let decoder = TransformerDecoderLayer::new(8, 2, encoder_config()).init(1).to_dtype(DType::F64);
    let (x, memory) = (uniform(&[5, 8], 1), uniform(&[4, 8], 2));
    let (segments, memories) = (Segments::from_lengths(&[2, 3]), Segments::from_lengths(&[3, 1]));
    let run = |memory: &Tensor| no_grad(|| decoder.forward(&x, &segments, memory, &memories));
    let mut values = memory.to_vec::<f64>();
    values[3 * 8] += 1.0;
    let (before, after) = (run(&memory), run(&Tensor::from_vec(values, [4, 8])));
    assert!(before.narrow(0, 0, 2).same_bits(&after.narrow(0, 0, 2)));
    assert!(!before.narrow(0, 2, 3).equals(&after.narrow(0, 2, 3)));
}

#[test]
fn padding_has_no_influence_and_no_gradient() {
    let lstm = Lstm::with(3, 4, RecurrentConfig { bidirectional: true, num_layers: 2, ..RecurrentConfig::default() });
    let lstm = lstm.init(1).to_dtype(DType::F64);
    let x = uniform(&[2, 5, 3], 1).requires_grad();
    let (y, (h, _)) = lstm.forward(&x, None, Some(&[5, 2]));
    assert!(y.select(0, 1).narrow(0, 2, 3).to_f64_vec().iter().all(|&v| v == 0.0));
    let alone = lstm.forward(&x.narrow(0, 1, 1).narrow(1, 0, 2), None, None);
    assert!(alone.0.detach().relative_error(&y.narrow(0, 1, 1).narrow(1, 0, 2).detach()) < 1e-12);
    assert!(alone.1.0.select(1, 0).detach().relative_error(&h.select(1, 1).detach()) < 1e-12);
    let dx = y.sum([]).backward().remove(&x).expect("a gradient");
    assert!(dx.select(0, 1).narrow(0, 2, 3).to_f64_vec().iter().all(|&v| v == 0.0));
}

#[derive(Module, Clone)]
struct Block {
    linear: Linear,
    norm: BatchNorm1d,
    dropout: Dropout,
}

impl Layer for Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.dropout.forward(&self.norm.forward(&self.linear.forward(x)).gelu())
    }
}

#[test]
fn a_checkpointed_block_draws_the_same_masks_and_moves_statistics_once() {
    let run = |checkpoint: bool| {
        let mut block =
            Block { linear: Linear::new(4, 6), norm: BatchNorm1d::new(6), dropout: Dropout::new(0.4) }.init(2);
        let scope = training(3, 1);
        let x = uniform(&[5, 4], 1).to_dtype(DType::F32);
        let y = match checkpoint {
            true => checkpointed(&block, &[&x], |block, x| vec![block.forward(&x[0])]).swap_remove(0),
            false => block.forward(&x),
        };
        // A second draw, whose number must not depend on how often the first was computed.
        let y = y.dropout(0.2);
        let grads = (&y * &y).sum([]).backward();
        scope.finish(&mut block);
        let gradients: Vec<Vec<f32>> =
            block.named_parameters().into_iter().map(|(_, p)| grads[&**p].to_vec()).collect();
        (y.detach().to_vec::<f32>(), gradients, block.norm.running_mean().to_vec::<f32>())
    };
    assert!(run(true) == run(false));
}

#[test]
fn statistics_of_micro_batches_follow_each_other_within_a_step() {
    let x = uniform(&[8, 3], 1).to_dtype(DType::F32);
    let mut one_step = BatchNorm1d::new(3).init(0);
    let scope = training(0, 0);
    for first in [0, 4] {
        scope.micro_batch(first as u64);
        one_step.forward(&x.narrow(0, first, 4));
    }
    scope.finish(&mut one_step);
    let mut two_steps = BatchNorm1d::new(3).init(0);
    for (step, first) in [0, 4].into_iter().enumerate() {
        let scope = training(0, step as u64);
        two_steps.forward(&x.narrow(0, first, 4));
        scope.finish(&mut two_steps);
    }
    assert!(one_step.running_mean().same_bits(&two_steps.running_mean()));
    assert!(one_step.running_var().same_bits(&two_steps.running_var()));
    assert_eq!(one_step.state_dict()["num_batches_tracked"].to_indices(), [2]);
}

#[test]
fn a_norm_without_momentum_averages_all_batches_equally() {
    let config = BatchNormConfig { momentum: None, ..BatchNormConfig::default() };
    let mut norm = BatchNorm1d::with(2, config).init(0);
    let batches: Vec<Tensor> = (0..3).map(|seed| uniform(&[6, 2], seed).to_dtype(DType::F32)).collect();
    for (step, x) in batches.iter().enumerate() {
        let scope = training(0, step as u64);
        norm.forward(x);
        scope.finish(&mut norm);
    }
    let mean = (batches[0].mean([0]) + batches[1].mean([0]) + batches[2].mean([0])) / 3.0;
    assert!(norm.running_mean().relative_error(&mean) < 1e-6);
    let without = BatchNorm1d::with(2, BatchNormConfig { track_running_stats: false, affine: false, ..config });
    assert!(without.state_dict().is_empty());
    assert!(no_grad(|| without.forward(&batches[0])).mean([0]).abs().max([]).item() < 1e-6);
}

#[test]
#[should_panic(expected = "BatchNorm2d was met while recording outside of a training scope")]
fn a_batch_norm_refuses_to_be_recorded_outside_a_scope() {
    BatchNorm2d::new(2).init(0).forward(&Tensor::ones([2, 2, 2, 2]));
}

#[test]
#[should_panic(expected = "Dropout was met while recording outside of a training scope")]
fn a_dropout_refuses_to_be_recorded_outside_a_scope() {
    Dropout::new(0.1).forward(&Tensor::ones([2]));
}

#[test]
fn layers_draw_from_pytorch_s_distributions() {
    let bound = |param: &Tensor| param.abs().max([]).item();
    let linear = Linear::new(60, 400).init(1);
    let limit = 1.0 / 60f64.sqrt();
    for param in [&*linear.weight, &**linear.bias.as_ref().expect("a bias")] {
        assert!(bound(param) <= limit && bound(param) > 0.98 * limit);
    }
    let config = ConvConfig { groups: 2, ..ConvConfig::default() };
    let conv = Conv2d::with(12, 160, [3, 3], config).init(1);
    assert!(bound(&conv.weight) <= 1.0 / 54f64.sqrt() && bound(&conv.weight) > 0.99 / 54f64.sqrt());
    let conv = ConvTranspose2d::new(12, 16, [3, 3]).init(1);
    assert!(bound(&conv.weight) <= 1.0 / 144f64.sqrt() && bound(&conv.weight) > 0.98 / 144f64.sqrt());
    let lstm = Lstm::new(12, 25).init(1);
    lstm.named_parameters().iter().for_each(|(_, p)| assert!(bound(p) <= 0.2 && bound(p) > 0.18));
    let attention = MultiHeadAttention::new(32, 4).init(1);
    let limit = (6.0f64 / 128.0).sqrt();
    assert!(bound(&attention.in_proj_weight) <= limit && bound(&attention.in_proj_weight) > 0.99 * limit);
    assert_eq!(bound(attention.in_proj_bias.as_ref().expect("a bias")), 0.0);
    assert_eq!(bound(attention.out_proj.bias.as_ref().expect("a bias")), 0.0);
    let config = TransformerLayerConfig { dim_feedforward: 48, ..TransformerLayerConfig::default() };
    let model = Transformer::new(32, 4, [1, 1], config).init(1);
    for (name, limit) in [
        ("encoder.layers.0.linear1.weight", 6.0f64 / 80.0),
        ("decoder.layers.0.multihead_attn.out_proj.weight", 6.0 / 64.0),
    ] {
        let found = bound(model.parameter(name).expect("PyTorch's name"));
        assert!(found <= limit.sqrt() && found > 0.97 * limit.sqrt(), "{name} {found}");
    }
    let table = Embedding::new(300, 50).init(1);
    assert!((table.weight.std([], 0.0).item() - 1.0).abs() < 0.02);
    let small = Embedding::new(300, 50).with_init(Init::normal(0.02)).init(1);
    assert!((small.weight.std([], 0.0).item() - 0.02).abs() < 0.001);
}

#[test]
fn a_fused_projection_is_its_parts() {
    #[derive(Module)]
    struct Attention {
        #[module(flatten)]
        qkv: Linear,
    }
    let fused = Attention { qkv: Linear::fused(4, &[("q_proj", 4), ("k_proj", 2), ("v_proj", 2)]) }.init(1);
    let names: Vec<String> = fused.state_dict().into_keys().collect();
    assert_eq!(names, ["k_proj.bias", "k_proj.weight", "q_proj.bias", "q_proj.weight", "v_proj.bias", "v_proj.weight"]);
    let state = fused.state_dict();
    let x = uniform(&[3, 4], 1).to_dtype(DType::F32);
    let mut q = Linear::new(4, 4);
    q.weight.set(&state["q_proj.weight"]);
    q.bias.as_mut().expect("a bias").set(&state["q_proj.bias"]);
    assert!(fused.qkv.forward(&x).narrow(1, 0, 4).contiguous().detach().same_bits(&q.forward(&x).detach()));
}
