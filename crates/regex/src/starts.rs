//! Where a match can begin, told for 64 bytes at a time.
//!
//! The symbols with which matches begin are known, and often one of the neighbours that they need: `\b\w` begins behind what
//! is no word character. Both are sets, looked up by halves of bytes; characters of several bytes are tested by their first
//! three, in groups, which lets through a few others; and while nothing is found, by two of them. What remains is then tested
//! as the program demands.

use std::sync::OnceLock;

use crate::alphabet::{Kind, KindSet};
use crate::byteset::{ByteSet, has_simd};
use crate::hir::Side;
use crate::program::Program;

mod groups;
#[cfg(target_arch = "x86_64")]
mod kinds;
#[cfg(target_arch = "x86_64")]
mod x86;

use groups::{Multi, groups};
#[cfg(target_arch = "x86_64")]
use kinds::ByKinds;

/// Sets of more ASCII bytes than that let nothing be skipped.
const SELECTIVE: usize = 64;

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Finer tables are used once those in use have found so much in vain: two for each time, one less where they led on.
const IN_VAIN: u8 = 16;

/// The symbols with which a match can begin.
#[derive(Debug)]
pub struct Starts {
    members: KindSet,
    /// ASCII among them.
    first: ByteSet,
    /// All bytes of ASCII among them, if no other lies between the least and the greatest.
    range: Option<(u8, u8)>,
    /// Bytes beyond ASCII with which one can begin.
    leads: Box<[bool; 256]>,
    multi: Multi,
    /// What must come before: ASCII, and all of it.
    before: Option<(ByteSet, KindSet)>,
    /// An assertion that holds at the beginning of each match.
    lead: Option<u32>,
    /// By the kind before: a bit for each kind with which a match can begin behind it.
    behind: Option<Box<[u64]>>,
    /// Members behind what must come before are all that is asked for: tests of ASCII beside ASCII leave nothing open.
    exact: bool,
    /// For texts in which other tests leave much open; made when there is one.
    #[cfg(target_arch = "x86_64")]
    by_kinds: OnceLock<Option<ByKinds>>,
    /// How many ASCII bytes are members.
    count: usize,
    simd: bool,
}

/// The positions from `base` to `end` at which a match can begin, one bit for each. It belongs to one text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    base: usize,
    end: usize,
    bits: u64,
    /// A match can begin at each of them, as far as can be told by symbols.
    certain: bool,
    /// Which tables are used while nothing is found: the coarse ones in two ways, then the fine ones; and how often those before
    /// these have found something in vain.
    tables: Way,
    in_vain: u8,
}

/// The tables that are used to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Way {
    #[default]
    ByLowHalf,
    ByUpperBits,
    Fine,
}

impl Window {
    fn set(&mut self, base: usize, end: usize, bits: u64) {
        (self.base, self.end, self.bits, self.certain) = (base, end, bits, false);
    }

    /// Whether the tables have led on.
    fn note(&mut self, on: bool) {
        self.in_vain = if on { self.in_vain.saturating_sub(1) } else { self.in_vain + 2 };
        if self.in_vain >= IN_VAIN {
            self.in_vain = 0;
            self.tables = if self.tables == Way::ByLowHalf { Way::ByUpperBits } else { Way::Fine };
        }
    }
}

impl Starts {
    /// For a program whose matches begin with a symbol of `side`.
    pub fn new(program: &Program, side: &Side) -> Self {
        Self::of(program, program.first.clone(), program.lead(), side)
    }

    /// For symbols of `side`, those of the kinds of `members`, wherever they stand.
    pub fn of_symbols(program: &Program, members: KindSet, side: &Side) -> Self {
        Self::of(program, members, None, side)
    }

