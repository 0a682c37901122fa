//! One pass over the text from right to left that answers every question at once.
//!
//! For each position and each instruction, *where would a match that goes on here end?* follows from the answers one
//! symbol further on: a class asks its successor there, a choice takes its first alternative that has an answer. The
//! answers for the entry are the matches at every position of the text, so all of `find_iter` costs
//! O(instructions x length), whatever the pattern; lookaheads and atomic groups are tables made the same way, innermost
//! first, and lookbehinds are made from left to right by [`super::behind`]. It is slow, since it looks at every
//! instruction at every position, and runs only when backtracking has used up its meter.

use std::collections::HashMap;

use super::backtrack::UNSET;
use super::behind::{Nested, Tracker};
use super::groups::Groups;
use crate::error::SearchError;
use crate::program::{Inst, Pc, Program, SubKind};

/// No match.
pub const NONE: u32 = u32::MAX;

/// Tables beyond this size are refused.
pub const MEMORY_LIMIT: u64 = 1 << 30;

/// The answers for one text.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// For each sub-program, by position: where its match ends.
    pub(super) ends: Vec<Vec<u32>>,
    /// For lookbehinds, by position: whether they hold.
    held: Vec<Vec<u64>>,
    /// What lookarounds and atomic groups set, once groups were asked for.
    groups: Option<Groups>,
    /// Instructions looked at.
    work: u64,
}

pub(super) fn bit(bits: &[u64], at: usize) -> bool {
    bits[at >> 6] >> (at & 63) & 1 != 0
}

impl Sweep {
    /// Makes all tables. The program must be free of backreferences.
    pub fn new(program: &Program, text: &[u8]) -> Result<Self, SearchError> {
        let atomics = program.insts.iter().filter(|i| matches!(i, Inst::Atomic { .. })).count() as u64;
        let needed = (program.subs.len() as u64 + atomics) * 4 * (text.len() as u64 + 1);
        if needed > MEMORY_LIMIT || text.len() as u64 >= u64::from(NONE) {
            return Err(SearchError::TablesTooLarge { needed, limit: MEMORY_LIMIT });
        }
        let tables = program.subs.len();
        let mut sweep = Sweep { ends: vec![Vec::new(); tables], held: vec![Vec::new(); tables], groups: None, work: 0 };
        // Inner sub-programs have larger numbers.
        for id in (0..program.subs.len()).rev() {
            sweep.work += program.subs[id].order.len() as u64 * (text.len() as u64 + 1);
            match program.subs[id].kind {
                SubKind::Behind { .. } => sweep.held[id] = sweep.pass_right(program, id as u32, text),
                _ => sweep.ends[id] = sweep.pass_left(program, id, text),
            }
        }
        Ok(sweep)
    }

    /// The end of the match of the whole pattern that begins at `at`.
    pub fn end(&self, at: usize) -> Option<usize> {
        Some(self.ends[0][at]).filter(|&e| e != NONE).map(|e| e as usize)
    }

    /// Whether lookaround `sub` holds at `at`.
    pub(super) fn look(&self, program: &Program, sub: u32, at: usize) -> bool {
        match program.subs[sub as usize].kind {
            SubKind::Behind { negative, .. } => bit(&self.held[sub as usize], at) != negative,
            SubKind::Ahead { negative } => (self.ends[sub as usize][at] != NONE) != negative,
            SubKind::Main | SubKind::Atomic => unreachable!("not a lookaround"),
        }
    }

    /// The ends of sub-program `id` from every position.
    fn pass_left(&self, program: &Program, id: usize, text: &[u8]) -> Vec<u32> {
        let sub = &program.subs[id];
        let alphabet = &program.alphabet;
        let mut ends = vec![NONE; text.len() + 1];
        // What lies behind an atomic group is asked for far to the right of it.
        let mut far: HashMap<Pc, Vec<u32>> = HashMap::new();
        for &pc in &sub.order {
            if let Inst::Atomic { if_consumed, .. } = program.insts[pc as usize] {
                far.entry(if_consumed).or_insert_with(|| vec![NONE; text.len() + 1]);
            }
        }
        let mut row = vec![NONE; program.insts.len()];
        let mut right = row.clone();
        let mut at = text.len();
        let mut after = alphabet.edge();
        loop {
            let (before, len) = alphabet.prev(text, at).unwrap_or((alphabet.edge(), 0));
            for &pc in &sub.order {
                row[pc as usize] = match &program.insts[pc as usize] {
                    Inst::Class { set, next } if program.sets[*set as usize].contains(after) => right[*next as usize],
                    Inst::Class { .. } | Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => NONE,
                    Inst::Split { first, second } => match row[*first as usize] {
                        NONE => row[*second as usize],
                        end => end,
                    },
                    Inst::Save { next, .. } => row[*next as usize],
                    Inst::Assert { id, next } if program.assertion(*id, before, after) => row[*next as usize],
                    Inst::Look { sub, next } if self.look(program, *sub, at) => row[*next as usize],
                    Inst::Assert { .. } | Inst::Look { .. } => NONE,
                    Inst::Atomic { sub, if_empty, if_consumed } => match self.ends[*sub as usize][at] {
                        NONE => NONE,
                        end if end as usize == at => row[*if_empty as usize],
                        end => far[if_consumed][end as usize],
                    },
                    Inst::Match => at as u32,
                };
            }
            ends[at] = row[sub.entry as usize];
            for (pc, column) in &mut far {
                column[at] = row[*pc as usize];
            }
            if len == 0 {
                return ends;
            }
            std::mem::swap(&mut row, &mut right);
            at -= len;
            after = before;
        }
    }

    /// Whether lookbehind `id` holds, for every position.
    fn pass_right(&mut self, program: &Program, id: u32, text: &[u8]) -> Vec<u64> {
        let mut tracker = Tracker::default();
        let mut held = vec![0; text.len() / 64 + 1];
        let mut at = 0;
        loop {
            let Ok(holds) = tracker.holds(program, id, text, at, &mut (program, &*self));
            held[at >> 6] |= u64::from(holds) << (at & 63);
            match program.alphabet.next(text, at) {
                Some((_, len)) => at += len,
                None => return held,
            }
        }
    }

    /// The groups of the match from `start` to `end`, into `slots`. Tables of what lookarounds set are made on first use.
    pub fn groups(
        &mut self,
        program: &Program,
        text: &[u8],
        start: usize,
        end: usize,
        slots: &mut Vec<usize>,
    ) -> Result<(), SearchError> {
        let groups = match self.groups.take() {
            Some(groups) => groups,
            None => Groups::new(program, self, text)?,
        };
        slots.clear();
        slots.resize(program.slots, UNSET);
        groups.walk(program, self, text, (start, end), slots);
        self.groups = Some(groups);
        Ok(())
    }

    /// Instructions looked at, for all tables.
    #[cfg(test)]
    pub fn work(&self) -> u64 {
        self.work + self.groups.as_ref().map_or(0, |groups| groups.work)
    }
}

impl Nested for (&Program, &Sweep) {
    type Error = std::convert::Infallible;

    fn look(&mut self, sub: u32, _: &[u8], at: usize) -> Result<bool, Self::Error> {
        Ok(self.1.look(self.0, sub, at))
    }

    fn atomic(&mut self, sub: u32, _: &[u8], at: usize) -> Result<Option<usize>, Self::Error> {
        Ok(Some(self.1.ends[sub as usize][at]).filter(|&e| e != NONE).map(|e| e as usize))
    }

    fn spend(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}
