//! Determinisation of a [`Program`] without sub-programs and backreferences.
//!
//! A state is a list of instructions in order of priority *before* assertions are looked at, together with what the
//! assertions need to know of the symbol consumed last. A transition first follows the list to the instructions that
//! consume, now knowing the symbols on both sides, and then consumes. So a match is reported one symbol late, by the
//! transition that follows it, and assertions about either neighbour cost nothing while searching. Instructions behind a
//! match in the list are dropped: they have lower priority than a match that is certain.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::alphabet::{Alphabet, Kind};
use crate::byteset::ByteSet;
use crate::program::{Inst, Pc, Program};

/// Flag of a transition: a match ends before the symbol.
const MATCH: u32 = 1 << 31;

/// Flag of a transition of a complete automaton: the state that it leads to has a [`Loop`].
const LOOPS: u32 = 1 << 30;

/// A transition that has not been worked out yet.
const UNKNOWN: u32 = u32::MAX;

/// A state is left by at most so many ASCII bytes when it pays to look for them.
const FEW: usize = 8;

/// A state that most symbols lead back to.
#[derive(Debug, Clone)]
pub struct Loop {
    state: u32,
    /// The bytes with which something else may begin.
    pub leaving: ByteSet,
    /// A match ends before each symbol that leads back.
    pub matched: bool,
}

/// Stands last in the list of a state in which a match may still begin at the next symbol.
const RESTART: Pc = Pc::MAX;

/// Which matches an automaton looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The preferred one that begins where the search does.
    Here,
    /// The leftmost one, and of those the preferred one: only its end is known.
    Anywhere,
    /// All that begin where the search does; the last end seen is that of the longest.
    Longest,
}

/// The table is as large as it may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The automaton, complete or growing.
#[derive(Debug, Clone)]
pub struct Dfa {
    /// Transitions: rows of `stride` entries; row 0 is the dead state.
    table: Vec<u32>,
    stride: usize,
    states: Vec<State>,
    ids: HashMap<State, u32>,
    /// Start states by group of the symbol before.
    starts: Vec<u32>,
    /// For each kind and the edge, which symbols before a position the assertions can tell apart.
    before_groups: Vec<u16>,
    /// The same for symbols after a position.
    after_groups: Vec<u16>,
    /// A kind out of each group.
    before_members: Vec<Kind>,
    max_states: usize,
    purpose: Purpose,
    /// Where matches begin.
    entry: Pc,
    /// Of a complete automaton, by state.
    loops: Vec<Loop>,
    scratch: Scratch,
}

/// What the instructions of a state lead to between two symbols.
struct Closure {
    /// Instructions that consume: set and target.
    consuming: Vec<(u32, Pc)>,
    /// A match ends here.
    matched: bool,
    /// A match may begin behind the next symbol.
    restarts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Where to go on, in order of priority.
    kernel: Box<[Pc]>,
    /// Group of the symbol before.
    before: u16,
}

#[derive(Debug, Clone, Default)]
struct Scratch {
    stack: Vec<Pc>,
    seen: Vec<u32>,
    round: u32,
}

