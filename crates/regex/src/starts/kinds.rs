//! Where a match can begin in text beyond ASCII, told by the kinds of all symbols of 64 bytes.

use super::Starts;
use crate::alphabet::Kind;
use crate::engine::scan::actions::{Avx2, Bits};
use crate::engine::scan::{AHEAD, BYTES, Classifier};
use crate::program::Program;

/// A match can begin with the symbol.
const MEMBER: u8 = 1;

/// A match can begin behind the symbol.
const BEFORE: u8 = 2;

/// It is a byte inside of a character.
const INNER: u8 = 4;

/// What tells of each symbol what it can be.
#[derive(Debug)]
pub struct ByKinds(Classifier);

impl ByKinds {
    /// `None` where texts are not UTF-8, or there are too many kinds.
    pub fn new(starts: &Starts, program: &Program) -> Option<ByKinds> {
        let alphabet = &program.alphabet;
        if !alphabet.valid || alphabet.bytes || alphabet.len >= 64 {
            return None;
        }
        let before = |kind: Kind| starts.before.as_ref().is_none_or(|(_, kinds)| kinds.contains(kind));
        let kinds = 0..alphabet.len as Kind;
        let of = |kind: Kind| u8::from(starts.members.contains(kind)) * MEMBER + u8::from(before(kind)) * BEFORE;
        let columns: Vec<u8> = kinds.map(of).chain([INNER]).collect();
        Some(ByKinds(Classifier::new(alphabet, &columns, true)))
    }

    /// The positions in the 64 bytes from `base` on, a bit for each; `None` where the text ends soon.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn bits(&self, starts: &Starts, program: &Program, text: &[u8], base: usize) -> Option<u64> {
        let mut kinds = [0; BYTES];
        if !self.0.block(text[base..].first_chunk::<{ BYTES + AHEAD }>()?, &mut kinds) {
            return None;
        }
        // SAFETY: whoever calls this has found AVX2; here and below.
        let members = unsafe { Avx2::of::<MEMBER>(&kinds) };
        let Some((_, before)) = &starts.before else {
            return Some(members);
        };
        let alphabet = &program.alphabet;
        // The symbol before, to which bytes here may still belong.
        let symbol = text[..base].iter().rposition(|byte| byte & 0xC0 != 0x80);
        let carry = u64::from(before.contains(symbol.map_or(alphabet.edge(), |at| alphabet.kind_after(text, at))));
        // SAFETY: as above.
        let (inner, mut allowed) = unsafe { (Avx2::of::<INNER>(&kinds), Avx2::of::<BEFORE>(&kinds)) };
        // What is said of a first byte holds for the up to three bytes beyond it.
        for _ in 0..3 {
            allowed |= (allowed << 1 | carry) & inner;
        }
        Some(members & (allowed << 1 | carry))
    }
}
