//! Backtracking with an explicit stack and a meter.
//!
//! Follows the program in priority order, as the definition of the syntax does, and so can do everything: captures,
//! lookaround, atomic groups, backreferences. It can also take exponential time, so every step is paid for: when the
//! meter runs out, patterns without backreferences go to [`super::sweep`], those with them end in an error.

use super::ahead::{Aheads, Known};
use super::behind::{Nested, Tracker, step_back};
use crate::alphabet::decode;
use crate::hir::Fold;
use crate::program::{Inst, Pc, Program, SubKind};
use crate::symset::SymSet;
use crate::unicode;

/// A slot that has not been set.
pub const UNSET: usize = usize::MAX;

/// The meter ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfFuel;

#[derive(Debug, Clone, Copy)]
enum Frame {
    /// Go on here instead.
    Branch { pc: Pc, at: usize },
    /// Give a slot its value back.
    Restore { slot: u32, value: usize },
}

const _: () = assert!(size_of::<Frame>() == 16);

/// Bytes of a backreference that are compared at once.
const BLOCK: usize = 64;

/// Steps that it takes to look up whether two letters differ in case only.
const FOLDING: u64 = 16;

/// Frames that the stack may hold on any text, and more for each byte of it: 4 MiB and 256 bytes a byte. While the vector
/// grows it may take three times that.
const STACK: usize = 1 << 18;
const STACK_PER_BYTE: usize = 16;

/// Frames for which memory is kept from one text to the next.
const STACK_KEPT: usize = 1 << 14;

/// Working memory, kept across matches of one text.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    stack: Vec<Frame>,
    /// Frames that the stack may hold on this text.
    pub room: usize,
    /// The stack had no more room.
    pub full: bool,
    /// Positions of groups; slot 0 is only used by `\K`.
    pub slots: Vec<usize>,
    trackers: Vec<Tracker>,
    /// What lookaheads have found.
    pub ahead: Known,
    /// Steps left.
    pub fuel: u64,
}

impl Memory {
    /// Forgets what belongs to a text; the next one has `len` bytes.
    pub fn new_text(&mut self, len: usize) {
        self.trackers.clear();
        self.ahead.clear();
        self.room = STACK.saturating_add(STACK_PER_BYTE.saturating_mul(len));
        self.full = false;
    }

    /// Gives back what a large text needed.
    pub fn trim(&mut self) {
        self.stack.clear();
        self.stack.shrink_to(STACK_KEPT);
        self.trackers.clear();
        self.ahead = Known::default();
    }
}

/// One attempt: the program, its memory, and whether groups are wanted.
pub struct Backtracker<'a> {
    program: &'a Program,
    aheads: &'a Aheads,
    memory: &'a mut Memory,
    groups: bool,
}

impl<'a> Backtracker<'a> {
    /// Prepares an attempt. With `groups` unset only what backreferences need is recorded.
    pub fn new(program: &'a Program, aheads: &'a Aheads, memory: &'a mut Memory, groups: bool) -> Self {
        memory.trackers.resize(program.subs.len(), Tracker::default());
        let groups = groups || program.has_backrefs || program.has_keep;
        Backtracker { program, aheads, memory, groups }
    }

    /// Matches at exactly `at`; returns the end. Slots hold the groups afterwards.
    pub fn match_at(&mut self, text: &[u8], at: usize) -> Result<Option<usize>, OutOfFuel> {
        self.memory.slots.clear();
        self.memory.slots.resize(self.program.slots / 2 * 3, UNSET);
        self.memory.stack.clear();
        self.run(self.program.subs[0].entry, text, at, None)
    }

