//! The automaton for regular patterns.
//!
//! - `build`: determinisation, ahead of time or while searching.
//! - `search`: matching from a given position with it, linear over all matches of a text.
//! - `through`: finding the next match in one pass, whatever lies before it.

mod build;
mod search;
mod through;

pub use build::{Dfa, Full, Purpose};
pub use search::{Marks, Run, match_at};
pub(super) use search::{SHORT, next_check};
pub use through::{Backward, Earliest, Through};
