//! Iterators over the matches of a haystack.

use std::fmt;

use super::captures::{Captures, Match};
use super::haystack::Haystack;
use crate::core::Search;
use crate::error::SearchError;

/// Goes from match to match. An empty match directly behind the previous match is skipped.
#[derive(Debug)]
struct Cursor<'r, 'h> {
    search: Search<'r, 'h>,
    at: usize,
    /// End of the previous match.
    last: Option<usize>,
    done: bool,
}

impl<'r, 'h> Cursor<'r, 'h> {
    fn new(search: Search<'r, 'h>, at: usize) -> Self {
        Cursor { search, at, last: None, done: false }
    }

    /// The next match, by `find`, which takes a position and returns bounds.
    fn next(
        &mut self,
        mut find: impl FnMut(&mut Search<'r, 'h>, usize) -> Result<Option<(usize, usize)>, SearchError>,
    ) -> Option<Result<(usize, usize), SearchError>> {
        while !self.done {
            match find(&mut self.search, self.at) {
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
                Ok(None) => self.done = true,
                Ok(Some((start, end))) => {
                    let text = self.search.text;
                    if start >= end {
                        self.at = self.search.core.step(text, end);
                        self.done = end >= text.len();
                        if self.last == Some(end) {
                            continue;
                        }
                    } else {
                        self.at = end;
                    }
                    self.last = Some(end);
                    return Some(Ok((start, end)));
                }
            }
        }
        None
    }
}

/// All matches that do not overlap, from left to right, with limits reported as errors; after an error there is
/// nothing more.
pub struct TryMatches<'r, 'h, H: Haystack + ?Sized = str> {
    haystack: &'h H,
    cursor: Cursor<'r, 'h>,
}

impl<'r, 'h, H: Haystack + ?Sized> TryMatches<'r, 'h, H> {
    pub(crate) fn new(haystack: &'h H, search: Search<'r, 'h>) -> Self {
        Self::starting(haystack, search, 0)
    }

    pub(crate) fn starting(haystack: &'h H, search: Search<'r, 'h>, at: usize) -> Self {
        TryMatches { haystack, cursor: Cursor::new(search, at) }
    }
}

impl<'h, H: Haystack + ?Sized> Iterator for TryMatches<'_, 'h, H> {
    type Item = Result<Match<'h, H>, SearchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let cursor = &mut self.cursor;
        while let Some(end) = cursor.search.known_end() {
            let start = std::mem::replace(&mut cursor.at, end.at);
            if !end.gap {
                return Some(Ok(Match::new(self.haystack, start, end.at)));
            }
        }
        self.next_unknown()
    }
}

impl<'h, H: Haystack + ?Sized> TryMatches<'_, 'h, H> {
    fn next_unknown(&mut self) -> Option<Result<Match<'h, H>, SearchError>> {
        let cursor = &mut self.cursor;
        while let Some(end) = cursor.search.split_end(cursor.at) {
            let start = std::mem::replace(&mut cursor.at, end.at);
            if !end.gap {
                return Some(Ok(Match::new(self.haystack, start, end.at)));
            }
        }
        let found = cursor.next(|search, at| search.find(at))?;
        Some(found.map(|(start, end)| Match::new(self.haystack, start, end)))
    }
}

impl<H: Haystack + ?Sized> fmt::Debug for TryMatches<'_, '_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMatches").field("at", &self.cursor.at).finish_non_exhaustive()
    }
}

/// All matches that do not overlap, from left to right. A search that reaches its limit ends the iteration.
#[derive(Debug)]
pub struct Matches<'r, 'h, H: Haystack + ?Sized = str>(pub(crate) TryMatches<'r, 'h, H>);

impl<'h, H: Haystack + ?Sized> Iterator for Matches<'_, 'h, H> {
    type Item = Match<'h, H>;

    #[inline]
    fn next(&mut self) -> Option<Match<'h, H>> {
        self.0.next()?.ok()
    }
}

impl<H: Haystack + ?Sized> Matches<'_, '_, H> {
    /// What the search has cost so far.
    #[cfg(test)]
    pub(crate) fn work(&mut self) -> crate::core::Work {
        self.0.cursor.search.work()
    }
}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for TryMatches<'_, '_, H> {}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for Matches<'_, '_, H> {}

/// The groups of all matches that do not overlap, with limits reported as errors; after an error there is nothing more.
pub struct TryCaptureMatches<'r, 'h, H: Haystack + ?Sized = str> {
    haystack: &'h H,
    cursor: Cursor<'r, 'h>,
}

impl<'r, 'h, H: Haystack + ?Sized> TryCaptureMatches<'r, 'h, H> {
    pub(crate) fn new(haystack: &'h H, search: Search<'r, 'h>) -> Self {
        TryCaptureMatches { haystack, cursor: Cursor::new(search, 0) }
    }
}

