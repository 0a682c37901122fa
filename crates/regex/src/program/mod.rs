//! The program that every engine runs: a graph of instructions over kinds of symbols.
//!
//! Instructions that consume nothing never form a cycle: where a loop's body may be empty, the compiler keeps the part
//! before the first consumed symbol apart. So an engine's state is nothing but (instruction, position), which is what
//! makes remembering failed states, determinisation and the right-to-left sweep possible.

mod compile;
mod opening;
mod relax;
mod reverse;

pub use compile::compile;
pub use opening::opening;
pub use relax::{first_side, relax, tighten};
pub use reverse::reverse;

use crate::alphabet::{Alphabet, Kind, KindSet};
use crate::hir::Fold;
use crate::symset::SymSet;

/// Address of an instruction.
pub type Pc = u32;

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum Inst {
    /// Consume one symbol of set `set`.
    Class { set: u32, next: Pc },
    /// Try `first`, then `second`.
    Split { first: Pc, second: Pc },
    /// Note the position.
    Save { slot: u32, next: Pc },
    /// Go on if the neighbouring symbols satisfy assertion `id`.
    Assert { id: u32, next: Pc },
    /// Go on if lookaround `sub` holds.
    Look { sub: u32, next: Pc },
    /// Run `sub` to its first match and go on behind it.
    Atomic { sub: u32, if_empty: Pc, if_consumed: Pc },
    /// Consume as many symbols of set `set` as there are. Only in patterns with backreferences, which only backtracking follows.
    Run { set: u32, if_empty: Pc, if_consumed: Pc },
    /// Match the text of a group again.
    Backref { group: u32, fold: Fold, if_empty: Pc, if_consumed: Pc },
    /// The (sub-)program has matched.
    Match,
    /// Never matches.
    Fail,
}

/// What a sub-program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubKind {
    /// The pattern itself.
    Main,
    /// An atomic group.
    Atomic,
    /// A lookahead.
    Ahead { negative: bool },
    /// A lookbehind and the least and greatest number of symbols it takes.
    Behind { negative: bool, min: usize, max: Option<usize> },
}

/// A part of the program with its own entry and its own `Match`.
#[derive(Debug, Clone)]
pub struct Sub {
    /// What it is for.
    pub kind: SubKind,
    /// Where it begins.
    pub entry: Pc,
    /// All its instructions, each behind those that it reaches without consuming.
    pub order: Vec<Pc>,
    /// Contains capture groups.
    pub captures: bool,
    /// Contains backreferences.
    pub backrefs: bool,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Program {
    /// The instructions of all sub-programs.
    pub insts: Vec<Inst>,
    /// The main program first; inner sub-programs come behind those that contain them.
    pub subs: Vec<Sub>,
    /// Symbol kinds.
    pub alphabet: Alphabet,
    /// Kinds of each set that an instruction names.
    pub sets: Vec<KindSet>,
    /// Each assertion as alternatives of (kinds before, kinds after).
    pub asserts: Vec<Vec<(KindSet, KindSet)>>,
    /// Number of capture slots, two for each group including the whole match.
    pub slots: usize,
    /// Kinds with which a match can begin; all of them when it may be empty.
    pub first: KindSet,
    /// What a lookahead at the beginning needs: a run of these kinds, then one of those, which are these symbols.
    pub need: Option<(KindSet, KindSet, SymSet)>,
    /// A backreference occurs.
    pub has_backrefs: bool,
    /// `\K` occurs.
    pub has_keep: bool,
    /// Lookaround or atomic groups remain, which a finite automaton cannot express.
    pub has_subs: bool,
    /// A match may be empty.
    pub nullable: bool,
}

impl Program {
    /// Whether assertion `id` holds between the two kinds.
    #[inline]
    pub fn assertion(&self, id: u32, before: Kind, after: Kind) -> bool {
        self.asserts[id as usize].iter().any(|(b, a)| b.contains(before) && a.contains(after))
    }

    /// An assertion that holds where a match begins, whatever way the match takes.
    pub fn lead(&self) -> Option<u32> {
        let mut pc = self.subs[0].entry;
        loop {
            match self.insts[pc as usize] {
                Inst::Assert { id, .. } => return Some(id),
                Inst::Look { next, .. } | Inst::Save { next, .. } => pc = next,
                _ => return None,
            }
        }
    }

    /// The lookarounds that hold where a match begins, all of which `known` has to know, and where the program goes on behind
    /// them; instructions are added for the assertions among them.
    pub fn split_guards(&mut self, known: impl Fn(u32) -> bool) -> Option<(Vec<u32>, Pc)> {
        let (mut guards, mut assertions) = (Vec::new(), Vec::new());
        let mut pc = self.subs[0].entry;
        loop {
            match self.insts[pc as usize] {
                Inst::Assert { id, next } => {
                    assertions.push(id);
                    pc = next;
                }
                Inst::Look { sub, next } if known(sub) => {
                    guards.push(sub);
                    pc = next;
                }
                // Groups are found when the match is known.
                Inst::Save { next, .. } => pc = next,
                _ => break,
            }
        }
        if guards.is_empty() {
            return None;
        }
        for id in assertions {
            self.insts.push(Inst::Assert { id, next: pc });
            pc = self.insts.len() as Pc - 1;
        }
        Some((guards, pc))
    }

    /// Bytes held by the program, roughly.
    pub fn memory(&self) -> usize {
        self.insts.len() * size_of::<Inst>() + self.alphabet.memory()
    }
}
