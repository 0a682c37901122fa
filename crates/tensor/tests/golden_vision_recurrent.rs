//! Convolutions, poolings, norms of images and recurrent layers against PyTorch.

mod golden_support;

use std::collections::BTreeMap;

use cupola_tensor::ops::{
    CausalConvConfig, CellWeights, ConvConfig, Nonlinearity, Order, Window, causal_conv1d, gru, lstm, rnn,
};
use cupola_tensor::{Segments, Tensor};
use golden_support::{Case, cases};

type Given = BTreeMap<String, Tensor>;

fn convolution<const D: usize>(case: &Case) -> ConvConfig<D> {
    ConvConfig {
        stride: case.sizes("stride"),
        padding: case.sizes("padding"),
        dilation: case.sizes("dilation"),
        groups: case.size("groups"),
    }
}

#[test]
fn conv1d() {
    for case in cases("conv1d") {
        let config = convolution::<1>(&case);
        case.check(1e-5, |x| {
            vec![("y", x["in.x"].conv1d(&x["in.weight"], x.get("in.bias"), config))]
        });
    }
}

#[test]
fn conv2d() {
    for case in cases("conv2d") {
        let config = convolution::<2>(&case);
        case.check(1e-5, |x| {
            vec![("y", x["in.x"].conv2d(&x["in.weight"], x.get("in.bias"), config))]
        });
    }
}

#[test]
fn conv_transpose2d() {
    for case in cases("conv_transpose2d") {
        let (config, extra) = (convolution::<2>(&case), case.sizes("output_padding"));
        case.check(1e-5, |x| {
            let y = x["in.x"].conv_transpose2d(&x["in.weight"], x.get("in.bias"), config, extra);
            vec![("y", y)]
        });
    }
}

#[test]
fn causal_conv1d_with_and_without_a_state() {
    for case in cases("causal_conv1d") {
        let config = CausalConvConfig {
            silu: case.attributes["activation"].as_str() == Some("silu"),
            final_state: false,
        };
        case.check(1e-5, |x| {
            let shape = *x["in.x"].shape();
            let (flat, segments) = (
                x["in.x"].reshape([shape[0] * shape[1], shape[2]]),
                Segments::uniform(shape[0], shape[1]),
            );
            let (weight, bias, before) = (&x["in.weight"], x.get("in.bias"), x.get("in.before"));
            let (y, _) = causal_conv1d(&flat, weight, bias, before, &segments, config);
            vec![("y", y.reshape(shape))]
        });
    }
}

fn window<const D: usize>(case: &Case) -> Window<D> {
    let dilation = if case.attributes.contains_key("dilation") {
        case.sizes("dilation")
    } else {
        [1; D]
    };
    Window {
        kernel: case.sizes("kernel_size"),
        stride: case.sizes("stride"),
        padding: case.sizes("padding"),
        dilation,
        ceil_mode: case.flag("ceil_mode"),
    }
}

#[test]
fn max_pool() {
    for case in cases("max_pool1d") {
        case.check(1e-5, |x| vec![("y", x["in.x"].max_pool1d(window(&case)))]);
    }
    for case in cases("max_pool2d") {
        case.check(1e-5, |x| vec![("y", x["in.x"].max_pool2d(window(&case)))]);
    }
}

#[test]
fn avg_pool() {
    for case in cases("avg_pool1d") {
        let padded = case.flag("count_include_pad");
        case.check(1e-5, |x| vec![("y", x["in.x"].avg_pool1d(window(&case), padded))]);
    }
    for case in cases("avg_pool2d") {
        let padded = case.flag("count_include_pad");
        case.check(1e-5, |x| vec![("y", x["in.x"].avg_pool2d(window(&case), padded))]);
    }
}

#[test]
fn adaptive_avg_pool() {
    for case in cases("adaptive_avg_pool1d") {
        let size = case.size("output_size");
        case.check(1e-5, |x| vec![("y", x["in.x"].adaptive_avg_pool1d(size))]);
    }
    for case in cases("adaptive_avg_pool2d") {
        case.check(1e-5, |x| {
            vec![("y", x["in.x"].adaptive_avg_pool2d(case.sizes("output_size")))]
        });
    }
}

#[test]
fn batch_norm_and_its_running_statistics() {
    for case in cases("batch_norm") {
        let eps = case.number("eps");
        case.check(1e-5, |x| {
            let (input, weight, bias) = (&x["in.x"], x.get("in.weight"), x.get("in.bias"));
            let (mean, var) = (x["in.running_mean"].detach(), x["in.running_var"].detach());
            if !case.flag("training") {
                return vec![("y", input.batch_norm_given(&mean, &var, weight, bias, eps))];
            }
            let (y, batch_mean, batch_var) = input.batch_norm(weight, bias, eps);
            // PyTorch's running variance is unbiased.
            let n = (input.numel() / input.dim(1)) as f64;
            let momentum = case.number("momentum");
            let mixed =
                |old: &Tensor, new: &Tensor, factor: f64| old * (1.0 - momentum) + new.detach() * (momentum * factor);
            vec![
                ("y", y),
                ("running_mean", mixed(&mean, &batch_mean, 1.0)),
                ("running_var", mixed(&var, &batch_var, n / (n - 1.0))),
            ]
        });
    }
}

