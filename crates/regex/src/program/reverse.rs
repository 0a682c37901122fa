//! A pattern read from right to left.

use crate::hir::{Assertion, Hir};

/// What matches the same texts from their ends: groups and preferences are lost. Only for patterns that are regular.
pub fn reverse(hir: &Hir) -> Hir {
    match hir {
        Hir::Concat(items) => Hir::Concat(items.iter().rev().map(reverse).collect()),
        Hir::Alternate(items) => Hir::Alternate(items.iter().map(reverse).collect()),
        // An empty turn can be left out wherever it stands, so that loops need no care.
        Hir::Repeat { item, min, max, greedy } => {
            Hir::Repeat { item: Box::new(reverse(item)), min: *min, max: *max, greedy: *greedy }
        }
        Hir::Capture { item, .. } => reverse(item),
        Hir::Assert(Assertion(pairs)) => {
            Hir::Assert(Assertion(pairs.iter().map(|(before, after)| (after.clone(), before.clone())).collect()))
        }
        Hir::Keep | Hir::Empty => Hir::Empty,
        Hir::Fail => Hir::Fail,
        Hir::Class(unit, set) => Hir::Class(*unit, set.clone()),
        Hir::Atomic(_) | Hir::Look { .. } | Hir::Backref { .. } => unreachable!("only regular patterns are reversed"),
    }
}
