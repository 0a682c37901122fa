//! Every layer of the list against PyTorch's values and gradients, or its formula.

mod support;

use cupola_nn::layers::*;
use cupola_nn::optim::matches;
use cupola_nn::{Layer, Module, StateDict, gradcheck_module, training};
use cupola_tensor::autograd::backward::backward_from;
use cupola_tensor::ops::linear::Activation;
use cupola_tensor::ops::{ConvConfig, Nonlinearity, Window};
use cupola_tensor::{DType, Gradients, Rng, Segments, Tensor, no_grad};
use support::{Case, Golden};

const TOLERANCE: f64 = 1e-10;

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    (Tensor::rand(shape, Rng::seed(seed)) * 2.0 - 1.0).to_dtype(DType::F64)
}

/// An attribute that is one number for all dimensions, or one for each.
fn sizes<const D: usize>(case: &Case, name: &str) -> [usize; D] {
    match case.sizes(name) {
        Some(list) => list.try_into().expect("as many as dimensions"),
        None => [case.size(name); D],
    }
}

fn window<const D: usize>(case: &Case) -> Window<D> {
    Window {
        kernel: sizes(case, "kernel_size"),
        stride: sizes(case, "stride"),
        padding: sizes(case, "padding"),
        ceil_mode: case.flag("ceil_mode"),
    }
}

fn convolution<const D: usize>(case: &Case) -> ConvConfig<D> {
    ConvConfig {
        stride: sizes(case, "stride"),
        padding: sizes(case, "padding"),
        dilation: sizes(case, "dilation"),
        groups: case.size("groups"),
    }
}

/// Checks a layer against a case of the operation it is made of, whose arguments are the layer's parameters; those that the
/// case does not have are those that the layer does not have either.
fn functional<L: Layer>(case: &Case, layer: L) {
    let mut layer = layer.to_dtype(DType::F64);
    let mut leaves = Vec::new();
    for (name, param) in layer.named_parameters_mut() {
        let leaf = case.leaf(&name);
        param.bind(&leaf);
        leaves.push((name, leaf));
    }
    let input = if case.get("in.x").is_some() { "x" } else { "indices" };
    let mut x = case.tensor(&format!("in.{input}")).clone();
    if x.dtype().is_float() {
        x = x.requires_grad();
        leaves.push((input.to_string(), x.clone()));
    }
    let y = layer.forward(&x);
    case.close("out.y", &y, TOLERANCE);
    let mut grads = Gradients::new();
    backward_from(&[(&y, case.tensor("dout.y").clone())], &mut grads);
    for (name, leaf) in leaves {
        case.close(&format!("din.{name}"), &grads[&leaf], TOLERANCE);
    }
}

fn all(file: &str, check: impl Fn(&Case)) {
    let golden = Golden::of_tensor(file);
    golden.cases.iter().for_each(check);
}

fn dim(case: &Case, name: &str, axis: isize) -> usize {
    case.tensor(&format!("in.{name}")).dim(axis)
}

fn linear() {
    all("linear", |case| {
        let layer = Linear::new(dim(case, "weight", 1), dim(case, "weight", 0));
        let layer = if case.get("in.bias").is_some() {
            layer
        } else {
            layer.without_bias()
        };
        let activation = match case.attributes["activation"].as_str() {
            None => Activation::None,
            Some("relu") => Activation::Relu,
            Some("gelu") => Activation::Gelu,
            Some("silu") => Activation::Silu,
            Some("gelu_tanh") => Activation::GeluTanh,
            Some(other) => panic!("{other} is no activation"),
        };
        #[derive(Module)]
        struct Activated {
            #[module(flatten)]
            linear: Linear,
            activation: Activation,
        }
        impl Layer for Activated {
            fn forward(&self, x: &Tensor) -> Tensor {
                self.linear.forward_activated(x, self.activation)
            }
        }
        functional(
            case,
            Activated {
                linear: layer,
                activation,
            },
        );
    });
}

fn embedding() {
    all("embedding", |case| {
        if case.attributes["padding_idx"].is_null() {
            functional(case, Embedding::new(dim(case, "weight", 0), dim(case, "weight", 1)));
        }
    });
}

