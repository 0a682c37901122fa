//! Sets of symbols, which are what classes and literals denote.
//!
//! A *symbol* is the unit that a compiled pattern consumes: a Unicode scalar value in the ordinary alphabet, a byte
//! (0 to 255) in the byte alphabet that some patterns of [`crate::bytes`] need.

use std::sync::Arc;

/// The largest scalar value.
pub const MAX_CHAR: u32 = 0x10FFFF;

/// A sorted list of disjoint, non-adjacent inclusive ranges. Cloning shares the list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SymSet(Arc<[(u32, u32)]>);

impl SymSet {
    /// The union of the given inclusive ranges, in any order.
    pub fn new(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (lo, hi) in ranges {
            match out.last_mut() {
                Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
                _ => out.push((lo, hi)),
            }
        }
        SymSet(out.into())
    }

    /// The empty set.
    pub fn empty() -> Self {
        SymSet(Arc::from([]))
    }

    /// The set of one symbol.
    pub fn single(symbol: u32) -> Self {
        SymSet(Arc::from([(symbol, symbol)]))
    }

    /// The ranges, sorted and disjoint.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// True for the empty set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only member, if there is exactly one.
    pub fn as_single(&self) -> Option<u32> {
        match &*self.0 {
            [(lo, hi)] if lo == hi => Some(*lo),
            _ => None,
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.iter().map(|&(lo, hi)| (hi - lo) as usize + 1).sum()
    }

    /// Membership, by binary search.
    pub fn contains(&self, symbol: u32) -> bool {
        let index = self.0.partition_point(|&(_, hi)| hi < symbol);
        self.0.get(index).is_some_and(|&(lo, _)| lo <= symbol)
    }

    /// Members of either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.0.to_vec();
        all.extend_from_slice(&other.0);
        SymSet::new(all)
    }

    /// Members of both sets.
    pub fn intersect(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        let (mut i, mut j) = (0, 0);
        let mut out = Vec::new();
        while i < a.len() && j < b.len() {
            let lo = a[i].0.max(b[j].0);
            let hi = a[i].1.min(b[j].1);
            if lo <= hi {
                out.push((lo, hi));
            }
            if a[i].1 < b[j].1 {
                i += 1;
            } else {
                j += 1;
            }
        }
        SymSet::new(out)
    }

    /// Symbols from 0 to `max` that are not members.
    pub fn negate(&self, max: u32) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut next = 0;
        for &(lo, hi) in self.0.iter() {
            if lo > next {
                out.push((next, lo - 1));
            }
            next = hi + 1;
        }
        if next <= max {
            out.push((next, max));
        }
        SymSet(out.into())
    }

    /// Members of `self` that are not members of `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.intersect(&other.negate(MAX_CHAR))
    }

    /// Members of exactly one of the two sets.
    pub fn symmetric_difference(&self, other: &Self) -> Self {
        self.difference(other).union(&other.difference(self))
    }

    /// True when no symbol is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.intersect(other).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = SymSet> {
        proptest::collection::vec((0u32..40, 0u32..6), 0..6)
            .prop_map(|v| SymSet::new(v.into_iter().map(|(lo, n)| (lo, lo + n)).collect()))
    }

    proptest! {
        #[test]
        fn operations_agree_with_membership(a in set(), b in set()) {
            let (u, i, d) = (a.union(&b), a.intersect(&b), a.difference(&b));
            let (s, n) = (a.symmetric_difference(&b), a.negate(MAX_CHAR));
            for x in 0..60 {
                let (p, q) = (a.contains(x), b.contains(x));
                prop_assert_eq!(p, a.ranges().iter().any(|&(lo, hi)| lo <= x && x <= hi));
                prop_assert_eq!(u.contains(x), p || q);
                prop_assert_eq!(i.contains(x), p && q);
                prop_assert_eq!(d.contains(x), p && !q);
                prop_assert_eq!(s.contains(x), p != q);
                prop_assert_eq!(n.contains(x), !p);
            }
            for r in [&u, &i, &d, &s, &n] {
                prop_assert!(r.ranges().windows(2).all(|w| w[0].1 + 1 < w[1].0));
            }
        }
    }
}
