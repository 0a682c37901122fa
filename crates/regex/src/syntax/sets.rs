//! Classes as written, resolved to sets of symbols.

use super::ast::{ClassNode, Flags, SetOp};
use crate::hir::Unit;
use crate::symset::{MAX_CHAR, SymSet};
use crate::unicode;

/// Inclusive byte ranges of a POSIX class, which is ASCII as in the `regex` crate.
fn posix(name: &str) -> SymSet {
    let ranges: &[(u32, u32)] = match name {
        "alnum" => &[(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)],
        "alpha" => &[(0x41, 0x5A), (0x61, 0x7A)],
        "ascii" => &[(0, 0x7F)],
        "blank" => &[(0x09, 0x09), (0x20, 0x20)],
        "cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        "digit" => &[(0x30, 0x39)],
        "graph" => &[(0x21, 0x7E)],
        "lower" => &[(0x61, 0x7A)],
        "print" => &[(0x20, 0x7E)],
        "punct" => &[(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],
        "space" => &[(0x09, 0x0D), (0x20, 0x20)],
        "upper" => &[(0x41, 0x5A)],
        "word" => &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
        _ => &[(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
    };
    SymSet::new(ranges.to_vec())
}

/// Horizontal white space, as PCRE2's `\h` has it.
fn horizontal() -> SymSet {
    SymSet::new(vec![
        (0x09, 0x09),
        (0x20, 0x20),
        (0xA0, 0xA0),
        (0x1680, 0x1680),
        (0x180E, 0x180E),
        (0x2000, 0x200A),
        (0x202F, 0x202F),
        (0x205F, 0x205F),
        (0x3000, 0x3000),
    ])
}

/// `\w`, `\d` or `\s`.
pub(super) fn perl(kind: char, unicode: bool) -> SymSet {
    match (kind, unicode) {
        ('h', true) => horizontal(),
        ('h', false) => posix("blank"),
        (kind, true) => unicode::perl(kind),
        ('d', false) => posix("digit"),
        ('s', false) => posix("space"),
        (_, false) => posix("word"),
    }
}

/// Adds the other cases of every letter, as the flags ask.
pub(super) fn fold(set: SymSet, flags: &Flags) -> SymSet {
    match (flags.case_insensitive, flags.unicode) {
        (false, _) => set,
        (true, true) => unicode::fold_simple(&set),
        (true, false) => unicode::fold_ascii(&set),
    }
}

/// Whether a class under `(?-u)` in a bytes pattern is one of bytes: it is unless it names characters beyond ASCII.
fn is_bytes(node: &ClassNode) -> bool {
    match node {
        ClassNode::Range { hi, byte, .. } => *byte || *hi < 0x80,
        ClassNode::Perl { .. } | ClassNode::Posix { .. } => true,
        ClassNode::Property { .. } => false,
        ClassNode::Bracketed { item, .. } => is_bytes(item),
        ClassNode::Union(items) => items.iter().all(is_bytes),
        ClassNode::Op { left, right, .. } => is_bytes(left) && is_bytes(right),
    }
}

/// The set that a class denotes. `bytes` says that the pattern is for [`crate::bytes`].
pub(super) fn resolve(node: &ClassNode, flags: &Flags, bytes: bool) -> (Unit, SymSet) {
    let unit = if bytes && !flags.unicode && is_bytes(node) { Unit::Byte } else { Unit::Char };
    let max = if unit == Unit::Byte { 0xFF } else { MAX_CHAR };
    (unit, set_of(node, flags, max))
}

fn set_of(node: &ClassNode, flags: &Flags, max: u32) -> SymSet {
    let negate_if = |negative: bool, set: SymSet| if negative { set.negate(max) } else { set };
    match node {
        ClassNode::Range { lo, hi, .. } => SymSet::new(vec![(*lo, *hi)]),
        ClassNode::Perl { kind, negative } => negate_if(*negative, perl(*kind, flags.unicode)),
        ClassNode::Property { name, negative } => {
            let set = unicode::property(name).unwrap_or_else(SymSet::empty);
            negate_if(*negative, fold(set, flags))
        }
        ClassNode::Posix { name, negative } => negate_if(*negative, fold(posix(name), flags)),
        ClassNode::Bracketed { negative, item } => negate_if(*negative, fold(set_of(item, flags, max), flags)),
        ClassNode::Union(items) => {
            let mut ranges = Vec::new();
            for item in items {
                ranges.extend_from_slice(set_of(item, flags, max).ranges());
            }
            SymSet::new(ranges)
        }
        ClassNode::Op { op, left, right } => {
            let left = fold(set_of(left, flags, max), flags);
            let right = fold(set_of(right, flags, max), flags);
            match op {
                SetOp::Intersection => left.intersect(&right),
                SetOp::Difference => left.difference(&right),
                SetOp::SymmetricDifference => left.symmetric_difference(&right),
            }
        }
    }
}
