//! For one match with known bounds: from which instructions its end can be reached, at each of its positions.

use std::collections::HashMap;

use super::sweep::{NONE, Sweep, bit};
use crate::program::{Inst, Pc, Program};

/// Symbols between two rows that are kept.
const STRIDE: usize = 512;

/// The answers for one match of the whole pattern.
pub struct Reach<'a> {
    program: &'a Program,
    sweep: &'a Sweep,
    text: &'a [u8],
    /// Positions from the start to the end, one for each symbol boundary.
    pub at: Vec<usize>,
    /// Every [`STRIDE`]th row.
    kept: Vec<Vec<u64>>,
    /// Rows of the block that was asked for last, and its number.
    block: (usize, Vec<Vec<u64>>),
    /// Columns of what follows atomic groups, by position relative to the start.
    far: HashMap<Pc, Vec<u64>>,
}

impl<'a> Reach<'a> {
    /// For the match from `start` to `end`.
    pub fn new(program: &'a Program, sweep: &'a Sweep, text: &'a [u8], start: usize, end: usize) -> Self {
        let mut at = vec![start];
        let mut last = start;
        while last < end
            && let Some((_, len)) = program.alphabet.next(text, last)
        {
            last += len;
            at.push(last);
        }
        let mut far = HashMap::new();
        for &pc in &program.subs[0].order {
            if let Inst::Atomic { if_consumed, .. } = program.insts[pc as usize] {
                far.insert(if_consumed, vec![0; (end - start) / 64 + 1]);
            }
        }
        let steps = at.len();
        let kept = vec![Vec::new(); steps / STRIDE + 2];
        let mut reach = Reach { program, sweep, text, at, kept, block: (usize::MAX, Vec::new()), far };
        let mut right: Option<Vec<u64>> = None;
        for step in (0..steps).rev() {
            let row = reach.row(step, right.as_deref());
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
    fn row(&self, step: usize, right: Option<&[u64]>) -> Vec<u64> {
        let program = self.program;
        let (start, at) = (self.at[0], self.at[step]);
        let (before, after) = (program.alphabet.kind_before(self.text, at), program.alphabet.kind_after(self.text, at));
        let mut row = vec![0u64; program.insts.len() / 64 + 1];
        for &pc in &program.subs[0].order {
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
                        self.far[if_consumed].get(offset >> 6).is_some_and(|w| w >> (offset & 63) & 1 != 0)
                    }
                },
                Inst::Match => step + 1 == self.at.len(),
                Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => false,
            };
            row[(pc >> 6) as usize] |= u64::from(reached) << (pc & 63);
        }
        row
    }

    /// Whether the end can be reached from `pc` at position number `step`.
    pub fn reaches(&mut self, pc: Pc, step: usize) -> bool {
        let block = step / STRIDE;
        if self.block.0 != block {
            // Rows between two kept ones are made again when the walk comes to them.
            let first = block * STRIDE;
            let stop = (first + STRIDE).min(self.at.len());
            let mut rows = vec![Vec::new(); stop - first];
            for step in (first..stop).rev() {
                let right = match rows.get(step + 1 - first) {
                    Some(row) => Some(row),
                    None => self.kept.get(block + 1).filter(|r| !r.is_empty()),
                };
                rows[step - first] = self.row(step, right.map(Vec::as_slice));
            }
            self.block = (block, rows);
        }
        bit(&self.block.1[step - block * STRIDE], pc as usize)
    }
}
