//! The opening of a pattern with backreferences, as an automaton: most attempts fail there, and it tells sooner than
//! backtracking does.

use super::dfa::{Dfa, Purpose};
use crate::hir::{Hir, Unit};
use crate::program::{self, Program};

/// An opening is read for at most so many symbols: attempts from all positions then take linear time together.
const REACH: usize = 32;

/// After so many attempts, those that fail in the opening must be half of all.
const TRIES: u32 = 64;

/// The automaton.
#[derive(Debug)]
pub struct Opening {
    program: Program,
    dfa: Dfa,
}

/// How often it has been asked about one text, and how often the opening was there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    tried: u32,
    passed: u32,
}

impl Opening {
    /// For a pattern with backreferences; `None` if it has no opening, or one of too many states.
    pub fn new(hir: &Hir, by_bytes: bool, valid: bool, limits: (usize, usize, usize)) -> Option<Opening> {
        let (size, memory, states) = limits;
        let opening = program::opening(hir, if by_bytes { Unit::Byte } else { Unit::Char })?;
        let mut program = program::compile(&opening, 1, by_bytes, size)?;
        program.alphabet.valid = valid;
        let mut dfa = Dfa::with_purpose(&program, memory, Purpose::Longest).ok()?;
        dfa.complete(&program, states, valid).ok()?;
        Some(Opening { program, dfa })
    }

    /// Whether the pattern may match at `at`.
    pub fn allows(&self, text: &[u8], at: usize, asked: &mut Asked) -> bool {
        if asked.tried >= TRIES && asked.passed > asked.tried / 2 {
            return true;
        }
        let found = self.may_begin(text, at);
        asked.tried = asked.tried.saturating_add(1);
        asked.passed += u32::from(found);
        found
    }

    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        let alphabet = &self.program.alphabet;
        let before = if self.dfa.before_group_count() > 1 { alphabet.kind_before(text, at) } else { alphabet.edge() };
        let mut state = self.dfa.start(before);
        let mut pos = at;
        for _ in 0..REACH {
            let (kind, len) = alphabet.next(text, pos).unwrap_or((alphabet.edge(), 0));
            let (to, matched) = self.dfa.next(state, kind);
            if matched || to == 0 {
                return matched;
            }
            state = to;
            pos += len;
        }
        true
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.program.memory() + self.dfa.memory()
    }
}
