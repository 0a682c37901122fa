//! Lookaheads that are regular, each an automaton of its own that reads until it knows whether there is a match.
//!
//! What a long look has found out is noted at every 64th byte, for yes and no alike, so that looks from all positions of a
//! text take linear time together.

use std::collections::HashMap;

use super::dfa::{Dfa, Purpose, SHORT, next_check};
use crate::program::{Inst, Pc, Program, SubKind};

/// The automata of a program's lookaheads.
#[derive(Debug, Clone, Default)]
pub struct Aheads {
    /// By sub-program.
    automata: Vec<Option<Dfa>>,
}

/// What is known of one text.
#[derive(Debug, Default, Clone)]
pub struct Known {
    /// By sub-program, state and position: whether a match follows.
    answers: HashMap<(u32, u32, usize), bool>,
    /// Symbols read.
    pub steps: u64,
}

impl Known {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.steps = 0;
    }
}

impl Aheads {
    /// Automata for all lookaheads that have one of at most `states` states and `memory` bytes. `valid` promises that texts are
    /// UTF-8.
    pub fn new(program: &Program, states: usize, memory: usize, valid: bool) -> Self {
        let automaton = |sub: &crate::program::Sub| {
            let ahead = matches!(sub.kind, SubKind::Ahead { .. });
            if !ahead || !is_regular(program, sub.entry) {
                return None;
            }
            let mut dfa = Dfa::from_entry(program, sub.entry, memory, Purpose::Longest).ok()?;
            dfa.complete(program, states, valid).ok()?;
            Some(dfa)
        };
        Aheads { automata: program.subs.iter().map(automaton).collect() }
    }

    /// Whether lookahead `sub` has an automaton.
    pub fn has(&self, sub: u32) -> bool {
        self.automata.get(sub as usize).is_some_and(Option::is_some)
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.automata.iter().flatten().map(Dfa::memory).sum()
    }

    /// Whether the content of lookahead `sub`, negation aside, matches at `at`; `None` if it has no automaton.
    pub fn holds(&self, program: &Program, sub: u32, text: &[u8], at: usize, known: &mut Known) -> Option<bool> {
        let dfa = self.automata.get(sub as usize)?.as_ref()?;
        let alphabet = &program.alphabet;
        let start = dfa.start(alphabet.kind_before(text, at));
        let (mut state, mut pos) = (start, at);
        let mut check = if known.answers.is_empty() { usize::MAX } else { next_check(at) };
        let mut steps = 0;
        let found = loop {
            if pos >= check {
                if let Some(&answer) = known.answers.get(&(sub, state, pos)) {
                    break answer;
                }
                check = next_check(pos);
            }
            let (kind, len) = alphabet.next(text, pos).unwrap_or((alphabet.edge(), 0));
            let (to, matched) = dfa.next(state, kind);
            steps += 1;
            if matched || to == 0 {
                break matched;
            }
            state = to;
            pos += len;
        };
        if pos - at > SHORT {
            let (mut state, mut again) = (start, at);
            let mut check = next_check(at);
            while again < pos
                && let Some((kind, len)) = alphabet.next(text, again)
            {
                state = dfa.next(state, kind).0;
                again += len;
                if again >= check {
                    check = next_check(again);
                    known.answers.insert((sub, state, again), found);
                }
            }
        }
        known.steps += steps;
        Some(found)
    }
}

/// Whether no lookaround, atomic group or backreference can be reached from `entry`.
pub fn is_regular(program: &Program, entry: Pc) -> bool {
    let mut seen = vec![false; program.insts.len()];
    let mut stack = vec![entry];
    while let Some(pc) = stack.pop() {
        if std::mem::replace(&mut seen[pc as usize], true) {
            continue;
        }
        match &program.insts[pc as usize] {
            Inst::Class { next, .. } | Inst::Save { next, .. } | Inst::Assert { next, .. } => stack.push(*next),
            Inst::Split { first, second } => stack.extend([*first, *second]),
            Inst::Match | Inst::Fail => {}
            Inst::Look { .. } | Inst::Atomic { .. } | Inst::Run { .. } | Inst::Backref { .. } => return false,
        }
    }
    true
}