fn conv1d() {
    all("conv1d", |case| {
        let config = convolution::<1>(case);
        let inputs = dim(case, "weight", 1) * config.groups;
        let layer = Conv1d::with(inputs, dim(case, "weight", 0), [dim(case, "weight", 2)], config);
        functional(
            case,
            if case.get("in.bias").is_some() {
                layer
            } else {
                layer.without_bias()
            },
        );
    });
}

fn conv2d() {
    all("conv2d", |case| {
        let config = convolution::<2>(case);
        let inputs = dim(case, "weight", 1) * config.groups;
        let kernel = [dim(case, "weight", 2), dim(case, "weight", 3)];
        let layer = Conv2d::with(inputs, dim(case, "weight", 0), kernel, config);
        functional(
            case,
            if case.get("in.bias").is_some() {
                layer
            } else {
                layer.without_bias()
            },
        );
    });
}

fn conv_transpose2d() {
    all("conv_transpose2d", |case| {
        let config = convolution::<2>(case);
        let outputs = dim(case, "weight", 1) * config.groups;
        let kernel = [dim(case, "weight", 2), dim(case, "weight", 3)];
        let layer = ConvTranspose2d::with(dim(case, "weight", 0), outputs, kernel, config);
        let layer = match case.attributes.get("output_padding") {
            Some(_) => layer.with_output_padding(sizes(case, "output_padding")),
            None => layer,
        };
        functional(
            case,
            if case.get("in.bias").is_some() {
                layer
            } else {
                layer.without_bias()
            },
        );
    });
}

/// Windows with gaps are not offered.
fn dilated(case: &Case) -> bool {
    case.attributes.contains_key("dilation") && case.size("dilation") != 1
}

fn max_pool1d() {
    all("max_pool1d", |case| {
        if !dilated(case) {
            functional(case, MaxPool1d(window(case)))
        }
    });
}

fn max_pool2d() {
    all("max_pool2d", |case| {
        if !dilated(case) {
            functional(case, MaxPool2d(window(case)))
        }
    });
}

fn avg_pool1d() {
    all("avg_pool1d", |case| {
        functional(
            case,
            AvgPool1d {
                window: window(case),
                count_include_pad: case.flag("count_include_pad"),
            },
        );
    });
}

fn avg_pool2d() {
    all("avg_pool2d", |case| {
        functional(
            case,
            AvgPool2d {
                window: window(case),
                count_include_pad: case.flag("count_include_pad"),
            },
        );
    });
}

fn adaptive_avg_pool2d() {
    all("adaptive_avg_pool2d", |case| {
        functional(case, AdaptiveAvgPool2d(sizes(case, "output_size")))
    });
}

fn group_norm() {
    all("group_norm", |case| {
        functional(
            case,
            GroupNorm::new(case.size("num_groups"), dim(case, "weight", 0)).with_eps(case.number("eps")),
        );
    });
}

fn instance_norm() {
    all("instance_norm", |case| {
        functional(
            case,
            InstanceNorm::affine(dim(case, "weight", 0)).with_eps(case.number("eps")),
        )
    });
}

fn layer_norm() {
    all("layer_norm", |case| {
        if case.get("in.residual").is_some() {
            return;
        }
        let layer = LayerNorm::new(case.sizes("normalized_shape").expect("a shape")).with_eps(case.number("eps"));
        functional(
            case,
            if case.get("in.weight").is_some() {
                layer
            } else {
                layer.without_affine()
            },
        );
    });
}

fn rms_norm() {
    all("rms_norm", |case| {
        if case.get("in.weight").is_none() {
            return;
        }
        let layer = RmsNorm::new(dim(case, "weight", 0)).with_eps(case.number("eps"));
        if case.get("in.residual").is_none() {
            return functional(case, layer);
        }
        let mut layer = layer.to_dtype(DType::F64);
        layer.weight.set(case.tensor("in.weight"));
        let (y, sum) = layer.forward_residual(case.tensor("in.x"), case.tensor("in.residual"));
        case.close("out.y", &y, TOLERANCE);
        case.close("out.sum", &sum, TOLERANCE);
    });
}

