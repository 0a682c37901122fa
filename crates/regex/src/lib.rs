//! A regular-expression engine for text and for the patterns of tokenizers.
//!
//! ```
//! use cupola_regex::Regex;
//!
//! let gpt2 = Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")?;
//! let pieces: Vec<&str> = gpt2.find_iter("It's 2 o'clock,  isn't it?").map(|m| m.as_str()).collect();
//! assert_eq!(pieces, ["It", "'s", " 2", " o", "'", "clock", ",", " ", " isn", "'t", " it", "?"]);
//! # Ok::<(), cupola_regex::Error>(())
//! ```
//!
//! The API is that of the `regex` crate; the syntax is a superset of it with lookaround, backreferences, possessive
//! quantifiers and atomic groups (see [`syntax_guide`]). Everything without backreferences is searched in linear time,
//! `find_iter` as a whole included. Classes and case folding are those of Unicode 16.0.
//!
//! # Module map
//!
//! | module | from | to |
//! |---|---|---|
//! | `syntax` | pattern text | `hir`: meaning without syntax |
//! | `unicode`, `symset` | names of properties | sets of characters |
//! | `utf8` | characters | bytes, where a pattern needs that |
//! | `program` | `hir` | instructions over kinds of symbols (`alphabet`) |
//! | `engine` | instructions and a text | matches; each engine says why it exists |
//! | `literals`, `prefilter`, `starts`, `need`, `byteset` | `hir` | where a match can begin |
//! | `core`, `pool` | pattern, options | the choice of engine, working memory |
//! | `api` | all of the above | the public types |

#![warn(missing_docs)]

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct Readme;

mod alphabet;
mod anywhere;
mod api;
mod byteset;
mod core;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod hint;
mod hir;
mod literals;
mod need;
#[doc(hidden)]
pub mod pool;
mod prefilter;
mod program;
mod starts;
mod symset;
mod syntax;
#[doc = include_str!("../SYNTAX.md")]
pub mod syntax_guide {}
#[cfg(test)]
mod tests;
mod unicode;
mod utf8;

pub use api::borders::BorderMemory;
pub use api::captures::CaptureLocations;
pub use api::haystack::Haystack;
pub use api::regex::CaptureNames;
pub use api::replace::{NoExpand, Replacer, ReplacerRef};
pub use api::set::{SetMatches, SetMatchesIntoIter, SetMatchesIter};
pub use error::{Error, SearchError};
pub use unicode::UNICODE_VERSION;

/// A compiled pattern for text. See [`generic::Regex`] for its methods.
pub type Regex = generic::Regex<str>;
/// Options for a [`Regex`].
pub type RegexBuilder = generic::RegexBuilder<str>;
/// Many patterns asked at once.
pub type RegexSet = generic::RegexSet<str>;
/// Options for a [`RegexSet`].
pub type RegexSetBuilder = generic::RegexSetBuilder<str>;
/// One match in a text.
pub type Match<'h> = generic::Match<'h, str>;
/// The groups of one match in a text.
pub type Captures<'h> = generic::Captures<'h, str>;
/// All matches in a text.
pub type Matches<'r, 'h> = generic::Matches<'r, 'h, str>;
/// The groups of all matches in a text.
pub type CaptureMatches<'r, 'h> = generic::CaptureMatches<'r, 'h, str>;
/// The groups of one match by number.
pub type SubCaptureMatches<'c, 'h> = generic::SubCaptureMatches<'c, 'h, str>;
/// The parts of a text between matches.
pub type Split<'r, 'h> = generic::Split<'r, 'h, str>;
/// At most so many parts of a text.
pub type SplitN<'r, 'h> = generic::SplitN<'r, 'h, str>;

/// The types behind the aliases, each for both kinds of haystack.
pub mod generic {
    pub use crate::api::builder::RegexBuilder;
    pub use crate::api::captures::{Captures, Match, SubCaptureMatches};
    pub use crate::api::iter::{CaptureMatches, Matches, Split, SplitN, TryCaptureMatches, TryMatches, TrySplit};
    pub use crate::api::regex::Regex;
    pub use crate::api::set::{RegexSet, RegexSetBuilder};
}

/// Searching in bytes that need not be UTF-8.
///
/// Characters and classes match valid UTF-8 only; a byte that is no part of valid UTF-8 is matched by nothing but
/// `(?-u)` classes, `(?-u:.)` and `(?-u:\xHH)`, which stand for single bytes here.
pub mod bytes {
    pub use crate::api::borders::BorderMemory;
    pub use crate::api::captures::CaptureLocations;
    pub use crate::api::regex::CaptureNames;
    pub use crate::api::replace::{NoExpand, Replacer, ReplacerRef};
    pub use crate::api::set::{SetMatches, SetMatchesIntoIter, SetMatchesIter};

    /// A compiled pattern for bytes. See [`crate::generic::Regex`] for its methods.
    pub type Regex = crate::generic::Regex<[u8]>;
    /// Options for a [`Regex`].
    pub type RegexBuilder = crate::generic::RegexBuilder<[u8]>;
    /// Many patterns asked at once.
    pub type RegexSet = crate::generic::RegexSet<[u8]>;
    /// Options for a [`RegexSet`].
    pub type RegexSetBuilder = crate::generic::RegexSetBuilder<[u8]>;
    /// One match.
    pub type Match<'h> = crate::generic::Match<'h, [u8]>;
    /// The groups of one match.
    pub type Captures<'h> = crate::generic::Captures<'h, [u8]>;
    /// All matches.
    pub type Matches<'r, 'h> = crate::generic::Matches<'r, 'h, [u8]>;
    /// The groups of all matches.
    pub type CaptureMatches<'r, 'h> = crate::generic::CaptureMatches<'r, 'h, [u8]>;
    /// The groups of one match by number.
    pub type SubCaptureMatches<'c, 'h> = crate::generic::SubCaptureMatches<'c, 'h, [u8]>;
    /// The parts between matches.
    pub type Split<'r, 'h> = crate::generic::Split<'r, 'h, [u8]>;
    /// At most so many parts.
    pub type SplitN<'r, 'h> = crate::generic::SplitN<'r, 'h, [u8]>;
}

/// `text` as a pattern that matches it literally, also under the `x` flag.
///
/// ```
/// assert_eq!(cupola_regex::escape("1 + 1"), r"1\ \+\ 1");
/// ```
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~ ".contains(c) {
            out.push('\\');
            out.push(c);
        } else if c.is_whitespace() {
            out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}