    fn of(program: &Program, members: KindSet, lead: Option<u32>, side: &Side) -> Self {
        let alphabet = &program.alphabet;
        let member = |byte: u8| members.contains(alphabet.single[usize::from(byte)]);
        let count = (0..128).filter(|&byte| member(byte)).count();
        let mut leads = Box::new([false; 256]);
        let multi = if alphabet.bytes || side.invalid || count > SELECTIVE {
            let lead = |byte: usize| alphabet.bytes || (0xC2..0xF5).contains(&byte);
            leads.iter_mut().enumerate().skip(128).for_each(|(byte, can)| *can = lead(byte));
            Multi::Bytes
        } else {
            groups(side, &mut leads)
        };
        let edge = alphabet.edge();
        let mut before = None;
        let mut exact = lead.is_none();
        if let Some(id) = lead {
            let begins = |kind| members.contains(kind);
            let mut pairs = program.asserts[id as usize]
                .iter()
                .filter(|(_, after)| (0..=edge).any(|k| begins(k) && after.contains(k)));
            if let (Some((allowed, _)), None) = (pairs.next(), pairs.next()) {
                let set = ByteSet::new(|byte| allowed.contains(alphabet.single[usize::from(byte)]), true);
                before = Some((set, allowed.clone()));
                exact = true;
            }
        }
        let begins = |before: Kind, after: Kind| {
            members.contains(after) && lead.is_none_or(|id| program.assertion(id, before, after))
        };
        let row = |before| (0..=edge).fold(0, |row, after| row | u64::from(begins(before, after)) << after);
        let behind = (edge < 64).then(|| (0..=edge).map(row).collect());
        let simd = has_simd() && count <= SELECTIVE;
        let first = ByteSet::new(member, false);
        let ends = (0..128).find(|&byte| member(byte)).zip((0..128).rfind(|&byte| member(byte)));
        let range = ends.filter(|&(least, greatest)| usize::from(greatest - least) + 1 == count);
        Starts {
            members,
            first,
            range,
            leads,
            multi,
            before,
            lead,
            behind,
            exact,
            #[cfg(target_arch = "x86_64")]
            by_kinds: OnceLock::new(),
            count,
            simd,
        }
    }

    /// Whether few enough symbols are members that it is worth looking for them.
    pub fn is_selective(&self) -> bool {
        self.count <= SELECTIVE
    }

    /// The first position from `at` on at which a match can begin.
    #[inline]
    pub fn next(&self, program: &Program, text: &[u8], at: usize, window: &mut Window) -> Option<usize> {
        let mut at = at;
        loop {
            if at >= window.base && at < window.end {
                let rest = window.bits >> (at - window.base);
                if rest != 0 {
                    at += rest.trailing_zeros() as usize;
                    if window.certain || self.is_certain(text, at) {
                        return Some(at);
                    }
                    match self.walk(program, text, at) {
                        Ok(found) => return Some(found),
                        Err(passed) => at = passed,
                    }
                    continue;
                }
                at = window.end;
            }
            if at >= text.len() {
                return None;
            }
            self.look(program, text, at, window);
            at = window.base;
        }
    }

    /// Makes a window that begins at `at`, or later if there is nothing before.
    fn look(&self, program: &Program, text: &[u8], at: usize, window: &mut Window) {
        #[cfg(target_arch = "x86_64")]
        if self.simd && text.len() - at >= BLOCK + 2 {
            // SAFETY: `simd` is only set where AVX2 was found.
            unsafe { x86::look(self, program, text, at, window) };
            return;
        }
        let end = text.len().min(at + BLOCK);
        let mut bits = 0;
        for (offset, &byte) in text[at..end].iter().enumerate() {
            let first = if byte < 0x80 { self.first.contains(byte) } else { self.leads[usize::from(byte)] };
            bits |= u64::from(first && self.may_follow(program, text, at + offset)) << offset;
        }
        window.set(at, end, bits);
    }

    /// Whether what stands before `at` is allowed there; a character beyond ASCII may be.
    #[inline]
    fn may_follow(&self, program: &Program, text: &[u8], at: usize) -> bool {
        match &self.before {
            None => true,
            Some((set, kinds)) => {
                at.checked_sub(1).map_or(kinds.contains(program.alphabet.edge()), |before| set.contains(text[before]))
            }
        }
    }

