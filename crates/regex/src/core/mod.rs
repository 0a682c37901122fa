//! A compiled pattern and the choice of engine (`search` has what happens in each search).

use std::sync::Arc;

use crate::anywhere::{Anywhere, Automata};
use crate::engine::ahead::{self, Aheads};
use crate::engine::backtrack::Memory;
use crate::engine::dfa::{Dfa, Marks, Purpose};
use crate::engine::opening::Opening;
use crate::engine::scan::{Classifier, Machine, Splitter};
use crate::engine::sweep::Sweep;
use crate::error::Error;
use crate::hir::{Hir, Unit};
use crate::pool::Pool;
use crate::prefilter::Prefilter;
use crate::program::{self, Program};
use crate::syntax::{self, ast::Flags};
use crate::utf8;

mod search;

pub use search::Search;
#[cfg(test)]
pub use search::Work;

/// Steps of backtracking that any search may take, and more for each byte of text, before the linear engine takes over.
const FUEL: u64 = 4096;
const FUEL_PER_BYTE: u64 = 64;

/// An automaton of up to this many states is worked out when the pattern is compiled.
const EAGER_STATES: usize = 512;

/// Everything that can be set before a pattern is compiled.
#[derive(Debug, Clone)]
pub struct Config {
    pub flags: Flags,
    pub nest_limit: usize,
    pub size_limit: usize,
    pub backtrack_limit: u64,
    /// Bytes that each automaton may take.
    pub dfa_size_limit: usize,
    /// Use the automaton where possible.
    pub automaton: bool,
    /// Use the machine for splitting where possible.
    pub splitting: bool,
    /// Texts of at least this length are worth what finding matches in one pass needs.
    pub anywhere_from: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            flags: Flags::default(),
            nest_limit: 250,
            size_limit: 400_000,
            backtrack_limit: 5_000_000,
            dfa_size_limit: 4 << 20,
            automaton: true,
            splitting: true,
            anywhere_from: 512,
        }
    }
}

/// A compiled pattern, shared by all clones of it.
#[derive(Debug)]
pub struct Core {
    pub pattern: String,
    pub program: Program,
    pub names: Vec<Option<String>>,
    /// Groups that take part in every match, the whole one included, if it is always the same number.
    pub static_groups: Option<usize>,
    prefilter: Prefilter,
    engine: Engine,
    aheads: Aheads,
    /// Of a pattern with backreferences.
    opening: Option<Opening>,
    /// Lookaheads that must hold where a match begins; the automaton is that of the rest.
    guards: Vec<u32>,
    /// For patterns that match everywhere: the machine that tells all ends in one pass.
    scan: Option<(Machine, Classifier)>,
    /// For other regular patterns: finding the next match in one pass.
    anywhere: Option<Anywhere>,
    anywhere_from: usize,
    /// There may be so few places where a match can begin that looking for them is best.
    seldom: bool,
    /// An automaton can tell the least end of all matches.
    least_ends: bool,
    /// An assertion with which every match begins.
    lead: Option<u32>,
    backtrack_limit: u64,
    dfa_size_limit: usize,
    pool: Pool<Cache>,
}

#[derive(Debug)]
enum Engine {
    /// The automaton, complete.
    Complete(Dfa),
    /// The automaton, made while searching; this one has only its start states.
    Lazy(Dfa),
    /// Backtracking, with the sweep behind it.
    Backtrack,
}

/// Working memory of one search at a time.
#[derive(Debug, Default)]
pub struct Cache {
    memory: Memory,
    marks: Marks,
    dfa: Option<Dfa>,
    sweep: Option<Sweep>,
    splitter: Splitter,
    automata: Automata,
}

