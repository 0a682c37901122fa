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
use crate::error::SearchError;
use crate::program::{Inst, Pc, Program, SubKind};

/// No match.
const NONE: u32 = u32::MAX;

/// Tables beyond this size are refused.
const MEMORY_LIMIT: u64 = 1 << 30;

/// Work for groups inside lookarounds, which may be walked many times, in steps for each byte of text.
const WALK_STEPS: u64 = 256;

/// The answers for one text.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// For each sub-program, by position: where its match ends.
    ends: Vec<Vec<u32>>,
    /// For lookbehinds, by position: whether they hold.
    held: Vec<Vec<u64>>,
}

fn bit(bits: &[u64], at: usize) -> bool {
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
        let mut sweep =
            Sweep { ends: vec![Vec::new(); program.subs.len()], held: vec![Vec::new(); program.subs.len()] };
        // Inner sub-programs have larger numbers.
        for id in (0..program.subs.len()).rev() {
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

    fn look(&self, program: &Program, sub: u32, at: usize) -> bool {
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

    /// The groups of the match from `start` to `end`, into `slots`.
    pub fn groups(
        &self,
        program: &Program,
        text: &[u8],
        start: usize,
        end: usize,
        slots: &mut Vec<usize>,
    ) -> Result<(), SearchError> {
        slots.clear();
        slots.resize(program.slots, UNSET);
        let budget = WALK_STEPS * (text.len() as u64 + 1024);
        let mut walk = Walk { sweep: self, program, text, slots, steps: budget, budget };
        walk.sub(0, start, end)
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

/// Symbols between two rows that are kept while a match is walked.
const STRIDE: usize = 512;

/// Follows the path of a known match to find its groups.
struct Walk<'a> {
    sweep: &'a Sweep,
    program: &'a Program,
    text: &'a [u8],
    slots: &'a mut Vec<usize>,
    steps: u64,
    budget: u64,
}

/// For one match: from which instructions its end can be reached, at each of its positions.
struct Reach {
    /// Positions from `start` to `end`, one for each symbol boundary.
    at: Vec<usize>,
    /// Every [`STRIDE`]th row, and the last.
    kept: Vec<Vec<u64>>,
    /// Rows of the block that was asked for last, and its number.
    block: (usize, Vec<Vec<u64>>),
    /// Columns of what follows atomic groups, by position relative to the start.
    far: HashMap<Pc, Vec<u64>>,
}

impl Walk<'_> {
    fn spend(&mut self, steps: u64) -> Result<(), SearchError> {
        self.steps = self.steps.saturating_sub(steps);
        if self.steps == 0 { Err(SearchError::BudgetExhausted { budget: self.budget }) } else { Ok(()) }
    }

    /// Fills in the groups that sub-program `id` sets on its way from `start` to `end`.
    fn sub(&mut self, id: u32, start: usize, end: usize) -> Result<(), SearchError> {
        let program = self.program;
        let mut reach = self.reach(id, start, end);
        let mut opened: HashMap<u32, usize> = HashMap::new();
        let (mut pc, mut step) = (program.subs[id as usize].entry, 0);
        loop {
            self.spend(1)?;
            let at = reach.at[step];
            pc = match &program.insts[pc as usize] {
                Inst::Class { next, .. } => {
                    step += 1;
                    *next
                }
                Inst::Split { first, second } => {
                    if self.reaches(&mut reach, id, *first, step) {
                        *first
                    } else {
                        *second
                    }
                }
                Inst::Save { slot: 0, next } => {
                    self.slots[0] = at;
                    *next
                }
                Inst::Save { slot, next } => {
                    if slot.is_multiple_of(2) {
                        opened.insert(*slot, at);
                    } else if let Some(from) = opened.get(&(slot - 1)) {
                        self.slots[*slot as usize - 1] = *from;
                        self.slots[*slot as usize] = at;
                    }
                    *next
                }
                Inst::Assert { next, .. } => *next,
                Inst::Look { sub, next } => {
                    self.look(*sub, at)?;
                    *next
                }
                Inst::Atomic { sub, if_empty, if_consumed } => {
                    let to = self.sweep.ends[*sub as usize][at] as usize;
                    if program.subs[*sub as usize].captures {
                        self.sub(*sub, at, to)?;
                    }
                    step = reach.at.partition_point(|&p| p < to);
                    if to == at { *if_empty } else { *if_consumed }
                }
                Inst::Match | Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => return Ok(()),
            };
        }
    }

    /// Groups inside a positive lookaround keep what they matched.
    fn look(&mut self, id: u32, at: usize) -> Result<(), SearchError> {
        let sub = &self.program.subs[id as usize];
        if !sub.captures {
            return Ok(());
        }
        match sub.kind {
            SubKind::Ahead { negative: false } => {
                let end = self.sweep.ends[id as usize][at] as usize;
                self.spend((end - at) as u64 * sub.order.len() as u64)?;
                self.sub(id, at, end)
            }
            SubKind::Behind { negative: false, .. } => {
                // The nearest beginning, as the definition has it.
                let mut start = at;
                loop {
                    self.spend((at - start) as u64 * sub.order.len() as u64 + 1)?;
                    let mut reach = self.reach(id, start, at);
                    if self.reaches(&mut reach, id, sub.entry, 0) {
                        return self.sub(id, start, at);
                    }
                    match self.program.alphabet.prev(self.text, start) {
                        Some((_, len)) => start -= len,
                        None => return Ok(()),
                    }
                }
            }
            _ => Ok(()),
        }
    }

    fn reach(&self, id: u32, start: usize, end: usize) -> Reach {
        let mut at = vec![start];
        let mut last = start;
        while last < end
            && let Some((_, len)) = self.program.alphabet.next(self.text, last)
        {
            last += len;
            at.push(last);
        }
        let mut far = HashMap::new();
        for &pc in &self.program.subs[id as usize].order {
            if let Inst::Atomic { if_consumed, .. } = self.program.insts[pc as usize] {
                far.insert(if_consumed, vec![0; (end - start) / 64 + 1]);
            }
        }
        let steps = at.len();
        let mut reach = Reach { at, kept: vec![Vec::new(); steps / STRIDE + 2], block: (usize::MAX, Vec::new()), far };
        let mut right: Option<Vec<u64>> = None;
        for step in (0..steps).rev() {
            let row = self.row(&reach, id, step, right.as_deref());
            for (pc, column) in &mut reach.far {
                let offset = reach.at[step] - start;
                column[offset >> 6] |= u64::from(bit(&row, *pc as usize)) << (offset & 63);
            }
            if step % STRIDE == 0 {
                reach.kept[step / STRIDE] = row.clone();
            }
            right = Some(row);
        }
        reach
    }

    /// The row of position number `step` from the one to its right.
    fn row(&self, reach: &Reach, id: u32, step: usize, right: Option<&[u64]>) -> Vec<u64> {
        let program = self.program;
        let (start, at) = (reach.at[0], reach.at[step]);
        let (before, after) = (program.alphabet.kind_before(self.text, at), program.alphabet.kind_after(self.text, at));
        let mut row = vec![0u64; program.insts.len() / 64 + 1];
        for &pc in &program.subs[id as usize].order {
            let here = |pc: &Pc| bit(&row, *pc as usize);
            let reached = match &program.insts[pc as usize] {
                Inst::Class { set, next } => {
                    program.sets[*set as usize].contains(after) && right.is_some_and(|r| bit(r, *next as usize))
                }
                Inst::Split { first, second } => here(first) || here(second),
                Inst::Save { next, .. } => here(next),
                Inst::Assert { id, next } => program.assertion(*id, before, after) && here(next),
                Inst::Look { sub, next } => self.sweep.look(program, *sub, at) && here(next),
                Inst::Atomic { sub, if_empty, if_consumed } => match self.sweep.ends[*sub as usize][at] {
                    NONE => false,
                    end if end as usize == at => here(if_empty),
                    end => {
                        let offset = end as usize - start;
                        reach.far[if_consumed].get(offset >> 6).is_some_and(|w| w >> (offset & 63) & 1 != 0)
                    }
                },
                Inst::Match => step + 1 == reach.at.len(),
                Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => false,
            };
            row[(pc >> 6) as usize] |= u64::from(reached) << (pc & 63);
        }
        row
    }

    /// Whether the end can be reached from `pc` at position number `step`.
    fn reaches(&self, reach: &mut Reach, id: u32, pc: Pc, step: usize) -> bool {
        let block = step / STRIDE;
        if reach.block.0 != block {
            // Rows between two kept ones are made again when the walk comes to them.
            let first = block * STRIDE;
            let stop = (first + STRIDE).min(reach.at.len());
            let mut rows = vec![Vec::new(); stop - first];
            for step in (first..stop).rev() {
                let right = match rows.get(step + 1 - first) {
                    Some(row) => Some(row),
                    None => reach.kept.get(block + 1).filter(|r| !r.is_empty()),
                };
                rows[step - first] = self.row(reach, id, step, right.map(Vec::as_slice));
            }
            reach.block = (block, rows);
        }
        bit(&reach.block.1[step - block * STRIDE], pc as usize)
    }
}
