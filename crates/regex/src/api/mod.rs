//! The public types, each once for both kinds of haystack: `str` and `[u8]`.
//!
//! [`crate::Regex`] and [`crate::bytes::Regex`] are the two instances of [`regex::Regex`]; so are their matches,
//! captures and iterators. Nobody has to write the parameter.

pub mod borders;
pub mod builder;
pub mod captures;
pub mod haystack;
pub mod iter;
pub mod regex;
pub mod replace;
pub mod set;
