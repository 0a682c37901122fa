//! Reverse-mode differentiation. Glue only: all mathematics is in the operations.
//!
//! [`graph`] records who made what; [`backward`] walks it from a result to the leaves; [`gradients`] holds what arrives there.

pub mod backward;
pub mod checkpoint;
pub mod clip;
pub mod gradcheck;
pub mod gradients;
pub mod graph;
pub mod inspect;
pub(crate) mod rows;
pub mod running;
