//! The groups of matches whose bounds the sweep has found.
//!
//! The path of a match through the main program is walked from its beginning to its end, so all matches together cost one
//! more pass over the text. What a lookaround or an atomic group on that path sets is looked up in a table by position,
//! made in one pass for each of them. A lookaround may reach far beyond the match: walking it anew wherever it is asked
//! would take quadratic time.

use std::collections::HashMap;

use super::reach::Reach;
use super::sweep::{MEMORY_LIMIT, NONE, Sweep};
use crate::alphabet::Kind;
use crate::error::SearchError;

use crate::program::{Inst, Pc, Program, SubKind};

/// Tables of what sub-programs set.
#[derive(Debug, Clone)]
pub struct Groups {
    /// For each sub-program but the main one: the groups that it may set, ascending, those of inner ones included. Group 0
    /// stands for `\K`. Negative lookarounds set nothing.
    inside: Vec<Vec<u32>>,
    /// For each sub-program that may set groups, by position and group: beginning and end, or twice [`NONE`].
    found: Vec<Vec<u32>>,
    /// Instructions looked at.
    pub work: u64,
}

impl Groups {
    /// Makes the tables of all sub-programs that may set groups.
    pub fn new(program: &Program, sweep: &Sweep, text: &[u8]) -> Result<Self, SearchError> {
        let count = program.subs.len();
        let mut groups = Groups { inside: vec![Vec::new(); count], found: vec![Vec::new(); count], work: 0 };
        let mut needed = 0;
        // Inner sub-programs have larger numbers.
        for id in (1..count).rev() {
            let sub = &program.subs[id];
            if matches!(sub.kind, SubKind::Ahead { negative: true } | SubKind::Behind { negative: true, .. }) {
                continue;
            }
            let mut inside = Vec::new();
            let mut columns = 0;
            for &pc in &sub.order {
                match program.insts[pc as usize] {
                    Inst::Save { slot, .. } => inside.push(slot / 2),
                    Inst::Look { sub, .. } => inside.extend(&groups.inside[sub as usize]),
                    Inst::Atomic { sub, .. } => {
                        inside.extend(&groups.inside[sub as usize]);
                        columns += 1;
                    }
                    _ => {}
                }
            }
            inside.sort_unstable();
            inside.dedup();
            if !inside.is_empty() {
                let entry = 8 * inside.len() as u64;
                needed += (entry + columns * (entry + 4)) * (text.len() as u64 + 1);
                needed += 2 * (entry + entry / 2 + 4) * sub.order.len() as u64;
            }
            groups.inside[id] = inside;
        }
        if needed > MEMORY_LIMIT {
            return Err(SearchError::TablesTooLarge { needed, limit: MEMORY_LIMIT });
        }
        for id in (1..count).rev().filter(|&id| !groups.inside[id].is_empty()) {
            groups.work += program.subs[id].order.len() as u64 * (text.len() as u64 + 1);
            groups.found[id] = match program.subs[id].kind {
                SubKind::Behind { .. } => groups.pass_right(program, sweep, id, text),
                _ => groups.pass_left(program, sweep, id, text),
            };
        }
        Ok(groups)
    }

    /// What sub-program `sub` sets at `at`: each group with its bounds.
    fn set_by(&self, sub: u32, at: usize) -> impl Iterator<Item = (u32, [u32; 2])> {
        let inside = &self.inside[sub as usize];
        let values = self.found[sub as usize].get(2 * inside.len() * at..).unwrap_or_default();
        inside.iter().zip(values.chunks_exact(2)).map(|(&group, v)| (group, [v[0], v[1]])).filter(|(_, v)| v[1] != NONE)
    }

