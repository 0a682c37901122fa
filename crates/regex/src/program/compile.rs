//! [`Hir`] to [`Program`], back to front: each item is compiled with the address of what follows it.

use std::collections::HashMap;

use super::opening::need;
use super::relax::first_side;
use super::{Inst, Pc, Program, Sub, SubKind};
use crate::alphabet::Alphabet;
use crate::hir::{Assertion, Hir};
use crate::symset::SymSet;

/// Compiles `hir`, or returns `None` when more than `limit` instructions would be needed.
pub fn compile(hir: &Hir, groups: usize, bytes: bool, limit: usize) -> Option<Program> {
    let mut compiler = Compiler {
        insts: Vec::new(),
        sets: Vec::new(),
        set_ids: HashMap::new(),
        sub_ids: HashMap::new(),
        asserts: Vec::new(),
        subs: vec![Sub { kind: SubKind::Main, entry: 0, order: Vec::new(), captures: false, backrefs: false }],
        runs: hir.any(|h| matches!(h, Hir::Backref { .. })),
        limit,
    };
    compiler.sub(0, hir)?;
    let has_backrefs = compiler.insts.iter().any(|i| matches!(i, Inst::Backref { .. }));
    let has_keep = hir.any(|h| matches!(h, Hir::Keep));

    // The sides of assertions and the first symbols are sets like any other.
    let mut assertions = Vec::new();
    for assertion in std::mem::take(&mut compiler.asserts) {
        let pairs: Vec<_> = assertion
            .0
            .into_iter()
            .map(|(b, a)| {
                let ids = (compiler.set(&b.symbols), compiler.set(&a.symbols));
                ((ids.0, b.invalid, b.edge), (ids.1, a.invalid, a.edge))
            })
            .collect();
        assertions.push(pairs);
    }
    let first = first_side(hir);
    let first_id = compiler.set(&first.symbols);
    let need = need(hir).map(|(run, symbols)| (compiler.set(run), compiler.set(symbols), symbols.clone()));
    let alphabet = Alphabet::new(&compiler.sets, bytes)?;
    let sets = (0..compiler.sets.len()).map(|id| alphabet.kinds_of(id, false, false)).collect();
    let kinds = |(id, invalid, edge): (u32, bool, bool)| alphabet.kinds_of(id as usize, invalid, edge);
    let asserts =
        assertions.into_iter().map(|pairs| pairs.into_iter().map(|(b, a)| (kinds(b), kinds(a))).collect()).collect();
    Some(Program {
        first: kinds((first_id, first.invalid, first.edge)),
        need: need.map(|(run, then, symbols)| (kinds((run, false, false)), kinds((then, false, false)), symbols)),
        has_subs: compiler.subs.len() > 1,
        insts: compiler.insts,
        subs: compiler.subs,
        sets,
        asserts,
        slots: 2 * groups,
        has_backrefs,
        has_keep,
        nullable: hir.is_nullable(),
        alphabet,
    })
}

struct Compiler {
    insts: Vec<Inst>,
    sets: Vec<SymSet>,
    set_ids: HashMap<SymSet, u32>,
    /// Sub-programs by the node that they were made of, so that copies of a repeated item share them.
    sub_ids: HashMap<*const Hir, u32>,
    asserts: Vec<Assertion>,
    subs: Vec<Sub>,
    /// Atomic runs of a class are one instruction.
    runs: bool,
    limit: usize,
}

impl Compiler {
    fn push(&mut self, inst: Inst) -> Option<Pc> {
        if self.insts.len() >= self.limit {
            return None;
        }
        self.insts.push(inst);
        Some(self.insts.len() as Pc - 1)
    }

    fn set(&mut self, set: &SymSet) -> u32 {
        if let Some(&id) = self.set_ids.get(set) {
            return id;
        }
        let id = self.sets.len() as u32;
        self.sets.push(set.clone());
        self.set_ids.insert(set.clone(), id);
        id
    }

    /// Compiles `hir` as sub-program `id`.
    fn sub(&mut self, id: usize, hir: &Hir) -> Option<()> {
        let end = self.push(Inst::Match)?;
        let entry = self.item(hir, end)?;
        self.subs[id].entry = entry;
        self.subs[id].order = self.order(entry);
        self.subs[id].captures = hir.any(|h| matches!(h, Hir::Capture { .. }));
        self.subs[id].backrefs = hir.any(|h| matches!(h, Hir::Backref { .. }));
        Some(())
    }

