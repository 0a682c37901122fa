//! The transducer of a splitting pattern.
//!
//! The automaton reads on until no longer match is possible and then goes back to the last position at which there was
//! one. To do without going back, the machine runs the automaton several times at once: *run* 0 from the beginning of
//! the current match, run 1 from the last end that run 0 has seen, in case that end turns out to be final, run 2 from
//! the last end that run 1 has seen, and so on. When run 0 dies, its last end is final and run 1 takes its place,
//! up to date. For the patterns of tokenizers that are never more than three runs, so the machine is finite and small.
//!
//! What remains is where the last ends are. Nearly always that is before the symbol being read or the one before it;
//! the last end of run 0 may also lie further back, as in `\s*[\r\n]+`, and has a register. Patterns that need more than
//! that have no such machine and stay with the automaton. A symbol with which no match begins is a gap, handed out as a
//! match that does not count; patterns that may read several symbols in vain have no machine either.

use std::collections::HashMap;

use crate::alphabet::Kind;
use crate::engine::dfa::Dfa;
use crate::program::Program;

/// A match ends before this symbol.
pub const HERE: u8 = 1;
/// A match ends before the previous symbol.
pub const PREVIOUS: u8 = 2;
/// A match ends at the register.
pub const COMMIT: u8 = 4;
/// The register is set to before this symbol.
pub const SET: u8 = 8;
/// What ends before this symbol is a gap.
pub const GAP: u8 = 32;
/// The machine cannot go on; nothing from this symbol on counts.
pub const LOST: u8 = 16;

/// The machine: rows of `columns` entries, each with the offset of the next row, in bytes, in its high 16 bits and the
/// actions in its low 8.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Transitions.
    pub table: Vec<u32>,
    /// Entries of a row: one for all kinds that make no difference, and continuation bytes as the last.
    pub columns: usize,
    /// The column of each kind of the alphabet and of continuation bytes.
    pub column_of: Vec<u8>,
    /// States in which to begin, by group of the symbol before.
    starts: Vec<u32>,
    /// The actions of each state at the end of the text; [`LOST`] where the last match is not decided.
    finish: Vec<u8>,
    /// For each pair of kinds, the state behind it if that does not depend on what came before; else [`NO_SYNC`].
    pub sync: Vec<u16>,
    /// There may be gaps between matches.
    pub gaps: bool,
    /// Two symbols at a time, if that is small: a column for each pair of columns, and the two actions one behind the other.
    pub pairs: Option<Box<[u32]>>,
}

/// With more columns the first-level cache does not hold what is used of the table.
const PAIRED: usize = 24;

/// A run that has died without an end while a run before it goes on. If it is ever needed, the machine is stuck.
const DEAD: u32 = u32::MAX;

/// No known state.
pub const NO_SYNC: u16 = u16::MAX;

/// Offset of the row of the state that cannot go on.
const LOST_STATE: u32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    /// Before the symbol read last; the register has it too.
    JustSet,
    /// Before the symbol read last.
    Just,
    /// In the register.
    Register,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// States of the automaton, that of the current match first.
    runs: Vec<u32>,
    /// The last end of each run but the last.
    ends: Vec<End>,
    /// What the assertions know of the symbol read last.
    before: u16,
    /// Of the last run.
    age: Age,
}

/// How many symbols a run has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Age {
    Unborn,
    One,
    Older,
}

