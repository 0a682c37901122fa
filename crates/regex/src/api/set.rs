//! Many patterns asked at once.

use super::builder::RegexBuilder;
use super::haystack::Haystack;
use super::regex::Regex;
use crate::error::{Error, SearchError};

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
        RegexSetBuilder::new(patterns).build()
    }

    /// A set without patterns, which matches nothing.
    pub fn empty() -> Self {
        RegexSet { patterns: Vec::new(), strings: Vec::new() }
    }

    /// Whether any pattern matches.
    pub fn is_match(&self, haystack: &H) -> bool {
        self.patterns.iter().any(|p| p.is_match(haystack))
    }

    /// As [`RegexSet::is_match`], starting at byte `start` with the text before it in view.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn is_match_at(&self, haystack: &H, start: usize) -> bool {
        self.patterns.iter().any(|p| p.is_match_at(haystack, start))
    }

    /// Which patterns match.
    pub fn matches(&self, haystack: &H) -> SetMatches {
        self.matches_at(haystack, 0)
    }

    /// As [`RegexSet::matches`], starting at byte `start` with the text before it in view.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn matches_at(&self, haystack: &H, start: usize) -> SetMatches {
        SetMatches { matched: self.patterns.iter().map(|p| p.is_match_at(haystack, start)).collect() }
    }

    /// As [`RegexSet::is_match`], with limits reported: an error only when no pattern is known to match.
    ///
    /// # Errors
    /// When a search reached its limit.
    pub fn try_is_match(&self, haystack: &H) -> Result<bool, SearchError> {
        let mut stopped = None;
        for pattern in &self.patterns {
            match pattern.try_is_match(haystack) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => stopped = stopped.or(Some(error)),
            }
        }
        stopped.map_or(Ok(false), Err)
    }

    /// As [`RegexSet::matches`], with limits reported.
    ///
    /// # Errors
    /// When the search for one of the patterns reached its limit.
    pub fn try_matches(&self, haystack: &H) -> Result<SetMatches, SearchError> {
        Ok(SetMatches { matched: self.patterns.iter().map(|p| p.try_is_match(haystack)).collect::<Result<_, _>>()? })
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

impl<H: Haystack + ?Sized> Default for RegexSet<H> {
    fn default() -> Self {
        Self::empty()
    }
}

/// Options for compiling a set; they hold for all of its patterns.
#[derive(Debug, Clone)]
pub struct RegexSetBuilder<H: Haystack + ?Sized> {
    strings: Vec<String>,
    options: RegexBuilder<H>,
}

/// Methods that do to every pattern what the same method of [`RegexBuilder`] does to one.
macro_rules! options {
    ($($name:ident: $type:ty),+) => {
        $(
            #[doc = concat!("As [`RegexBuilder::", stringify!($name), "`], for every pattern.")]
            pub fn $name(&mut self, value: $type) -> &mut Self {
                self.options.$name(value);
                self
            }
        )+
    };
}

impl<H: Haystack + ?Sized> RegexSetBuilder<H> {
    /// A builder for these patterns with everything at its default.
    pub fn new<I, S>(patterns: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let strings = patterns.into_iter().map(|p| p.as_ref().to_owned()).collect();
        RegexSetBuilder { strings, options: RegexBuilder::new("") }
    }

    /// Compiles all patterns.
    ///
    /// # Errors
    /// That of the first pattern that cannot be compiled.
    pub fn build(&self) -> Result<RegexSet<H>, Error> {
        let patterns =
            self.strings.iter().map(|pattern| self.options.build_other(pattern)).collect::<Result<_, _>>()?;
        Ok(RegexSet { patterns, strings: self.strings.clone() })
    }

    options! {
        case_insensitive: bool, multi_line: bool, dot_matches_new_line: bool, crlf: bool, swap_greed: bool,
        ignore_whitespace: bool, unicode: bool, line_terminator: u8, nest_limit: usize, size_limit: usize,
        dfa_size_limit: usize, backtrack_limit: u64
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

    /// Whether all patterns matched, which those of an empty set do.
    pub fn matched_all(&self) -> bool {
        self.matched.iter().all(|matched| *matched)
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
    pub fn iter(&self) -> SetMatchesIter<'_> {
        SetMatchesIter(self.matched.iter().enumerate())
    }
}

impl IntoIterator for SetMatches {
    type Item = usize;
    type IntoIter = SetMatchesIntoIter;

    fn into_iter(self) -> SetMatchesIntoIter {
        SetMatchesIntoIter(self.matched.into_iter().enumerate())
    }
}

impl<'s> IntoIterator for &'s SetMatches {
    type Item = usize;
    type IntoIter = SetMatchesIter<'s>;

    fn into_iter(self) -> SetMatchesIter<'s> {
        self.iter()
    }
}

/// Numbers of the patterns that matched, ascending.
#[derive(Debug)]
pub struct SetMatchesIntoIter(std::iter::Enumerate<std::vec::IntoIter<bool>>);

/// The same, borrowed.
#[derive(Debug, Clone)]
pub struct SetMatchesIter<'s>(std::iter::Enumerate<std::slice::Iter<'s, bool>>);

impl Iterator for SetMatchesIntoIter {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.by_ref().find(|(_, matched)| *matched).map(|(index, _)| index)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len()))
    }
}

impl DoubleEndedIterator for SetMatchesIntoIter {
    fn next_back(&mut self) -> Option<usize> {
        self.0.by_ref().rev().find(|(_, matched)| *matched).map(|(index, _)| index)
    }
}

impl std::iter::FusedIterator for SetMatchesIntoIter {}

impl Iterator for SetMatchesIter<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.by_ref().find(|(_, matched)| **matched).map(|(index, _)| index)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len()))
    }
}

impl DoubleEndedIterator for SetMatchesIter<'_> {
    fn next_back(&mut self) -> Option<usize> {
        self.0.by_ref().rev().find(|(_, matched)| **matched).map(|(index, _)| index)
    }
}

impl std::iter::FusedIterator for SetMatchesIter<'_> {}
