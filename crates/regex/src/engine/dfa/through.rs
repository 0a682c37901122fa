//! The next match in one pass, instead of an attempt from each position at which one may begin.
//!
//! One automaton reads from left to right for the leftmost match and learns where it ends; another reads the reversed pattern
//! from there back to where it begins, which is as far as it can go. Both grow while they are used. All matches of a text
//! take linear time: the way back lies inside the way there, and what was read in vain behind a match is marked as in
//! [`super::search`].

use std::collections::HashSet;

use super::build::{Dfa, Full, Purpose};
use super::search::{SHORT, next_check};
use crate::program::Program;

/// Finds matches wherever they begin.
#[derive(Debug, Clone)]
pub struct Through {
    forward: Dfa,
    backward: Backward,
    /// Pairs of state and position that lead to no further match; in these states none can begin either.
    failed: HashSet<(u32, usize)>,
    /// Symbols read since [`Through::new_text`].
    pub steps: u64,
}

impl Through {
    /// For a regular program and the same reversed. Each table may grow to `memory` bytes.
    pub fn new(program: &Program, reversed: &Program, memory: usize) -> Result<Self, Full> {
        Ok(Through {
            forward: Dfa::with_purpose(program, memory, Purpose::Anywhere)?,
            backward: Backward::new(reversed, memory)?,
            failed: HashSet::new(),
            steps: 0,
        })
    }

    /// Forgets what belongs to a text.
    pub fn new_text(&mut self) {
        self.failed.clear();
        self.steps = 0;
    }

    /// The leftmost match that begins at `at` or later, which lies between two symbols.
    pub fn find(
        &mut self,
        program: &Program,
        reversed: &Program,
        text: &[u8],
        at: usize,
    ) -> Result<Option<(usize, usize)>, Full> {
        let Some(end) = self.end(program, text, at)? else {
            return Ok(None);
        };
        self.steps += (end - at) as u64;
        let start = self.backward.start(reversed, text, at, end)?;
        debug_assert!(start.is_some(), "what ends has begun");
        Ok(start.map(|start| (start, end)))
    }

    /// Where the leftmost match ends.
    fn end(&mut self, program: &Program, text: &[u8], at: usize) -> Result<Option<usize>, Full> {
        let alphabet = &program.alphabet;
        let forward = &mut self.forward;
        let mut state = forward.start(alphabet.kind_before(text, at));
        let mut pos = at;
        loop {
            (state, pos) = forward.run_ascii(alphabet, state, text, pos);
            let (kind, len) = alphabet.next(text, pos).unwrap_or((alphabet.edge(), 0));
            let (to, matched) = forward.next_lazy(program, state, kind)?;
            state = to;
            if matched {
                break;
            }
            if len == 0 {
                self.steps += (pos - at) as u64 + 1;
                return Ok(None);
            }
            pos += len;
        }
        // A match ends at `pos`, and the symbol there is read; a longer one may be preferred.
        let mut last = pos;
        let mut resume = state;
        let mut check = if self.failed.is_empty() { usize::MAX } else { next_check(pos) };
        while state != 0 {
            pos += alphabet.next(text, pos).map_or(0, |n| n.1);
            if pos >= check {
                if self.failed.contains(&(state, pos)) {
                    break;
                }
                check = next_check(pos);
            }
            let (to, matched) = forward.next_lazy(program, state, alphabet.kind_after(text, pos))?;
            state = to;
            if matched {
                (last, resume) = (pos, state);
            }
        }
        self.steps += (pos - at) as u64 + 1;
        if pos - last > SHORT {
            let (mut state, mut again) = (resume, last);
            let mut check = next_check(last);
            while again < pos && state != 0 {
                again += alphabet.next(text, again).map_or(1, |n| n.1);
                if again >= check {
                    check = next_check(again);
                    self.failed.insert((state, again));
                }
                state = forward.next_lazy(program, state, alphabet.kind_after(text, again))?.0;
            }
        }
        Ok(Some(last))
    }
}

/// Finds where the first match ends, and nothing else.
#[derive(Debug, Clone)]
pub struct Earliest {
    dfa: Dfa,
}

impl Earliest {
    /// For a regular program. The table may grow to `memory` bytes.
    pub fn new(program: &Program, memory: usize) -> Result<Self, Full> {
        Dfa::with_purpose(program, memory, Purpose::Anywhere).map(|dfa| Earliest { dfa })
    }

    /// The least end of all matches that begin at `at` or later. Nothing that an earlier state of the automaton leaves out
    /// could have ended before.
    pub fn end(&mut self, program: &Program, text: &[u8], at: usize) -> Result<Option<usize>, Full> {
        let alphabet = &program.alphabet;
        let mut state = self.dfa.start(alphabet.kind_before(text, at));
        let mut pos = at;
        loop {
            (state, pos) = self.dfa.run_ascii(alphabet, state, text, pos);
            let (kind, len) = alphabet.next(text, pos).unwrap_or((alphabet.edge(), 0));
            let (to, matched) = self.dfa.next_lazy(program, state, kind)?;
            if matched {
                return Ok(Some(pos));
            }
            if len == 0 {
                return Ok(None);
            }
            state = to;
            pos += len;
        }
    }
}

/// Finds where a match begins from where it ends.
#[derive(Debug, Clone)]
pub struct Backward {
    dfa: Dfa,
    /// Symbols read.
    pub steps: u64,
}

impl Backward {
    /// For a reversed program.
    pub fn new(reversed: &Program, memory: usize) -> Result<Self, Full> {
        Dfa::with_purpose(reversed, memory, Purpose::Longest).map(|dfa| Backward { dfa, steps: 0 })
    }

    /// The leftmost position, but not before `least`, from which the pattern can match up to `end`.
    pub fn start(&mut self, reversed: &Program, text: &[u8], least: usize, end: usize) -> Result<Option<usize>, Full> {
        let alphabet = &reversed.alphabet;
        let mut state = self.dfa.start(alphabet.kind_after(text, end));
        let mut pos = end;
        let mut found = None;
        while state != 0 {
            let (kind, len) = alphabet.prev(text, pos).unwrap_or((alphabet.edge(), 0));
            let (to, matched) = self.dfa.next_lazy(reversed, state, kind)?;
            if matched {
                found = Some(pos);
            }
            if len == 0 || pos - len < least {
                break;
            }
            state = to;
            pos -= len;
        }
        self.steps += (end - pos) as u64 + 1;
        Ok(found)
    }
}
