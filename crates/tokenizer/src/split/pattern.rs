//! The one door to the regular-expression engine.

use crate::error::{Error, Result};
use cupola_regex::BorderMemory;
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
        match &self.matcher {
            Matcher::Literal => {
                for (start, part) in text.match_indices(&self.source) {
                    found(start..start + part.len());
                }
            }
            Matcher::Regex(regex) => {
                let mut at = 0;
                for hit in regex.try_find_iter(text) {
                    let hit = hit.map_err(|e| self.limit(at, &e))?;
                    at = hit.end();
                    found(hit.start()..hit.end());
                }
            }
        }
        Ok(())
    }

    /// Calls `found` with the borders of all matches in blocks, a position and distances from it, as
    /// [`cupola_regex::Regex::try_borders`] does, until it answers `Ok(false)` or an error.
    #[inline]
    pub(crate) fn for_borders(
        &self,
        text: &str,
        memory: &mut BorderMemory,
        mut found: impl FnMut(usize, &[u32]) -> Result<bool>,
    ) -> Result<()> {
        let Matcher::Regex(regex) = &self.matcher else {
            return self.for_borders_of_literal(text, &mut found);
        };
        let (mut at, mut failed) = (0, None);
        let done = regex.try_borders(text, memory, |base, ends| {
            at = base + ends.last().map_or(0, |&end| end as usize);
            found(base, ends).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        match failed {
            Some(error) => Err(error),
            None => done.map_err(|error| self.limit(at, &error)),
        }
    }

    fn for_borders_of_literal(&self, text: &str, found: &mut dyn FnMut(usize, &[u32]) -> Result<bool>) -> Result<()> {
        let mut last = 0;
        let borders = text.match_indices(&self.source).flat_map(|(at, part)| [at, at + part.len()]);
        for border in borders.chain([text.len()]) {
            // One at a time: texts are shorter than 4 GiB, see `Error::TooLong`.
            if border > last && !found(last, &[(border - last) as u32])? {
                return Ok(());
            }
            last = border;
        }
        Ok(())
    }

    fn limit(&self, offset: usize, reason: &cupola_regex::SearchError) -> Error {
        Error::PatternLimit { pattern: self.source.clone(), offset, reason: reason.to_string() }
    }
}
