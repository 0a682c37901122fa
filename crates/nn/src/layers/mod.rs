//! Layers, with PyTorch's names and weight layouts.
//!
//! A layer is a [`Module`](crate::Module); those of one tensor are [`Layer`](crate::Layer)s. None has a mode of its own: whether it
//! trains is said by the [`training`](fn@crate::training) scope.

mod batch_norm;
mod conv;
mod conv_transpose2d;
mod dropout;
mod embedding;
mod group_norm;
mod layer_norm;
mod linear;
mod pooling;
mod rms_norm;
mod sequential;

pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNormConfig};
pub use conv::{Conv1d, Conv2d};
pub use conv_transpose2d::ConvTranspose2d;
pub use dropout::{AlphaDropout, Dropout, Dropout2d};
pub use embedding::Embedding;
pub use group_norm::{GroupNorm, InstanceNorm};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use pooling::{AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d};
pub use rms_norm::RmsNorm;
pub use sequential::{Function, Residual, Sequential, Stackable};
