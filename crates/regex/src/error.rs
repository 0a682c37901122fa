//! What can go wrong while a pattern is compiled or searched for.

use thiserror::Error;

/// A pattern that cannot be compiled. Each message is complete by itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The pattern does not follow the syntax.
    #[error("regex syntax error at byte {offset} of `{pattern}`: {message}")]
    Syntax {
        /// The pattern as given.
        pattern: String,
        /// Byte offset in the pattern at which the problem was seen.
        offset: usize,
        /// What was found and what was expected.
        message: String,
    },
    /// The pattern is nested deeper than the limit.
    #[error("regex `{pattern}` is nested deeper than the limit of {limit} levels")]
    TooDeep {
        /// The pattern as given.
        pattern: String,
        /// The limit set by [`crate::RegexBuilder::nest_limit`].
        limit: usize,
    },
    /// The compiled program would be larger than the limit.
    #[error("regex `{pattern}` compiles to more than the limit of {limit} instructions")]
    TooLarge {
        /// The pattern as given.
        pattern: String,
        /// The limit set by [`crate::RegexBuilder::size_limit`].
        limit: usize,
    },
}

/// A search that stopped because it reached a limit, so that it is not known whether there is a match.
///
/// In practice only patterns with backreferences end like this: everything else is searched in linear time, with tables
/// that grow with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The backtracking budget of one search was used up.
    #[error("the search used up its budget of {budget} steps without an answer")]
    BudgetExhausted {
        /// The budget: that of [`crate::RegexBuilder::backtrack_limit`] and a share for the length of the text.
        budget: u64,
    },
    /// A pattern with backreferences left more choices open than may be kept.
    #[error("the search would keep more than {limit} open choices, which is the limit for a text of this length")]
    StackTooLarge {
        /// Choices allowed: 262,144 and 16 for each byte of the text.
        limit: usize,
    },
    /// The fast engines gave up, and the position tables of the linear one would be too large.
    #[error("the linear fallback would need {needed} bytes for its tables, the limit is {limit}")]
    TablesTooLarge {
        /// Bytes needed for this text.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
}