    /// Runs a sub-program. On success its choices are dropped but what it changed can still be undone; on failure
    /// nothing is left of it. With `end_at`, only a match that ends there counts.
    fn run(&mut self, entry: Pc, text: &[u8], at: usize, end_at: Option<usize>) -> Result<Option<usize>, OutOfFuel> {
        let base = self.memory.stack.len();
        let program = self.program;
        let (mut pc, mut at) = (entry, at);
        loop {
            let fuel = self.memory.fuel;
            if fuel == 0 {
                return Err(OutOfFuel);
            }
            self.memory.fuel = fuel - 1;
            let ok = match &program.insts[pc as usize] {
                Inst::Class { set, next } => match program.alphabet.next(text, at) {
                    Some((kind, len)) if program.sets[*set as usize].contains(kind) => {
                        at += len;
                        pc = *next;
                        true
                    }
                    _ => false,
                },
                Inst::Split { first, second } => {
                    // A path cannot grow for long without a choice, so this is the place to look.
                    if self.memory.stack.len() >= self.memory.room {
                        self.memory.full = true;
                        return Err(OutOfFuel);
                    }
                    self.memory.stack.push(Frame::Branch { pc: *second, at });
                    pc = *first;
                    true
                }
                Inst::Save { slot, next } => {
                    if self.groups {
                        self.save(*slot, at);
                    }
                    pc = *next;
                    true
                }
                Inst::Assert { id, next } => {
                    let alphabet = &program.alphabet;
                    pc = *next;
                    program.assertion(*id, alphabet.kind_before(text, at), alphabet.kind_after(text, at))
                }
                Inst::Look { sub, next } => {
                    pc = *next;
                    self.look_at(*sub, text, at)?
                }
                Inst::Atomic { sub, if_empty, if_consumed } => {
                    match self.run(program.subs[*sub as usize].entry, text, at, None)? {
                        Some(end) => {
                            pc = if end == at { *if_empty } else { *if_consumed };
                            at = end;
                            true
                        }
                        None => false,
                    }
                }
                Inst::Run { set, if_empty, if_consumed } => {
                    let set = &program.sets[*set as usize];
                    let start = at;
                    while let Some((kind, len)) = program.alphabet.next(text, at)
                        && set.contains(kind)
                    {
                        at += len;
                    }
                    self.memory.fuel = self.memory.fuel.saturating_sub((at - start) as u64 / 8);
                    pc = if at == start { *if_empty } else { *if_consumed };
                    true
                }
                Inst::Backref { group, fold, if_empty, if_consumed } => match self.backref(*group, *fold, text, at)? {
                    Some(end) => {
                        pc = if end == at { *if_empty } else { *if_consumed };
                        at = end;
                        true
                    }
                    None => false,
                },
                Inst::Match => {
                    if end_at.is_none_or(|end| end == at) {
                        self.keep_restores(base);
                        return Ok(Some(at));
                    }
                    false
                }
                Inst::Fail => false,
            };
            if !ok {
                match self.backtrack(base) {
                    Some((next, position)) => (pc, at) = (next, position),
                    None => return Ok(None),
                }
            }
        }
    }

    /// Notes a position. A group counts from when it closes, so that a reference to it from inside, `(a|b\1)+`, sees
    /// its last complete text; until then its beginning waits behind the ordinary slots.
    fn save(&mut self, slot: u32, at: usize) {
        let waiting = self.program.slots as u32 + slot / 2;
        if slot == 0 {
            self.set(0, at);
        } else if slot.is_multiple_of(2) {
            self.set(waiting, at);
        } else {
            self.set(slot - 1, self.memory.slots[waiting as usize]);
            self.set(slot, at);
        }
    }

    fn set(&mut self, slot: u32, at: usize) {
        let value = std::mem::replace(&mut self.memory.slots[slot as usize], at);
        self.memory.stack.push(Frame::Restore { slot, value });
    }

    /// Undoes back to the last choice above `base`.
    fn backtrack(&mut self, base: usize) -> Option<(Pc, usize)> {
        while self.memory.stack.len() > base {
            match self.memory.stack.pop() {
                Some(Frame::Branch { pc, at }) => return Some((pc, at)),
                Some(Frame::Restore { slot, value }) => self.memory.slots[slot as usize] = value,
                None => break,
            }
        }
        None
    }

    fn keep_restores(&mut self, base: usize) {
        let stack = &mut self.memory.stack;
        let mut kept = base;
        for i in base..stack.len() {
            if let Frame::Restore { .. } = stack[i] {
                stack[kept] = stack[i];
                kept += 1;
            }
        }
        stack.truncate(kept);
    }

    /// Undoes everything above `base`.
    fn undo(&mut self, base: usize) {
        while self.backtrack(base).is_some() {}
    }

    fn look_at(&mut self, id: u32, text: &[u8], at: usize) -> Result<bool, OutOfFuel> {
        let sub = &self.program.subs[id as usize];
        match sub.kind {
            SubKind::Ahead { negative } => {
                if !(sub.captures && self.groups && !negative)
                    && let Some(found) = self.aheads.holds(self.program, id, text, at, &mut self.memory.ahead)
                {
                    return Ok(found != negative);
                }
                let base = self.memory.stack.len();
                let found = self.run(sub.entry, text, at, None)?.is_some();
                if negative {
                    self.undo(base);
                }
                Ok(found != negative)
            }
            SubKind::Behind { negative, min, max } => {
                let found = if sub.backrefs || sub.captures && self.groups {
                    self.behind_by_trial(id, text, at, min, max, negative)?
                } else {
                    let mut tracker = std::mem::take(&mut self.memory.trackers[id as usize]);
                    let found = tracker.holds(self.program, id, text, at, self);
                    self.memory.trackers[id as usize] = tracker;
                    found?
                };
                Ok(found != negative)
            }
            SubKind::Main | SubKind::Atomic => unreachable!("not a lookaround"),
        }
    }

