//! Where a match can begin, told for 64 bytes at a time.
//!
//! The symbols with which matches begin are known, and often one of the neighbours that they need: `\b\w` begins behind what
//! is no word character. Both are sets, looked up by halves of bytes; characters of several bytes are tested by their first
//! three, in groups, which lets through a few others; and while nothing is found, by two of them. What remains is then tested
//! as the program demands.

use regex_syntax::utf8::{Utf8Sequence, Utf8Sequences};

use crate::alphabet::{Kind, KindSet};
use crate::byteset::{ByteSet, has_simd};
use crate::hir::Side;
use crate::program::Program;

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
    /// What must come before, as far as it is ASCII, and whether that may be the beginning of the text.
    before: Option<(ByteSet, bool)>,
    /// An assertion that holds at the beginning of each match.
    lead: Option<u32>,
    /// By the kind before: a bit for each kind with which a match can begin behind it.
    behind: Option<Box<[u64]>>,
    /// Tests of ASCII beside ASCII leave nothing open.
    exact: bool,
    /// How many ASCII bytes are members.
    count: usize,
    simd: bool,
}

/// Members beyond ASCII.
#[derive(Debug)]
enum Multi {
    None,
    /// Each byte may be one.
    Bytes,
    Groups(Box<Groups>),
}

/// Tables with a bit for each group of characters.
#[derive(Debug)]
struct Groups {
    /// For each of the first three bytes of a character a table by low halves and one by high halves.
    fine: [[u8; 16]; 6],
    /// For two bytes of a character, or ASCII and whatever follows: the first by low and by high halves, the second by low
    /// halves and, if that tells too little, by the four bits above the last two. They have groups of their own.
    coarse: [[u8; 16]; 4],
}

