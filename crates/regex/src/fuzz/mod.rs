//! Fuzz targets as ordinary functions. Tests on stable Rust drive them; cargo-fuzz wraps them as they are.
//!
//! - `search`: whatever the pattern and the text are, a search ends, without a panic
//! - `agree`: every engine finds what the definition of matching says (`reference`, over `compare`)

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod compare;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod reference;

use crate::{RegexBuilder, bytes};

/// Compiles a pattern for text and for bytes, and searches. Limits are low: what is looked for is a panic, a match outside
/// of the text, or a search that does not end.
pub fn search(pattern: &str, text: &[u8]) {
    let mut builder = RegexBuilder::new(pattern);
    if let Ok(regex) = builder.size_limit(20_000).backtrack_limit(20_000).build() {
        let text = String::from_utf8_lossy(text);
        let count = regex.try_find_iter(&text).take_while(Result::is_ok).count();
        assert!(count <= text.len() + 1, "{pattern:?} on {text:?}");
        for captures in regex.captures_iter(&text) {
            for group in captures.iter().flatten() {
                assert!(text.get(group.range()).is_some(), "{pattern:?} on {text:?}");
            }
        }
        assert!(!regex.plan().is_empty());
    }
    if let Ok(regex) = bytes::RegexBuilder::new(pattern).size_limit(20_000).backtrack_limit(20_000).build() {
        let count = regex.try_find_iter(text).take_while(Result::is_ok).count();
        assert!(count <= text.len() + 1, "{pattern:?} on {text:?}");
    }
}

/// Compares all engines with the reference; patterns that do not compile are left alone.
#[cfg(any(test, feature = "fuzz"))]
pub fn agree(pattern: &str, text: &str) {
    if let Err(difference) = compare::check(pattern, text) {
        panic!("{difference}");
    }
}
