//! The meaning of a pattern: flags, Unicode, case and class operations are resolved, only matching is left.

use crate::symset::{MAX_CHAR, SymSet};

/// What a class is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Unicode scalar values.
    Char,
    /// Single bytes, which only [`crate::bytes`] patterns with `(?-u)` contain.
    Byte,
}

/// One neighbour of a position, as an assertion sees it: the symbols it may be, and whether it may be an invalid
/// byte or the edge of the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Side {
    /// Permitted symbols.
    pub symbols: SymSet,
    /// Whether a byte that is no part of valid UTF-8 is permitted.
    pub invalid: bool,
    /// Whether the beginning or the end of the text is permitted.
    pub edge: bool,
}

impl Side {
    /// Only members of `symbols`.
    pub fn only(symbols: SymSet) -> Self {
        Side { symbols, invalid: false, edge: false }
    }

    /// Only the edge of the text.
    pub fn edge() -> Self {
        Side { symbols: SymSet::empty(), invalid: false, edge: true }
    }

    /// Whatever there is.
    pub fn any() -> Self {
        Side::only(SymSet::empty()).complement()
    }

    /// Everything that this side does not permit.
    pub fn complement(&self) -> Self {
        Side { symbols: self.symbols.negate(MAX_CHAR), invalid: !self.invalid, edge: !self.edge }
    }

    /// What either side permits.
    pub fn union(&self, other: &Self) -> Self {
        Side {
            symbols: self.symbols.union(&other.symbols),
            invalid: self.invalid || other.invalid,
            edge: self.edge || other.edge,
        }
    }

    /// What both sides permit.
    pub fn intersect(&self, other: &Self) -> Self {
        Side {
            symbols: self.symbols.intersect(&other.symbols),
            invalid: self.invalid && other.invalid,
            edge: self.edge && other.edge,
        }
    }

    /// True when everything is permitted.
    pub fn is_any(&self) -> bool {
        *self == Side::any()
    }
}

/// A zero-width test of the two neighbours of a position: it holds when one of the pairs (before, after) does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assertion(pub Vec<(Side, Side)>);

impl Hir {
    /// How many groups take part in every match, if it is always the same number.
    pub fn static_groups(&self) -> Option<usize> {
        match self {
            Hir::Concat(items) => items.iter().map(Hir::static_groups).sum(),
            Hir::Alternate(items) => {
                let mut counts = items.iter().map(Hir::static_groups);
                let first = counts.next()??;
                counts.all(|count| count == Some(first)).then_some(first)
            }
            Hir::Repeat { item, min: 0, max, .. } => {
                if *max == Some(0) || item.static_groups() == Some(0) {
                    Some(0)
                } else {
                    None
                }
            }
            Hir::Look { negative: true, .. } => Some(0),
            Hir::Repeat { item, .. } | Hir::Atomic(item) | Hir::Look { item, .. } => item.static_groups(),
            Hir::Capture { item, .. } => item.static_groups().map(|count| count + 1),
            _ => Some(0),
        }
    }
}

impl Assertion {
    /// A test of what comes next.
    pub fn ahead(side: Side) -> Self {
        Assertion(vec![(Side::any(), side)])
    }

    /// A test of what came before.
    pub fn behind(side: Side) -> Self {
        Assertion(vec![(side, Side::any())])
    }

    /// What may come next where the assertion holds.
    pub fn next_side(&self) -> Side {
        self.0.iter().fold(Side::only(SymSet::empty()), |all, (_, next)| all.union(next))
    }
}

/// One node. Groups without capture and flags are gone; possessive quantifiers are atomic greedy ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Hir {
    /// Matches the empty string.
    Empty,
    /// Matches nothing at all.
    Fail,
    /// One symbol out of a set.
    Class(Unit, SymSet),
    /// A test of the neighbouring symbols.
    Assert(Assertion),
    /// One after the other.
    Concat(Vec<Hir>),
    /// The first alternative that leads to a match.
    Alternate(Vec<Hir>),
    /// `min` to `max` times. An iteration beyond `min` that matches the empty string ends the loop.
    Repeat { item: Box<Hir>, min: u32, max: Option<u32>, greedy: bool },
    /// A capture group.
    Capture { index: u32, item: Box<Hir> },
    /// The first match of the item, not reconsidered.
    Atomic(Box<Hir>),
    /// A test whether the item matches from here, or up to here.
    Look { ahead: bool, negative: bool, item: Box<Hir> },
    /// The text that a group matched last; fails while the group is unset.
    Backref { index: u32, fold: Fold },
    /// The reported match begins here.
    Keep,
}

