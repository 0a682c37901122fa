//! Optimisers: trajectories of PyTorch, and what they promise beyond.

mod promises;
#[path = "../support/mod.rs"]
mod support;
mod trajectories;
