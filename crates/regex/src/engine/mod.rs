//! The engines. Each exists for a reason:
//!
//! - `dfa`: for what is regular, once assertions about neighbouring symbols are lowered into it; one table look-up a
//!   symbol, and linear over all matches of a text.
//! - `scan`: the automaton turned into a transducer that runs over blocks of text without going back, for patterns that
//!   know soon where a match ends, as those of tokenizers do.
//! - `ahead`: lookaheads that are regular, as automata that tell yes or no.
//! - `opening`: what comes before a backreference, as an automaton that refuses most attempts.
//! - `backtrack`: for captures, lookaround and backreferences; metered.
//! - `sweep`: right to left over the text once; slow but linear whatever the pattern, for when the meter runs out.
//! - `groups`, `reach`: the groups of the matches that the sweep finds, in linear time for all of them together.
//! - `behind`: what lookbehinds say, remembered position by position, for the two above.
//!
//! The definition of the syntax, executed word by word, is `fuzz/reference.rs`; all engines are compared with it.

pub mod ahead;
pub mod backtrack;
pub mod behind;
pub mod dfa;
pub mod groups;
pub mod opening;
mod reach;
pub mod scan;
pub mod sweep;