impl Dfa {
    /// The automaton with only its start states. Tables may grow to `memory` bytes.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn new(program: &Program, memory: usize) -> Result<Self, Full> {
        Self::with_purpose(program, memory, Purpose::Here)
    }

    /// The automaton with only its start states, for any matches. Tables may grow to `memory` bytes.
    pub fn with_purpose(program: &Program, memory: usize, purpose: Purpose) -> Result<Self, Full> {
        Self::from_entry(program, program.subs[0].entry, memory, purpose)
    }

    /// As [`Dfa::with_purpose`], for the part of a program that begins at `start` and is regular.
    pub fn from_entry(program: &Program, start: Pc, memory: usize, purpose: Purpose) -> Result<Self, Full> {
        let kinds = program.alphabet.len + 1;
        let (before_groups, before_members) =
            groups(kinds, |kind| program.asserts.iter().flatten().map(|(before, _)| before.contains(kind)).collect());
        let (after_groups, _) =
            groups(kinds, |kind| program.asserts.iter().flatten().map(|(_, after)| after.contains(kind)).collect());
        let mut dfa = Dfa {
            table: vec![0; kinds],
            stride: kinds,
            states: vec![State { kernel: Box::default(), before: 0 }],
            ids: HashMap::new(),
            starts: Vec::new(),
            before_groups,
            after_groups,
            before_members,
            max_states: (memory / (4 * kinds + 64)).max(4).min((LOOPS as usize - 1) / kinds),
            purpose,
            entry: start,
            loops: Vec::new(),
            scratch: Scratch::default(),
        };
        let entry = if purpose == Purpose::Anywhere { RESTART } else { start };
        for before in 0..dfa.before_members.len() {
            let start = dfa.state(vec![entry], before as u16)?;
            dfa.starts.push(start);
        }
        Ok(dfa)
    }

    /// Works out every transition. `Full` when that takes more than `max_states` states. `valid` promises that texts are UTF-8.
    pub fn complete(&mut self, program: &Program, max_states: usize, valid: bool) -> Result<(), Full> {
        let mut row = 1;
        while row < self.states.len() {
            if self.states.len() > max_states {
                return Err(Full);
            }
            self.fill_row(program, row * self.stride)?;
            row += 1;
        }
        self.find_loops(&program.alphabet, valid);
        Ok(())
    }

    /// Marks the states that few symbols lead out of, so that these can be looked for.
    fn find_loops(&mut self, alphabet: &Alphabet, valid: bool) {
        let mut beyond = None;
        for row in (self.stride..self.table.len()).step_by(self.stride) {
            let entries = &self.table[row..row + self.stride];
            let Some(&back) = entries.iter().find(|&&entry| entry & !MATCH == row as u32) else {
                continue;
            };
            let leaves = |kind: Kind| entries[usize::from(kind)] != back;
            let leaving = |byte: u8| leaves(alphabet.single[usize::from(byte)]);
            if (0..128).filter(|&byte| leaving(byte)).count() > FEW {
                continue;
            }
            let beyond: &Vec<Kind> = beyond.get_or_insert_with(|| alphabet.kinds_beyond_ascii(valid));
            let high = beyond.iter().any(|&kind| leaves(kind));
            if high && valid {
                // Text is either ASCII, or has too many bytes at which to stop.
                continue;
            }
            let leaving = ByteSet::new(leaving, high);
            self.loops.push(Loop { state: row as u32, leaving, matched: back & MATCH != 0 });
        }
        let marked: Vec<u32> = self.loops.iter().map(|l| l.state).collect();
        for entry in &mut self.table {
            if marked.binary_search(&(*entry & !MATCH)).is_ok() {
                *entry |= LOOPS;
            }
        }
    }

    /// What is known of a state to which a transition with a loop leads.
    pub fn loop_at(&self, state: u32) -> Option<&Loop> {
        self.loops.binary_search_by_key(&state, |l| l.state).ok().map(|at| &self.loops[at])
    }

    /// Whether every transition of a state tells of a match, so that one ends here whatever comes.
    pub fn is_certain(&self, state: u32) -> bool {
        self.table[state as usize..][..self.stride].iter().all(|entry| entry & MATCH != 0)
    }

    /// Number of states, the dead one included.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// The state in which to start after a symbol of kind `before`.
    #[inline]
    pub fn start(&self, before: Kind) -> u32 {
        if self.starts.len() == 1 {
            self.starts[0]
        } else {
            self.starts[usize::from(self.before_groups[usize::from(before)])]
        }
    }

    /// The group of a kind as the symbol before a position; equal groups have equal start states.
    pub fn before_group(&self, kind: Kind) -> u16 {
        self.before_groups[usize::from(kind)]
    }

    /// Number of such groups.
    pub fn before_group_count(&self) -> u16 {
        self.starts.len() as u16
    }

    /// The start state behind a symbol of that group.
    pub fn start_in(&self, group: u16) -> u32 {
        self.starts[usize::from(group)]
    }

    /// The transition of a complete automaton: the next state, and whether a match ends before the symbol.
    #[inline]
    pub fn next(&self, state: u32, kind: Kind) -> (u32, bool) {
        let (state, matched, _) = self.next_or_loop(state, kind);
        (state, matched)
    }

    /// As [`Dfa::next`], and whether the next state has a loop.
    #[inline]
    pub fn next_or_loop(&self, state: u32, kind: Kind) -> (u32, bool, bool) {
        let entry = self.table[state as usize + usize::from(kind)];
        (entry & !(MATCH | LOOPS), entry & MATCH != 0, entry & LOOPS != 0)
    }

    /// Goes on over ASCII as long as transitions are known and no match ends; returns the state and the position reached.
    #[inline]
    pub fn run_ascii(&self, alphabet: &Alphabet, state: u32, text: &[u8], at: usize) -> (u32, usize) {
        let (mut state, mut at) = (state, at);
        while let Some(&byte) = text.get(at)
            && byte < 0x80
        {
            let entry = self.table[state as usize + usize::from(alphabet.single[usize::from(byte)])];
            // Neither the dead state nor a flag nor what is not known.
            if entry.wrapping_sub(1) >= MATCH - 1 {
                break;
            }
            state = entry;
            at += 1;
        }
        (state, at)
    }

    /// The transition, worked out if need be.
    #[inline]
    pub fn next_lazy(&mut self, program: &Program, state: u32, kind: Kind) -> Result<(u32, bool), Full> {
        let slot = state as usize + usize::from(kind);
        let mut entry = self.table[slot];
        if entry == UNKNOWN {
            self.fill_row(program, state as usize)?;
            entry = self.table[slot];
        }
        Ok((entry & !MATCH, entry & MATCH != 0))
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        4 * self.table.len() + self.states.iter().map(|s| 96 + 8 * s.kernel.len()).sum::<usize>()
    }

    fn state(&mut self, kernel: Vec<Pc>, before: u16) -> Result<u32, Full> {
        if kernel.is_empty() {
            return Ok(0);
        }
        let state = State { kernel: kernel.into(), before };
        if let Some(&id) = self.ids.get(&state) {
            return Ok(id);
        }
        if self.states.len() >= self.max_states {
            return Err(Full);
        }
        let id = (self.states.len() * self.stride) as u32;
        self.table.resize(self.table.len() + self.stride, UNKNOWN);
        self.states.push(state.clone());
        self.ids.insert(state, id);
        Ok(id)
    }

    /// Works out all transitions of the state whose row begins at `row`.
    fn fill_row(&mut self, program: &Program, row: usize) -> Result<(), Full> {
        let State { kernel, before } = self.states[row / self.stride].clone();
        let edge = program.alphabet.edge();
        // The closure depends on the symbol only as far as assertions do.
        let mut closures: HashMap<u16, Closure> = HashMap::new();
        for kind in 0..self.stride as Kind {
            let group = self.after_groups[usize::from(kind)];
            let closure = match closures.entry(group) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.closure(program, &kernel, before, kind)),
            };
            let mut next: Vec<Pc> = Vec::new();
            if kind != edge {
                self.scratch.begin(program.insts.len());
                for &(set, target) in &closure.consuming {
                    if program.sets[set as usize].contains(kind) && self.scratch.visit(target) {
                        next.push(target);
                    }
                }
                match self.purpose {
                    Purpose::Here => {}
                    Purpose::Anywhere => next.extend(closure.restarts.then_some(RESTART)),
                    // Nothing is preferred, so that order does not tell states apart.
                    Purpose::Longest => next.sort_unstable(),
                }
            }
            let matched = if closure.matched { MATCH } else { 0 };
            let target = self.state(next, self.before_groups[usize::from(kind)])?;
            self.table[row + usize::from(kind)] = target | matched;
        }
        Ok(())
    }

    /// What `kernel` leads to between the given symbols. A match cuts off what comes after it in the order of preference,
    /// unless all matches are wanted.
    fn closure(&mut self, program: &Program, kernel: &[Pc], before: u16, after: Kind) -> Closure {
        let before = self.before_members[usize::from(before)];
        let mut closure = Closure { consuming: Vec::new(), matched: false, restarts: false };
        self.scratch.begin(program.insts.len());
        for &root in kernel {
            closure.restarts = root == RESTART;
            self.scratch.stack.push(if root == RESTART { self.entry } else { root });
            while let Some(pc) = self.scratch.stack.pop() {
                if !self.scratch.visit(pc) {
                    continue;
                }
                match &program.insts[pc as usize] {
                    Inst::Class { set, next } => closure.consuming.push((*set, *next)),
                    Inst::Split { first, second } => self.scratch.stack.extend([*second, *first]),
                    Inst::Save { next, .. } => self.scratch.stack.push(*next),
                    Inst::Assert { id, next } => {
                        if program.assertion(*id, before, after) {
                            self.scratch.stack.push(*next);
                        }
                    }
                    Inst::Match => {
                        closure.matched = true;
                        if self.purpose != Purpose::Longest {
                            self.scratch.stack.clear();
                            closure.restarts = false;
                            return closure;
                        }
                    }
                    Inst::Fail => {}
                    Inst::Look { .. } | Inst::Atomic { .. } | Inst::Run { .. } | Inst::Backref { .. } => {
                        unreachable!("only regular programs are determinised")
                    }
                }
            }
        }
        closure
    }
}

impl Scratch {
    fn begin(&mut self, insts: usize) {
        self.stack.clear();
        self.seen.resize(insts, 0);
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.seen.fill(0);
            self.round = 1;
        }
    }

    fn visit(&mut self, pc: Pc) -> bool {
        std::mem::replace(&mut self.seen[pc as usize], self.round) != self.round
    }
}

/// Groups kinds by `signature`; also returns one member of each group.
fn groups(kinds: usize, signature: impl Fn(Kind) -> Vec<bool>) -> (Vec<u16>, Vec<Kind>) {
    let mut known: HashMap<Vec<bool>, u16> = HashMap::new();
    let mut members = Vec::new();
    let mut of_kind = Vec::with_capacity(kinds);
    for kind in 0..kinds as Kind {
        let fresh = known.len() as u16;
        let group = *known.entry(signature(kind)).or_insert(fresh);
        if group == fresh && members.len() == usize::from(fresh) {
            members.push(kind);
        }
        of_kind.push(group);
    }
    (of_kind, members)
}