fn batch_norm<const D: usize>(images: bool) {
    let mut checked = 0;
    all("batch_norm", |case| {
        if case.name.ends_with("images") != images {
            return;
        }
        let config = BatchNormConfig {
            eps: case.number("eps"),
            momentum: case.attributes["momentum"].as_f64(),
            ..BatchNormConfig::default()
        };
        let mut layer = BatchNorm::<D>::with(dim(case, "weight", 0), config).to_dtype(DType::F64);
        let leaves: Vec<(String, Tensor)> = layer
            .named_parameters_mut()
            .into_iter()
            .map(|(name, param)| {
                let leaf = case.leaf(&name);
                param.bind(&leaf);
                (name, leaf)
            })
            .collect();
        for (name, buffer) in layer.named_buffers_mut() {
            if let Some(value) = case.get(&format!("in.{name}")) {
                buffer.set(value);
            }
        }
        let x = case.leaf("x");
        let (y, grads) = if case.flag("training") {
            let scope = training(0, 0);
            let y = layer.forward(&x);
            let mut grads = Gradients::new();
            backward_from(&[(&y, case.tensor("dout.y").clone())], &mut grads);
            let y = y.detach();
            scope.finish(&mut layer);
            assert_eq!(layer.state_dict()["num_batches_tracked"].to_indices(), [1]);
            (y, grads)
        } else {
            // A frozen norm in a graph: its statistics are constants, and there is no scope in which they could move.
            let evaluated = no_grad(|| layer.forward(&x));
            (evaluated, Gradients::new())
        };
        case.close("out.y", &y, TOLERANCE);
        case.close("out.running_mean", &layer.running_mean(), TOLERANCE);
        case.close("out.running_var", &layer.running_var(), TOLERANCE);
        if !grads.is_empty() {
            case.close("din.x", &grads[&x], TOLERANCE);
            leaves
                .iter()
                .for_each(|(name, leaf)| case.close(&format!("din.{name}"), &grads[leaf], TOLERANCE));
        }
    });
    checked += Golden::of_tensor("batch_norm")
        .cases
        .iter()
        .filter(|case| case.name.ends_with("images") == images)
        .count();
    assert!(checked >= 2);
}

fn recurrent_config(case: &Case) -> RecurrentConfig {
    RecurrentConfig {
        num_layers: case.size("num_layers"),
        bidirectional: case.flag("bidirectional"),
        bias: case.flag("bias"),
        dropout: 0.0,
    }
}

/// The inputs of a recurrent case: x, the states, the lengths.
fn sequence(case: &Case) -> (Tensor, Option<Tensor>, Option<Tensor>, Option<Vec<usize>>) {
    let leaf = |name: &str| case.get(&format!("in.{name}")).map(Tensor::requires_grad);
    let lengths = case
        .get("in.lengths")
        .map(|l| l.to_indices().into_iter().map(|l| l as usize).collect());
    (case.leaf("x"), leaf("h0"), leaf("c0"), lengths)
}

fn lstm() {
    all("lstm", |case| {
        let (x, h0, c0, lengths) = sequence(case);
        let layer = case.load(Lstm::with(3, 3, recurrent_config(case)));
        let (y, (h, c)) = layer.forward(&x, h0.as_ref().zip(c0.as_ref()), lengths.as_deref());
        let mut inputs = vec![("x", &x)];
        inputs.extend(
            h0.as_ref()
                .map(|h0| ("h0", h0))
                .into_iter()
                .chain(c0.as_ref().map(|c0| ("c0", c0))),
        );
        case.check(&layer, &inputs, &[("y", &y), ("h", &h), ("c", &c)], TOLERANCE);
    });
}

fn gru() {
    all("gru", |case| {
        let (x, h0, _, lengths) = sequence(case);
        let layer = case.load(Gru::with(3, 3, recurrent_config(case)));
        let (y, h) = layer.forward(&x, h0.as_ref(), lengths.as_deref());
        let inputs: Vec<_> = [("x", &x)]
            .into_iter()
            .chain(h0.as_ref().map(|h0| ("h0", h0)))
            .collect();
        case.check(&layer, &inputs, &[("y", &y), ("h", &h)], TOLERANCE);
    });
}