impl Core {
    /// Compiles `pattern`; `bytes` says that haystacks need not be UTF-8.
    pub fn new(pattern: &str, config: &Config, bytes: bool) -> Result<Arc<Core>, Error> {
        if !config.flags.line_terminator.is_ascii() {
            let message = format!("the line terminator 0x{:02X} is not ASCII", config.flags.line_terminator);
            return Err(Error::Syntax { pattern: pattern.to_owned(), offset: 0, message });
        }
        let parsed = syntax::parse(pattern, config.flags, config.nest_limit)?;
        let lowered = syntax::lower(parsed, config.flags, bytes);
        let mut hir = lowered.hir;
        let static_groups = hir.static_groups().map(|count| count + 1);
        if let Some(message) = misplaced_keep(&hir, false) {
            return Err(Error::Syntax { pattern: pattern.to_owned(), offset: 0, message });
        }
        let too_large = || Error::TooLarge { pattern: pattern.to_owned(), limit: config.size_limit };
        let by_bytes = bytes && (hir.any(is_high_byte) || hir.is_nullable());
        if by_bytes {
            hir = utf8::to_bytes(hir);
        }
        // What is left of possessive parts could end earlier than they do.
        let possessive = hir.any(|h| matches!(h, Hir::Atomic(_)));
        let mut hir = program::relax(hir);
        if hir.any(|h| matches!(h, Hir::Backref { .. })) {
            hir = program::tighten(hir);
        }
        let groups = lowered.group_names.len();
        let mut program = program::compile(&hir, groups, by_bytes, config.size_limit).ok_or_else(too_large)?;
        program.alphabet.valid = !bytes;
        let aheads = if config.automaton && program.has_subs {
            Aheads::new(&program, EAGER_STATES, config.dfa_size_limit, !bytes)
        } else {
            Aheads::default()
        };
        let limits = (config.size_limit, config.dfa_size_limit, EAGER_STATES);
        let opening = (config.automaton && program.has_backrefs).then(|| Opening::new(&hir, by_bytes, !bytes, limits));
        let (engine, guards) = choose(&mut program, &aheads, config, !bytes);
        let prefilter = Prefilter::new(&hir, &program);
        let scan = match &engine {
            Engine::Complete(dfa)
                if config.splitting && guards.is_empty() && !program.has_keep && !prefilter.is_literal() =>
            {
                Machine::new(dfa, &program, !bytes)
            }
            _ => None,
        };
        let scan = scan.map(|machine| {
            let classifier = Classifier::new(&program.alphabet, &machine.column_of, !bytes);
            (machine, classifier)
        });
        let regular = !matches!(engine, Engine::Backtrack) && guards.is_empty();
        let anywhere = (regular && scan.is_none() && !program.nullable && prefilter.is_by_symbol())
            .then(|| Anywhere::new(&hir, by_bytes, config.size_limit, config.dfa_size_limit));
        // Where a literal inside leads to matches, that is better still.
        let gaps = scan.as_ref().is_none_or(|(machine, _)| machine.gaps);
        let seldom = gaps && prefilter.is_selective() && anywhere.as_ref().is_none_or(Anywhere::reads_all);
        Ok(Arc::new(Core {
            anywhere,
            anywhere_from: config.anywhere_from,
            least_ends: regular && !possessive,
            seldom,
            lead: if prefilter.tests_lead() { None } else { program.lead() },
            aheads,
            opening: opening.flatten(),
            guards,
            pattern: pattern.to_owned(),
            prefilter,
            program,
            names: lowered.group_names,
            static_groups,
            engine,
            scan,
            backtrack_limit: config.backtrack_limit,
            dfa_size_limit: config.dfa_size_limit,
            pool: Pool::default(),
        }))
    }

    /// The machine for splitting.
    #[cfg(test)]
    pub fn machine(&self) -> Option<&Machine> {
        self.scan.as_ref().map(|(machine, _)| machine)
    }

    /// Begins to split `text` from its beginning; false when there is no machine for that.
    #[inline]
    pub fn begin_splitting(&self, text: &[u8], splitter: &mut Splitter) -> bool {
        let (Some((machine, _)), Engine::Complete(dfa)) = (&self.scan, &self.engine) else {
            return false;
        };
        if text.is_empty() {
            return false;
        }
        splitter.begin(machine, 0, dfa.before_group(self.program.alphabet.edge()));
        true
    }

