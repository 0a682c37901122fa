//! Characters spelled out as bytes, for patterns whose matches may split or miss characters.

use regex_syntax::utf8::{Utf8Sequence, Utf8Sequences};

use crate::hir::{Assertion, Hir, Side, Unit};
use crate::symset::{MAX_CHAR, SymSet};

/// `hir` over the alphabet of bytes: every class of characters becomes alternatives of byte sequences, and assertions
/// about neighbouring characters beyond ASCII become lookarounds.
pub fn to_bytes(hir: Hir) -> Hir {
    let all = |items: Vec<Hir>| items.into_iter().map(to_bytes).collect();
    match hir {
        Hir::Class(Unit::Char, set) => sequences(&set),
        Hir::Assert(assertion) => assert_bytes(assertion),
        Hir::Concat(items) => Hir::concat(all(items)),
        Hir::Alternate(items) => Hir::alternate(all(items)),
        Hir::Repeat { item, min, max, greedy } => Hir::repeat(to_bytes(*item), min, max, greedy),
        Hir::Capture { index, item } => Hir::Capture { index, item: Box::new(to_bytes(*item)) },
        Hir::Atomic(item) => Hir::Atomic(Box::new(to_bytes(*item))),
        Hir::Look { ahead, negative, item } => Hir::Look { ahead, negative, item: Box::new(to_bytes(*item)) },
        other => other,
    }
}

/// The UTF-8 encodings of the members of `set`.
fn sequences(set: &SymSet) -> Hir {
    let byte = |lo: u8, hi: u8| Hir::Class(Unit::Byte, SymSet::new(vec![(u32::from(lo), u32::from(hi))]));
    let mut alternatives = Vec::new();
    for &(lo, hi) in set.ranges() {
        for (lo, hi) in [(lo, hi.min(0xD7FF)), (lo.max(0xE000), hi.min(MAX_CHAR))] {
            let (Some(lo), Some(hi)) = (char::from_u32(lo), char::from_u32(hi)) else {
                continue;
            };
            if lo > hi {
                continue;
            }
            for sequence in Utf8Sequences::new(lo, hi) {
                let parts = match &sequence {
                    Utf8Sequence::One(range) => std::slice::from_ref(range),
                    Utf8Sequence::Two(ranges) => &ranges[..],
                    Utf8Sequence::Three(ranges) => &ranges[..],
                    Utf8Sequence::Four(ranges) => &ranges[..],
                };
                alternatives.push(Hir::concat(parts.iter().map(|r| byte(r.start, r.end)).collect()));
            }
        }
    }
    Hir::alternate(alternatives)
}

/// An assertion that only names ASCII and edges holds for bytes as it is; any other asks lookarounds.
fn assert_bytes(assertion: Assertion) -> Hir {
    let is_plain = |side: &Side| {
        // Everything beyond ASCII alike: then the bytes of those characters are alike too.
        let high = SymSet::new(vec![(0x80, MAX_CHAR)]).intersect(&side.symbols);
        if high.is_empty() { !side.invalid } else { side.invalid && high.len() == (MAX_CHAR - 0x7F) as usize }
    };
    if assertion.0.iter().all(|(before, after)| is_plain(before) && is_plain(after)) {
        let plain = |side: Side| Side { symbols: side.symbols.intersect(&SymSet::new(vec![(0, 0xFF)])), ..side };
        return Hir::Assert(Assertion(assertion.0.into_iter().map(|(b, a)| (plain(b), plain(a))).collect()));
    }
    let pairs =
        assertion.0.into_iter().map(|(before, after)| Hir::concat(vec![side(before, false), side(after, true)]));
    // Which pair holds makes no difference, so the alternatives are tried as a lookahead would.
    Hir::Look { ahead: true, negative: false, item: Box::new(Hir::alternate(pairs.collect())) }
}

fn side(side: Side, ahead: bool) -> Hir {
    if side.is_any() {
        return Hir::Empty;
    }
    let edge = || {
        let assertion = if ahead { Assertion::ahead(Side::edge()) } else { Assertion::behind(Side::edge()) };
        Hir::Assert(assertion)
    };
    // An invalid byte is what no character accounts for: it is easier to exclude the rest.
    let negative = side.invalid;
    let listed = if negative { side.complement() } else { side };
    let mut items = vec![sequences(&listed.symbols)];
    if listed.edge {
        items.push(edge());
    }
    Hir::Look { ahead, negative, item: Box::new(Hir::alternate(items)) }
}
