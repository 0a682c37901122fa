//! Where models put the tokens they find.

use std::ops::Range;

/// So many ids are copied at once where there may be fewer.
pub(crate) const FEW: usize = 8;

/// A receiver of tokens. Models are compiled once for each kind, so that plain encoding pays nothing for offsets and
/// counting allocates nothing.
pub(crate) trait Sink {
    /// Whether ranges reach the caller. When false, models may skip working them out and pass empty ranges.
    const RANGES: bool;

    /// One token and the bytes of the working text that it stands for.
    fn token(&mut self, id: u32, start: usize, end: usize);

    /// Several tokens whose ranges nobody asked for.
    fn ids(&mut self, ids: &[u32]) {
        for &id in ids {
            self.token(id, 0, 0);
        }
    }

    /// The ids from one place up to another, whose ranges nobody asked for; behind the first are at least [`FEW`].
    #[inline(always)]
    fn some(&mut self, ids: &[u32], from: usize, to: usize) {
        self.ids(&ids[from..to]);
    }

    /// Where the next token will stand, for [`Sink::relocate`].
    fn mark(&self) -> usize {
        0
    }

    /// Translates the ranges of all tokens since `mark`.
    fn relocate(&mut self, _mark: usize, _to: impl Fn(Range<usize>) -> (u32, u32)) {}

    /// True when no further token is of interest.
    fn full(&self) -> bool {
        false
    }
}

/// Ids only.
impl Sink for Vec<u32> {
    const RANGES: bool = false;

    #[inline(always)]
    fn token(&mut self, id: u32, _: usize, _: usize) {
        self.push(id);
    }

    #[inline(always)]
    fn ids(&mut self, ids: &[u32]) {
        self.extend_from_slice(ids);
    }

    /// A few are copied without a call: as many as there can be, and what is too much goes.
    #[inline(always)]
    fn some(&mut self, ids: &[u32], from: usize, to: usize) {
        if to - from > FEW {
            return self.extend_from_slice(&ids[from..to]);
        }
        let len = self.len() + to - from;
        self.extend_from_slice(&ids[from..from + FEW]);
        self.truncate(len);
    }
}

/// Ids with ranges.
#[derive(Default)]
pub(crate) struct Ranged {
    pub ids: Vec<u32>,
    pub ranges: Vec<(u32, u32)>,
    /// Stop once this many tokens are there.
    pub limit: Option<usize>,
}

impl Sink for Ranged {
    const RANGES: bool = true;

    #[inline]
    fn token(&mut self, id: u32, start: usize, end: usize) {
        self.ids.push(id);
        self.ranges.push((start as u32, end as u32));
    }

    fn mark(&self) -> usize {
        self.ranges.len()
    }

    fn relocate(&mut self, mark: usize, to: impl Fn(Range<usize>) -> (u32, u32)) {
        for range in &mut self.ranges[mark..] {
            *range = to(range.0 as usize..range.1 as usize);
        }
    }

    fn full(&self) -> bool {
        self.limit.is_some_and(|limit| self.ids.len() >= limit)
    }
}

/// The number of tokens.
#[derive(Default)]
pub(crate) struct Counter(pub usize);

impl Sink for Counter {
    const RANGES: bool = false;

    #[inline(always)]
    fn token(&mut self, _: u32, _: usize, _: usize) {
        self.0 += 1;
    }

    #[inline(always)]
    fn ids(&mut self, ids: &[u32]) {
        self.0 += ids.len();
    }
}
