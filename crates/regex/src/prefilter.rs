//! Where a match can begin, found faster than by trying.

use crate::core::first_bytes;
use crate::hir::Hir;
use crate::program::Program;

/// The search for the next position at which a match may begin.
#[derive(Debug)]
pub enum Prefilter {
    /// A match can begin anywhere.
    None,
    /// A match can only begin at the beginning of the text.
    Start,
    /// A match begins with one of these bytes.
    Bytes(Box<[bool; 256]>),
}

impl Prefilter {
    pub fn new(hir: &Hir, program: &Program) -> Self {
        if begins_at_start(hir) {
            return Prefilter::Start;
        }
        if program.nullable || program.first.contains(program.alphabet.edge()) {
            return Prefilter::None;
        }
        Prefilter::Bytes(Box::new(first_bytes(program, &program.first)))
    }

    /// The first position from `at` on where a match may begin.
    #[inline]
    pub fn candidate(&self, program: &Program, text: &[u8], at: usize) -> Option<usize> {
        match self {
            Prefilter::None => (at <= text.len()).then_some(at),
            Prefilter::Start => (at == 0).then_some(at),
            Prefilter::Bytes(first) => {
                let mut at = at;
                loop {
                    let byte = *text.get(at)?;
                    if first[usize::from(byte)] {
                        return Some(at);
                    }
                    at += if byte < 0x80 {
                        1
                    } else {
                        program.alphabet.next(text, at)?.1
                    };
                }
            }
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Prefilter::None => "Every position is tried.".to_owned(),
            Prefilter::Start => "Only the beginning of the text is tried.".to_owned(),
            Prefilter::Bytes(first) => {
                let count = first.iter().filter(|b| **b).count();
                format!("Positions are skipped unless they hold one of {count} first bytes.")
            }
        }
    }
}

/// Whether every match begins at the beginning of the text.
fn begins_at_start(hir: &Hir) -> bool {
    match hir {
        Hir::Assert(assertion) => assertion
            .0
            .iter()
            .all(|(before, _)| before.edge && !before.invalid && before.symbols.is_empty()),
        Hir::Concat(items) => items.first().is_some_and(begins_at_start),
        Hir::Alternate(items) => !items.is_empty() && items.iter().all(begins_at_start),
        Hir::Capture { item, .. } | Hir::Atomic(item) => begins_at_start(item),
        Hir::Repeat { item, min, .. } => *min > 0 && begins_at_start(item),
        _ => false,
    }
}
