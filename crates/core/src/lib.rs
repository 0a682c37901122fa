//! The ground that the rest of Cupola stands on: nothing here knows about tensors or mathematics.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`dtype`] | the element types and their Rust counterparts |
//! | [`shape`] | dimensions, strides, broadcasting |
//! | [`buffer`] | reference-counted, aligned memory, fresh or over somebody else's bytes |
//! | [`map`] | files mapped into memory |
//! | [`alloc`] | the cache that buffers come from and return to |
//! | [`seat`] | which core a thread runs on, and how to leave it |
//! | [`pool`] | the fork-join thread pool: same bits on any number of threads |
//! | [`rng`] | random numbers addressed by position instead of drawn in order |

pub mod alloc;
pub mod buffer;
pub mod dtype;
pub mod map;
pub mod pool;
pub mod rng;
pub mod seat;
pub mod shape;

pub use buffer::Buffer;
pub use dtype::{DType, Element, Float, bf16, f16};
pub use map::MappedFile;
pub use pool::parallel_for;
pub use rng::Rng;
pub use shape::{Layout, Shape};
