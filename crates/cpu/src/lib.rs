//! CPU kernels: plain functions over slices and sizes, with no knowledge of tensors.

pub mod gemm;
pub mod isa;

pub use isa::{Isa, isa, with_isa};
