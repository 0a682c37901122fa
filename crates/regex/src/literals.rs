//! Literal text that a match must begin with or contain.

use crate::hir::{Hir, Unit};
use crate::symset::SymSet;

/// At most so many literals are worth searching for at once.
const MAX_LITERALS: usize = 64;

/// Literals are cut off at this length.
const MAX_LEN: usize = 24;

/// Classes of up to this many members are spelled out.
const MAX_CLASS: usize = 6;

/// Texts of which every match begins with one, in order of preference.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefixes {
    /// The texts.
    pub literals: Vec<Vec<u8>>,
    /// Each text is a whole match.
    pub exact: bool,
}

impl Prefixes {
    fn nothing(exact: bool) -> Self {
        Prefixes { literals: vec![Vec::new()], exact }
    }
}

/// The texts with which matches of `hir` begin; the empty text where nothing is known.
pub fn prefixes(hir: &Hir) -> Prefixes {
    match hir {
        Hir::Empty => Prefixes::nothing(true),
        Hir::Class(unit, set) => class(*unit, set),
        Hir::Concat(items) => {
            let mut all = Prefixes::nothing(true);
            for item in items {
                let next = prefixes(item);
                if all.literals.len() * next.literals.len() > MAX_LITERALS {
                    all.exact = false;
                    break;
                }
                let join = |a: &Vec<u8>| next.literals.iter().map(|b| [&a[..], &b[..]].concat()).collect::<Vec<_>>();
                all.literals = all.literals.iter().flat_map(join).collect();
                all.exact = next.exact && all.literals.iter().all(|l| l.len() <= MAX_LEN);
                if !all.exact {
                    break;
                }
            }
            all
        }
        Hir::Alternate(items) => {
            let mut all = Prefixes { literals: Vec::new(), exact: true };
            for item in items {
                let next = prefixes(item);
                all.exact &= next.exact;
                all.literals.extend(next.literals);
                if all.literals.len() > 16 * MAX_LITERALS {
                    return Prefixes::nothing(false);
                }
            }
            all
        }
        Hir::Capture { item, .. } | Hir::Atomic(item) => prefixes(item),
        Hir::Repeat { item, min, max, .. } if *min > 0 => {
            let mut once = prefixes(item);
            once.exact &= *min == 1 && *max == Some(1);
            once
        }
        // What follows an assertion still begins here, but whether it matches is open.
        Hir::Assert(_) | Hir::Look { .. } | Hir::Keep => Prefixes::nothing(true),
        _ => Prefixes::nothing(false),
    }
}

fn class(unit: Unit, set: &SymSet) -> Prefixes {
    if set.len() > MAX_CLASS {
        return Prefixes::nothing(false);
    }
    let members = set.ranges().iter().flat_map(|&(lo, hi)| lo..=hi);
    Prefixes { literals: members.filter_map(|symbol| encode(unit, symbol)).collect(), exact: true }
}

fn encode(unit: Unit, symbol: u32) -> Option<Vec<u8>> {
    match unit {
        Unit::Byte => u8::try_from(symbol).ok().map(|byte| vec![byte]),
        Unit::Char => char::from_u32(symbol).map(|c| c.to_string().into_bytes()),
    }
}

/// Whether the literals of [`prefixes`] say all there is: no test and no group beside them.
pub fn is_plain(hir: &Hir) -> bool {
    !hir.any(|h| matches!(h, Hir::Assert(_) | Hir::Look { .. } | Hir::Keep | Hir::Capture { .. } | Hir::Atomic(_)))
}