impl Machine {
    /// The machine of a complete automaton, if there is one. `valid` promises that texts are UTF-8.
    pub fn new(dfa: &Dfa, program: &Program, valid: bool) -> Option<Machine> {
        let kinds = program.alphabet.len;
        if program.nullable || kinds >= 64 || program.alphabet.bytes {
            return None;
        }
        let columns = kinds + 1;
        let mut states: Vec<State> = vec![State { runs: Vec::new(), ends: Vec::new(), before: 0, age: Age::Unborn }];
        let mut ids: HashMap<State, u32> = HashMap::new();
        let mut table = vec![entry(LOST_STATE, LOST); columns];
        let mut intern = |state: State, states: &mut Vec<State>| -> Option<u32> {
            if let Some(&id) = ids.get(&state) {
                return Some(id);
            }
            let id = (states.len() * columns * size_of::<u32>()) as u32;
            if id >= u32::from(NO_SYNC) {
                return None;
            }
            states.push(state.clone());
            ids.insert(state, id);
            Some(id)
        };
        let mut starts = Vec::new();
        let mut finish = vec![LOST];
        for group in 0..dfa.before_group_count() {
            let start = State { runs: vec![dfa.start_in(group)], ends: Vec::new(), before: group, age: Age::Unborn };
            starts.push(intern(start, &mut states)?);
        }
        let mut next = 1;
        while next < states.len() {
            let state = states[next].clone();
            finish.push(step(dfa, &state, program.alphabet.edge()).map_or(LOST, |(_, actions)| actions));
            for kind in 0..kinds as Kind {
                // Text has no invalid bytes, so they need not be provided for.
                if valid && kind == program.alphabet.invalid {
                    table.push(entry(LOST_STATE, LOST));
                    continue;
                }
                table.push(match step(dfa, &state, kind) {
                    Some((to, actions)) => entry(intern(to, &mut states)?, actions),
                    // They are seldom, and the automaton can go on.
                    None if kind == program.alphabet.invalid => entry(LOST_STATE, LOST),
                    None => return None,
                });
            }
            table.push(entry((next * columns * size_of::<u32>()) as u32, 0));
            next += 1;
        }
        let column_of = (0..columns as u8).collect();
        let mut machine =
            Machine { table, columns, column_of, starts, finish, sync: Vec::new(), gaps: false, pairs: None }
                .smallest(valid.then_some(usize::from(program.alphabet.invalid)));
        machine.sync = machine.sync_pairs(machine.columns - 1);
        let gap = |&actions: &u8| actions & GAP != 0;
        machine.pairs = machine.pair_table();
        machine.gaps = machine.table.iter().any(|&e| gap(&(e as u8))) || machine.finish.iter().any(gap);
        Some(machine)
    }

    /// The same machine with as few states as possible (Moore's algorithm): states that tell the same of every text are
    /// one. More pairs of symbols then determine the state. Kinds that make no difference are one as well, and what a kind that
    /// is `absent` from texts does is of no interest.
    fn smallest(self, absent: Option<usize>) -> Machine {
        let row = |state: usize| &self.table[state * self.columns..(state + 1) * self.columns];
        let to = |entry: u32| (entry >> 16) as usize / size_of::<u32>() / self.columns;
        let number = |keys: Vec<Vec<u32>>| -> Vec<u32> {
            let mut known = HashMap::new();
            keys.into_iter()
                .map(|key| {
                    let next = known.len() as u32;
                    *known.entry(key).or_insert(next)
                })
                .collect()
        };
        let states = self.len();
        let actions = |s: usize| row(s).iter().map(|&e| e & 0xFF).chain([u32::from(self.finish[s])]).collect();
        // The state that cannot go on comes first in every numbering.
        let mut class = number((0..states).map(actions).collect());
        loop {
            let key = |s: usize| [class[s]].into_iter().chain(row(s).iter().map(|&e| class[to(e)])).collect();
            let finer = number((0..states).map(key).collect());
            let same = finer.iter().max() == class.iter().max();
            class = finer;
            if same {
                break;
            }
        }
        let count = class.iter().max().map_or(0, |&c| c as usize + 1);
        // A class is numbered where its first member stands.
        let first_of = |wanted: u32| class.iter().position(|&c| c == wanted).unwrap_or(0);
        let firsts: Vec<usize> = (0..count as u32).map(first_of).collect();
        let continuation = self.columns - 1;
        let key = |kind: usize| {
            let entries = firsts.iter().map(|&state| row(state)[kind]);
            entries.map(|e| class[to(e)] << 16 | e & 0xFF).chain([u32::from(kind == continuation)]).collect()
        };
        let present: Vec<usize> = (0..self.columns).filter(|&kind| Some(kind) != absent).collect();
        let numbers = number(present.iter().map(|&kind| key(kind)).collect());
        let columns = numbers.iter().max().map_or(0, |&c| c as usize + 1);
        let mut column_of = vec![columns as u8 - 1; self.columns];
        let mut members = vec![continuation; columns];
        for (&kind, &column) in present.iter().zip(&numbers).rev() {
            column_of[kind] = column as u8;
            members[column as usize] = kind;
        }
        let offset = |class: u32| class * (columns * size_of::<u32>()) as u32;
        let entries = firsts.iter().flat_map(|&state| members.iter().map(move |&kind| row(state)[kind]));
        let table = entries.map(|e| entry(offset(class[to(e)]), e as u8)).collect();
        let finish = firsts.iter().map(|&state| self.finish[state]).collect();
        let starts = self.starts.iter().map(|&s| offset(class[s as usize / size_of::<u32>() / self.columns])).collect();
        Machine { table, columns, column_of, starts, finish, ..self }
    }