    fn new_sub(&mut self, kind: SubKind, hir: &Hir) -> Option<u32> {
        if let Some(&id) = self.sub_ids.get(&std::ptr::from_ref(hir)) {
            return Some(id);
        }
        let id = self.subs.len();
        self.sub_ids.insert(std::ptr::from_ref(hir), id as u32);
        self.subs.push(Sub { kind, entry: 0, order: Vec::new(), captures: false, backrefs: false });
        // Lookbehinds are followed in another way than by backtracking.
        let runs = self.runs;
        self.runs &= !matches!(kind, SubKind::Behind { .. });
        self.sub(id, hir)?;
        self.runs = runs;
        Some(id as u32)
    }

    /// Compiles one item that goes on at `next`; returns its entry.
    fn item(&mut self, hir: &Hir, next: Pc) -> Option<Pc> {
        match hir {
            Hir::Empty => Some(next),
            Hir::Fail => self.push(Inst::Fail),
            Hir::Class(_, set) => {
                let set = self.set(set);
                self.push(Inst::Class { set, next })
            }
            Hir::Assert(assertion) => {
                let id = match self.asserts.iter().position(|a| a == assertion) {
                    Some(id) => id,
                    None => {
                        self.asserts.push(assertion.clone());
                        self.asserts.len() - 1
                    }
                };
                self.push(Inst::Assert { id: id as u32, next })
            }
            Hir::Concat(items) => items.iter().rev().try_fold(next, |next, item| self.item(item, next)),
            Hir::Alternate(items) => {
                let entries = items.iter().map(|item| self.item(item, next)).collect::<Option<Vec<Pc>>>()?;
                let (&last, front) = entries.split_last()?;
                front.iter().rev().try_fold(last, |second, &first| self.push(Inst::Split { first, second }))
            }
            Hir::Repeat { item, min, max, greedy } => self.repeat(item, *min, *max, *greedy, next),
            Hir::Capture { index, item } => {
                let end = self.push(Inst::Save { slot: index * 2 + 1, next })?;
                let entry = self.item(item, end)?;
                self.push(Inst::Save { slot: index * 2, next: entry })
            }
            Hir::Keep => self.push(Inst::Save { slot: 0, next }),
            Hir::Atomic(item) => {
                if self.runs
                    && let Hir::Repeat { item, min, max: None, greedy: true } = &**item
                    && let Hir::Class(_, set) = &**item
                {
                    let set = self.set(set);
                    let mut entry = self.push(Inst::Run { set, if_empty: next, if_consumed: next })?;
                    for _ in 0..*min {
                        entry = self.push(Inst::Class { set, next: entry })?;
                    }
                    return Some(entry);
                }
                let sub = self.new_sub(SubKind::Atomic, item)?;
                // An edge that is never taken could still close a cycle without consumption.
                let if_empty = if item.is_nullable() { next } else { self.push(Inst::Fail)? };
                self.push(Inst::Atomic { sub, if_empty, if_consumed: next })
            }
            Hir::Look { ahead: true, negative, item } => {
                let sub = self.new_sub(SubKind::Ahead { negative: *negative }, item)?;
                self.push(Inst::Look { sub, next })
            }
            Hir::Look { ahead: false, negative, item } => {
                let (min, max) = item.widths();
                let sub = self.new_sub(SubKind::Behind { negative: *negative, min, max }, item)?;
                self.push(Inst::Look { sub, next })
            }
            Hir::Backref { index, fold } => {
                self.push(Inst::Backref { group: *index, fold: *fold, if_empty: next, if_consumed: next })
            }
        }
    }

    fn split(&mut self, greedy: bool, go: Pc, leave: Pc) -> Inst {
        if greedy { Inst::Split { first: go, second: leave } } else { Inst::Split { first: leave, second: go } }
    }

    fn repeat(&mut self, item: &Hir, min: u32, max: Option<u32>, greedy: bool, next: Pc) -> Option<Pc> {
        let mut entry = next;
        let mandatory = match max {
            Some(max) => {
                // x{2,4} is xx(?:x(?:x)?)?, every exit going straight to what follows.
                for _ in min..max {
                    let body = self.item(item, entry)?;
                    let inst = self.split(greedy, body, next);
                    entry = self.push(inst)?;
                }
                min
            }
            None => {
                entry = self.unbounded(item, min, greedy, next)?;
                min.saturating_sub(1)
            }
        };
        for _ in 0..mandatory {
            entry = self.item(item, entry)?;
        }
        Some(entry)
    }