/// The longest text that every match contains.
pub fn required(hir: &Hir) -> Vec<u8> {
    match hir {
        Hir::Class(unit, set) => set.as_single().and_then(|symbol| encode(*unit, symbol)).unwrap_or_default(),
        Hir::Concat(items) => {
            let (mut best, mut run) = (Vec::new(), Vec::new());
            let keep = |best: &mut Vec<u8>, run: Vec<u8>| {
                if run.len() > best.len() {
                    *best = run;
                }
            };
            for item in items {
                let single = match item {
                    Hir::Class(unit, set) => set.as_single().and_then(|symbol| encode(*unit, symbol)),
                    Hir::Empty | Hir::Assert(_) | Hir::Look { .. } | Hir::Keep => continue,
                    _ => None,
                };
                match single {
                    Some(text) => run.extend(text),
                    None => {
                        keep(&mut best, std::mem::take(&mut run));
                        keep(&mut best, required(item));
                    }
                }
            }
            keep(&mut best, run);
            best
        }
        Hir::Capture { item, .. } | Hir::Atomic(item) => required(item),
        Hir::Repeat { item, min, .. } if *min > 0 => required(item),
        _ => Vec::new(),
    }
}

/// A text that every match contains, and the part of the pattern that comes before it. No class of that part has the first
/// symbol of the text: so the part cannot reach across one place of the text to the next, and the first place with which there
/// is a match has the leftmost match.
pub fn inner(hir: &Hir) -> Option<(Hir, Vec<u8>)> {
    let items = match hir {
        Hir::Capture { item, .. } => return inner(item),
        Hir::Concat(items) => items,
        _ => return None,
    };
    let single = |item: &Hir| match item {
        Hir::Class(unit, set) => set.as_single().and_then(|symbol| Some((symbol, encode(*unit, symbol)?))),
        _ => None,
    };
    let mut best: Option<(usize, Vec<u8>)> = None;
    let mut at = 0;
    while at < items.len() {
        let run: Vec<(u32, Vec<u8>)> = items[at..].iter().map_while(single).collect();
        if let Some(&(first, _)) = run.first()
            && at > 0
            && !items[..at].iter().any(|h| h.any(|h| matches!(h, Hir::Class(_, set) if set.contains(first))))
        {
            let text: Vec<u8> = run.iter().flat_map(|(_, bytes)| bytes).copied().collect();
            if best.as_ref().is_none_or(|(_, best)| best.len() < text.len()) {
                best = Some((at, text));
            }
        }
        at += run.len().max(1);
    }
    best.map(|(at, text)| (Hir::Concat(items[..at].to_vec()), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{self, ast::Flags};

    fn hir(pattern: &str) -> Hir {
        syntax::lower(syntax::parse(pattern, Flags::default(), 100).unwrap(), Flags::default(), false).hir
    }

    fn begin(pattern: &str) -> (Vec<String>, bool) {
        let found = prefixes(&hir(pattern));
        (found.literals.into_iter().map(|l| String::from_utf8(l).unwrap()).collect(), found.exact)
    }

    #[test]
    fn what_matches_begin_with() {
        assert_eq!(begin("abc"), (vec!["abc".into()], true));
        assert_eq!(begin("a[bc]d+"), (vec!["abd".into(), "acd".into()], false));
        assert_eq!(begin("foo|b(ar)?"), (vec!["foo".into(), "b".into()], false));
        assert_eq!(begin(r"\bé\w"), (vec!["é".into()], false));
        assert_eq!(begin("x*y"), (vec![String::new()], false));
    }

    #[test]
    fn literals_inside_that_what_comes_before_cannot_cross() {
        let text = |p: &str| inner(&hir(p)).map(|(_, text)| String::from_utf8(text).unwrap());
        assert_eq!(text(r"[\w.]+@[\w.]+\.\w+").as_deref(), Some("@"));
        assert_eq!(text(r"([a-c]+)(?:x|y)*=>\d").as_deref(), Some("=>"));
        assert_eq!(text(r"[a-z]+ing"), None);
        assert_eq!(text(r"abc"), None);
        assert_eq!(text(r"\d+a|b"), None);
        assert_eq!(text(r"\w+-\w+ and").as_deref(), Some(" and"));
    }

    #[test]
    fn what_matches_contain() {
        let required = |p: &str| String::from_utf8(required(&hir(p))).unwrap();
        assert_eq!(required(r"\w+@\w+\.com"), ".com");
        assert_eq!(required("a(?=b)c*d"), "a");
        assert_eq!(required("(?:xyz){2,}|a"), "");
        assert_eq!(required("(?:xyz){2,}a?"), "xyz");
    }
}