    /// Whether nothing is left to be tested at a position of a window.
    #[inline]
    fn is_certain(&self, text: &[u8], at: usize) -> bool {
        self.exact && text[at] < 0x80 && (self.before.is_none() || at == 0 || text[at - 1] < 0x80)
    }

    /// Tests the symbol at `at`, and those behind it as long as only what comes before them is wrong: the first position at
    /// which a match can begin, or where to go on.
    fn walk(&self, program: &Program, text: &[u8], at: usize) -> Result<usize, usize> {
        let alphabet = &program.alphabet;
        let mut before = if self.lead.is_some() { alphabet.kind_before(text, at) } else { 0 };
        let mut at = at;
        while let Some((kind, len)) = alphabet.next(text, at) {
            let first = self.members.contains(kind);
            let begins = match &self.behind {
                Some(rows) => rows[usize::from(before)] >> kind & 1 != 0,
                None => first && self.lead.is_none_or(|id| program.assertion(id, before, kind)),
            };
            if begins {
                return Ok(at);
            }
            let ascii = text[at] < 0x80;
            at += len;
            if ascii || !first {
                break;
            }
            before = kind;
        }
        Err(at)
    }

    /// In words.
    pub fn describe(&self) -> String {
        let leads = self.leads.iter().filter(|b| **b).count();
        let bytes = self.count + leads;
        if !self.is_selective() {
            return format!("Positions are skipped unless they hold one of {bytes} first bytes.");
        }
        let before = if self.before.is_some() { " and what comes before it" } else { "" };
        format!("Positions are skipped, {BLOCK} bytes at a time, by a first symbol out of {bytes} first bytes{before}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Config, Core};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn positions_are_those_that_the_program_allows(
            pattern in prop::sample::select(vec![
                r"\d+x", r"\b\d", r"\w+x", r"\b\w", r"\B\w", "[a-c]x", "(?m:^)[a-zé]", "é", "[😀-😃]|[中文]", r"\b[A-Z]\w", "(?<=é)a+b",
                r"\b(?:\w|-)+x", "\u{e9}|\u{663}", r"(?<!\w)[\w+]x", r"\p{Lu}x", r"(?-u:\b)\w{3}x", r"\P{L}x", r"(?=\w)\b.x",
            ]),
            pieces in prop::collection::vec(prop::sample::select(vec![
                "a", "word ", "é", " ", "\n", "12", "٣", "中文", "😀", "X", "-", "ſ", "Öl", "𝟗", "🯰", "               ", "nothing at all. ",
            ]), 0..80),
            ends in any::<bool>(),
        ) {
            let bytes = pattern.starts_with("(?-u");
            let core = Core::new(pattern, &Config::default(), bytes).unwrap();
            let program = &core.program;
            let side = crate::program::first_side(&crate::syntax::lower(
                crate::syntax::parse(pattern, Default::default(), 100).unwrap(), Default::default(), bytes,
            ).hir);
            let mut text = pieces.concat().into_bytes();
            if ends && bytes {
                text.extend(b"\xE4\xB8");
            }
            let fast = Starts::new(program, &side);
            let slow = Starts { simd: false, ..Starts::new(program, &side) };
            let mut expected = Vec::new();
            let mut at = 0;
            while let Some((_, len)) = program.alphabet.next(&text, at) {
                let after = program.alphabet.kind_after(&text, at);
                let lead = program.lead().is_none_or(|id| program.assertion(id, program.alphabet.kind_before(&text, at), after));
                if program.first.contains(after) && lead {
                    expected.push(at);
                }
                at += len;
            }
            for starts in [fast, slow] {
                let (mut found, mut at, mut window) = (Vec::new(), 0, Window::default());
                while let Some(next) = starts.next(program, &text, at, &mut window) {
                    found.push(next);
                    at = next + 1;
                }
                prop_assert_eq!(&found, &expected, "{:?} on {:?}", pattern, text);
            }
        }
    }
}