fn rnn() {
    all("rnn", |case| {
        let (x, h0, _, lengths) = sequence(case);
        let nonlinearity = if case.text("nonlinearity") == "relu" {
            Nonlinearity::Relu
        } else {
            Nonlinearity::Tanh
        };
        let layer = case.load(Rnn::with(3, 3, recurrent_config(case)).with_nonlinearity(nonlinearity));
        let (y, h) = layer.forward(&x, h0.as_ref(), lengths.as_deref());
        let inputs: Vec<_> = [("x", &x)]
            .into_iter()
            .chain(h0.as_ref().map(|h0| ("h0", h0)))
            .collect();
        case.check(&layer, &inputs, &[("y", &y), ("h", &h)], TOLERANCE);
    });
}

fn cell(name: &str) {
    all("recurrent_cells", |case| {
        if case.name != name {
            return;
        }
        let (x, h) = (case.leaf("x"), case.leaf("h"));
        match name {
            "lstm_cell" => {
                let (layer, c) = (case.load(LstmCell::new(3, 3)), case.leaf("c"));
                let (h1, c1) = layer.forward(&x, Some((&h, &c)));
                case.check(
                    &layer,
                    &[("x", &x), ("h", &h), ("c", &c)],
                    &[("h", &h1), ("c", &c1)],
                    TOLERANCE,
                );
            }
            "gru_cell" => {
                let layer = case.load(GruCell::new(3, 3));
                let y = layer.forward(&x, Some(&h));
                case.check(&layer, &[("x", &x), ("h", &h)], &[("h", &y)], TOLERANCE);
            }
            _ => {
                let layer = case.load(RnnCell::new(3, 3));
                let y = layer.forward(&x, Some(&h));
                case.check(&layer, &[("x", &x), ("h", &h)], &[("h", &y)], TOLERANCE);
            }
        }
    });
}

/// `x [B, T, D]` packed by the lengths of the case, if it has some.
fn packed(x: &Tensor, lengths: Option<&[usize]>) -> (Tensor, Segments) {
    let full = vec![x.dim(1); x.dim(0)];
    pack(x, lengths.unwrap_or(&full))
}

fn multi_head_attention() {
    let golden = Golden::open("multi_head_attention");
    assert!(golden.cases.len() >= 6);
    for case in &golden.cases {
        let config = MultiHeadAttentionConfig {
            bias: case.flag("bias"),
            dropout: 0.0,
        };
        let layer = case.load(MultiHeadAttention::with(
            case.size("embed_dim"),
            case.size("num_heads"),
            config,
        ));
        let query = case.leaf("query");
        let lengths = case.sizes("lengths");
        if case.get("in.key").is_some() {
            let (key, value) = (case.leaf("key"), case.leaf("value"));
            let (k, keys) = packed(&key, lengths.as_deref());
            let (v, _) = packed(&value, lengths.as_deref());
            let queries = Segments::uniform(query.dim(0), query.dim(1));
            let y = layer.forward_cross(&query, &queries, (&k, &v), &keys);
            case.check(
                &layer,
                &[("query", &query), ("key", &key), ("value", &value)],
                &[("y", &y)],
                TOLERANCE,
            );
        } else {
            let (x, segments) = packed(&query, lengths.as_deref());
            let y = layer.forward(&x, &segments, case.flag("causal"));
            let y = unpack(&y, &segments, query.dim(1));
            case.check(&layer, &[("query", &query)], &[("y", &y)], TOLERANCE);
        }
    }
}

