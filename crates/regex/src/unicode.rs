//! Unicode classes by name, and simple case folding.
//!
//! The tables are those of the `regex-syntax` crate (Unicode 16.0, the version that its 0.8 series carries); nothing
//! else of that crate takes part: the syntax, the meaning and the matching of patterns are defined here.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use crate::symset::{MAX_CHAR, SymSet};

/// The Unicode version of every class, property and case folding.
pub const UNICODE_VERSION: (u8, u8, u8) = (16, 0, 0);

/// The class that `\p{name}` denotes: a general category, a script, or a binary property.
/// `None` when the name is not known.
pub fn property(name: &str) -> Option<SymSet> {
    if let Some(rest) = name.strip_prefix('^') {
        return property(rest).map(|set| set.negate(MAX_CHAR));
    }
    let name = match name {
        "L&" | "l&" => "LC",
        other => other,
    };
    // A point only stands in the numbers of versions, as in `Age=6.0`.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '-' | '=' | ':' | '.');
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let hir = ParserBuilder::new().build().parse(&format!("\\p{{{name}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(from_class(class)),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            let mut chars = text.chars();
            Some(SymSet::single(u32::from(chars.next()?))).filter(|_| chars.next().is_none())
        }
        _ => None,
    }
}

/// The three Perl classes with Unicode meaning (UTS 18, annex C): `\d` is `Nd`, `\s` is `White_Space`, `\w` is
/// `Alphabetic`, `M`, `Nd`, `Pc` and `Join_Control`.
pub fn perl(kind: char) -> SymSet {
    let union = |names: &[&str]| names.iter().filter_map(|n| property(n)).fold(SymSet::empty(), |a, b| a.union(&b));
    match kind {
        'd' => union(&["Nd"]),
        's' => union(&["White_Space"]),
        _ => union(&["Alphabetic", "M", "Nd", "Pc", "Join_Control"]),
    }
}

/// The members of `set` together with everything that simple case folding makes equal to one of them.
pub fn fold_simple(set: &SymSet) -> SymSet {
    let char_at = |v: u32, down: bool| match char::from_u32(v) {
        Some(c) => c,
        // A surrogate is no character; the ends of a range move off it.
        None if down => '\u{D7FF}',
        None => '\u{E000}',
    };
    let ranges = set.ranges().iter().filter_map(|&(lo, hi)| {
        let (lo, hi) = (char_at(lo, false), char_at(hi.min(MAX_CHAR), true));
        (lo <= hi).then(|| ClassUnicodeRange::new(lo, hi))
    });
    let mut class = ClassUnicode::new(ranges);
    class.case_fold_simple();
    from_class(&class)
}

/// As [`fold_simple`], for the letters a to z only.
pub fn fold_ascii(set: &SymSet) -> SymSet {
    let mut all = set.ranges().to_vec();
    for &(lo, hi) in set.ranges() {
        for (from, to, up) in [(0x41, 0x5A, true), (0x61, 0x7A, false)] {
            let (lo, hi) = (lo.max(from), hi.min(to));
            if lo <= hi {
                all.push(if up { (lo + 32, hi + 32) } else { (lo - 32, hi - 32) });
            }
        }
    }
    SymSet::new(all)
}

fn from_class(class: &ClassUnicode) -> SymSet {
    SymSet::new(class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_by_category_script_and_binary_name() {
        let has = |name: &str, c: char| property(name).expect(name).contains(u32::from(c));
        assert!(has("L", 'é') && !has("L", '1'));
        assert!(has("Greek", 'α') && has("Script=Greek", 'α') && has("sc=Grek", 'α') && !has("Greek", 'a'));
        assert!(has("Lowercase_Letter", 'z') && has("gc=Ll", 'z') && !has("^Ll", 'z'));
        assert!(has("L&", 'a') && !has("L&", '中') && has("Han", '中'));
        assert!(has("Extended_Pictographic", '😀') && has("Zl", '\u{2028}'));
        assert!(has("Age=6.0", 'a') && !has("age:6.0", '\u{1F600}') && has("Age=6.1", '\u{1F600}'));
        assert!(!has("Age=5.2", '\u{1F601}') && has("Age=6.0", '\u{1F601}') && has("^Age=5.2", '\u{1F601}'));
        assert!(property("Age=6.5").is_none() && property("Age=99.0").is_none() && property(".").is_none());
        assert!(property("Klingon").is_none() && property("L}|(?i").is_none() && property("").is_none());
    }

    #[test]
    fn the_tables_are_of_the_stated_version() {
        // Added by Unicode 16.0: Garay letters; CJK extension J (U+323B0) only came with 17.0.
        assert!(property("L").unwrap().contains(0x10D4A));
        assert!(!property("Assigned").unwrap().contains(0x323B0));
    }

    #[test]
    fn simple_folding_reaches_the_long_s_and_the_kelvin_sign() {
        let folded = fold_simple(&SymSet::new(vec![(0x73, 0x73), (0x6B, 0x6B)]));
        for c in ['s', 'S', 'ſ', 'k', 'K', '\u{212A}'] {
            assert!(folded.contains(u32::from(c)), "{c}");
        }
        assert!(!fold_ascii(&SymSet::single(0x73)).contains(0x17F));
        assert!(fold_ascii(&SymSet::single(0x73)).contains(0x53));
    }
}