    /// A lookbehind whose groups matter: the nearest beginning from which its content ends here.
    fn behind_by_trial(
        &mut self,
        id: u32,
        text: &[u8],
        at: usize,
        min: usize,
        max: Option<usize>,
        negative: bool,
    ) -> Result<bool, OutOfFuel> {
        let entry = self.program.subs[id as usize].entry;
        self.spend(min as u64 / 8)?;
        let alphabet = &self.program.alphabet;
        let mut start = step_back(alphabet, text, at, min);
        let mut width = min;
        loop {
            let base = self.memory.stack.len();
            if self.run(entry, text, start, Some(at))?.is_some() {
                if negative {
                    self.undo(base);
                }
                return Ok(true);
            }
            if max == Some(width) {
                return Ok(false);
            }
            match alphabet.prev(text, start) {
                Some((_, len)) => start -= len,
                None => return Ok(false),
            }
            width += 1;
        }
    }

    /// Where the repeated text of `group` ends, if it stands at `at`. What is compared is paid for, whether it is equal or not.
    fn backref(&mut self, group: u32, fold: Fold, text: &[u8], at: usize) -> Result<Option<usize>, OutOfFuel> {
        let slots = &self.memory.slots;
        let (start, end) = (slots[2 * group as usize], slots[2 * group as usize + 1]);
        if start == UNSET || end == UNSET || start > end {
            return Ok(None);
        }
        let wanted = &text[start..end];
        if fold == Fold::Simple {
            return self.folded(wanted, text, at);
        }
        let Some(found) = text.get(at..at + wanted.len()) else {
            return Ok(None);
        };
        // In parts, since a long text mostly differs soon.
        for (a, b) in wanted.chunks(BLOCK).zip(found.chunks(BLOCK)) {
            self.spend(a.len() as u64 / 8)?;
            if !(if fold == Fold::Ascii { a.eq_ignore_ascii_case(b) } else { a == b }) {
                return Ok(None);
            }
        }
        Ok(Some(at + wanted.len()))
    }

    /// Where a text that equals `wanted` under simple case folding ends, if it stands at `at`. It may have another length.
    fn folded(&mut self, wanted: &[u8], text: &[u8], at: usize) -> Result<Option<usize>, OutOfFuel> {
        let (mut from, mut to) = (0, at);
        while from < wanted.len() {
            match (decode(wanted, from), decode(text, to)) {
                (Some((a, m)), Some((b, n))) => {
                    self.spend(if a == b || a < 0x80 && b < 0x80 { 1 } else { FOLDING })?;
                    if !same_letter(a, b) {
                        return Ok(None);
                    }
                    from += m;
                    to += n;
                }
                (None, _) if text.get(to) == Some(&wanted[from]) => {
                    self.spend(1)?;
                    from += 1;
                    to += 1;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(to))
    }
}

/// Equality under simple case folding.
pub fn same_letter(a: u32, b: u32) -> bool {
    a == b
        || match (u8::try_from(a), u8::try_from(b)) {
            (Ok(x), Ok(y)) if a < 0x80 && b < 0x80 => x.eq_ignore_ascii_case(&y),
            _ => unicode::fold_simple(&SymSet::single(a)).contains(b),
        }
}

impl Nested for Backtracker<'_> {
    type Error = OutOfFuel;

    fn look(&mut self, sub: u32, text: &[u8], at: usize) -> Result<bool, OutOfFuel> {
        self.look_at(sub, text, at)
    }

    fn atomic(&mut self, sub: u32, text: &[u8], at: usize) -> Result<Option<usize>, OutOfFuel> {
        let base = self.memory.stack.len();
        let end = self.run(self.program.subs[sub as usize].entry, text, at, None);
        self.undo(base);
        end
    }

    fn spend(&mut self, steps: u64) -> Result<(), OutOfFuel> {
        if self.memory.fuel < steps {
            return Err(OutOfFuel);
        }
        self.memory.fuel -= steps;
        Ok(())
    }
}