    /// For a lookahead or an atomic group: the path of its first match from every position, from right to left. What is set
    /// later on the path is met first, and stays.
    fn pass_left(&self, program: &Program, sweep: &Sweep, id: usize, text: &[u8]) -> Vec<u32> {
        let sub = &program.subs[id];
        let alphabet = &program.alphabet;
        let inside = &self.inside[id];
        let width = 2 * inside.len();
        let place = |group: u32| 2 * inside.partition_point(|&g| g < group);
        let mut local = vec![0; program.insts.len()];
        for (number, &pc) in sub.order.iter().enumerate() {
            local[pc as usize] = number;
        }
        let mut far: HashMap<Pc, Rows> = HashMap::new();
        for &pc in &sub.order {
            if let Inst::Atomic { if_consumed, .. } = program.insts[pc as usize] {
                far.entry(if_consumed).or_insert_with(|| Rows::new(text.len() + 1, width));
            }
        }
        let mut table = vec![NONE; width * (text.len() + 1)];
        let mut row = Rows::new(sub.order.len(), width);
        let mut right = row.clone();
        let mut value = vec![NONE; width];
        let mut at = text.len();
        let mut after = alphabet.edge();
        loop {
            let (before, len) = alphabet.prev(text, at).unwrap_or((alphabet.edge(), 0));
            for (number, &pc) in sub.order.iter().enumerate() {
                let here = |pc: &Pc| local[*pc as usize];
                let reached = match &program.insts[pc as usize] {
                    Inst::Class { set, next } => {
                        program.sets[*set as usize].contains(after) && right.read(here(next), &mut value)
                    }
                    Inst::Split { first, second } => {
                        row.read(here(first), &mut value) || row.read(here(second), &mut value)
                    }
                    Inst::Save { slot, next } => {
                        let reached = row.read(here(next), &mut value);
                        let start = place(slot / 2);
                        match slot % 2 {
                            _ if *slot == 0 && value[start] == NONE => value[start..start + 2].fill(at as u32),
                            1 if value[start + 1] == NONE => value[start + 1] = at as u32,
                            0 if value[start] == NONE => value[start] = at as u32,
                            _ => {}
                        }
                        reached
                    }
                    Inst::Assert { id, next } => {
                        program.assertion(*id, before, after) && row.read(here(next), &mut value)
                    }
                    Inst::Look { sub, next } => {
                        let reached = sweep.look(program, *sub, at) && row.read(here(next), &mut value);
                        self.fill(*sub, at, &mut value, place);
                        reached
                    }
                    Inst::Atomic { sub, if_empty, if_consumed } => {
                        let reached = match sweep.ends[*sub as usize][at] {
                            NONE => false,
                            end if end as usize == at => row.read(here(if_empty), &mut value),
                            end => far[if_consumed].read(end as usize, &mut value),
                        };
                        self.fill(*sub, at, &mut value, place);
                        reached
                    }
                    Inst::Match => {
                        value.fill(NONE);
                        true
                    }
                    Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => false,
                };
                row.write(number, reached, &value);
            }
            if row.read(local[sub.entry as usize], &mut value) {
                table[width * at..width * (at + 1)].copy_from_slice(&value);
            }
            for (pc, column) in &mut far {
                let reached = row.read(local[*pc as usize], &mut value);
                column.write(at, reached, &value);
            }
            if len == 0 {
                return table;
            }
            std::mem::swap(&mut row, &mut right);
            at -= len;
            after = before;
        }
    }

    /// Groups of an inner sub-program that nothing later on the path has set.
    fn fill(&self, sub: u32, at: usize, value: &mut [u32], place: impl Fn(u32) -> usize) {
        for (group, bounds) in self.set_by(sub, at) {
            let start = place(group);
            if value[start + 1] == NONE {
                value[start..start + 2].copy_from_slice(&bounds);
            }
        }
    }

    /// Groups of an inner sub-program replace those set before it.
    fn overwrite(&self, sub: u32, at: usize, set: &mut [u32], place: impl Fn(u32) -> usize) {
        for (group, bounds) in self.set_by(sub, at) {
            set[place(group)..place(group) + 2].copy_from_slice(&bounds);
        }
    }

    /// For a lookbehind: at every position, the path of its match from the nearest beginning, by following all paths from
    /// left to right in the order in which they are preferred.
    fn pass_right(&self, program: &Program, sweep: &Sweep, id: usize, text: &[u8]) -> Vec<u32> {
        let inside = &self.inside[id];
        let width = 2 * inside.len();
        let mut table = vec![NONE; width * (text.len() + 1)];
        let mut paths =
            Paths { groups: self, program, sweep, inside, seen: vec![0; program.insts.len()], alive: Vec::new() };
        let mut at = 0;
        loop {
            let before = program.alphabet.kind_before(text, at);
            let around = (before, program.alphabet.kind_after(text, at));
            let old = std::mem::take(&mut paths.alive);
            let held = &mut table[width * at..width * (at + 1)];
            // One that begins here is the nearest.
            paths.follow(program.subs[id].entry, vec![NONE; 3 * inside.len()], at, around, held);
            for path in old {
                match path.wait {
                    Wait::Symbol { set, next } => {
                        if program.sets[set as usize].contains(before) {
                            paths.follow(next, path.set, at, around, held);
                        }
                    }
                    Wait::Place { end, next } if end == at => paths.follow(next, path.set, at, around, held),
                    wait @ Wait::Place { .. } => {
                        if paths.alive.iter().all(|other| other.wait != wait) {
                            paths.alive.push(path);
                        }
                    }
                }
            }
            match program.alphabet.next(text, at) {
                Some((_, len)) => at += len,
                None => return table,
            }
        }
    }

    /// Fills in the groups of the match of the whole pattern with these bounds.
    pub fn walk(
        &self,
        program: &Program,
        sweep: &Sweep,
        text: &[u8],
        (start, end): (usize, usize),
        slots: &mut [usize],
    ) {
        let mut reach = Reach::new(program, sweep, text, start, end);
        let mut opened: HashMap<u32, usize> = HashMap::new();
        let (mut pc, mut step) = (program.subs[0].entry, 0);
        loop {
            let at = reach.at[step];
            pc = match &program.insts[pc as usize] {
                Inst::Class { next, .. } => {
                    step += 1;
                    *next
                }
                Inst::Split { first, second } => {
                    if reach.reaches(*first, step) {
                        *first
                    } else {
                        *second
                    }
                }
                Inst::Save { slot: 0, next } => {
                    slots[0] = at;
                    *next
                }
                Inst::Save { slot, next } => {
                    if slot.is_multiple_of(2) {
                        opened.insert(*slot, at);
                    } else if let Some(from) = opened.get(&(slot - 1)) {
                        slots[*slot as usize - 1] = *from;
                        slots[*slot as usize] = at;
                    }
                    *next
                }
                Inst::Assert { next, .. } => *next,
                Inst::Look { sub, next } => {
                    self.take(*sub, at, slots);
                    *next
                }
                Inst::Atomic { sub, if_empty, if_consumed } => {
                    self.take(*sub, at, slots);
                    let to = sweep.ends[*sub as usize][at] as usize;
                    step = reach.at.partition_point(|&p| p < to);
                    if to == at { *if_empty } else { *if_consumed }
                }
                Inst::Match | Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => return,
            };
        }
    }