#[test]
fn group_and_instance_norm() {
    for case in cases("group_norm") {
        let (groups, eps) = (case.size("num_groups"), case.number("eps"));
        case.check(1e-5, |x| {
            vec![(
                "y",
                x["in.x"].group_norm(groups, x.get("in.weight"), x.get("in.bias"), eps),
            )]
        });
    }
    for case in cases("instance_norm") {
        let eps = case.number("eps");
        case.check(1e-5, |x| {
            vec![("y", x["in.x"].instance_norm(x.get("in.weight"), x.get("in.bias"), eps))]
        });
    }
}

/// One layer in one direction: from x, its weights, its state if there is one, and the order, to y and the final states.
type Layer<'a> = &'a dyn Fn(&Tensor, CellWeights<'_>, Option<Vec<Tensor>>, &Order) -> Vec<Tensor>;

/// Layers and directions put together as PyTorch does: y, then each final state over layers and directions.
fn stacked(case: &Case, given: &Given, layer: Layer<'_>) -> Vec<(&'static str, Tensor)> {
    let lengths: Option<Vec<usize>> = case
        .get("in.lengths")
        .map(|l| l.to_vec::<i64>().into_iter().map(|l| l as usize).collect());
    let directions = if case.flag("bidirectional") { 2 } else { 1 };
    let mut x = given["in.x"].clone();
    let mut states: Vec<Vec<Tensor>> = Vec::new();
    for index in 0..case.size("num_layers") {
        let mut outputs = Vec::new();
        for direction in 0..directions {
            let suffix = format!("_l{index}{}", if direction == 1 { "_reverse" } else { "" });
            let parameter = |name: &str| given.get(&format!("param.{name}{suffix}"));
            let weights = CellWeights {
                w_ih: parameter("weight_ih").expect("a weight"),
                w_hh: parameter("weight_hh").expect("a weight"),
                bias: parameter("bias_ih").zip(parameter("bias_hh")),
            };
            let first: Vec<Tensor> = ["in.h0", "in.c0"]
                .into_iter()
                .filter_map(|name| Some(given.get(name)?.select(0, index * directions + direction)))
                .collect();
            let order = Order {
                lengths: lengths.as_deref().map(Into::into),
                reverse: direction == 1,
            };
            let mut results = layer(&x, weights, (!first.is_empty()).then_some(first), &order);
            outputs.push(results.remove(0));
            states.push(results);
        }
        x = Tensor::cat(&outputs.iter().collect::<Vec<_>>(), -1);
    }
    let state = |k: usize| Tensor::stack(&states.iter().map(|s| &s[k]).collect::<Vec<_>>(), 0);
    let names = ["h", "c"].into_iter().take(states[0].len()).enumerate();
    let mut all = vec![("y", x)];
    all.extend(names.map(|(k, name)| (name, state(k))));
    all
}

#[test]
fn lstm_over_sequences() {
    for case in cases("lstm") {
        case.check(1e-5, |given| {
            stacked(&case, given, &|x, weights, state, order| {
                let (y, h, c) = lstm(x, weights, state.as_ref().map(|s| (&s[0], &s[1])), order);
                vec![y, h, c]
            })
        });
    }
}

#[test]
fn gru_over_sequences() {
    for case in cases("gru") {
        case.check(1e-5, |given| {
            stacked(&case, given, &|x, weights, state, order| {
                let (y, h) = gru(x, weights, state.as_ref().map(|s| &s[0]), order);
                vec![y, h]
            })
        });
    }
}

#[test]
fn rnn_over_sequences() {
    for case in cases("rnn") {
        let act = match case.attributes["nonlinearity"].as_str() {
            Some("relu") => Nonlinearity::Relu,
            other => {
                assert_eq!(other, Some("tanh"));
                Nonlinearity::Tanh
            }
        };
        case.check(1e-5, |given| {
            stacked(&case, given, &|x, weights, state, order| {
                let (y, h) = rnn(x, weights, state.as_ref().map(|s| &s[0]), act, order);
                vec![y, h]
            })
        });
    }
}

#[test]
fn one_step_of_each_cell() {
    for case in cases("recurrent_cells") {
        case.check(1e-5, |x| {
            let weights = CellWeights {
                w_ih: &x["param.weight_ih"],
                w_hh: &x["param.weight_hh"],
                bias: x.get("param.bias_ih").zip(x.get("param.bias_hh")),
            };
            let (input, h, order) = (x["in.x"].unsqueeze(1), &x["in.h"], Order::default());
            if let Some(c) = x.get("in.c") {
                let (_, h, c) = lstm(&input, weights, Some((h, c)), &order);
                return vec![("h", h), ("c", c)];
            }
            let next = if case.name.ends_with("gru_cell") {
                gru(&input, weights, Some(h), &order).1
            } else {
                rnn(&input, weights, Some(h), Nonlinearity::Tanh, &order).1
            };
            vec![("h", next)]
        });
    }
}
