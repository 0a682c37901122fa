//! Which query sees which key, and how the work is cut.

use std::ops::Range;

use super::engine::{Engine, WIDTH};

/// Keys that are computed together. Blocks of keys begin at multiples of this in their segment, so a row meets its keys in
/// the same blocks wherever the queries are cut.
pub const KEYS: usize = 128;
/// Lanes in one piece of work.
pub const CHUNK: usize = 8 * WIDTH;

/// One segment: some rows of queries and the rows of keys and values that they look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of keys and values.
    pub keys: Range<usize>,
}

/// Which keys of its segment a query sees.
#[derive(Clone, Copy)]
pub struct View {
    pub causal: bool,
    pub window: Option<usize>,
}

impl View {
    /// The position of query 0 among the keys: both end together.
    pub fn shift(span: &Span) -> isize {
        span.keys.len() as isize - span.queries.len() as isize
    }

    /// The keys that a query at `position` of `keys` sees.
    #[inline(always)]
    pub fn of(&self, position: isize, keys: usize) -> Range<usize> {
        let clamp = |key: isize| key.clamp(0, keys as isize) as usize;
        let window = self.window.map_or(isize::MAX / 2, |window| window.min(isize::MAX as usize / 2) as isize);
        let low = clamp(position.saturating_sub(window).saturating_add(1));
        let high = if self.causal { position + 1 } else { position.saturating_add(window) };
        low..clamp(high).max(low)
    }
}

/// Up to [`WIDTH`] queries of one key head, side by side. Lanes are ordered by query, then by head of the group, so that what
/// they see rises from lane to lane.
pub struct Lanes {
    /// Lanes in use.
    pub count: usize,
    /// Vectors in use.
    pub vectors: usize,
    /// The first key that each lane sees. Lanes not in use repeat the last.
    pub low: [i32; WIDTH],
    /// One past the last key that each lane sees.
    pub high: [i32; WIDTH],
    /// What the lanes of each vector see.
    pub reach: [Reach; MAX_VECTORS],
    /// Each lane's position among the keys.
    pub position: [i32; WIDTH],
}

/// No engine has fewer than four lanes in a vector.
pub const MAX_VECTORS: usize = WIDTH / 4;

/// What the lanes of a vector see: some of them a key in `any`, all of them a key in `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub any: Range<usize>,
    pub all: Range<usize>,
}

impl Lanes {
    /// The lanes from `first` on, of `total` lanes in a segment with `group` heads to a key head.
    #[inline(always)]
    pub fn new<E: Engine>(view: View, span: &Span, group: usize, first: usize, total: usize) -> Self {
        let count = (total - first).min(WIDTH);
        let vectors = count.div_ceil(E::LANES);
        let mut lanes =
            Self { count, vectors, low: [0; WIDTH], high: [0; WIDTH], reach: Default::default(), position: [0; WIDTH] };
        let (shift, keys) = (View::shift(span), span.keys.len());
        // Counted instead of divided: this runs for every block.
        let (mut position, mut head) = ((first / group) as isize + shift, first % group);
        let mut seen = view.of(position, keys);
        for lane in 0..WIDTH {
            lanes.low[lane] = seen.start as i32;
            lanes.high[lane] = seen.end as i32;
            lanes.position[lane] = position as i32;
            head += 1;
            if head == group && lane + 1 < count {
                (position, head) = (position + 1, 0);
                seen = view.of(position, keys);
            }
        }
        for vector in 0..vectors {
            let (begin, end) = (vector * E::LANES, (vector + 1) * E::LANES - 1);
            // Both limits rise from lane to lane.
            let all = lanes.low[end] as usize..(lanes.high[begin] as usize).max(lanes.low[end] as usize);
            lanes.reach[vector] = Reach { any: lanes.low[begin] as usize..lanes.high[end] as usize, all };
        }
        lanes
    }

    /// The keys that some lane sees.
    pub fn keys(&self) -> Range<usize> {
        self.reach[0].any.start..self.reach[self.vectors - 1].any.end.max(self.reach[0].any.start)
    }

    /// What the vectors see of `rows` keys from `first` on, counted from `first` and widened to whole words.
    #[inline(always)]
    pub fn within<E: Engine>(&self, first: usize, rows: usize) -> [Reach; MAX_VECTORS] {
        let mut cut: [Reach; MAX_VECTORS] = Default::default();
        for (cut, reach) in cut.iter_mut().zip(&self.reach).take(self.vectors) {
            let clamp = |key: usize| key.saturating_sub(first).min(rows);
            let any = clamp(reach.any.start)..clamp(reach.any.end);
            if any.is_empty() {
                *cut = Reach { any: any.start..any.start, all: any.start..any.start };
                continue;
            }
            cut.any = any.start / E::GROUP * E::GROUP..any.end.next_multiple_of(E::GROUP);
            cut.all = clamp(reach.all.start)..clamp(reach.all.end).max(clamp(reach.all.start));
        }
        cut
    }
}

/// Runs of keys that the same vectors see, in rising order: keys and vectors of each.
pub struct Runs<'a> {
    reach: &'a [Reach],
    key: usize,
    end: usize,
}

/// See [`Runs`].
#[inline(always)]
pub fn runs(reach: &[Reach]) -> Runs<'_> {
    let mut end = 0;
    for Reach { any, .. } in reach {
        end = if any.is_empty() { end } else { any.end.max(end) };
    }
    Runs { reach, key: 0, end }
}

impl Iterator for Runs<'_> {
    type Item = (Range<usize>, Range<usize>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        while self.key < self.end {
            // The vectors that see this key are neighbours; the run goes on until one of them ends or another begins.
            let (mut vectors, mut next) = (0..0, self.end);
            for (vector, Reach { any, .. }) in self.reach.iter().enumerate() {
                if any.is_empty() {
                    continue;
                }
                if any.start <= self.key && self.key < any.end {
                    vectors.start = if vectors.is_empty() { vector } else { vectors.start };
                    vectors.end = vector + 1;
                    next = next.min(any.end);
                } else if any.start > self.key {
                    next = next.min(any.start);
                }
            }
            let keys = self.key..next;
            self.key = next;
            if !vectors.is_empty() {
                return Some((keys, vectors));
            }
        }
        None
    }
}

/// The keys that some vector sees.
#[inline(always)]
pub fn seen(reach: &[Reach]) -> Range<usize> {
    let mut all = 0..0;
    for Reach { any, .. } in reach.iter().filter(|r| !r.any.is_empty()) {
        all.start = if all.is_empty() { any.start } else { all.start.min(any.start) };
        all.end = all.end.max(any.end);
    }
    all
}
