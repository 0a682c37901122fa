//! Many patterns asked at once.

use super::haystack::Haystack;
use super::regex::Regex;
use crate::error::Error;

/// A set of patterns of which any number may match the same haystack. It answers which ones do, not where.
#[derive(Debug, Clone)]
pub struct RegexSet<H: Haystack + ?Sized> {
    patterns: Vec<Regex<H>>,
    strings: Vec<String>,
}

impl<H: Haystack + ?Sized> RegexSet<H> {
    /// Compiles all patterns.
    ///
    /// # Errors
    /// That of the first pattern that cannot be compiled.
    pub fn new<I, S>(patterns: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let strings: Vec<String> = patterns.into_iter().map(|p| p.as_ref().to_owned()).collect();
        let patterns = strings.iter().map(|p| Regex::new(p)).collect::<Result<_, _>>()?;
        Ok(RegexSet { patterns, strings })
    }

    /// A set without patterns, which matches nothing.
    pub fn empty() -> Self {
        RegexSet { patterns: Vec::new(), strings: Vec::new() }
    }

    /// Whether any pattern matches.
    pub fn is_match(&self, haystack: &H) -> bool {
        self.patterns.iter().any(|p| p.is_match(haystack))
    }

    /// Which patterns match.
    pub fn matches(&self, haystack: &H) -> SetMatches {
        SetMatches { matched: self.patterns.iter().map(|p| p.is_match(haystack)).collect() }
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.strings
    }
}

/// Which patterns of a set matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMatches {
    matched: Vec<bool>,
}

impl SetMatches {
    /// Whether any pattern matched.
    pub fn matched_any(&self) -> bool {
        self.matched.contains(&true)
    }

    /// Whether pattern number `index` matched.
    ///
    /// # Panics
    /// When there is no such pattern.
    #[track_caller]
    pub fn matched(&self, index: usize) -> bool {
        self.matched[index]
    }

    /// Number of patterns in the set.
    #[allow(clippy::len_without_is_empty, reason = "the count of patterns, not of matches")]
    pub fn len(&self) -> usize {
        self.matched.len()
    }

    /// Numbers of the patterns that matched, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.matched.iter().enumerate().filter(|(_, matched)| **matched).map(|(index, _)| index)
    }
}