    /// The state in which to begin behind a symbol of group `before`.
    pub fn start(&self, before: u16) -> u32 {
        self.starts[usize::from(before)]
    }

    /// The actions of `state` at the end of the text.
    pub fn finish(&self, state: u32) -> u8 {
        self.finish[state as usize / size_of::<u32>() / self.columns]
    }

    /// Number of states.
    pub fn len(&self) -> usize {
        self.table.len() / self.columns
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        4 * self.table.len() + 2 * self.sync.len() + 4 * self.pairs.as_ref().map_or(0, |pairs| pairs.len())
    }

    fn pair_table(&self) -> Option<Box<[u32]>> {
        let width = self.columns * self.columns;
        let offset = |row: usize| u16::try_from(row * width * size_of::<u32>()).ok();
        // The last row has to have an offset too.
        offset(self.len()).filter(|_| self.columns <= PAIRED)?;
        let row_of = |entry: u32| (entry >> 16) as usize / size_of::<u32>() / self.columns;
        let mut table = Vec::with_capacity(self.len() * width);
        for row in self.table.chunks_exact(self.columns) {
            for &first in row {
                let middle = row_of(first) * self.columns;
                for &second in &self.table[middle..middle + self.columns] {
                    let to = u32::from(offset(row_of(second))?);
                    table.push(to << 16 | (second & 0xFF) << 8 | first & 0xFF);
                }
            }
        }
        Some(table.into())
    }

    fn sync_pairs(&self, kinds: usize) -> Vec<u16> {
        let go = |state: u32, kind: usize| self.table[state as usize / size_of::<u32>() + kind] >> 16;
        let mut pairs = vec![NO_SYNC; kinds * kinds];
        for first in 0..kinds {
            for second in 0..kinds {
                let mut ends = (1..self.len())
                    .map(|row| go((row * self.columns * size_of::<u32>()) as u32, first))
                    .filter(|&s| s != LOST_STATE)
                    .map(|s| go(s, second))
                    .filter(|&s| s != LOST_STATE);
                if let Some(end) = ends.next()
                    && ends.all(|other| other == end)
                {
                    pairs[first * kinds + second] = end as u16;
                }
            }
        }
        pairs
    }
}

fn entry(state: u32, actions: u8) -> u32 {
    state << 16 | u32::from(actions)
}

/// Reads one symbol. `None` when the machine would need more than it has.
fn step(dfa: &Dfa, state: &State, kind: Kind) -> Option<(State, u8)> {
    // The run of a match that begins with this symbol.
    let begin = || dfa.next(dfa.start_in(state.before), kind).0;
    let mut actions = 0;
    let (mut runs, mut ends, mut age) = (Vec::new(), Vec::new(), Age::Older);
    for (index, &run) in state.runs.iter().enumerate() {
        let front = runs.is_empty();
        let (to, matched) = if run == DEAD { (0, false) } else { dfa.next(run, kind) };
        if matched {
            // An end before this symbol: whatever began at an earlier end of this run is void.
            if to == 0 {
                if !front {
                    return None;
                }
                actions |= HERE;
            } else {
                if front {
                    actions |= SET;
                }
                ends.push(if front { End::JustSet } else { End::Just });
                runs.push(to);
            }
            runs.push(begin());
            age = Age::One;
            break;
        }
        let end = state.ends.get(index);
        if to != 0 {
            runs.push(to);
            if dfa.is_certain(to) {
                // The next symbol will bring a later end, so what follows from earlier ones does not matter.
                break;
            }
            match end {
                Some(End::JustSet | End::Register) if runs.len() == 1 => ends.push(End::Register),
                Some(_) => return None,
                None => {
                    if state.age == Age::Unborn {
                        age = Age::One;
                    }
                    break;
                }
            }
            continue;
        }
        match end {
            Some(End::Register) if front => actions |= COMMIT,
            Some(_) if front => actions |= PREVIOUS,
            // A later run is done while an earlier one goes on: its end would have to be kept apart.
            Some(_) => return None,
            None if !front => runs.push(DEAD),
            None => {
                // A match could have begun with the previous symbol, but did not: that symbol is a gap.
                match state.age {
                    Age::Unborn => runs.push(0),
                    Age::One if run != DEAD => {
                        actions |= HERE | GAP;
                        runs.push(begin());
                    }
                    _ => return None,
                }
                age = Age::One;
            }
        }
        if end.is_none() {
            break;
        }
    }
    Some((State { runs, ends, before: dfa.before_group(kind), age }, actions))
}
