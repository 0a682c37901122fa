//! Tables of characters of several bytes, by parts of their first bytes.

use regex_syntax::utf8::{Utf8Sequence, Utf8Sequences};

use crate::hir::Side;

/// Members beyond ASCII.
#[derive(Debug)]
pub enum Multi {
    None,
    /// Each byte may be one.
    Bytes,
    Groups(Box<Groups>),
}

/// Tables with a bit for each group of characters.
#[derive(Debug)]
pub struct Groups {
    /// For each of the first three bytes of a character a table by low halves and one by high halves.
    pub fine: [[u8; 16]; 6],
    /// For two bytes of a character, or ASCII and whatever follows: the first by low and by high halves, the second by low
    /// halves and, if that tells too little, by the four bits above the last two. They have groups of their own.
    pub coarse: [[u8; 16]; 4],
}

/// Tables of the members of `side`; the first bytes of those beyond ASCII are noted in `leads`.
pub fn groups(side: &Side, leads: &mut [bool; 256]) -> Multi {
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
