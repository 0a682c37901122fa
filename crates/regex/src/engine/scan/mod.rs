//! Splitting: all matches of a pattern found by one pass without branches on the text.
//!
//! Tokenizer patterns match everywhere: each match begins where the one before it ends. Then nothing has to be searched
//! for, only the ends have to be told, and a machine that has read everything up to some point can tell them as it goes.
//! Patterns as `\w+`, which leave gaps of symbols that begin no match, are no harder.
//!
//! - `machine`: turns the automaton of such a pattern into a transducer that never goes back.
//! - `classify`, `tree`: symbol kinds of a block of text, 32 or 64 bytes at a time.
//! - `run`: runs the transducer over the kinds of a block.
//! - `block`, `actions`: go from block to block and collect the ends.

pub(crate) mod actions;
mod block;
mod classify;
mod machine;
mod run;
mod tree;

pub use block::{End, Splitter};
pub use classify::Classifier;
#[cfg(target_arch = "x86_64")]
pub use classify::{AHEAD, BYTES};
pub use machine::Machine;