    /// Groups inside a positive lookaround or an atomic group keep what they matched.
    fn take(&self, sub: u32, at: usize, slots: &mut [usize]) {
        for (group, bounds) in self.set_by(sub, at) {
            let slot = 2 * group as usize;
            slots[slot] = bounds[0] as usize;
            if group > 0 {
                slots[slot + 1] = bounds[1] as usize;
            }
        }
    }
}

/// Whether something is reached, and the groups on the way there, by number.
#[derive(Clone)]
struct Rows {
    reached: Vec<bool>,
    values: Vec<u32>,
    width: usize,
}

impl Rows {
    fn new(count: usize, width: usize) -> Self {
        Rows { reached: vec![false; count], values: vec![NONE; count * width], width }
    }

    fn read(&self, number: usize, value: &mut [u32]) -> bool {
        if self.reached[number] {
            value.copy_from_slice(&self.values[self.width * number..self.width * (number + 1)]);
        }
        self.reached[number]
    }

    fn write(&mut self, number: usize, reached: bool, value: &[u32]) {
        self.reached[number] = reached;
        if reached {
            self.values[self.width * number..self.width * (number + 1)].copy_from_slice(value);
        }
    }
}

/// What a path through a lookbehind waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The next symbol.
    Symbol { set: u32, next: Pc },
    /// The end of an atomic group.
    Place { end: usize, next: Pc },
}

/// One path, with the groups on it: beginning, end and a beginning that waits for its end.
struct Path {
    wait: Wait,
    set: Vec<u32>,
}

/// The paths through a lookbehind that are alive, the preferred ones first. Of two at the same instruction only the first
/// counts.
struct Paths<'a> {
    groups: &'a Groups,
    program: &'a Program,
    sweep: &'a Sweep,
    inside: &'a [u32],
    /// The last position at which an instruction was reached, plus one.
    seen: Vec<usize>,
    alive: Vec<Path>,
}

impl Paths<'_> {
    /// Follows a path until each of its branches waits or matches; `held` takes the groups of the first match.
    fn follow(&mut self, pc: Pc, set: Vec<u32>, at: usize, (before, after): (Kind, Kind), held: &mut [u32]) {
        let place = |group: u32| 3 * self.inside.partition_point(|&g| g < group);
        let mut stack = vec![(pc, set)];
        while let Some((pc, mut set)) = stack.pop() {
            // Positions count from one here.
            if std::mem::replace(&mut self.seen[pc as usize], at + 1) == at + 1 {
                continue;
            }
            match &self.program.insts[pc as usize] {
                Inst::Class { set: symbols, next } => {
                    self.alive.push(Path { wait: Wait::Symbol { set: *symbols, next: *next }, set });
                }
                Inst::Split { first, second } => {
                    stack.push((*second, set.clone()));
                    stack.push((*first, set));
                }
                Inst::Save { slot, next } => {
                    let start = place(slot / 2);
                    if slot.is_multiple_of(2) {
                        set[start + 2] = at as u32;
                    } else {
                        set[start] = set[start + 2];
                        set[start + 1] = at as u32;
                    }
                    stack.push((*next, set));
                }
                Inst::Assert { id, next } => {
                    if self.program.assertion(*id, before, after) {
                        stack.push((*next, set));
                    }
                }
                Inst::Look { sub, next } => {
                    if self.sweep.look(self.program, *sub, at) {
                        self.groups.overwrite(*sub, at, &mut set, place);
                        stack.push((*next, set));
                    }
                }
                Inst::Atomic { sub, if_empty, if_consumed } => {
                    self.groups.overwrite(*sub, at, &mut set, place);
                    match self.sweep.ends[*sub as usize][at] {
                        NONE => {}
                        end if end as usize == at => stack.push((*if_empty, set)),
                        end => {
                            let wait = Wait::Place { end: end as usize, next: *if_consumed };
                            if self.alive.iter().all(|other| other.wait != wait) {
                                self.alive.push(Path { wait, set });
                            }
                        }
                    }
                }
                // Each position has at most one first match, which is the first to come here.
                Inst::Match => {
                    for (to, from) in held.chunks_exact_mut(2).zip(set.chunks_exact(3)) {
                        to.copy_from_slice(&from[..2]);
                    }
                }
                Inst::Fail | Inst::Run { .. } | Inst::Backref { .. } => {}
            }
        }
    }
}
