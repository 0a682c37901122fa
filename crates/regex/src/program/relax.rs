//! Removes atomic groups that change nothing.
//!
//! `\p{L}++` at the end of a pattern, `[^\r\n]?+\p{L}+` and `\s++$` mean the same without being possessive, because
//! what follows either always succeeds or cannot succeed anywhere else. Without atomic groups a pattern is regular and
//! can run as an automaton, so this is what brings tokenizer patterns onto the fast path.

use crate::hir::{Hir, Side};
use crate::symset::SymSet;

/// What is known of the rest of the pattern from some point on.
#[derive(Clone)]
struct Follow {
    /// The rest can only succeed if the next symbol is one of these.
    side: Side,
    /// The rest succeeds in any case.
    always: bool,
}

impl Follow {
    fn anything() -> Self {
        Follow { side: Side::any(), always: false }
    }

    fn end() -> Self {
        Follow { side: Side::any(), always: true }
    }
}

/// `hir` without the atomic groups that make no difference.
pub fn relax(hir: Hir) -> Hir {
    rewrite(hir, &Follow::end())
}

/// `hir` with runs of a class made atomic where what follows cannot begin with a symbol of the class: to give symbols back
/// would be in vain. For patterns that only backtracking can follow.
pub fn tighten(hir: Hir) -> Hir {
    tightened(hir, &Follow::end())
}

fn tightened(hir: Hir, after: &Follow) -> Hir {
    match hir {
        Hir::Concat(items) => {
            let mut after = after.clone();
            let mut out: Vec<Hir> = Vec::with_capacity(items.len());
            for item in items.into_iter().rev() {
                let item = tightened(item, &after);
                after = before(&item, &after);
                out.push(item);
            }
            out.reverse();
            Hir::concat(out)
        }
        Hir::Alternate(items) => Hir::alternate(items.into_iter().map(|item| tightened(item, after)).collect()),
        Hir::Capture { index, item } => Hir::Capture { index, item: Box::new(tightened(*item, after)) },
        Hir::Repeat { ref item, max: None, greedy: true, .. }
            if matches!(**item, Hir::Class(..)) && is_run(&hir, &after.side) =>
        {
            Hir::Atomic(Box::new(hir))
        }
        other => other,
    }
}

/// The kinds of symbol with which a match of `hir` may begin; [`Side::any`] when it may be empty.
pub fn first_side(hir: &Hir) -> Side {
    before(hir, &Follow::end()).side
}

/// What is known in front of `hir`, given what is known behind it.
fn before(hir: &Hir, after: &Follow) -> Follow {
    match hir {
        Hir::Empty | Hir::Keep => after.clone(),
        Hir::Fail => Follow { side: Side::any().complement(), always: false },
        Hir::Class(_, set) => Follow { side: Side::only(set.clone()), always: false },
        Hir::Assert(assertion) => Follow { side: assertion.next_side().intersect(&after.side), always: false },
        Hir::Look { .. } => Follow { side: after.side.clone(), always: false },
        Hir::Backref { .. } => Follow::anything(),
        Hir::Concat(items) => items.iter().rev().fold(after.clone(), |after, item| before(item, &after)),
        Hir::Alternate(items) => {
            let none = Follow { side: Side::only(SymSet::empty()), always: false };
            items.iter().fold(none, |all, item| {
                let one = before(item, after);
                Follow { side: all.side.union(&one.side), always: all.always || one.always }
            })
        }
        Hir::Repeat { item, min, .. } => {
            let inner = before(item, after);
            if *min > 0 {
                return inner;
            }
            Follow { side: inner.side.union(&after.side), always: inner.always || after.always }
        }
        Hir::Capture { item, .. } => before(item, after),
        Hir::Atomic(item) => Follow { side: before(item, after).side, always: false },
    }
}

