//! A compiled pattern and what can be done with it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use super::captures::{CaptureLocations, Captures, Match};
use super::haystack::Haystack;
use super::iter::{CaptureMatches, Matches, Split, SplitN, TryCaptureMatches, TryMatches, TrySplit};
use super::replace::Replacer;
use crate::core::{Config, Core};
use crate::error::{Error, SearchError};

/// A compiled pattern. Cloning is cheap, and one value can be used by many threads at once without locks.
///
/// The methods are those of the `regex` crate. The `try_` forms tell "there is no match" from "the search reached its
/// limit", which can only happen for patterns with backreferences; the others take the latter for the former.
pub struct Regex<H: Haystack + ?Sized> {
    core: Arc<Core>,
    haystack: PhantomData<fn(&H)>,
}

impl<H: Haystack + ?Sized> Regex<H> {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// When the pattern does not follow the syntax, or is nested too deeply or too large.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Self::with_config(pattern, &Config::default())
    }

    pub(crate) fn with_config(pattern: &str, config: &Config) -> Result<Self, Error> {
        Ok(Regex { core: Core::new(pattern, config, H::BYTES)?, haystack: PhantomData })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.core.pattern
    }

    /// Which engine runs for this pattern and why, in words.
    pub fn plan(&self) -> String {
        self.core.plan()
    }

    /// Whether there is a match anywhere in `haystack`.
    pub fn is_match(&self, haystack: &H) -> bool {
        self.try_is_match(haystack).unwrap_or(false)
    }

    /// As [`Regex::is_match`], starting at byte `start` with the text before it in view.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn is_match_at(&self, haystack: &H, start: usize) -> bool {
        self.try_is_match_at(haystack, start).unwrap_or(false)
    }

    /// As [`Regex::is_match`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_is_match(&self, haystack: &H) -> Result<bool, SearchError> {
        self.try_is_match_at(haystack, 0)
    }

    /// As [`Regex::is_match_at`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn try_is_match_at(&self, haystack: &H, start: usize) -> Result<bool, SearchError> {
        check(haystack, start);
        self.core.search(haystack.raw()).is_match(start)
    }

    /// A position at which a match ends, told as soon as it is known. Where an automaton can follow the pattern that is the
    /// least end of all matches, otherwise the end of the leftmost one, which [`Regex::find`] gives.
    ///
    /// ```
    /// # use cupola_regex::Regex;
    /// assert_eq!(Regex::new("a+|b")?.shortest_match("xaaa"), Some(2));
    /// # Ok::<(), cupola_regex::Error>(())
    /// ```
    pub fn shortest_match(&self, haystack: &H) -> Option<usize> {
        self.shortest_match_at(haystack, 0)
    }

    /// As [`Regex::shortest_match`], for matches that begin at byte `start` or later.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn shortest_match_at(&self, haystack: &H, start: usize) -> Option<usize> {
        self.try_shortest_match_at(haystack, start).ok().flatten()
    }

    /// As [`Regex::shortest_match_at`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn try_shortest_match_at(&self, haystack: &H, start: usize) -> Result<Option<usize>, SearchError> {
        check(haystack, start);
        self.core.search(haystack.raw()).shortest(start)
    }

    /// The leftmost match.
    pub fn find<'h>(&self, haystack: &'h H) -> Option<Match<'h, H>> {
        self.find_at(haystack, 0)
    }

    /// The leftmost match that begins at byte `start` or later. The text before `start` is in view of anchors and
    /// lookbehinds.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn find_at<'h>(&self, haystack: &'h H, start: usize) -> Option<Match<'h, H>> {
        self.try_find_at(haystack, start).ok().flatten()
    }

    /// As [`Regex::find`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_find<'h>(&self, haystack: &'h H) -> Result<Option<Match<'h, H>>, SearchError> {
        self.try_find_at(haystack, 0)
    }

    /// As [`Regex::find_at`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn try_find_at<'h>(&self, haystack: &'h H, start: usize) -> Result<Option<Match<'h, H>>, SearchError> {
        check(haystack, start);
        let found = self.core.search(haystack.raw()).find(start)?;
        Ok(found.map(|(start, end)| Match::new(haystack, start, end)))
    }

    /// All matches that do not overlap, from left to right. Linear in the length of the haystack, all matches
    /// together, for patterns without backreferences.
    pub fn find_iter<'r, 'h>(&'r self, haystack: &'h H) -> Matches<'r, 'h, H> {
        Matches(self.try_find_iter(haystack))
    }

    /// As [`Regex::find_iter`], with limits reported. One budget holds for the whole iteration.
    pub fn try_find_iter<'r, 'h>(&'r self, haystack: &'h H) -> TryMatches<'r, 'h, H> {
        TryMatches::new(haystack, self.core.search(haystack.raw()))
    }

    /// The leftmost match with its groups.
    pub fn captures<'h>(&self, haystack: &'h H) -> Option<Captures<'h, H>> {
        self.captures_at(haystack, 0)
    }

    /// As [`Regex::captures`], from byte `start` on.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn captures_at<'h>(&self, haystack: &'h H, start: usize) -> Option<Captures<'h, H>> {
        self.try_captures_at(haystack, start).ok().flatten()
    }

    /// As [`Regex::captures`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_captures<'h>(&self, haystack: &'h H) -> Result<Option<Captures<'h, H>>, SearchError> {
        self.try_captures_at(haystack, 0)
    }

    /// As [`Regex::captures_at`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn try_captures_at<'h>(&self, haystack: &'h H, start: usize) -> Result<Option<Captures<'h, H>>, SearchError> {
        check(haystack, start);
        let mut slots = Vec::new();
        let found = self.core.search(haystack.raw()).captures(start, &mut slots)?;
        Ok(found.then(|| Captures::new(haystack, self.core.clone(), slots)))
    }

    /// The groups of all matches that do not overlap.
    pub fn captures_iter<'r, 'h>(&'r self, haystack: &'h H) -> CaptureMatches<'r, 'h, H> {
        CaptureMatches(self.try_captures_iter(haystack))
    }

    /// As [`Regex::captures_iter`], with limits reported. One budget holds for the whole iteration.
    pub fn try_captures_iter<'r, 'h>(&'r self, haystack: &'h H) -> TryCaptureMatches<'r, 'h, H> {
        TryCaptureMatches::new(haystack, self.core.search(haystack.raw()))
    }

    /// Room for the groups of a match, to be used with [`Regex::captures_read`].
    pub fn capture_locations(&self) -> CaptureLocations {
        let groups = self.captures_len();
        CaptureLocations { slots: vec![usize::MAX; 2 * groups], groups }
    }

    /// As [`Regex::captures`], with the groups' positions in memory that is used again.
    pub fn captures_read<'h>(&self, locations: &mut CaptureLocations, haystack: &'h H) -> Option<Match<'h, H>> {
        self.captures_read_at(locations, haystack, 0)
    }

    /// As [`Regex::captures_read`], from byte `start` on. Locations of another pattern become ones of this.
    ///
    /// # Panics
    /// When `start` is beyond the end, or inside a character.
    #[track_caller]
    pub fn captures_read_at<'h>(
        &self,
        locations: &mut CaptureLocations,
        haystack: &'h H,
        start: usize,
    ) -> Option<Match<'h, H>> {
        check(haystack, start);
        locations.groups = self.captures_len();
        let found = self.core.search(haystack.raw()).captures(start, &mut locations.slots);
        if found == Ok(true) {
            return Some(Match::new(haystack, locations.slots[0], locations.slots[1]));
        }
        locations.slots.clear();
        None
    }

    /// The parts of `haystack` between matches.
    pub fn split<'r, 'h>(&'r self, haystack: &'h H) -> Split<'r, 'h, H> {
        Split(self.try_split(haystack))
    }

    /// As [`Regex::split`], with limits reported.
    pub fn try_split<'r, 'h>(&'r self, haystack: &'h H) -> TrySplit<'r, 'h, H> {
        TrySplit::new(haystack, self.try_find_iter(haystack))
    }

    /// At most `limit` parts of `haystack`; the last one is everything behind the match before it.
    pub fn splitn<'r, 'h>(&'r self, haystack: &'h H, limit: usize) -> SplitN<'r, 'h, H> {
        SplitN::new(self.split(haystack), limit)
    }

    /// `haystack` with the leftmost match replaced.
    pub fn replace<'h>(&self, haystack: &'h H, replacement: impl Replacer<H>) -> Cow<'h, H> {
        self.replacen(haystack, 1, replacement)
    }

    /// `haystack` with all matches replaced.
    pub fn replace_all<'h>(&self, haystack: &'h H, replacement: impl Replacer<H>) -> Cow<'h, H> {
        self.replacen(haystack, 0, replacement)
    }

    /// `haystack` with the first `limit` matches replaced; 0 means all.
    pub fn replacen<'h>(&self, haystack: &'h H, limit: usize, replacement: impl Replacer<H>) -> Cow<'h, H> {
        self.replaced(haystack, limit, replacement).0
    }

    /// As [`Regex::replace`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_replace<'h>(&self, haystack: &'h H, replacement: impl Replacer<H>) -> Result<Cow<'h, H>, SearchError> {
        self.try_replacen(haystack, 1, replacement)
    }

    /// As [`Regex::replace_all`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_replace_all<'h>(
        &self,
        haystack: &'h H,
        replacement: impl Replacer<H>,
    ) -> Result<Cow<'h, H>, SearchError> {
        self.try_replacen(haystack, 0, replacement)
    }

    /// As [`Regex::replacen`], with limits reported.
    ///
    /// # Errors
    /// When the search reached its limit.
    pub fn try_replacen<'h>(
        &self,
        haystack: &'h H,
        limit: usize,
        replacement: impl Replacer<H>,
    ) -> Result<Cow<'h, H>, SearchError> {
        match self.replaced(haystack, limit, replacement) {
            (_, Some(error)) => Err(error),
            (text, None) => Ok(text),
        }
    }

    /// What is there when all matches are replaced that could be found, and why there may be more.
    fn replaced<'h>(
        &self,
        haystack: &'h H,
        limit: usize,
        mut replacement: impl Replacer<H>,
    ) -> (Cow<'h, H>, Option<SearchError>) {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut out: Option<H::Owned> = None;
        let mut stopped = None;
        let mut from = 0;
        // Without references no groups are needed.
        if let Some(literal) = replacement.no_expansion() {
            for found in self.try_find_iter(haystack).take(limit) {
                let found = match found {
                    Ok(found) => found,
                    Err(error) => {
                        stopped = Some(error);
                        break;
                    }
                };
                let to = out.get_or_insert_with(Default::default);
                H::append(to, haystack.part(from, found.start().max(from)));
                H::append(to, &literal);
                from = found.end();
            }
            return (rest_of(haystack, from, out), stopped);
        }
        for captures in self.try_captures_iter(haystack).take(limit) {
            let captures = match captures {
                Ok(captures) => captures,
                Err(error) => {
                    stopped = Some(error);
                    break;
                }
            };
            let whole = captures.get_match();
            let to = out.get_or_insert_with(Default::default);
            H::append(to, haystack.part(from, whole.start().max(from)));
            replacement.replace_append(&captures, to);
            from = whole.end();
        }
        (rest_of(haystack, from, out), stopped)
    }

    /// Names of the groups by number; group 0 has none.
    pub fn capture_names(&self) -> CaptureNames<'_> {
        CaptureNames(self.core.names.iter())
    }

    /// Number of groups, the whole match included.
    pub fn captures_len(&self) -> usize {
        self.core.names.len()
    }

    /// Number of groups that take part in a match, the whole one included, if it is the same for every match.
    pub fn static_captures_len(&self) -> Option<usize> {
        self.core.static_groups
    }

    /// Bytes that the compiled pattern takes, roughly.
    pub fn memory(&self) -> usize {
        self.core.memory()
    }
}

