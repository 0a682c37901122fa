//! Every layer of the list against PyTorch's values and gradients, or its formula.

mod attention;
mod common;
mod operations;
mod random;
mod sequences;
#[path = "../support/mod.rs"]
mod support;

use attention::*;
use cupola_nn::layers::{AlphaDropout, Dropout, Dropout2d, LAYERS};
use cupola_nn::optim::matches;
use operations::*;
use random::*;
use sequences::*;

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
            let name: String = line["pub struct ".len()..].chars().take_while(|c| c.is_alphanumeric()).collect();
            if !name.is_empty() && !name.ends_with("Config") && name != "Function" {
                found.push(name);
            }
        }
    }
    // The two batch norms and the two convolutions come out of one definition each.
    for name in LAYERS.iter().filter(|name| !matches("BatchNorm?d", name) && !matches("Conv?d", name)) {
        assert!(found.iter().any(|f| f == name), "{name} is listed and not defined");
    }
    for name in found.iter().filter(|name| *name != "BatchNorm") {
        assert!(LAYERS.contains(&name.as_str()), "{name} is not in the list of layers");
    }
}
