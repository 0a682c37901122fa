//! Layers, with PyTorch's names and weight layouts.
//!
//! A layer is a [`Module`](crate::Module); those of one tensor are [`Layer`](crate::Layer)s. None has a mode of its own: whether it
//! trains is said by the [`training`](fn@crate::training) scope.

mod batch_norm;
mod conv;
mod conv_transpose2d;
mod cross_attention;
mod dropout;
mod embedding;
mod group_norm;
mod gru;
mod layer_norm;
mod linear;
mod list;
mod lstm;
mod multi_head_attention;
mod packing;
mod pooling;
mod positions;
mod recurrent;
mod rms_norm;
mod rnn;
mod sequential;
mod ternary;
mod transformer;
mod transformer_layers;

pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNormConfig};
pub use conv::{Conv1d, Conv2d};
pub use conv_transpose2d::ConvTranspose2d;
pub use cross_attention::CrossAttention;
pub use dropout::{AlphaDropout, Dropout, Dropout2d};
pub use embedding::Embedding;
pub use group_norm::{GroupNorm, InstanceNorm};
pub use gru::{Gru, GruCell};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use list::LAYERS;
pub use lstm::{Lstm, LstmCell};
pub use multi_head_attention::{MultiHeadAttention, MultiHeadAttentionConfig};
pub use packing::{pack, unpack};
pub use pooling::{AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d};
pub use positions::{LearnedPositions, SinusoidalPositions, positions};
pub use recurrent::RecurrentConfig;
pub use rms_norm::RmsNorm;
pub use rnn::{Rnn, RnnCell};
pub use sequential::{Function, Residual, Sequential, Stackable};
pub use ternary::Ternary;
pub use transformer::{Transformer, TransformerDecoder, TransformerEncoder};
pub use transformer_layers::{TransformerDecoderLayer, TransformerEncoderLayer, TransformerLayerConfig};