/// Names of groups. See [`Regex::capture_names`].
#[derive(Debug, Clone)]
pub struct CaptureNames<'r>(std::slice::Iter<'r, Option<String>>);

impl<'r> Iterator for CaptureNames<'r> {
    type Item = Option<&'r str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|name| name.as_deref())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for CaptureNames<'_> {}

impl std::iter::FusedIterator for CaptureNames<'_> {}

/// The replaced text with what follows the last match, or the haystack where there was none.
fn rest_of<H: Haystack + ?Sized>(haystack: &H, from: usize, replaced: Option<H::Owned>) -> Cow<'_, H> {
    match replaced {
        None => Cow::Borrowed(haystack),
        Some(mut to) => {
            H::append(&mut to, haystack.part(from, haystack.raw().len()));
            Cow::Owned(to)
        }
    }
}

/// A start must be a position of the haystack.
#[track_caller]
fn check<H: Haystack + ?Sized>(haystack: &H, start: usize) {
    let len = haystack.raw().len();
    assert!(start <= len, "the search cannot start at byte {start} of a haystack of {len} bytes");
    if !H::BYTES {
        let inside = haystack.raw().get(start).is_some_and(|b| b & 0xC0 == 0x80);
        assert!(!inside, "the search cannot start at byte {start}, which is inside a character");
    }
}

impl<H: Haystack + ?Sized> Clone for Regex<H> {
    fn clone(&self) -> Self {
        Regex { core: self.core.clone(), haystack: PhantomData }
    }
}

impl<H: Haystack + ?Sized> fmt::Debug for Regex<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.as_str()).finish()
    }
}

impl<H: Haystack + ?Sized> fmt::Display for Regex<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<H: Haystack + ?Sized> FromStr for Regex<H> {
    type Err = Error;

    fn from_str(pattern: &str) -> Result<Self, Error> {
        Self::new(pattern)
    }
}

impl<H: Haystack + ?Sized> TryFrom<&str> for Regex<H> {
    type Error = Error;

    fn try_from(pattern: &str) -> Result<Self, Error> {
        Self::new(pattern)
    }
}

impl<H: Haystack + ?Sized> TryFrom<String> for Regex<H> {
    type Error = Error;

    fn try_from(pattern: String) -> Result<Self, Error> {
        Self::new(&pattern)
    }
}

impl<H: Haystack + ?Sized> From<Regex<H>> for String {
    fn from(regex: Regex<H>) -> String {
        regex.as_str().to_owned()
    }
}