fn rewrite(hir: Hir, after: &Follow) -> Hir {
    match hir {
        Hir::Concat(items) => {
            let mut after = after.clone();
            let mut out: Vec<Hir> = Vec::with_capacity(items.len());
            for item in items.into_iter().rev() {
                let item = rewrite(item, &after);
                after = before(&item, &after);
                out.push(item);
            }
            out.reverse();
            asserts_first(&mut out);
            Hir::concat(out)
        }
        Hir::Alternate(items) => Hir::alternate(items.into_iter().map(|item| rewrite(item, after)).collect()),
        Hir::Repeat { item, min, max, greedy } => {
            // Behind one iteration comes another one, or the rest; but an empty iteration may be refused.
            let again = before(&item, after);
            let always = after.always && min <= 1 && !item.is_nullable();
            let inside = Follow { side: again.side.union(&after.side), always };
            Hir::Repeat { item: Box::new(rewrite(*item, &inside)), min, max, greedy }
        }
        Hir::Capture { index, item } => Hir::Capture { index, item: Box::new(rewrite(*item, after)) },
        Hir::Look { ahead, negative, item } => {
            let inside = if ahead { Follow::end() } else { Follow::anything() };
            Hir::Look { ahead, negative, item: Box::new(rewrite(*item, &inside)) }
        }
        Hir::Atomic(item) => {
            // Inside, the group ends with its first match, as the whole pattern does.
            let item = rewrite(*item, &Follow::end());
            if after.always || is_run(&item, &after.side) { item } else { Hir::Atomic(Box::new(item)) }
        }
        other => other,
    }
}

/// Of tests at the same place, those of neighbours come first: they are cheap, and lookarounds wait for them.
fn asserts_first(items: &mut [Hir]) {
    for tests in items.chunk_by_mut(|a, b| is_test(a) && is_test(b)) {
        tests.sort_by_key(|test| matches!(test, Hir::Look { .. }));
    }
}

fn is_test(hir: &Hir) -> bool {
    matches!(hir, Hir::Assert(_) | Hir::Look { .. })
}

/// Whether giving back symbols of the run `item` is useless, since the rest cannot begin with one of them.
fn is_run(item: &Hir, after: &Side) -> bool {
    match item {
        Hir::Class(..) | Hir::Empty | Hir::Fail => true,
        Hir::Repeat { item, greedy: true, .. } => match &**item {
            Hir::Class(_, set) => set.is_disjoint(&after.symbols),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{self, ast::Flags};

    fn atomics_left(pattern: &str) -> usize {
        let parsed = syntax::parse(pattern, Flags::default(), 100).unwrap();
        let hir = relax(syntax::lower(parsed, Flags::default(), false).hir);
        let mut count = 0;
        hir.walk(&mut |h| count += usize::from(matches!(h, Hir::Atomic(_))));
        count
    }

    #[test]
    fn possessives_of_tokenizer_patterns_vanish() {
        let cl100k = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
        assert_eq!(atomics_left(cl100k), 0);
        assert_eq!(atomics_left(r"\R"), 0);
        assert_eq!(atomics_left(r"a++b"), 0);
    }

    #[test]
    fn runs_that_give_nothing_back_become_atomic() {
        let tight = |pattern: &str| {
            let parsed = syntax::parse(pattern, Flags::default(), 100).unwrap();
            let hir = tighten(relax(syntax::lower(parsed, Flags::default(), false).hir));
            let mut count = 0;
            hir.walk(&mut |h| count += usize::from(matches!(h, Hir::Atomic(_))));
            count
        };
        assert_eq!(tight(r"\b(\w+) \1\b"), 1);
        assert_eq!(tight(r"(\w+)\1"), 0);
        assert_eq!(tight(r"(a+)(?:b|c*d)\1"), 2);
        assert_eq!(tight(r"(a*?)b\1"), 0);
    }

    #[test]
    fn possessives_that_matter_stay() {
        assert_eq!(atomics_left(r"a++a"), 1);
        assert_eq!(atomics_left(r"(?>a|ab)c"), 1);
        assert_eq!(atomics_left(r"\R\n"), 1);
        assert_eq!(atomics_left(r"(?:(?>|a))*"), 1);
    }
}
