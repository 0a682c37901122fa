//! The automaton for regular patterns.
//!
//! - `build`: determinisation, ahead of time or while searching.
//! - `search`: matching with it, linear over all matches of a text.

mod build;
mod search;

pub use build::Dfa;
pub use search::{Marks, Run, match_at};