/// The positions from `base` to `end` at which a match can begin, one bit for each. It belongs to one text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    base: usize,
    end: usize,
    bits: u64,
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
        (self.base, self.end, self.bits) = (base, end, bits);
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
                before = Some((set, allowed.contains(edge)));
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
        Starts { members, first, range, leads, multi, before, lead, behind, exact, count, simd }
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
                    if self.is_certain(text, at) {
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
            self.look(text, at, window);
            at = window.base;
        }
    }

    /// Makes a window that begins at `at`, or later if there is nothing before.
    fn look(&self, text: &[u8], at: usize, window: &mut Window) {
        #[cfg(target_arch = "x86_64")]
        if self.simd && text.len() - at >= BLOCK + 2 {
            // SAFETY: `simd` is only set where AVX2 was found.
            unsafe { x86::look(self, text, at, window) };
            return;
        }
        let end = text.len().min(at + BLOCK);
        let mut bits = 0;
        for (offset, &byte) in text[at..end].iter().enumerate() {
            let first = if byte < 0x80 { self.first.contains(byte) } else { self.leads[usize::from(byte)] };
            bits |= u64::from(first && self.may_follow(text, at + offset)) << offset;
        }
        window.set(at, end, bits);
    }

    /// Whether what stands before `at` is allowed there; a character beyond ASCII may be.
    #[inline]
    fn may_follow(&self, text: &[u8], at: usize) -> bool {
        match &self.before {
            None => true,
            Some((set, edge)) => at.checked_sub(1).map_or(*edge, |before| set.contains(text[before])),
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

/// Tables of the members of `side`; the first bytes of those beyond ASCII are noted in `leads`.
fn groups(side: &Side, leads: &mut [bool; 256]) -> Multi {
    let mut tables = Box::new(Groups { fine: [[0; 16]; 6], coarse: [[0; 16]; 4] });
    let Groups { fine, coarse } = &mut *tables;
    let mut some = false;
    for &(lo, hi) in side.symbols.ranges() {
        for byte in lo..=hi.min(0x7F) {
            coarse[0][byte as usize & 15] |= ASCII;
            coarse[1][byte as usize >> 4] |= ASCII;
        }
        if hi < 0x80 {
            continue;
        }
        // Surrogates at the ends of a range are no characters.
        let lo = char::from_u32(lo.max(0x80)).unwrap_or('\u{E000}');
        let hi = char::from_u32(hi).unwrap_or('\u{D7FF}');
        if lo > hi {
            continue;
        }
        for sequence in Utf8Sequences::new(lo, hi) {
            some = true;
            let parts = sequence.as_slice();
            let bit = 1 << group(&sequence);
            for place in 0..3 {
                let (from, to) = parts.get(place).map_or((0, 255), |r| (r.start, r.end));
                for byte in from..=to {
                    fine[2 * place][usize::from(byte & 15)] |= bit;
                    fine[2 * place + 1][usize::from(byte >> 4)] |= bit;
                    leads[usize::from(byte)] |= place == 0;
                }
            }
            let (bit, place) = coarse_group(&sequence);
            for byte in parts[place].start..=parts[place].end {
                coarse[0][usize::from(byte & 15)] |= 1 << bit;
                coarse[1][usize::from(byte >> 4)] |= 1 << bit;
            }
            for byte in parts[place + 1].start..=parts[place + 1].end {
                coarse[2][usize::from(byte & 15)] |= 1 << bit;
                coarse[3][usize::from(byte >> 2 & 15)] |= 1 << bit;
            }
        }
    }
    coarse[2..].iter_mut().flatten().for_each(|bits| *bits |= ASCII);
    if some { Multi::Groups(tables) } else { Multi::None }
}

/// The group of ASCII in coarse tables.
const ASCII: u8 = 1;

/// The group of a character in coarse tables, and which of its bytes is the first of two.
fn coarse_group(sequence: &Utf8Sequence) -> (u32, usize) {
    let parts = sequence.as_slice();
    match parts[0].start {
        ..0xE0 => (1, 0),
        0xE0 => (2, 0),
        0xE1..0xE3 => (3, 0),
        0xE3..0xEF => (4, 0),
        0xEF => (5, 0),
        // Emoji begin with the same two bytes, and most of what has four bytes are emoji.
        0xF0.. if (parts[1].start, parts[1].end) == (0x9F, 0x9F) => (6, 1),
        0xF0.. => (7, 0),
    }
}

/// The group of a character, by the ends of its first two bytes: members of a group should be near to each other.
fn group(sequence: &Utf8Sequence) -> u32 {
    let parts = sequence.as_slice();
    match (parts[0].start, parts[1].start) {
        (..0xE0, _) => 0,
        (0xE0, _) => 1,
        (0xE1..0xE3, _) => 2,
        (0xE3..0xEF, _) => 3,
        (0xEF, _) => 4,
        (0xF0, ..0x9F) => 5,
        (0xF0, 0x9F) => 6,
        (0xF0.., _) => 7,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Multi, Starts, Way, Window};
    use crate::byteset::HIGH;

    #[target_feature(enable = "avx2")]
    fn table(bytes: &[u8; 16]) -> __m256i {
        // SAFETY: 16 bytes are read; unaligned loads are allowed.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx2")]
    fn upper(v: __m256i) -> __m256i {
        _mm256_and_si256(_mm256_srli_epi16::<4>(v), _mm256_set1_epi8(15))
    }

    /// Which bytes of the two vectors are not zero.
    #[target_feature(enable = "avx2")]
    fn nonzero(a: __m256i, b: __m256i) -> u64 {
        let zero = _mm256_setzero_si256();
        let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, zero)) as u32;
        let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(b, zero)) as u32;
        !(u64::from(low) | u64::from(high) << 32)
    }

    /// The first window with a bit from `from` on, or an empty one where less than a block is left.
    #[target_feature(enable = "avx2")]
    pub fn look(starts: &Starts, text: &[u8], from: usize, window: &mut Window) {
        let (first, halves) = (table(&starts.first.low), table(&HIGH));
        let mut base = from;
        // Two bytes more, for the second and third ones of the last character.
        while let Some(block) = text.get(base..base + BLOCK + 2) {
            let p = block.as_ptr();
            // SAFETY: `block` has 66 bytes; unaligned loads are allowed.
            let (a, b) = unsafe { (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) };
            let (high_a, high_b) = (_mm256_shuffle_epi8(halves, upper(a)), _mm256_shuffle_epi8(halves, upper(b)));
            let found_a = _mm256_and_si256(_mm256_shuffle_epi8(first, a), high_a);
            let found_b = _mm256_and_si256(_mm256_shuffle_epi8(first, b), high_b);
            let any = _mm256_or_si256(found_a, found_b);
            let wide = _mm256_movemask_epi8(_mm256_or_si256(a, b)) != 0;
            if !wide && _mm256_testz_si256(any, any) != 0 {
                base = match starts.range {
                    Some(range) => skip_range(range, text, base + BLOCK),
                    None => skip(first, halves, text, base + BLOCK),
                };
                continue;
            }
            let (mut found_a, mut found_b) = (found_a, found_b);
            if wide {
                match &starts.multi {
                    Multi::None => {}
                    Multi::Bytes => {
                        let beyond = _mm256_set1_epi8(i8::MIN);
                        found_a = _mm256_or_si256(found_a, _mm256_and_si256(a, beyond));
                        found_b = _mm256_or_si256(found_b, _mm256_and_si256(b, beyond));
                    }
                    Multi::Groups(groups) => {
                        let tables = Tables { first, halves, fine: groups.fine.each_ref().map(|bytes| table(bytes)) };
                        // SAFETY: 66 bytes can be read.
                        (found_a, found_b) = unsafe { (tables.found(p), tables.found(p.add(32))) };
                        let any = _mm256_or_si256(found_a, found_b);
                        if _mm256_testz_si256(any, any) != 0 {
                            let from = base + BLOCK;
                            base = match window.tables {
                                Way::ByLowHalf => skip_coarse::<0>(&groups.coarse, text, from),
                                Way::ByUpperBits => skip_coarse::<2>(&groups.coarse, text, from),
                                Way::Fine => tables.skip(text, from),
                            };
                            window.note(base > from);
                            continue;
                        }
                    }
                }
            }
            let mut bits = nonzero(found_a, found_b);
            let beyond = u64::from(_mm256_movemask_epi8(a) as u32) | u64::from(_mm256_movemask_epi8(b) as u32) << 32;
            if bits != 0
                && let Some((before, _)) = &starts.before
            {
                let before = table(&before.low);
                let a = _mm256_and_si256(_mm256_shuffle_epi8(before, a), high_a);
                let b = _mm256_and_si256(_mm256_shuffle_epi8(before, b), high_b);
                bits &= (nonzero(a, b) | beyond) << 1 | u64::from(starts.may_follow(text, base));
            }
            if bits != 0 {
                window.set(base, base + BLOCK, bits);
                return;
            }
            base += BLOCK;
        }
        window.set(base, base, 0);
    }

    /// Goes on over ASCII without members, four vectors at a time.
    #[target_feature(enable = "avx2")]
    fn skip(first: __m256i, halves: __m256i, text: &[u8], from: usize) -> usize {
        let beyond = _mm256_set1_epi8(i8::MIN);
        let mut base = from;
        while let Some(block) = text.get(base..base + 2 * BLOCK) {
            let mut any = _mm256_setzero_si256();
            for part in block.chunks_exact(32) {
                // SAFETY: `part` has 32 bytes; unaligned loads are allowed.
                let v = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
                let found = _mm256_and_si256(_mm256_shuffle_epi8(first, v), _mm256_shuffle_epi8(halves, upper(v)));
                any = _mm256_or_si256(any, _mm256_or_si256(found, _mm256_and_si256(v, beyond)));
            }
            if _mm256_testz_si256(any, any) == 0 {
                break;
            }
            base += 2 * BLOCK;
        }
        base
    }

    /// The same where members are all bytes of a range.
    #[target_feature(enable = "avx2")]
    fn skip_range((least, greatest): (u8, u8), text: &[u8], from: usize) -> usize {
        // The greatest becomes the greatest of all signed bytes, and what is beyond it the least ones.
        let shift = _mm256_set1_epi8((127 - greatest) as i8);
        let below = _mm256_set1_epi8((127 - (greatest - least)) as i8 - 1);
        let mut base = from;
        while let Some(block) = text.get(base..base + 2 * BLOCK) {
            let mut any = _mm256_setzero_si256();
            for part in block.chunks_exact(32) {
                // SAFETY: `part` has 32 bytes; unaligned loads are allowed.
                let v = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
                any = _mm256_or_si256(any, _mm256_or_si256(v, _mm256_cmpgt_epi8(_mm256_add_epi8(v, shift), below)));
            }
            // Members, and bytes beyond ASCII, have their highest bit set.
            if _mm256_movemask_epi8(any) != 0 {
                break;
            }
            base += 2 * BLOCK;
        }
        base
    }

    /// Goes on where the coarse tables find nothing; the second byte is looked up without its last `SHIFT` bits.
    #[target_feature(enable = "avx2")]
    fn skip_coarse<const SHIFT: i32>(coarse: &[[u8; 16]; 4], text: &[u8], from: usize) -> usize {
        let (low, high) = (table(&coarse[0]), table(&coarse[1]));
        let second = table(&coarse[if SHIFT == 0 { 2 } else { 3 }]);
        let nibble = _mm256_set1_epi8(15);
        let mut base = from;
        // A byte more, for the second one of the last.
        while let Some(block) = text.get(base..base + 2 * BLOCK + 1) {
            let mut any = _mm256_setzero_si256();
            for at in (0..2 * BLOCK).step_by(32) {
                // SAFETY: `block` has 129 bytes; unaligned loads are allowed.
                let [u, v] = unsafe { [0, 1].map(|place| _mm256_loadu_si256(block.as_ptr().add(at + place).cast())) };
                let v = if SHIFT == 0 { v } else { _mm256_srli_epi16::<SHIFT>(v) };
                let first = _mm256_shuffle_epi8(low, _mm256_and_si256(u, nibble));
                let first = _mm256_and_si256(first, _mm256_shuffle_epi8(high, upper(u)));
                let second = _mm256_shuffle_epi8(second, _mm256_and_si256(v, nibble));
                any = _mm256_or_si256(any, _mm256_and_si256(first, second));
            }
            if _mm256_testz_si256(any, any) == 0 {
                break;
            }
            base += 2 * BLOCK;
        }
        base
    }

    /// What tells members of one byte, and of several.
    struct Tables {
        first: __m256i,
        halves: __m256i,
        fine: [__m256i; 6],
    }

    impl Tables {
        /// Which of 32 bytes are members of one byte, or may begin one of several since the first three bytes are of one group.
        ///
        /// # Safety
        /// From `p` on 34 bytes can be read.
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn found(&self, p: *const u8) -> __m256i {
            // SAFETY: the last byte read is that 33 places behind `p`; unaligned loads are allowed.
            let [u, v, w] = unsafe { [0, 1, 2].map(|place| _mm256_loadu_si256(p.add(place).cast())) };
            let own = |place: usize, v: __m256i| {
                let lower = _mm256_and_si256(v, _mm256_set1_epi8(15));
                let (low, high) = (self.fine[2 * place], self.fine[2 * place + 1]);
                _mm256_and_si256(_mm256_shuffle_epi8(low, lower), _mm256_shuffle_epi8(high, upper(v)))
            };
            let several = _mm256_and_si256(_mm256_and_si256(own(0, u), own(1, v)), own(2, w));
            let one = _mm256_and_si256(_mm256_shuffle_epi8(self.first, u), _mm256_shuffle_epi8(self.halves, upper(u)));
            _mm256_or_si256(one, several)
        }

        /// Goes on without members.
        #[target_feature(enable = "avx2")]
        fn skip(&self, text: &[u8], from: usize) -> usize {
            let mut base = from;
            while let Some(block) = text.get(base..base + BLOCK + 2) {
                let p = block.as_ptr();
                // SAFETY: the block has 66 bytes.
                let any = unsafe { _mm256_or_si256(self.found(p), self.found(p.add(32))) };
                if _mm256_testz_si256(any, any) == 0 {
                    break;
                }
                base += BLOCK;
            }
            base
        }
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