impl<'h, H: Haystack + ?Sized> Iterator for TryCaptureMatches<'_, 'h, H> {
    type Item = Result<Captures<'h, H>, SearchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut slots = Vec::new();
        let found = self.cursor.next(|search, at| Ok(search.captures(at, &mut slots)?.then(|| (slots[0], slots[1]))));
        Some(found?.map(|_| Captures::new(self.haystack, self.cursor.search.core.clone(), slots)))
    }
}

/// The groups of all matches that do not overlap. A search that reaches its limit ends the iteration.
#[derive(Debug)]
pub struct CaptureMatches<'r, 'h, H: Haystack + ?Sized = str>(pub(crate) TryCaptureMatches<'r, 'h, H>);

impl<'h, H: Haystack + ?Sized> Iterator for CaptureMatches<'_, 'h, H> {
    type Item = Captures<'h, H>;

    fn next(&mut self) -> Option<Captures<'h, H>> {
        self.0.next()?.ok()
    }
}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for TryCaptureMatches<'_, '_, H> {}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for CaptureMatches<'_, '_, H> {}

impl<H: Haystack + ?Sized> CaptureMatches<'_, '_, H> {
    /// What the search has cost so far.
    #[cfg(test)]
    pub(crate) fn work(&mut self) -> crate::core::Work {
        self.0.cursor.search.work()
    }
}

impl<H: Haystack + ?Sized> fmt::Debug for TryCaptureMatches<'_, '_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryCaptureMatches").field("at", &self.cursor.at).finish_non_exhaustive()
    }
}

/// The parts of a haystack between matches, with limits reported as errors; after an error there is nothing more.
#[derive(Debug)]
pub struct TrySplit<'r, 'h, H: Haystack + ?Sized = str> {
    haystack: &'h H,
    matches: TryMatches<'r, 'h, H>,
    /// Where the next part begins; `None` after the last.
    from: Option<usize>,
}

impl<'r, 'h, H: Haystack + ?Sized> TrySplit<'r, 'h, H> {
    pub(crate) fn new(haystack: &'h H, matches: TryMatches<'r, 'h, H>) -> Self {
        TrySplit { haystack, matches, from: Some(0) }
    }

    /// Everything that is left.
    fn rest(&mut self) -> Option<&'h H> {
        let from = self.from.take()?;
        Some(self.haystack.part(from, self.haystack.raw().len()))
    }
}

impl<'h, H: Haystack + ?Sized> Iterator for TrySplit<'_, 'h, H> {
    type Item = Result<&'h H, SearchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.from?;
        match self.matches.next() {
            Some(Ok(m)) => {
                self.from = Some(m.end());
                Some(Ok(self.haystack.part(from, m.start())))
            }
            Some(Err(error)) => {
                self.from = None;
                Some(Err(error))
            }
            None => self.rest().map(Ok),
        }
    }
}

/// The parts of a haystack between matches. Where a search reaches its limit, the last part is everything that is left.
#[derive(Debug)]
pub struct Split<'r, 'h, H: Haystack + ?Sized = str>(pub(crate) TrySplit<'r, 'h, H>);

impl<'h, H: Haystack + ?Sized> Split<'_, 'h, H> {
    fn rest(&mut self) -> Option<&'h H> {
        self.0.rest()
    }
}

impl<'h, H: Haystack + ?Sized> Iterator for Split<'_, 'h, H> {
    type Item = &'h H;

    fn next(&mut self) -> Option<&'h H> {
        let from = self.0.from?;
        match self.0.next()? {
            Ok(part) => Some(part),
            Err(_) => Some(self.0.haystack.part(from, self.0.haystack.raw().len())),
        }
    }
}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for TrySplit<'_, '_, H> {}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for Split<'_, '_, H> {}

/// At most so many parts of a haystack, the last of them with everything that is left.
#[derive(Debug)]
pub struct SplitN<'r, 'h, H: Haystack + ?Sized = str> {
    split: Split<'r, 'h, H>,
    left: usize,
}

impl<'r, 'h, H: Haystack + ?Sized> SplitN<'r, 'h, H> {
    pub(crate) fn new(split: Split<'r, 'h, H>, limit: usize) -> Self {
        SplitN { split, left: limit }
    }
}

impl<'h, H: Haystack + ?Sized> Iterator for SplitN<'_, 'h, H> {
    type Item = &'h H;

    fn next(&mut self) -> Option<&'h H> {
        self.left = self.left.checked_sub(1)?;
        if self.left == 0 { self.split.rest() } else { self.split.next() }
    }
}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for SplitN<'_, '_, H> {}