    /// `x*` for `min == 0`, `x+` otherwise.
    fn unbounded(&mut self, item: &Hir, min: u32, greedy: bool, next: Pc) -> Option<Pc> {
        let head = self.push(Inst::Fail)?;
        let body = self.item(item, head)?;
        if !item.is_nullable() {
            self.insts[head as usize] = self.split(greedy, body, next);
            return Some(if min == 0 { head } else { body });
        }
        // The first iteration may be empty, which ends the loop; a later one may not. Both enter the common body with
        // their first symbol; only what comes before it is copied.
        let first = self.copy_until_consumed(body, head, next)?;
        let refuse = self.push(Inst::Fail)?;
        let again = self.copy_until_consumed(body, head, refuse)?;
        self.insts[head as usize] = self.split(greedy, again, next);
        if min > 0 {
            return Some(first);
        }
        let inst = self.split(greedy, first, next);
        self.push(inst)
    }

    /// A copy of the instructions that `entry` reaches without consuming, in which `from` is replaced by `to`.
    fn copy_until_consumed(&mut self, entry: Pc, from: Pc, to: Pc) -> Option<Pc> {
        let mut copies: HashMap<Pc, Pc> = HashMap::from([(from, to)]);
        for pc in self.reached(entry, Some(from)) {
            if pc == from {
                continue;
            }
            let target = |pc: &Pc| copies[pc];
            let copy = match &self.insts[pc as usize] {
                Inst::Class { .. } | Inst::Match | Inst::Fail => {
                    copies.insert(pc, pc);
                    continue;
                }
                Inst::Split { first, second } => Inst::Split { first: target(first), second: target(second) },
                Inst::Save { slot, next } => Inst::Save { slot: *slot, next: target(next) },
                Inst::Assert { id, next } => Inst::Assert { id: *id, next: target(next) },
                Inst::Look { sub, next } => Inst::Look { sub: *sub, next: target(next) },
                Inst::Atomic { sub, if_empty, if_consumed } => {
                    Inst::Atomic { sub: *sub, if_empty: target(if_empty), if_consumed: *if_consumed }
                }
                Inst::Run { set, if_empty, if_consumed } => {
                    Inst::Run { set: *set, if_empty: target(if_empty), if_consumed: *if_consumed }
                }
                Inst::Backref { group, fold, if_empty, if_consumed } => {
                    Inst::Backref { group: *group, fold: *fold, if_empty: target(if_empty), if_consumed: *if_consumed }
                }
            };
            let copy = self.push(copy)?;
            copies.insert(pc, copy);
        }
        Some(copies[&entry])
    }

    /// Instructions reached from `entry` without consuming, each behind those that it leads to; the search does not
    /// go through `stop`.
    fn reached(&self, entry: Pc, stop: Option<Pc>) -> Vec<Pc> {
        let mut order = Vec::new();
        let mut seen = HashMap::new();
        let mut stack = vec![(entry, false)];
        while let Some((pc, done)) = stack.pop() {
            if done {
                order.push(pc);
                continue;
            }
            if seen.insert(pc, ()).is_some() {
                continue;
            }
            stack.push((pc, true));
            if Some(pc) != stop {
                let (a, b) = empty_edges(&self.insts[pc as usize]);
                stack.extend(b.into_iter().chain(a).map(|pc| (pc, false)));
            }
        }
        order
    }

    /// All instructions of a sub-program, each behind those that it reaches without consuming.
    fn order(&self, entry: Pc) -> Vec<Pc> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.insts.len()];
        let mut roots = vec![entry];
        while let Some(root) = roots.pop() {
            let mut stack = vec![(root, false)];
            while let Some((pc, done)) = stack.pop() {
                if done {
                    order.push(pc);
                    continue;
                }
                if std::mem::replace(&mut seen[pc as usize], true) {
                    continue;
                }
                stack.push((pc, true));
                let inst = &self.insts[pc as usize];
                let (a, b) = empty_edges(inst);
                stack.extend(b.into_iter().chain(a).map(|pc| (pc, false)));
                match inst {
                    Inst::Class { next, .. } => roots.push(*next),
                    Inst::Atomic { if_consumed, .. }
                    | Inst::Run { if_consumed, .. }
                    | Inst::Backref { if_consumed, .. } => roots.push(*if_consumed),
                    _ => {}
                }
            }
        }
        order
    }
}

/// Where an instruction can lead without consuming.
fn empty_edges(inst: &Inst) -> (Option<Pc>, Option<Pc>) {
    match inst {
        Inst::Split { first, second } => (Some(*first), Some(*second)),
        Inst::Save { next, .. } | Inst::Assert { next, .. } | Inst::Look { next, .. } => (Some(*next), None),
        Inst::Atomic { if_empty, .. } | Inst::Run { if_empty, .. } | Inst::Backref { if_empty, .. } => {
            (Some(*if_empty), None)
        }
        Inst::Class { .. } | Inst::Match | Inst::Fail => (None, None),
    }
}
