//! Layers that are one operation with parameters.

use cupola_nn::layers::*;
use cupola_nn::{Layer, Module, StateDict, training};
use cupola_tensor::autograd::backward::backward_from;
use cupola_tensor::ops::linear::Activation;
use cupola_tensor::ops::{ConvConfig, Window};
use cupola_tensor::{DType, Gradients, Tensor, no_grad};

use crate::common::{TOLERANCE, all};
use crate::support::{Case, Golden};

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
        dilation: if case.attributes.contains_key("dilation") { sizes(case, "dilation") } else { [1; D] },
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

fn dim(case: &Case, name: &str, axis: isize) -> usize {
    case.tensor(&format!("in.{name}")).dim(axis)
}

pub fn linear() {
    all("linear", |case| {
        let layer = Linear::new(dim(case, "weight", 1), dim(case, "weight", 0));
        let layer = if case.get("in.bias").is_some() { layer } else { layer.without_bias() };
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
        functional(case, Activated { linear: layer, activation });
    });
}

pub fn embedding() {
    all("embedding", |case| {
        if case.attributes["padding_idx"].is_null() {
            functional(case, Embedding::new(dim(case, "weight", 0), dim(case, "weight", 1)));
        }
    });
}

pub fn conv1d() {
    all("conv1d", |case| {
        let config = convolution::<1>(case);
        let inputs = dim(case, "weight", 1) * config.groups;
        let layer = Conv1d::with(inputs, dim(case, "weight", 0), [dim(case, "weight", 2)], config);
        functional(case, if case.get("in.bias").is_some() { layer } else { layer.without_bias() });
    });
}

pub fn conv2d() {
    all("conv2d", |case| {
        let config = convolution::<2>(case);
        let inputs = dim(case, "weight", 1) * config.groups;
        let kernel = [dim(case, "weight", 2), dim(case, "weight", 3)];
        let layer = Conv2d::with(inputs, dim(case, "weight", 0), kernel, config);
        functional(case, if case.get("in.bias").is_some() { layer } else { layer.without_bias() });
    });
}

pub fn conv_transpose2d() {
    all("conv_transpose2d", |case| {
        let config = convolution::<2>(case);
        let outputs = dim(case, "weight", 1) * config.groups;
        let kernel = [dim(case, "weight", 2), dim(case, "weight", 3)];
        let layer = ConvTranspose2d::with(dim(case, "weight", 0), outputs, kernel, config);
        let layer = match case.attributes.get("output_padding") {
            Some(_) => layer.with_output_padding(sizes(case, "output_padding")),
            None => layer,
        };
        functional(case, if case.get("in.bias").is_some() { layer } else { layer.without_bias() });
    });
}

pub fn max_pool1d() {
    all("max_pool1d", |case| functional(case, MaxPool1d(window(case))));
}

pub fn max_pool2d() {
    all("max_pool2d", |case| functional(case, MaxPool2d(window(case))));
}

pub fn avg_pool1d() {
    all("avg_pool1d", |case| {
        functional(case, AvgPool1d { window: window(case), count_include_pad: case.flag("count_include_pad") });
    });
}

pub fn avg_pool2d() {
    all("avg_pool2d", |case| {
        functional(case, AvgPool2d { window: window(case), count_include_pad: case.flag("count_include_pad") });
    });
}

pub fn adaptive_avg_pool2d() {
    all("adaptive_avg_pool2d", |case| functional(case, AdaptiveAvgPool2d(sizes(case, "output_size"))));
}

pub fn group_norm() {
    all("group_norm", |case| {
        functional(case, GroupNorm::new(case.size("num_groups"), dim(case, "weight", 0)).with_eps(case.number("eps")));
    });
}

pub fn instance_norm() {
    all("instance_norm", |case| {
        functional(case, InstanceNorm::affine(dim(case, "weight", 0)).with_eps(case.number("eps")))
    });
    Golden::open("instance_norm_running").cases.iter().for_each(|case| {
        let channels = dim(case, "weight", 0);
        let layer = InstanceNorm::affine(channels).tracking(channels).with_eps(case.number("eps"));
        // PyTorch keeps a count for it and never raises it.
        with_running_statistics(case, layer.with_momentum(case.number("momentum")), 0);
    });
}

pub fn layer_norm() {
    all("layer_norm", |case| {
        let layer = LayerNorm::new(case.sizes("normalized_shape").expect("a shape")).with_eps(case.number("eps"));
        if let Some(residual) = case.get("in.residual") {
            let mut layer = layer.to_dtype(DType::F64);
            for (param, name) in [(&mut layer.weight, "in.weight"), (&mut layer.bias, "in.bias")] {
                param.as_mut().expect("a norm with weight and bias").set(case.tensor(name));
            }
            let (y, sum) = layer.forward_residual(case.tensor("in.x"), residual);
            case.close("out.y", &y, TOLERANCE);
            case.close("out.sum", &sum, TOLERANCE);
            return;
        }
        functional(case, if case.get("in.weight").is_some() { layer } else { layer.without_affine() });
    });
}

pub fn rms_norm() {
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

/// Checks a norm that keeps running statistics, in training (which counts so many batches) or in evaluation as the case says.
fn with_running_statistics<L: Layer>(case: &Case, layer: L, counted: i64) {
    let mut layer = layer.to_dtype(DType::F64);
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
        assert_eq!(layer.state_dict()["num_batches_tracked"].to_indices(), [counted]);
        (y, grads)
    } else {
        // A frozen norm in a graph: its statistics are constants, and there is no scope in which they could move.
        let evaluated = no_grad(|| layer.forward(&x));
        (evaluated, Gradients::new())
    };
    case.close("out.y", &y, TOLERANCE);
    let state = layer.state_dict();
    ["running_mean", "running_var"]
        .iter()
        .for_each(|name| case.close(&format!("out.{name}"), &state[*name], TOLERANCE));
    if !grads.is_empty() {
        case.close("din.x", &grads[&x], TOLERANCE);
        leaves.iter().for_each(|(name, leaf)| case.close(&format!("din.{name}"), &grads[leaf], TOLERANCE));
    }
}

pub fn batch_norm<const D: usize>(images: bool) {
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
        with_running_statistics(case, BatchNorm::<D>::with(dim(case, "weight", 0), config), 1);
    });
    checked +=
        Golden::of_tensor("batch_norm").cases.iter().filter(|case| case.name.ends_with("images") == images).count();
    assert!(checked >= 2);
}
