//! Matrix products, tables and indices, rotary embedding, cross-entropy.

use cupola_tensor::ops::cross_entropy::{CrossEntropyConfig, Reduction};
use cupola_tensor::ops::grouped_linear::grouped_linear;
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::ops::linear_cross_entropy;
use cupola_tensor::ops::rotary::{Pairing, rotary_tables};
use cupola_tensor::{DType, Tensor};

use super::{Case, Reader, one};

fn activation(case: &Case) -> Activation {
    match case.maybe_text("activation") {
        None => Activation::None,
        Some("relu") => Activation::Relu,
        Some("gelu") => Activation::Gelu,
        Some("silu") => Activation::Silu,
        Some(other) => panic!("{}: {other} is no activation", case.label),
    }
}

/// The row of the padding index gets no gradient.
fn embedding(case: &Case) -> Tensor {
    let (weight, indices) = (case.arg("weight"), case.arg("indices"));
    let Some(padding) = case.maybe_size("padding_idx") else {
        return weight.embedding(indices);
    };
    let rows = weight.split(0, &[padding, 1, weight.dim(0) - padding - 1]);
    Tensor::cat(&[&rows[0], &rows[1].detach(), &rows[2]], 0).embedding(indices)
}

/// Heads of all tokens at their positions, with tables in the precision of the case.
fn rotary(case: &Case) -> Tensor {
    let (x, positions) = (case.x(), case.arg("positions"));
    let (width, base) = (case.size("rotary_dim"), case.number("base"));
    let pairing = match case.text("pairing") {
        "adjacent" => Pairing::Interleaved,
        _ => Pairing::HalfSplit,
    };
    let most = positions.to_indices().into_iter().max().expect("a position") as usize + 1;
    let (cos, sin) = if case.dtype == DType::F32 {
        rotary_tables(most, width, base)
    } else {
        let frequencies: Vec<f64> = (0..width / 2).map(|i| base.powf(-2.0 * i as f64 / width as f64)).collect();
        let angles = Tensor::range(0, most as i64).to_f64().outer(&Tensor::from_vec(frequencies, [width / 2]));
        (angles.cos(), angles.sin())
    };
    let batch = x.dim(0);
    let tokens = x.flatten_dims(0, 1);
    let positions = positions.unsqueeze(0).expand([batch, positions.numel()]).flatten();
    tokens.rotary(&positions, &cos, &sin, pairing).reshape(x.shape())
}

fn loss_config(case: &Case) -> CrossEntropyConfig {
    CrossEntropyConfig {
        reduction: match case.text("reduction") {
            "none" => Reduction::None,
            "mean" => Reduction::Mean,
            _ => Reduction::Sum,
        },
        ignore_index: Some(case.integer("ignore_index")),
        label_smoothing: case.number("label_smoothing"),
        class_weights: case.maybe("weight").cloned(),
        z_loss: case.number("z_loss"),
        divisor: None,
    }
}

fn cross_entropy(case: &Case) -> Tensor {
    case.x().cross_entropy(case.arg("target"), &loss_config(case))
}

fn head_and_cross_entropy(case: &Case) -> Tensor {
    linear_cross_entropy(case.x(), case.arg("head"), case.arg("target"), &loss_config(case))
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("matmul", &["matmul"], |case| one(case.arg("a").matmul(case.arg("b")))),
        Reader::new("einsum", &["matmul"], |case| {
            one(Tensor::einsum(case.text("equation"), &[case.arg("a"), case.arg("b")]))
        }),
        Reader::new("linear", &["linear"], |case| {
            one(linear(case.x(), case.arg("weight"), case.maybe("bias"), activation(case)))
        }),
        Reader::new("grouped_linear", &["grouped_linear"], |case| {
            one(grouped_linear(case.x(), case.arg("weight"), &case.sizes("groups").expect("rows of groups")))
        }),
        Reader::new("linear_cross_entropy", &["linear_cross_entropy"], |case| one(head_and_cross_entropy(case))),
        Reader::new("embedding", &["embedding"], |case| one(embedding(case))),
        Reader::new("gather", &["gather"], |case| one(case.x().gather(case.axis("dim"), case.arg("index")))),
        Reader::new("index_select", &["gather"], |case| {
            one(case.x().index_select(case.axis("dim"), case.arg("index")))
        }),
        Reader::new("scatter_add", &["scatter_add"], |case| {
            one(case.x().scatter_add(case.axis("dim"), case.arg("index"), case.arg("src")))
        }),
        Reader::new("rotary_embedding", &["rotary"], |case| one(rotary(case))),
        Reader::new("cross_entropy", &["cross_entropy"], |case| one(cross_entropy(case))),
    ]
}
