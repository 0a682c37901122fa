//! Matches and their groups.

use std::fmt;
use std::ops::{Index, Range};
use std::sync::Arc;

use super::haystack::Haystack;
use crate::core::Core;
use crate::engine::backtrack::UNSET;

/// One match in a haystack.
pub struct Match<'h, H: Haystack + ?Sized = str> {
    haystack: &'h H,
    start: usize,
    end: usize,
}

impl<'h, H: Haystack + ?Sized> Match<'h, H> {
    #[inline]
    pub(crate) fn new(haystack: &'h H, start: usize, end: usize) -> Self {
        Match { haystack, start, end }
    }

    /// Byte offset of the beginning.
    #[inline]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Byte offset behind the end.
    #[inline]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Both offsets.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the match is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl<'h> Match<'h, str> {
    /// The matched text.
    #[inline]
    pub fn as_str(&self) -> &'h str {
        &self.haystack[self.start..self.end]
    }
}

impl<'h> Match<'h, [u8]> {
    /// The matched bytes.
    #[inline]
    pub fn as_bytes(&self) -> &'h [u8] {
        &self.haystack[self.start..self.end]
    }
}

impl<H: Haystack + ?Sized> Clone for Match<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Haystack + ?Sized> Copy for Match<'_, H> {}

impl<H: Haystack + ?Sized> PartialEq for Match<'_, H> {
    fn eq(&self, other: &Self) -> bool {
        self.range() == other.range() && self.haystack.raw() == other.haystack.raw()
    }
}

impl<H: Haystack + ?Sized> Eq for Match<'_, H> {}

impl<H: Haystack + ?Sized> fmt::Debug for Match<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.haystack.raw()[self.start..self.end]);
        f.debug_struct("Match").field("start", &self.start).field("end", &self.end).field("text", &text).finish()
    }
}

impl<'h> From<Match<'h, str>> for &'h str {
    fn from(m: Match<'h, str>) -> &'h str {
        m.as_str()
    }
}

impl<'h> From<Match<'h, [u8]>> for &'h [u8] {
    fn from(m: Match<'h, [u8]>) -> &'h [u8] {
        m.as_bytes()
    }
}

impl<H: Haystack + ?Sized> From<Match<'_, H>> for Range<usize> {
    fn from(m: Match<'_, H>) -> Range<usize> {
        m.range()
    }
}

/// The groups of one match. Group 0 is the match itself.
///
/// Indexing by number or name panics when the group does not exist or took no part in the match; [`Captures::get`] and
/// [`Captures::name`] return `None`.
pub struct Captures<'h, H: Haystack + ?Sized = str> {
    haystack: &'h H,
    core: Arc<Core>,
    slots: Vec<usize>,
}

impl<'h, H: Haystack + ?Sized> Captures<'h, H> {
    pub(crate) fn new(haystack: &'h H, core: Arc<Core>, slots: Vec<usize>) -> Self {
        Captures { haystack, core, slots }
    }

    /// Group number `index`, if it took part in the match.
    pub fn get(&self, index: usize) -> Option<Match<'h, H>> {
        let (&start, &end) = (self.slots.get(2 * index)?, self.slots.get(2 * index + 1)?);
        (start != UNSET && end != UNSET).then(|| Match::new(self.haystack, start, end))
    }

    /// The whole match.
    pub fn get_match(&self) -> Match<'h, H> {
        Match::new(self.haystack, self.slots[0], self.slots[1])
    }

    /// The group of that name, if it exists and took part.
    pub fn name(&self, name: &str) -> Option<Match<'h, H>> {
        self.get(self.core.names.iter().position(|n| n.as_deref() == Some(name))?)
    }

    /// Number of groups, the whole match and those that took no part included.
    #[allow(clippy::len_without_is_empty, reason = "there is always the whole match")]
    pub fn len(&self) -> usize {
        self.slots.len() / 2
    }

    /// All groups by number.
    pub fn iter(&self) -> SubCaptureMatches<'_, 'h, H> {
        SubCaptureMatches { captures: self, next: 0 }
    }

    /// Appends `template` with its references replaced: `$1`, `$name`, `${1}`, `${name}`; `$$` is a dollar sign.
    /// The name of an unbraced reference is as long as possible (`[0-9A-Za-z_]+`). Groups that do not exist or took no
    /// part are empty.
    pub fn expand(&self, template: &H, to: &mut H::Owned) {
        let raw = template.raw();
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'$', &raw[at..]) {
            H::append(to, template.part(at, at + found));
            at += found;
            match reference(&raw[at..]) {
                Some((Reference::Dollar, len)) => {
                    H::append(to, template.part(at, at + 1));
                    at += len;
                }
                Some((Reference::Group(range), len)) => {
                    let name = std::str::from_utf8(&raw[at + range.start..at + range.end]).unwrap_or("");
                    let group = match name.parse() {
                        Ok(number) => self.get(number),
                        Err(_) => self.name(name),
                    };
                    if let Some(group) = group {
                        H::append(to, self.haystack.part(group.start, group.end));
                    }
                    at += len;
                }
                None => {
                    H::append(to, template.part(at, at + 1));
                    at += 1;
                }
            }
        }
        H::append(to, template.part(at, raw.len()));
    }
}

