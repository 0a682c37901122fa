//! Cutting a haystack at the borders of its matches.

use super::haystack::Haystack;
use super::iter::TryMatches;
use super::regex::Regex;
use crate::engine::scan::Splitter;
use crate::error::SearchError;

/// Working memory of [`Regex::try_borders`], for any pattern and any haystack, one call at a time.
#[derive(Debug, Default)]
pub struct BorderMemory {
    pub(crate) splitter: Splitter,
    found: Vec<u32>,
}

/// Borders that are handed out at once where they are found one by one.
const AT_ONCE: usize = 256;

impl<H: Haystack + ?Sized> Regex<H> {
    /// Where a haystack is cut when each match and each text between two matches becomes a part of its own, as tokenizers
    /// do. The borders rise; the last of them is the end of the haystack, and its beginning is none. `found` gets them in
    /// blocks, a position and distances from it, until it returns false. The fastest way to all matches of a pattern that
    /// matches everywhere: working memory is the caller's, and a match costs a few instructions.
    ///
    /// ```
    /// use cupola_regex::{BorderMemory, Regex};
    ///
    /// let mut borders = Vec::new();
    /// Regex::new("[a-z]+")?.try_borders("ab, c", &mut BorderMemory::default(), |base, ends| {
    ///     borders.extend(ends.iter().map(|&end| base + end as usize));
    ///     true
    /// })?;
    /// assert_eq!(borders, [2, 4, 5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the search reached its limit.
    #[inline]
    pub fn try_borders(
        &self,
        haystack: &H,
        memory: &mut BorderMemory,
        mut found: impl FnMut(usize, &[u32]) -> bool,
    ) -> Result<(), SearchError> {
        let core = self.core();
        let text = haystack.raw();
        let mut at = 0;
        if core.begin_splitting(text, &mut memory.splitter) {
            while let Some((base, ends)) = core.next_borders(text, &mut memory.splitter) {
                if let Some(&last) = ends.last() {
                    at = base + last as usize;
                }
                if !found(base, ends) {
                    memory.splitter.stop();
                    return Ok(());
                }
            }
        }
        if at < text.len() { self.borders_one_by_one(haystack, at, memory, &mut found) } else { Ok(()) }
    }

    /// Without the machine for splitting, and what it leaves at the end.
    fn borders_one_by_one(
        &self,
        haystack: &H,
        from: usize,
        memory: &mut BorderMemory,
        found: &mut dyn FnMut(usize, &[u32]) -> bool,
    ) -> Result<(), SearchError> {
        let (core, len) = (self.core(), haystack.raw().len());
        let (mut base, mut last) = (from, from);
        memory.found.clear();
        let mut add = |border: usize, last: &mut usize, list: &mut Vec<u32>| {
            if border == *last || border == 0 {
                return true;
            }
            let far = border - base > u32::MAX as usize;
            if (far || list.len() == AT_ONCE) && !list.is_empty() {
                if !found(base, list) {
                    return false;
                }
                list.clear();
                base = *last;
            }
            *last = border;
            // A part of more than 4 GiB has a block of its own.
            match u32::try_from(border - base) {
                Ok(distance) => {
                    list.push(distance);
                    true
                }
                Err(_) => {
                    base = border;
                    found(border, &[0])
                }
            }
        };
        for hit in TryMatches::starting(haystack, core.search(haystack.raw()).without_splitting(), from) {
            let hit = hit?;
            if !add(hit.start(), &mut last, &mut memory.found) || !add(hit.end(), &mut last, &mut memory.found) {
                return Ok(());
            }
        }
        if add(len, &mut last, &mut memory.found) && !memory.found.is_empty() {
            found(base, &memory.found);
        }
        Ok(())
    }
}
