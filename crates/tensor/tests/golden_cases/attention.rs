//! Attention: the fused operation, and the same written from products and softmax where a free mask or bias is asked for.

use cupola_tensor::ops::attention::{AttentionConfig, attention};
use cupola_tensor::{Segments, Tensor};

use super::{Case, Reader, Results, one};

/// `[B, H, T, D]` as packed tokens `[B T, H, D]`.
fn packed(x: &Tensor) -> Tensor {
    x.transpose(1, 2).flatten_dims(0, 1)
}

fn fused(case: &Case) -> Tensor {
    let (q, k, v) = (case.arg("q"), case.arg("k"), case.arg("v"));
    let segments = |x: &Tensor| match case.sizes("lengths") {
        Some(lengths) => Segments::from_lengths(&lengths),
        None => Segments::uniform(x.dim(0), x.dim(2)),
    };
    let config = AttentionConfig {
        causal: case.flag("causal"),
        window: case.maybe_size("window"),
        scale: case.maybe_number("scale"),
        slopes: case.numbers("alibi"),
        ..AttentionConfig::cross(&segments(q), &segments(k))
    };
    let y = attention(&packed(q), &packed(k), &packed(v), &config);
    y.reshape([q.dim(0), q.dim(2), q.dim(1), v.dim(3)]).transpose(1, 2)
}

/// `softmax(scale q k^T + bias) v`, with -inf as the bias of keys that are not seen.
fn by_hand(case: &Case) -> Tensor {
    let (q, k, v) = (case.arg("q"), case.arg("k"), case.arg("v"));
    let scale = case.maybe_number("scale").unwrap_or(1.0 / (q.dim(3) as f64).sqrt());
    let mut scores = q.matmul(&k.transpose(-1, -2)) * scale;
    let unseen = |mask: &Tensor| mask.to_dtype(case.dtype).log();
    if let Some(mask) = case.maybe("mask") {
        scores = scores + unseen(mask);
    }
    if let Some(bias) = case.maybe("bias") {
        scores = scores + bias;
    }
    if case.flag("causal") {
        scores = scores + unseen(&Tensor::ones([q.dim(2), k.dim(2)]).tril(k.dim(2) as isize - q.dim(2) as isize));
    }
    for absent in ["window", "alibi", "lengths"] {
        assert!(case.attribute(absent).is_null(), "{}: {absent} by hand", case.label);
    }
    scores.softmax(-1).matmul(v)
}

fn either(case: &Case) -> Results {
    let free = case.maybe("mask").is_some() || case.maybe("bias").is_some();
    one(if free { by_hand(case) } else { fused(case) })
}

pub fn readers() -> Vec<Reader> {
    vec![
        Reader::new("attention", &["attention"], either),
        Reader::new("attention_masks", &["attention", "matmul", "softmax"], either),
    ]
}