fn cross_attention() {
    for case in &Golden::open("multi_head_attention").cases {
        if case.get("in.key").is_none() {
            continue;
        }
        let width = case.size("embed_dim");
        let mut layer = CrossAttention::new(width, width, case.size("num_heads")).to_dtype(DType::F64);
        let (weight, bias) = (case.tensor("param.in_proj_weight"), case.tensor("param.in_proj_bias"));
        for (index, projection) in [&mut layer.q_proj, &mut layer.k_proj, &mut layer.v_proj]
            .into_iter()
            .enumerate()
        {
            projection.weight.set(&weight.narrow(0, index * width, width));
            projection
                .bias
                .as_mut()
                .expect("a bias")
                .set(&bias.narrow(0, index * width, width));
        }
        layer.out_proj.weight.set(case.tensor("param.out_proj.weight"));
        layer
            .out_proj
            .bias
            .as_mut()
            .expect("a bias")
            .set(case.tensor("param.out_proj.bias"));
        // One context serves for keys and values, so the value of the case is compared through its projection alone.
        let lengths = case.sizes("lengths");
        let (key, keys) = packed(case.tensor("in.key"), lengths.as_deref());
        let queries = Segments::uniform(2, 5);
        let mut shared = MultiHeadAttention::new(width, case.size("num_heads")).to_dtype(DType::F64);
        shared
            .load_state_dict(&case.kind("param"))
            .expect("the same parameters");
        let expected = shared.forward_cross(case.tensor("in.query"), &queries, (&key, &key), &keys);
        let found = layer.forward(case.tensor("in.query"), &queries, &key, &keys);
        assert!(found.relative_error(&expected) < TOLERANCE);
    }
    let layer = CrossAttention::new(4, 6, 2).init(1);
    let (queries, keys) = (Segments::from_lengths(&[2, 1]), Segments::from_lengths(&[1, 3]));
    let forward = |layer: &CrossAttention, x: &[Tensor]| layer.forward(&x[0], &queries, &x[1], &keys);
    gradcheck_module(&layer, &[&uniform(&[3, 4], 2), &uniform(&[4, 6], 3)], forward).expect("its gradients");
}

fn transformer_config(case: &Case) -> TransformerLayerConfig {
    TransformerLayerConfig {
        dim_feedforward: case.size("dim_feedforward"),
        dropout: 0.0,
        activation: if case.text("activation") == "relu" {
            Activation::Relu
        } else {
            Activation::Gelu
        },
        norm_first: case.flag("norm_first"),
        ..TransformerLayerConfig::default()
    }
}

fn transformer_encoder_layer() {
    for case in &Golden::open("transformer_encoder_layer").cases {
        let layer = TransformerEncoderLayer::new(case.size("d_model"), case.size("nhead"), transformer_config(case));
        let (layer, x) = (case.load(layer), case.leaf("x"));
        let (tokens, segments) = packed(&x, case.sizes("lengths").as_deref());
        let y = unpack(&layer.forward(&tokens, &segments, false), &segments, x.dim(1));
        case.check(&layer, &[("x", &x)], &[("y", &y)], TOLERANCE);
    }
}

fn transformer_decoder_layer() {
    for case in &Golden::open("transformer_decoder_layer").cases {
        let layer = TransformerDecoderLayer::new(case.size("d_model"), case.size("nhead"), transformer_config(case));
        let (layer, x, memory) = (case.load(layer), case.leaf("x"), case.leaf("memory"));
        let (packed_memory, memories) = packed(&memory, case.sizes("memory_lengths").as_deref());
        let y = layer.forward(&x, &Segments::uniform(x.dim(0), x.dim(1)), &packed_memory, &memories);
        case.check(&layer, &[("x", &x), ("memory", &memory)], &[("y", &y)], TOLERANCE);
    }
}

fn transformer_encoder() {
    for case in &Golden::open("transformer_encoder").cases {
        let config = transformer_config(case);
        let layer = TransformerEncoder::new(
            case.size("num_layers"),
            case.size("d_model"),
            case.size("nhead"),
            config,
        );
        let (layer, x) = (case.load(layer), case.leaf("x"));
        let y = layer.forward(&x, &Segments::uniform(x.dim(0), x.dim(1)), false);
        case.check(&layer, &[("x", &x)], &[("y", &y)], TOLERANCE);
    }
}