/// How a backreference compares letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// Exactly.
    None,
    /// The letters a to z without regard to case.
    Ascii,
    /// By simple case folding.
    Simple,
}

impl Hir {
    /// A character.
    pub fn char(c: char) -> Hir {
        Hir::Class(Unit::Char, SymSet::single(u32::from(c)))
    }

    /// One after the other, flattened.
    pub fn concat(items: Vec<Hir>) -> Hir {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Hir::Empty => {}
                Hir::Concat(inner) => out.extend(inner),
                other => out.push(other),
            }
        }
        match out.len() {
            0 => Hir::Empty,
            1 => out.remove(0),
            _ => Hir::Concat(out),
        }
    }

    /// Alternatives, flattened; neighbouring classes become one, which no match can tell apart.
    pub fn alternate(items: Vec<Hir>) -> Hir {
        let mut out: Vec<Hir> = Vec::with_capacity(items.len());
        for item in items {
            let inner = match item {
                Hir::Fail => continue,
                Hir::Alternate(inner) => inner,
                other => vec![other],
            };
            for item in inner {
                match (out.last_mut(), item) {
                    (Some(Hir::Class(u, a)), Hir::Class(v, b)) if *u == v => *a = a.union(&b),
                    (_, item) => out.push(item),
                }
            }
        }
        match out.len() {
            0 => Hir::Fail,
            1 => out.remove(0),
            _ => Hir::Alternate(out),
        }
    }

    /// A quantified item, with the trivial cases reduced.
    pub fn repeat(item: Hir, min: u32, max: Option<u32>, greedy: bool) -> Hir {
        match (&item, min, max) {
            (Hir::Empty, ..) | (_, 0, Some(0)) => Hir::Empty,
            (_, 1, Some(1)) => item,
            (Hir::Fail, 0, _) => Hir::Empty,
            (Hir::Fail, ..) => Hir::Fail,
            _ => Hir::Repeat { item: Box::new(item), min, max, greedy },
        }
    }

    /// Calls `visit` on this node and everything below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Hir)) {
        visit(self);
        match self {
            Hir::Concat(items) | Hir::Alternate(items) => items.iter().for_each(|h| h.walk(visit)),
            Hir::Repeat { item, .. } | Hir::Capture { item, .. } | Hir::Look { item, .. } => item.walk(visit),
            Hir::Atomic(item) => item.walk(visit),
            _ => {}
        }
    }

    /// Whether any node satisfies `test`.
    pub fn any(&self, mut test: impl FnMut(&Hir) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |h| found |= test(h));
        found
    }

    /// Whether the item can match without consuming anything (assertions taken to hold).
    pub fn is_nullable(&self) -> bool {
        match self {
            Hir::Fail | Hir::Class(..) => false,
            Hir::Concat(items) => items.iter().all(Hir::is_nullable),
            Hir::Alternate(items) => items.iter().any(Hir::is_nullable),
            Hir::Repeat { item, min, .. } => *min == 0 || item.is_nullable(),
            Hir::Capture { item, .. } | Hir::Atomic(item) => item.is_nullable(),
            _ => true,
        }
    }

    /// The least and the greatest number of symbols that a match consumes; `None` where there is no bound.
    pub fn widths(&self) -> (usize, Option<usize>) {
        match self {
            Hir::Class(..) => (1, Some(1)),
            Hir::Concat(items) => items.iter().map(Hir::widths).fold((0, Some(0)), |(a, b), (c, d)| {
                (a.saturating_add(c), b.zip(d).and_then(|(b, d)| b.checked_add(d)))
            }),
            Hir::Alternate(items) => items
                .iter()
                .map(Hir::widths)
                .reduce(|(a, b), (c, d)| (a.min(c), b.zip(d).map(|(b, d)| b.max(d))))
                .unwrap_or((0, Some(0))),
            Hir::Repeat { item, min, max, .. } => {
                let (low, high) = item.widths();
                let high = match (high, max) {
                    (Some(0), _) => Some(0),
                    (Some(high), Some(max)) => high.checked_mul(*max as usize),
                    _ => None,
                };
                (low.saturating_mul(*min as usize), high)
            }
            Hir::Capture { item, .. } | Hir::Atomic(item) => item.widths(),
            Hir::Backref { .. } => (0, None),
            _ => (0, Some(0)),
        }
    }
}
