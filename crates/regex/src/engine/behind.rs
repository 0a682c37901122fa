//! What a lookbehind says at each position, worked out from left to right and remembered.
//!
//! A lookbehind holds at `p` when its sub-program matches some text that ends at `p`. The set of instructions that are
//! alive when a match may begin anywhere answers that for one position after the other, so a lookbehind costs one pass
//! over the text however often it is asked, and of whatever width it is.

use crate::alphabet::Alphabet;
use crate::program::{Inst, Pc, Program, SubKind};

/// Answers of an engine that the simulation needs for what is nested inside a lookbehind.
pub trait Nested {
    /// Why an answer may not come.
    type Error;
    /// Whether lookaround `sub` holds at `at`.
    fn look(&mut self, sub: u32, text: &[u8], at: usize) -> Result<bool, Self::Error>;
    /// Where atomic group `sub`, entered at `at`, ends.
    fn atomic(&mut self, sub: u32, text: &[u8], at: usize) -> Result<Option<usize>, Self::Error>;
    /// Accounts for some steps of work.
    fn spend(&mut self, steps: u64) -> Result<(), Self::Error>;
}

/// The memory of one lookbehind over one text.
#[derive(Debug, Default, Clone)]
pub struct Tracker {
    /// Where the simulation began; bit 0 of `held`.
    low: usize,
    /// Answers count from here on: nearer to `low`, matches that began before it would be missing.
    valid: usize,
    /// Everything up to and including this position is answered; `None` before the first question.
    frontier: Option<usize>,
    /// One bit for each position from `low`.
    held: Vec<u64>,
    /// Instructions waiting for the symbol at the frontier.
    alive: Vec<Pc>,
    /// Atomic groups that end beyond the frontier: (end, where to go on).
    landing: Vec<(usize, Pc)>,
}

impl Tracker {
    /// Whether lookbehind `sub`, negation aside, holds at `at`.
    pub fn holds<N: Nested>(
        &mut self,
        program: &Program,
        sub: u32,
        text: &[u8],
        at: usize,
        nested: &mut N,
    ) -> Result<bool, N::Error> {
        let SubKind::Behind { max, .. } = program.subs[sub as usize].kind else {
            unreachable!("only lookbehinds are tracked");
        };
        let alphabet = &program.alphabet;
        let near = self.frontier.is_some_and(|f| self.valid <= at && at < f + 256);
        if !near {
            match max {
                // Far jumps skip what lies between: a match that ends here begins at most `width` symbols back.
                Some(width) => {
                    let low = step_back(alphabet, text, at, width);
                    *self = Tracker { low, valid: if low == 0 { 0 } else { at }, ..Tracker::default() };
                    self.advance(program, sub, text, low, nested)?;
                }
                None if self.frontier.is_none() => self.advance(program, sub, text, 0, nested)?,
                None => {}
            }
        }
        while let Some(frontier) = self.frontier.filter(|&f| f < at) {
            let Some((_, len)) = alphabet.next(text, frontier) else {
                break;
            };
            self.advance(program, sub, text, frontier + len, nested)?;
        }
        let bit = at - self.low;
        Ok(self.held.get(bit >> 6).is_some_and(|word| word >> (bit & 63) & 1 != 0))
    }

    /// Moves the frontier to `to`, one symbol on (or to the very first position).
    fn advance<N: Nested>(
        &mut self,
        program: &Program,
        sub: u32,
        text: &[u8],
        to: usize,
        nested: &mut N,
    ) -> Result<(), N::Error> {
        let alphabet = &program.alphabet;
        let before = alphabet.kind_before(text, to);
        let after = alphabet.kind_after(text, to);
        let mut seen = Seen::default();
        let mut stack = Vec::new();
        if self.frontier.is_some() {
            for &pc in &self.alive {
                if let Inst::Class { set, next } = program.insts[pc as usize]
                    && program.sets[set as usize].contains(before)
                {
                    stack.push(next);
                }
            }
        }
        stack.extend(self.landing.iter().filter(|l| l.0 == to).map(|l| l.1));
        self.landing.retain(|l| l.0 > to);
        stack.push(program.subs[sub as usize].entry);
        self.alive.clear();

        let mut held = false;
        while let Some(pc) = stack.pop() {
            if !seen.insert(pc) {
                continue;
            }
            match &program.insts[pc as usize] {
                Inst::Class { .. } => self.alive.push(pc),
                Inst::Split { first, second } => stack.extend([*second, *first]),
                Inst::Save { next, .. } => stack.push(*next),
                Inst::Assert { id, next } => {
                    if program.assertion(*id, before, after) {
                        stack.push(*next);
                    }
                }
                Inst::Look { sub, next } => {
                    if nested.look(*sub, text, to)? {
                        stack.push(*next);
                    }
                }
                Inst::Atomic { sub, if_empty, if_consumed } => match nested.atomic(*sub, text, to)? {
                    Some(end) if end == to => stack.push(*if_empty),
                    Some(end) if self.landing.contains(&(end, *if_consumed)) => {}
                    Some(end) => self.landing.push((end, *if_consumed)),
                    None => {}
                },
                Inst::Match => held = true,
                Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => {}
            }
        }
        nested.spend(1 + seen.len() as u64 + self.landing.len() as u64)?;
        self.frontier = Some(to);
        let bit = to - self.low;
        if self.held.len() <= bit >> 6 {
            self.held.resize((bit >> 6) + 1, 0);
        }
        self.held[bit >> 6] |= u64::from(held) << (bit & 63);
        Ok(())
    }
}

/// Instructions already visited in one closure: a list while short, a bitmap when not.
#[derive(Default)]
struct Seen {
    list: Vec<Pc>,
    bits: Vec<u64>,
}

impl Seen {
    fn insert(&mut self, pc: Pc) -> bool {
        if self.bits.is_empty() {
            if self.list.contains(&pc) {
                return false;
            }
            self.list.push(pc);
            if self.list.len() > 32 {
                for &pc in &self.list {
                    mark(&mut self.bits, pc);
                }
            }
            return true;
        }
        let fresh = mark(&mut self.bits, pc);
        if fresh {
            self.list.push(pc);
        }
        fresh
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}

fn mark(bits: &mut Vec<u64>, pc: Pc) -> bool {
    let word = (pc >> 6) as usize;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    let fresh = bits[word] >> (pc & 63) & 1 == 0;
    bits[word] |= 1 << (pc & 63);
    fresh
}

/// The position `symbols` symbols before `at`, or the beginning.
pub fn step_back(alphabet: &Alphabet, text: &[u8], at: usize, symbols: usize) -> usize {
    let mut at = at;
    for _ in 0..symbols {
        match alphabet.prev(text, at) {
            Some((_, len)) => at -= len,
            None => break,
        }
    }
    at
}