fn transformer() {
    for file in ["transformer", "transformer_norm_first"] {
        for case in &Golden::open(file).cases {
            let depth = [case.size("num_encoder_layers"), case.size("num_decoder_layers")];
            let layer = Transformer::new(
                case.size("d_model"),
                case.size("nhead"),
                depth,
                transformer_config(case),
            );
            let (layer, src, tgt) = (case.load(layer), case.leaf("src"), case.leaf("tgt"));
            let (source, sources) = packed(&src, case.sizes("lengths").as_deref());
            let y = layer.forward(&source, &sources, &tgt, &Segments::uniform(tgt.dim(0), tgt.dim(1)));
            case.check(&layer, &[("src", &src), ("tgt", &tgt)], &[("y", &y)], TOLERANCE);
        }
    }
}

fn sinusoidal_positions() {
    for case in &Golden::open("sinusoidal_positions").cases {
        let layer = SinusoidalPositions::new(case.size("max_len"), case.size("d_model"));
        case.close("out.y", layer.table(), 1e-12);
        let ragged = Segments::from_lengths(&[3, 0, 2]);
        let y = layer.forward(&Tensor::zeros_of([5, case.size("d_model")], DType::F64), &ragged);
        assert!(
            y.narrow(0, 3, 2).equals(&layer.table().narrow(0, 0, 2))
                && y.narrow(0, 0, 3).equals(&layer.table().narrow(0, 0, 3))
        );
        let x = Tensor::zeros_of([2, 3, case.size("d_model")], DType::F64);
        assert!(
            layer
                .forward(&x, &Segments::uniform(2, 3))
                .select(0, 1)
                .equals(&layer.table().narrow(0, 0, 3))
        );
    }
}

fn learned_positions() {
    let layer = LearnedPositions::new(5, 4).init(3);
    for (shape, segments) in [
        (&[5, 4][..], Segments::from_lengths(&[2, 3])),
        (&[2, 3, 4], Segments::uniform(2, 3)),
    ] {
        let x = uniform(shape, 1);
        gradcheck_module(&layer, &[&x], |layer, x| layer.forward(&x[0], &segments)).expect("its gradients");
        let added = no_grad(|| layer.clone().to_dtype(DType::F64).forward(&x, &segments) - &x);
        let expected = no_grad(|| layer.weight.to_f64().embedding(&positions(&segments)).reshape(shape));
        assert!(added.relative_error(&expected) < 1e-12);
    }
}