/// Positions of the groups of one match, to be used for one search after the other without allocating. See
/// [`crate::generic::Regex::captures_read`].
#[derive(Debug, Clone)]
pub struct CaptureLocations {
    pub(crate) slots: Vec<usize>,
    pub(crate) groups: usize,
}

impl CaptureLocations {
    /// Byte offsets of group number `index`, if it took part in the last match.
    pub fn get(&self, index: usize) -> Option<(usize, usize)> {
        let (&start, &end) = (self.slots.get(2 * index)?, self.slots.get(2 * index + 1)?);
        (start != UNSET && end != UNSET).then_some((start, end))
    }

    /// Number of groups, the whole match and those that took no part included.
    #[allow(clippy::len_without_is_empty, reason = "there is always the whole match")]
    pub fn len(&self) -> usize {
        self.groups
    }
}

/// What a `$` in a template begins.
enum Reference {
    Dollar,
    Group(Range<usize>),
}

/// The reference at the beginning of `text`, which is a `$`, and its length.
fn reference(text: &[u8]) -> Option<(Reference, usize)> {
    match text.get(1)? {
        b'$' => Some((Reference::Dollar, 2)),
        b'{' => {
            let end = memchr::memchr(b'}', text)?;
            std::str::from_utf8(&text[2..end]).ok()?;
            Some((Reference::Group(2..end), end + 1))
        }
        _ => {
            let len = text[1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            (len > 0).then_some((Reference::Group(1..1 + len), 1 + len))
        }
    }
}

impl<'h, H: Haystack + ?Sized> Captures<'h, H> {
    /// The whole match and all `N` groups behind it.
    ///
    /// # Panics
    /// When the pattern has another number of groups, or one of them took no part.
    #[track_caller]
    pub fn extract<const N: usize>(&self) -> (&'h H, [&'h H; N]) {
        let groups = self.len() - 1;
        assert!(groups == N, "{N} groups are asked for, the pattern has {groups}");
        let part = |group: usize| match self.get(group) {
            Some(found) => self.haystack.part(found.start, found.end),
            None => panic!("group {group} took no part in this match"),
        };
        (part(0), std::array::from_fn(|index| part(index + 1)))
    }
}

impl<H: Haystack + ?Sized> fmt::Debug for Captures<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Index<usize> for Captures<'_, str> {
    type Output = str;

    #[track_caller]
    fn index(&self, index: usize) -> &str {
        self.get(index).map_or_else(|| panic!("no group {index} in this match"), |m| m.as_str())
    }
}

impl Index<usize> for Captures<'_, [u8]> {
    type Output = [u8];

    #[track_caller]
    fn index(&self, index: usize) -> &[u8] {
        self.get(index).map_or_else(|| panic!("no group {index} in this match"), |m| m.as_bytes())
    }
}

impl Index<&str> for Captures<'_, str> {
    type Output = str;

    #[track_caller]
    fn index(&self, name: &str) -> &str {
        self.name(name).map_or_else(|| panic!("no group `{name}` in this match"), |m| m.as_str())
    }
}

impl Index<&str> for Captures<'_, [u8]> {
    type Output = [u8];

    #[track_caller]
    fn index(&self, name: &str) -> &[u8] {
        self.name(name).map_or_else(|| panic!("no group `{name}` in this match"), |m| m.as_bytes())
    }
}

/// The groups of one match by number. See [`Captures::iter`].
#[derive(Debug)]
pub struct SubCaptureMatches<'c, 'h, H: Haystack + ?Sized = str> {
    captures: &'c Captures<'h, H>,
    next: usize,
}

impl<'h, H: Haystack + ?Sized> Iterator for SubCaptureMatches<'_, 'h, H> {
    type Item = Option<Match<'h, H>>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        self.next = (index + 1).min(self.captures.len());
        (index < self.captures.len()).then(|| self.captures.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.captures.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl<H: Haystack + ?Sized> Clone for SubCaptureMatches<'_, '_, H> {
    fn clone(&self) -> Self {
        SubCaptureMatches { ..*self }
    }
}

impl<H: Haystack + ?Sized> ExactSizeIterator for SubCaptureMatches<'_, '_, H> {}

impl<H: Haystack + ?Sized> std::iter::FusedIterator for SubCaptureMatches<'_, '_, H> {}
