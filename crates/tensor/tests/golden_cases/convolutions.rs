//! Convolutions and pooling.

use cupola_tensor::Segments;
use cupola_tensor::ops::{CausalConvConfig, ConvConfig, Window, causal_conv1d};

use super::{Case, Reader, Results, one};

fn convolution<const D: usize>(case: &Case) -> ConvConfig<D> {
    ConvConfig {
        stride: case.each("stride"),
        padding: case.each("padding"),
        dilation: case.each("dilation"),
        groups: case.size("groups"),
    }
}

/// A window; only maxima have a dilation in PyTorch.
fn window<const D: usize>(case: &Case) -> Window<D> {
    Window {
        kernel: case.each("kernel_size"),
        stride: case.each("stride"),
        padding: case.each("padding"),
        dilation: if case.attribute("dilation").is_null() { [1; D] } else { case.each("dilation") },
        ceil_mode: case.flag("ceil_mode"),
    }
}

/// Sequences of equal length one behind the other; what stands before them is their state.
fn causal(case: &Case) -> Results {
    let x = case.x();
    let segments = Segments::uniform(x.dim(0), x.dim(1));
    let silu = match case.maybe_text("activation") {
        None => false,
        Some("silu") => true,
        Some(other) => panic!("{}: {other} is no activation", case.label),
    };
    let config = CausalConvConfig { silu, ..CausalConvConfig::default() };
    let tokens = x.flatten_dims(0, 1);
    let (y, _) =
        causal_conv1d(&tokens, case.arg("weight"), case.maybe("bias"), case.maybe("before"), &segments, config);
    one(y.reshape(x.shape()))
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("conv1d", &["conv2d"], |case| {
            one(case.x().conv1d(case.arg("weight"), case.maybe("bias"), convolution(case)))
        }),
        Reader::new("conv2d", &["conv2d"], |case| {
            one(case.x().conv2d(case.arg("weight"), case.maybe("bias"), convolution(case)))
        }),
        Reader::new("conv_transpose2d", &["conv_transpose2d"], |case| {
            let (weight, bias) = (case.arg("weight"), case.maybe("bias"));
            let more = if case.attribute("output_padding").is_null() { [0, 0] } else { case.each("output_padding") };
            one(case.x().conv_transpose2d(weight, bias, convolution(case), more))
        }),
        Reader::new("causal_conv1d", &["causal_conv1d"], causal),
        Reader::new("max_pool1d", &["max_pool2d"], |case| one(case.x().max_pool1d(window(case)))),
        Reader::new("max_pool2d", &["max_pool2d"], |case| one(case.x().max_pool2d(window(case)))),
        Reader::new("avg_pool1d", &["avg_pool2d"], |case| {
            one(case.x().avg_pool1d(window(case), case.flag("count_include_pad")))
        }),
        Reader::new("avg_pool2d", &["avg_pool2d"], |case| {
            one(case.x().avg_pool2d(window(case), case.flag("count_include_pad")))
        }),
        Reader::new("adaptive_avg_pool1d", &["adaptive_avg_pool2d"], |case| {
            one(case.x().unsqueeze(-2).adaptive_avg_pool2d([1, case.size("output_size")]).squeeze(-2))
        }),
        Reader::new("adaptive_avg_pool2d", &["adaptive_avg_pool2d"], |case| {
            one(case.x().adaptive_avg_pool2d(case.each("output_size")))
        }),
    ]
}
