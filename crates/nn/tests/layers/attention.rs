//! Attention and what is made of it.

use cupola_nn::layers::*;
use cupola_nn::{Module, StateDict, gradcheck_module};
use cupola_tensor::ops::linear::Activation;
use cupola_tensor::{DType, Segments, Tensor};

use crate::common::{TOLERANCE, uniform};
use crate::support::{Case, Golden};

/// `x [B, T, D]` packed by the lengths of the case, if it has some.
fn packed(x: &Tensor, lengths: Option<&[usize]>) -> (Tensor, Segments) {
    let full = vec![x.dim(1); x.dim(0)];
    pack(x, lengths.unwrap_or(&full))
}

pub fn multi_head_attention() {
    let golden = Golden::open("multi_head_attention");
    assert!(golden.cases.len() >= 6);
    for case in &golden.cases {
        let config = MultiHeadAttentionConfig { bias: case.flag("bias"), dropout: 0.0 };
        let layer = case.load(MultiHeadAttention::with(case.size("embed_dim"), case.size("num_heads"), config));
        let query = case.leaf("query");
        let lengths = case.sizes("lengths");
        if case.get("in.key").is_some() {
            let (key, value) = (case.leaf("key"), case.leaf("value"));
            let (k, keys) = packed(&key, lengths.as_deref());
            let (v, _) = packed(&value, lengths.as_deref());
            let queries = Segments::uniform(query.dim(0), query.dim(1));
            let y = layer.forward_cross(&query, &queries, (&k, &v), &keys);
            case.check(&layer, &[("query", &query), ("key", &key), ("value", &value)], &[("y", &y)], TOLERANCE);
        } else {
            let (x, segments) = packed(&query, lengths.as_deref());
            let y = layer.forward(&x, &segments, case.flag("causal"));
            let y = unpack(&y, &segments, query.dim(1));
            case.check(&layer, &[("query", &query)], &[("y", &y)], TOLERANCE);
        }
    }
}

pub fn cross_attention() {
    for case in &Golden::open("multi_head_attention").cases {
        if case.get("in.key").is_none() {
            continue;
        }
        let width = case.size("embed_dim");
        let mut layer = CrossAttention::new(width, width, case.size("num_heads")).to_dtype(DType::F64);
        let (weight, bias) = (case.tensor("param.in_proj_weight"), case.tensor("param.in_proj_bias"));
        for (index, projection) in [&mut layer.q_proj, &mut layer.k_proj, &mut layer.v_proj].into_iter().enumerate() {
            projection.weight.set(&weight.narrow(0, index * width, width));
            projection.bias.as_mut().expect("a bias").set(&bias.narrow(0, index * width, width));
        }
        layer.out_proj.weight.set(case.tensor("param.out_proj.weight"));
        layer.out_proj.bias.as_mut().expect("a bias").set(case.tensor("param.out_proj.bias"));
        // One context serves for keys and values, so the value of the case is compared through its projection alone.
        let lengths = case.sizes("lengths");
        let (key, keys) = packed(case.tensor("in.key"), lengths.as_deref());
        let queries = Segments::uniform(2, 5);
        let mut shared = MultiHeadAttention::new(width, case.size("num_heads")).to_dtype(DType::F64);
        shared.load_state_dict(&case.kind("param")).expect("the same parameters");
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
        activation: if case.text("activation") == "relu" { Activation::Relu } else { Activation::Gelu },
        norm_first: case.flag("norm_first"),
        ..TransformerLayerConfig::default()
    }
}

pub fn transformer_encoder_layer() {
    for case in &Golden::open("transformer_encoder_layer").cases {
        let layer = TransformerEncoderLayer::new(case.size("d_model"), case.size("nhead"), transformer_config(case));
        let (layer, x) = (case.load(layer), case.leaf("x"));
        let (tokens, segments) = packed(&x, case.sizes("lengths").as_deref());
        let y = unpack(&layer.forward(&tokens, &segments, false), &segments, x.dim(1));
        case.check(&layer, &[("x", &x)], &[("y", &y)], TOLERANCE);
    }
}

pub fn transformer_decoder_layer() {
    for case in &Golden::open("transformer_decoder_layer").cases {
        let layer = TransformerDecoderLayer::new(case.size("d_model"), case.size("nhead"), transformer_config(case));
        let (layer, x, memory) = (case.load(layer), case.leaf("x"), case.leaf("memory"));
        let (packed_memory, memories) = packed(&memory, case.sizes("memory_lengths").as_deref());
        let y = layer.forward(&x, &Segments::uniform(x.dim(0), x.dim(1)), &packed_memory, &memories);
        case.check(&layer, &[("x", &x), ("memory", &memory)], &[("y", &y)], TOLERANCE);
    }
}

pub fn transformer_encoder() {
    for case in &Golden::open("transformer_encoder").cases {
        let config = transformer_config(case);
        let layer = TransformerEncoder::new(case.size("num_layers"), case.size("d_model"), case.size("nhead"), config);
        let (layer, x) = (case.load(layer), case.leaf("x"));
        let y = layer.forward(&x, &Segments::uniform(x.dim(0), x.dim(1)), false);
        case.check(&layer, &[("x", &x)], &[("y", &y)], TOLERANCE);
    }
}

pub fn transformer() {
    for file in ["transformer", "transformer_norm_first"] {
        for case in &Golden::open(file).cases {
            let depth = [case.size("num_encoder_layers"), case.size("num_decoder_layers")];
            let layer = Transformer::new(case.size("d_model"), case.size("nhead"), depth, transformer_config(case));
            let (layer, src, tgt) = (case.load(layer), case.leaf("src"), case.leaf("tgt"));
            let (source, sources) = packed(&src, case.sizes("lengths").as_deref());
            let y = layer.forward(&source, &sources, &tgt, &Segments::uniform(tgt.dim(0), tgt.dim(1)));
            case.check(&layer, &[("src", &src), ("tgt", &tgt)], &[("y", &y)], TOLERANCE);
        }
    }
}
