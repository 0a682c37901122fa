//! CPU kernels: plain functions over slices and sizes, with no knowledge of tensors.

pub mod isa;
pub mod tier;
pub mod vmath;

#[cfg(test)]
mod testing;

pub use isa::{Isa, isa, with_isa};