    /// The borders of the next block, as distances from a position; `None` where the machine has stopped.
    #[inline]
    pub fn next_borders<'s>(&self, text: &[u8], splitter: &'s mut Splitter) -> Option<(usize, &'s [u32])> {
        let (machine, classifier) = self.scan.as_ref()?;
        splitter.next_borders(machine, classifier, &self.program.alphabet, text)
    }

    /// The position after the symbol at `at`.
    pub fn step(&self, text: &[u8], at: usize) -> usize {
        at + self.program.alphabet.next(text, at).map_or(1, |n| n.1)
    }

    /// Bytes held, roughly, working memory of searches apart.
    pub fn memory(&self) -> usize {
        let automaton = self.aheads.memory()
            + match &self.engine {
                Engine::Complete(dfa) | Engine::Lazy(dfa) => dfa.memory(),
                Engine::Backtrack => 0,
            };
        let scan = self.scan.as_ref().map_or(0, |(machine, classifier)| machine.memory() + classifier.memory());
        let opening = self.opening.as_ref().map_or(0, Opening::memory);
        self.pattern.len() + self.program.memory() + automaton + scan + opening
    }

    /// Which engine runs and why, in words.
    pub fn plan(&self) -> String {
        let program = &self.program;
        let mut out = match &self.engine {
            Engine::Complete(dfa) => format!(
                "The pattern is regular: an automaton of {} states over {} kinds of symbols, worked out at compile \
                 time, finds matches in linear time; assertions about neighbouring characters are part of it.",
                dfa.len(),
                program.alphabet.len
            ),
            Engine::Lazy(_) => format!(
                "The pattern is regular, but its automaton over {} kinds of symbols has more than {EAGER_STATES} \
                 states: they are worked out while searching, and backtracking takes over if they need more than \
                 {} bytes.",
                program.alphabet.len, self.dfa_size_limit
            ),
            Engine::Backtrack if program.has_backrefs => format!(
                "The pattern has backreferences, which only backtracking can follow: it runs with a budget of {} \
                 steps and {FUEL_PER_BYTE} more for each byte of text.",
                self.backtrack_limit
            ),
            Engine::Backtrack => format!(
                "The pattern has lookaround or atomic groups that do not reduce to a look at a neighbouring \
                 character: metered backtracking runs, and one linear sweep over the text takes over after \
                 {FUEL_PER_BYTE} steps for each byte. Lookbehinds are remembered for each position."
            ),
        };
        if self.opening.is_some() {
            out.push_str(
                " What comes before the first of them is an automaton by itself, which refuses most attempts.",
            );
        }
        if !self.guards.is_empty() {
            out.push_str(
                " That is so behind the lookaheads at its beginning, each of which is an automaton of its own.",
            );
        }
        if let Some((machine, _)) = &self.scan {
            out.push_str(&format!(
                " Where a match ends is known as soon as it cannot go on, so `find_iter` runs a transducer of {} states over \
                 blocks of text without going back.",
                machine.len()
            ));
            if machine.pairs.is_some() {
                out.push_str(" It reads two symbols at a time.");
            }
        }
        if let Some(anywhere) = &self.anywhere {
            out.push_str(&anywhere.describe());
        }
        if !matches!(self.engine, Engine::Backtrack) && (program.slots > 2 || program.has_keep) {
            out.push_str(" Groups are found by backtracking inside a match that is already known.");
        }
        out.push(' ');
        out.push_str(&self.prefilter.describe());
        out
    }
}

/// The engine for a program, and the lookaheads that must hold before it begins.
fn choose(program: &mut Program, aheads: &Aheads, config: &Config, valid: bool) -> (Engine, Vec<u32>) {
    let nothing = (Engine::Backtrack, Vec::new());
    if !config.automaton || program.has_backrefs {
        return nothing;
    }
    let (guards, entry) = if program.has_subs {
        match program.split_guards(|sub| aheads.has(sub)) {
            Some((guards, entry)) if ahead::is_regular(program, entry) => (guards, entry),
            _ => return nothing,
        }
    } else {
        (Vec::new(), program.subs[0].entry)
    };
    let Ok(start) = Dfa::from_entry(program, entry, config.dfa_size_limit, Purpose::Here) else {
        return nothing;
    };
    let mut dfa = start.clone();
    match dfa.complete(program, EAGER_STATES, valid) {
        Ok(()) => (Engine::Complete(dfa), guards),
        Err(_) => (Engine::Lazy(start), guards),
    }
}

/// Whether the node consumes a byte that may be part of a longer character.
fn is_high_byte(hir: &Hir) -> bool {
    matches!(hir, Hir::Class(Unit::Byte, set) if set.ranges().last().is_some_and(|r| r.1 >= 0x80))
}

/// Why `\K` cannot stand where it does.
fn misplaced_keep(hir: &Hir, inside: bool) -> Option<String> {
    match hir {
        Hir::Keep if inside => Some("`\\K` inside a lookaround is not supported".to_owned()),
        Hir::Concat(items) | Hir::Alternate(items) => items.iter().find_map(|h| misplaced_keep(h, inside)),
        Hir::Repeat { item, .. } | Hir::Capture { item, .. } | Hir::Atomic(item) => misplaced_keep(item, inside),
        Hir::Look { item, .. } => misplaced_keep(item, true),
        _ => None,
    }
}
