//! Modules, layers, losses, initialisers, optimisers and schedules.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`module`] | the walk over a model's fields that gives every parameter its name |
//! | [`param`], [`buffer`] | what a walk finds: parameters, and tensors kept beside them |
//! | [`init`](mod@init) | where first values come from |
//! | [`state_dict`], [`files`] | values by name, strict loading, safetensors |
//! | [`training`](mod@training) | the scope that a training step runs in |
//! | [`layers`] | layers, one file each |
//! | [`losses`] | what is minimised |
//! | [`optim`], [`schedule`] | optimisers, averages of weights, learning rates |
//! | [`layer`], [`explicit`] | layers of one tensor; forward and backward by hand |

// The derive names this crate as its users do.
extern crate self as cupola_nn;

pub mod buffer;
mod checkpointed;
pub mod explicit;
mod fields;
pub mod files;
mod gradcheck;
pub mod init;
pub mod layer;
pub mod layers;
pub mod losses;
pub mod module;
pub mod optim;
pub mod param;
pub mod schedule;
pub mod state_dict;
mod summary;
pub mod training;

pub use buffer::ModuleBuffer;
pub use checkpointed::checkpointed;
pub use cupola_derive::Module;
pub use explicit::{Cache, Explicit};
pub use files::{FileError, Files};
pub use gradcheck::gradcheck_module;
pub use layer::Layer;
pub use module::Module;
pub use param::{Param, alias, copied_parameter_bytes};
pub use state_dict::{LoadError, StateDict};
pub use summary::{Summary, summary};
pub use training::{TrainingScope, evaluate, observe, training};