/// Layers whose numbers are random: their gradients, and their formula on the mask that they drew.
fn dropped(layer: impl Layer + Clone, name: &str) {
    let x = uniform(&[3, 4, 5], 1);
    gradcheck_module(&layer, &[&x], |layer, x| {
        let _scope = training(5, 2);
        layer.forward(&x[0])
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        no_grad(|| layer.forward(&x)).equals(&x),
        "{name}: nothing is dropped outside of training"
    );
    let draw = |seed: u64, step: u64, first: u64, x: &Tensor| {
        let scope = training(seed, step);
        scope.micro_batch(first);
        layer.forward(x)
    };
    let y = draw(5, 2, 0, &x);
    assert!(
        y.equals(&draw(5, 2, 0, &x)),
        "{name}: the same address gives the same mask"
    );
    assert!(
        !y.equals(&draw(5, 3, 0, &x)) && !y.equals(&draw(6, 2, 0, &x)),
        "{name}: another address another"
    );
    let second = draw(5, 2, 1, &x.narrow(0, 1, 2));
    assert!(
        second.equals(&y.narrow(0, 1, 2).contiguous()),
        "{name}: a sample's mask does not depend on its micro-batch"
    );
    let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
    let alpha = -1.7580993408473766;
    let scale = (0.5f64 * (1.0 + 0.5 * alpha * alpha)).sqrt().recip();
    let kept = |index: usize| match name {
        "AlphaDropout" => {
            let (kept, dropped) = (scale * x[index], scale * alpha);
            let shift = -scale * 0.5 * alpha;
            assert!((y[index] - kept - shift).abs() < 1e-9 || (y[index] - dropped - shift).abs() < 1e-9);
            (y[index] - kept - shift).abs() < 1e-9
        }
        _ => {
            assert!(y[index] == 0.0 || (y[index] - 2.0 * x[index]).abs() < 1e-12);
            y[index] != 0.0
        }
    };
    let mask: Vec<bool> = (0..x.len()).map(kept).collect();
    assert!(mask.iter().any(|kept| *kept) && mask.iter().any(|kept| !kept), "{name}");
    if name == "Dropout2d" {
        assert!(
            mask.chunks(5)
                .all(|channel| channel.iter().all(|kept| *kept == channel[0]))
        );
    }
}

fn containers() {
    let net = || {
        Sequential::new()
            .then(Linear::new(4, 6))
            .then(Function(Tensor::tanh))
            .then(Linear::new(6, 4))
    };
    let x = uniform(&[3, 4], 1);
    gradcheck_module(&net().init(1), &[&x], |net, x| net.forward(&x[0])).expect("its gradients");
    let residual = Residual { inner: net() }.init(1);
    gradcheck_module(&residual, &[&x], |net, x| net.forward(&x[0])).expect("its gradients");
    let residual = residual.to_dtype(DType::F64);
    assert!(no_grad(|| residual.forward(&x) - residual.inner.forward(&x)).relative_error(&x) < 1e-12);
}

#[test]
fn every_layer_of_the_list_has_pytorch_s_values_and_gradients() {
    for name in LAYERS {
        match *name {
            "AdaptiveAvgPool2d" => adaptive_avg_pool2d(),
            "AlphaDropout" => dropped(AlphaDropout::new(0.5), name),
            "AvgPool1d" => avg_pool1d(),
            "AvgPool2d" => avg_pool2d(),
            "BatchNorm1d" => batch_norm::<1>(false),
            "BatchNorm2d" => batch_norm::<2>(true),
            "Conv1d" => conv1d(),
            "Conv2d" => conv2d(),
            "ConvTranspose2d" => conv_transpose2d(),
            "CrossAttention" => cross_attention(),
            "Dropout" => dropped(Dropout::new(0.5), name),
            "Dropout2d" => dropped(Dropout2d::new(0.5), name),
            "Embedding" => embedding(),
            "GroupNorm" => group_norm(),
            "Gru" => gru(),
            "GruCell" => cell("gru_cell"),
            "InstanceNorm" => instance_norm(),
            "LayerNorm" => layer_norm(),
            "LearnedPositions" => learned_positions(),
            "Linear" => linear(),
            "Lstm" => lstm(),
            "LstmCell" => cell("lstm_cell"),
            "MaxPool1d" => max_pool1d(),
            "MaxPool2d" => max_pool2d(),
            "MultiHeadAttention" => multi_head_attention(),
            "Residual" | "Sequential" => containers(),
            "RmsNorm" => rms_norm(),
            "Rnn" => rnn(),
            "RnnCell" => cell("rnn_cell"),
            "SinusoidalPositions" => sinusoidal_positions(),
            "Transformer" | "TransformerDecoder" => transformer(),
            "TransformerDecoderLayer" => transformer_decoder_layer(),
            "TransformerEncoder" => transformer_encoder(),
            "TransformerEncoderLayer" => transformer_encoder_layer(),
            other => panic!("{other} is compared with nothing"),
        }
    }
}

#[test]
fn the_list_has_every_layer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/layers");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of layers") {
        let source = std::fs::read_to_string(entry.expect("a file").path()).expect("its text");
        for line in source.lines().filter(|line| line.starts_with("pub struct ")) {
            let name: String = line["pub struct ".len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect();
            if !name.is_empty() && !name.ends_with("Config") && name != "Function" {
                found.push(name);
            }
        }
    }
    // The two batch norms and the two convolutions come out of one definition each.
    for name in LAYERS
        .iter()
        .filter(|name| !matches("BatchNorm?d", name) && !matches("Conv?d", name))
    {
        assert!(found.iter().any(|f| f == name), "{name} is listed and not defined");
    }
    for name in found.iter().filter(|name| *name != "BatchNorm") {
        assert!(LAYERS.contains(&name.as_str()), "{name} is not in the list of layers");
    }
}
