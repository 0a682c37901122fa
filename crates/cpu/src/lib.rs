//! CPU kernels: plain functions over slices and sizes, with no knowledge of tensors.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@isa`] | which instruction-set tier kernels run in |
//! | [`tier`] | one body stamped for every tier |
//! | [`work`] | how work is cut, by fixed sizes |
//! | [`vmath`] | elementary functions in f32 that vectorise |
//! | [`real`] | what kernels compute in, load and store |
//! | [`attention`] | scaled dot-product attention over packed segments |
//! | [`unary`] | functions of one argument and their derivatives |
//! | [`conv`] | convolutions of images, and the causal one of sequences |
//! | [`gla`] | gated linear attention: a matrix as state, a decay for each key channel |
//! | [`rnn`] | recurrent cells over whole sequences |
//! | [`selective_scan`] | the scan of Mamba, channel by channel |
//! | [`chunked`] | recurrences with a matrix as state: Mamba-2 and -3, linear attention, the delta rule |
//! | [`pooling`] | maxima and means over windows of images |
//! | [`image_norm`] | normalisation over channels of images |
//! | [`strided`] | walking strided operands |
//! | [`binary`] | functions of two arguments with broadcasting, comparisons |
//! | [`select`], [`cast`], [`mod@copy`] | choosing, converting, laying out anew |
//! | [`integer`] | matrix products of integers |
//! | [`reduce`] | sums, extrema, variances, cumulative sums |
//! | [`softmax`] | softmax and its logarithm |
//! | [`norm`] | layer and RMS normalisation |
//! | [`cross_entropy`] | softmax cross-entropy |
//! | [`embedding`] | rows of a table by number |
//! | [`glu`] | gated linear units |
//! | [`angles`] | angles that add up along sequences, and pairs turned by them |
//! | [`rotary`] | rotary position embedding |
//! | [`dropout`] | dropout by position |
//! | [`optim`] | optimiser steps |

pub mod angles;
pub mod attention;
pub mod binary;
pub mod cast;
pub mod chunked;
pub mod conv;
pub mod copy;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
mod fetch;
pub mod gemm;
pub mod gla;
pub mod glu;
pub mod image_norm;
pub mod integer;
pub mod isa;
mod lanes;
pub mod multiply;
pub mod norm;
pub mod optim;
pub mod pooling;
pub mod real;
pub mod reduce;
pub mod rnn;
pub mod rotary;
mod rows;
mod scattered;
pub mod select;
pub mod selective_scan;
pub mod softmax;
mod stream;
pub mod strided;
pub mod tier;
pub mod unary;
pub mod vmath;
pub mod work;

#[cfg(test)]
mod testing;

pub use isa::{Isa, isa, with_isa};
