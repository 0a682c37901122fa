//! The one door to the regular-expression engine.

use crate::error::{Error, Result};
use std::ops::Range;

/// A compiled pattern, or a literal text to look for.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Regex(cupola_regex::Regex),
    Literal,
}

impl Pattern {
    /// Compiles a regular expression.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn regex(source: &str) -> Result<Self> {
        let regex = cupola_regex::Regex::new(source)
            .map_err(|e| Error::Pattern { pattern: source.to_string(), reason: e.to_string() })?;
        Ok(Self { source: source.to_string(), matcher: Matcher::Regex(regex) })
    }

    /// A literal text.
    ///
    /// # Errors
    /// When the text is empty.
    pub fn literal(source: &str) -> Result<Self> {
        if source.is_empty() {
            return Err(Error::Pattern { pattern: String::new(), reason: "an empty text is found everywhere".into() });
        }
        Ok(Self { source: source.to_string(), matcher: Matcher::Literal })
    }

    /// The expression or the literal text.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True for a literal text.
    pub fn is_literal(&self) -> bool {
        matches!(self.matcher, Matcher::Literal)
    }

    /// Calls `found` with the range of every match, from left to right.
    #[inline]
    pub(crate) fn for_each(&self, text: &str, mut found: impl FnMut(Range<usize>)) -> Result<()> {
        self.try_for_each(text, |range| {
            found(range);
            Ok(true)
        })
    }

    /// [`Pattern::for_each`] that stops at `Ok(false)` and at an error.
    #[inline]
    pub(crate) fn try_for_each(&self, text: &str, mut found: impl FnMut(Range<usize>) -> Result<bool>) -> Result<()> {
        match &self.matcher {
            Matcher::Literal => {
                for (start, part) in text.match_indices(&self.source) {
                    if !found(start..start + part.len())? {
                        return Ok(());
                    }
                }
            }
            Matcher::Regex(regex) => {
                let mut at = 0;
                for hit in regex.try_find_iter(text) {
                    let hit = hit.map_err(|e| Error::PatternLimit {
                        pattern: self.source.clone(),
                        offset: at,
                        reason: e.to_string(),
                    })?;
                    at = hit.end();
                    if !found(hit.start()..hit.end())? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
