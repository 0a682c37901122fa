//! File formats over bytes, and files that are replaced whole or not at all.
//!
//! | module | what it holds |
//! |---|---|
//! | [`safetensors`] | named tensors in one file or in shards with an index |
//! | [`npy`] | one array, as NumPy saves it |
//! | [`atomic`] | files and folders written beside, synced, then renamed |
//! | [`run`] | the folder of a training run: what it is, what was measured, its checkpoints |
//! | [`error`] | what can be wrong with a file |
//!
//! Files come from outside and may be damaged or hostile. Every reader here checks all that it uses before it uses it: what
//! is wrong is an [`Error`] that names the file and the tensor, never a panic, and no size that a file merely declares is
//! ever allocated.

pub mod atomic;
pub mod error;
pub mod npy;
pub mod run;
pub mod safetensors;
mod source;

pub use error::{Error, Result};
