//! What can be said of the beginnings of matches by a look at the pattern.

use super::relax::first_side;
use crate::hir::{Fold, Hir, Unit};
use crate::symset::SymSet;

/// More symbols of ASCII than that are everywhere.
const FEW: usize = 16;

/// A run and a symbol behind it without which no match begins, from a lookahead; the one with the fewest symbols of ASCII.
pub(super) fn need(hir: &Hir) -> Option<(&SymSet, &SymSet)> {
    let tests = match hir {
        Hir::Concat(items) => items,
        _ => return None,
    };
    let tests = tests.iter().take_while(|item| matches!(item, Hir::Assert(_) | Hir::Look { .. }));
    let needs = tests.filter_map(|test| match test {
        Hir::Look { ahead: true, negative: false, item } => run_and_symbol(item),
        _ => None,
    });
    let ascii =
        |symbols: &SymSet| symbols.ranges().iter().filter(|r| r.0 < 0x80).map(|r| r.1.min(0x7F) - r.0 + 1).sum::<u32>();
    needs.filter(|(_, symbols)| ascii(symbols) as usize <= FEW).min_by_key(|(_, symbols)| ascii(symbols))
}

fn run_and_symbol(hir: &Hir) -> Option<(&SymSet, &SymSet)> {
    let Hir::Concat(items) = hir else { return None };
    let run = match items.first()? {
        Hir::Repeat { item, max: None, .. } => item,
        Hir::Atomic(item) => match &**item {
            Hir::Repeat { item, max: None, .. } => item,
            _ => return None,
        },
        _ => return None,
    };
    let symbol = match items.get(1)? {
        Hir::Repeat { item, min: 1.., .. } => item,
        other => other,
    };
    match (&**run, symbol) {
        (Hir::Class(_, run), Hir::Class(_, symbols)) => Some((run, symbols)),
        _ => None,
    }
}

/// The pattern up to its first backreference, and the first symbol of that, without groups and what only restricts, as a test
/// with which all begins: wherever the pattern matches, this does. `None` where it would say nothing. `unit` is that of the pattern's symbols.
pub fn opening(hir: &Hir, unit: Unit) -> Option<Hir> {
    let mut items = Vec::new();
    let ended = cut(hir, hir, unit, &mut items);
    if let Some(Hir::Assert(_)) = items.first() {
        items.remove(0);
    }
    let opening = Hir::concat(items);
    (ended && !opening.is_nullable()).then_some(opening)
}

/// Adds to `out` what of `hir` comes before a backreference; whether there is one.
fn cut(hir: &Hir, whole: &Hir, unit: Unit, out: &mut Vec<Hir>) -> bool {
    match hir {
        Hir::Backref { index, fold } => {
            if *fold == Fold::None
                && let Some(symbols) = first_of_group(whole, *index)
            {
                out.push(Hir::Class(unit, symbols));
            }
            true
        }
        Hir::Concat(items) => items.iter().any(|item| cut(item, whole, unit, out)),
        Hir::Capture { item, .. } | Hir::Atomic(item) => cut(item, whole, unit, out),
        Hir::Alternate(_) | Hir::Repeat { .. } if hir.any(|h| matches!(h, Hir::Backref { .. })) => true,
        _ => {
            out.push(bare(hir));
            false
        }
    }
}

/// The symbols with which the text of a group begins, if it is never empty.
fn first_of_group(hir: &Hir, group: u32) -> Option<SymSet> {
    let mut found = None;
    hir.walk(&mut |h| {
        if let Hir::Capture { index, item } = h
            && *index == group
        {
            let side = first_side(item);
            found = (!item.is_nullable() && !side.invalid && !side.edge).then_some(side.symbols);
        }
    });
    found
}

/// Without groups, lookarounds and atomic groups.
fn bare(hir: &Hir) -> Hir {
    match hir {
        Hir::Concat(items) => Hir::concat(items.iter().map(bare).collect()),
        Hir::Alternate(items) => Hir::alternate(items.iter().map(bare).collect()),
        Hir::Repeat { item, min, max, greedy } => Hir::repeat(bare(item), *min, *max, *greedy),
        Hir::Capture { item, .. } | Hir::Atomic(item) => bare(item),
        Hir::Look { .. } | Hir::Keep => Hir::Empty,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{self, ast::Flags};
    use crate::unicode;

    fn hir(pattern: &str) -> Hir {
        syntax::lower(syntax::parse(pattern, Flags::default(), 100).unwrap(), Flags::default(), false).hir
    }

    #[test]
    fn lookaheads_need_a_symbol_behind_a_run() {
        let of = |pattern: &str| need(&hir(pattern)).map(|(run, symbols)| (run.clone(), symbols.clone()));
        let digits = Some((unicode::perl('w'), unicode::perl('d')));
        assert_eq!(of(r"(?=\w*\d)(?=\w*[a-z])\b\w{6,}\b"), digits);
        assert_eq!(of(r"\b(?=\w*[a-z])(?=\w++\d+)\w"), digits);
        assert_eq!(of(r"(?=\w*[a-z])\w"), None);
        assert_eq!(of(r"(?!\w*\d)\w"), None);
        assert_eq!(of(r"(?:(?=\w*\d))?\w"), None);
        assert_eq!(
            of(r"(?=\w*(?:\d|x))\w"),
            Some((unicode::perl('w'), unicode::perl('d').union(&SymSet::single(0x78))))
        );
    }

    #[test]
    fn openings_end_with_the_first_symbol_of_a_backreference() {
        let of = |pattern: &str| opening(&hir(pattern), Unit::Char);
        assert_eq!(of(r"\b(\w+) \1\b"), Some(hir(r"\w+ \w")));
        assert_eq!(of(r"(a|b)(?=xy)(?>c*)\1?"), Some(hir(r"[ab]c*")));
        assert_eq!(of(r"(a*)b\1"), Some(hir(r"a*b")));
        assert_eq!(of(r"(?i:(k)x\1)"), Some(hir(r"(?i:kx)")));
        assert_eq!(of(r"(a)?b(?:c\1)*"), Some(hir(r"a?b")));
        assert_eq!(of(r"(a?)\1"), None);
        assert_eq!(of(r"(a)b"), None);
    }
}
