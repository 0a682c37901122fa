//! A compiled pattern and the choice of engine for each search.

use std::sync::Arc;

use crate::anywhere::{Anywhere, Automata, Next, Progress};
use crate::engine::ahead::{self, Aheads};
use crate::engine::backtrack::{Backtracker, Memory, OutOfFuel, UNSET};
use crate::engine::dfa::{Dfa, Full, Marks, Purpose, Run, match_at};
use crate::engine::scan::{Classifier, End, Machine, Splitter};
use crate::engine::sweep::Sweep;
use crate::error::{Error, SearchError};
use crate::hir::{Hir, Unit};
use crate::pool::Pool;
use crate::prefilter::Prefilter;
use crate::program::{self, Program, SubKind};
use crate::starts::Window;
use crate::syntax::{self, ast::Flags};
use crate::utf8;

/// Steps of backtracking that any search may take, and more for each byte of text, before the linear engine takes over.
const FUEL: u64 = 4096;
const FUEL_PER_BYTE: u64 = 64;

/// An automaton of up to this many states is worked out when the pattern is compiled.
const EAGER_STATES: usize = 512;

/// Why a search has its working memory.
const HELD: &str = "the memory is only given back when the search is dropped";

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

    /// Begins to search `text`; what is learned of it is kept until the value is dropped.
    pub fn search<'c, 't>(self: &'c Arc<Self>, text: &'t [u8]) -> Search<'c, 't> {
        let mut cache = self.pool.take().unwrap_or_default();
        cache.memory.new_text(text.len());
        cache.marks.clear();
        cache.sweep = None;
        cache.automata.new_text();
        let budget = if self.program.has_backrefs {
            self.backtrack_limit.saturating_add(FUEL_PER_BYTE.saturating_mul(text.len() as u64))
        } else {
            FUEL + FUEL_PER_BYTE * text.len() as u64
        };
        cache.memory.fuel = budget;
        let splitter = std::mem::take(&mut cache.splitter);
        let automaton = !matches!(self.engine, Engine::Backtrack);
        let anywhere = self.anywhere.as_ref().filter(|_| text.len() >= self.anywhere_from);
        Search {
            anywhere: anywhere.map(Anywhere::begin),
            core: self,
            text,
            budget,
            cache: Some(cache),
            automaton,
            splitter,
            splitting: Splitting::Possible,
            seldom: self.seldom.then_some(Meter { begun: 0, spent: 0 }),
            window: Window::default(),
            required: 0,
            required_seen: (0, 0),
        }
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
        let scan = self.scan.as_ref().map_or(0, |(machine, _)| machine.memory());
        self.pattern.len() + self.program.memory() + automaton + scan
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

/// A search over one text.
#[derive(Debug)]
pub struct Search<'c, 't> {
    pub core: &'c Arc<Core>,
    pub text: &'t [u8],
    budget: u64,
    cache: Option<Box<Cache>>,
    /// The automaton is still in use.
    automaton: bool,
    /// Set where the next match is found in one pass.
    anywhere: Option<Progress>,
    splitter: Splitter,
    splitting: Splitting,
    /// Where a match can begin is looked for, as it has been seldom so far.
    seldom: Option<Meter>,
    window: Window,
    /// Where the text that every match contains occurs next.
    required: usize,
    /// How often that was looked for, and how far away it was in all.
    required_seen: (usize, usize),
}

/// What attempts have cost since a position, measured in bytes that other engines would have read meanwhile.
#[derive(Debug, Clone, Copy)]
struct Meter {
    begun: usize,
    spent: u64,
}

/// An attempt costs as much as it takes to read so many bytes, and what it reads.
const ATTEMPT: u64 = 24;

/// That much may be spent in advance.
const ADVANCE: u64 = 512;

/// A required text that was found so many times is not looked for any more if it comes this often, in bytes.
const REQUIRED_TIMES: usize = 64;
const REQUIRED_EVERY: usize = 64;

/// Matches that the splitter finds in a block of this many bytes for each are few.
const FEW_EVERY: usize = 96;

/// The cost of a search.
#[cfg(test)]
#[derive(Debug)]
pub struct Work {
    /// Symbols read by the automaton and steps of backtracking.
    pub steps: u64,
    /// Instructions that the sweep looked at, for its tables and those of groups.
    pub table: u64,
    /// The linear sweep was needed.
    pub swept: bool,
}

/// Whether the machine for splitting runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    Possible,
    Running,
    Over,
}

impl Drop for Search<'_, '_> {
    fn drop(&mut self) {
        if let Some(mut cache) = self.cache.take() {
            cache.sweep = None;
            cache.memory.trim();
            self.splitter.stop();
            cache.splitter = std::mem::take(&mut self.splitter);
            self.core.pool.give(cache);
        }
    }
}

impl Search<'_, '_> {
    fn cache(&mut self) -> &mut Cache {
        self.cache.as_mut().expect(HELD)
    }

    /// The end of the match, or gap, that begins at `at`, when the machine for splitting has it ready.
    #[inline]
    pub fn known_end(&mut self) -> Option<End> {
        self.splitter.next_known()
    }

    /// The same without the machine for splitting.
    pub fn without_splitting(mut self) -> Self {
        self.splitting = Splitting::Over;
        self
    }

    /// The end of the match, or gap, that begins at `at`, from the machine for splitting, if there is one and it can still go
    /// on. Each call must continue where the last one ended.
    pub fn split_end(&mut self, at: usize) -> Option<End> {
        let (machine, classifier) = self.core.scan.as_ref()?;
        let alphabet = &self.core.program.alphabet;
        match self.splitting {
            Splitting::Over => return None,
            Splitting::Running => {
                if self.core.seldom && self.splitter.found_few(FEW_EVERY) {
                    self.splitter.stop();
                    self.splitting = Splitting::Possible;
                    self.seldom = Some(Meter { begun: at, spent: 0 });
                    return None;
                }
            }
            Splitting::Possible if self.seldom.is_some() => return None,
            Splitting::Possible => {
                let Engine::Complete(dfa) = &self.core.engine else {
                    return None;
                };
                self.splitting = Splitting::Running;
                self.splitter.begin(machine, at, dfa.before_group(alphabet.kind_before(self.text, at)));
            }
        }
        let end = self.splitter.next_end(machine, classifier, alphabet, self.text);
        if end.is_none() {
            self.splitting = Splitting::Over;
        }
        end
    }

    /// What the search has cost so far.
    #[cfg(test)]
    pub fn work(&mut self) -> Work {
        let budget = self.budget;
        let cache = self.cache();
        Work {
            steps: cache.marks.steps + cache.memory.ahead.steps + cache.automata.steps() + (budget - cache.memory.fuel),
            table: cache.sweep.as_ref().map_or(0, Sweep::work),
            swept: cache.sweep.is_some(),
        }
    }

    /// Whether a match begins at `at` or later.
    pub fn is_match(&mut self, at: usize) -> Result<bool, SearchError> {
        // One pass that stops at the first end is enough, once it is worth an automaton of its own.
        let one_pass = self.anywhere.is_some() && self.core.anywhere.as_ref().is_some_and(Anywhere::reads_all);
        Ok(if one_pass { self.shortest(at)?.is_some() } else { self.bounds(at)?.is_some() })
    }

    /// The least end of a match that begins at `at` or later; where no automaton can tell, that of the leftmost match.
    pub fn shortest(&mut self, at: usize) -> Result<Option<usize>, SearchError> {
        let (core, text) = (self.core, self.text);
        if core.least_ends {
            if !self.required_ahead(at) {
                return Ok(None);
            }
            let Some((start, _)) = core.prefilter.candidate(&core.program, text, at, &mut self.window) else {
                return Ok(None);
            };
            match self.cache().automata.shortest(&core.program, text, start, core.dfa_size_limit) {
                Ok(found) => return Ok(found),
                Err(Full) => {}
            }
        }
        Ok(self.bounds(at)?.map(|(_, end)| end))
    }

    /// The leftmost match that begins at `at` or later.
    pub fn find(&mut self, at: usize) -> Result<Option<(usize, usize)>, SearchError> {
        let found = self.bounds(at)?;
        if let Some((start, end)) = found
            && self.core.program.has_keep
        {
            let mut slots = Vec::new();
            self.groups(start, end, &mut slots)?;
            return Ok(Some((slots[0], end)));
        }
        Ok(found)
    }

    /// The leftmost match and its groups; `slots[0]` and `slots[1]` are those of the whole match.
    pub fn captures(&mut self, at: usize, slots: &mut Vec<usize>) -> Result<bool, SearchError> {
        let Some((start, end)) = self.bounds(at)? else {
            return Ok(false);
        };
        self.groups(start, end, slots)?;
        Ok(true)
    }

    /// As [`Search::find`], without regard to `\K`.
    fn bounds(&mut self, at: usize) -> Result<Option<(usize, usize)>, SearchError> {
        let (core, text) = (self.core, self.text);
        if !self.required_ahead(at) {
            return Ok(None);
        }
        let mut at = at;
        loop {
            if self.anywhere.is_some()
                && self.seldom.is_none()
                && let Some(found) = self.in_one_pass(at)?
            {
                return Ok(found);
            }
            let Some((start, end)) = core.prefilter.candidate(&core.program, text, at, &mut self.window) else {
                return Ok(None);
            };
            if end.is_some() {
                return Ok(end.map(|end| (start, end)));
            }
            if !self.required_ahead(start) {
                return Ok(None);
            }
            let program = &core.program;
            if core.lead.is_some_and(|id| {
                let alphabet = &program.alphabet;
                !program.assertion(id, alphabet.kind_before(text, start), alphabet.kind_after(text, start))
            }) {
                if start >= text.len() {
                    return Ok(None);
                }
                at = core.step(text, start);
                continue;
            }
            let found = self.match_at(start)?;
            if let Some(meter) = &mut self.seldom {
                let steps = &mut self.cache.as_mut().expect(HELD).marks.attempt;
                meter.spent += ATTEMPT + std::mem::take(steps);
                if meter.spent > (start - meter.begun.min(start)) as u64 + ADVANCE {
                    self.seldom = None;
                }
            }
            if let Some(end) = found {
                return Ok(Some((start, end)));
            }
            if start >= text.len() {
                return Ok(None);
            }
            at = core.step(text, start);
        }
    }

    /// The leftmost match in one pass; `None` when that is given up.
    fn in_one_pass(&mut self, at: usize) -> Result<Option<Option<(usize, usize)>>, SearchError> {
        let (core, text) = (self.core, self.text);
        let mut from = at;
        while let Some((anywhere, progress)) = core.anywhere.as_ref().zip(self.anywhere.as_mut()) {
            let cache = self.cache.as_mut().expect(HELD);
            match anywhere.next(progress, &mut cache.automata, &core.program, text, (at, from)) {
                Next::Nothing => return Ok(Some(None)),
                Next::Match(start, end) => return Ok(Some(Some((start, end)))),
                Next::Candidate { start, from: next } => {
                    if let Some(end) = self.match_at(start)? {
                        return Ok(Some(Some((start, end))));
                    }
                    from = next;
                }
                Next::GaveUp => self.anywhere = None,
            }
        }
        Ok(None)
    }

    /// Whether the text that every match contains occurs at `at` or later.
    fn required_ahead(&mut self, at: usize) -> bool {
        if self.required < at || self.required == 0 {
            let Some(place) = self.core.prefilter.required_from(self.text, at) else {
                return false;
            };
            self.required = place;
            let (times, far) = &mut self.required_seen;
            *times += 1;
            *far = far.saturating_add(place - at);
            if *times >= REQUIRED_TIMES && *far < *times * REQUIRED_EVERY {
                // It is nearly everywhere, so that looking for it does not help.
                self.required = usize::MAX;
            }
        }
        true
    }

    /// The end of the match that begins at exactly `at`.
    fn match_at(&mut self, at: usize) -> Result<Option<usize>, SearchError> {
        let (core, text) = (self.core, self.text);
        let cache = self.cache.as_mut().expect(HELD);
        if let Some(sweep) = &cache.sweep {
            return Ok(sweep.end(at));
        }
        if self.automaton {
            for &guard in &core.guards {
                let negative = matches!(core.program.subs[guard as usize].kind, SubKind::Ahead { negative: true });
                let held = core.aheads.holds(&core.program, guard, text, at, &mut cache.memory.ahead);
                if held == Some(negative) {
                    return Ok(None);
                }
            }
            let found = match &core.engine {
                Engine::Complete(dfa) => match_at(&mut Run::Complete(dfa), &core.program, text, at, &mut cache.marks),
                Engine::Lazy(start) => {
                    let dfa = cache.dfa.get_or_insert_with(|| start.clone());
                    match_at(&mut Run::Lazy(dfa, &core.program), &core.program, text, at, &mut cache.marks)
                }
                Engine::Backtrack => unreachable!("there is no automaton"),
            };
            match found {
                Ok(found) => return Ok(found),
                Err(_) => {
                    self.automaton = false;
                    cache.dfa = None;
                }
            }
        }
        match Backtracker::new(&core.program, &core.aheads, &mut cache.memory, false).match_at(text, at) {
            Ok(found) => Ok(found),
            Err(OutOfFuel) => self.swept()?.end(at).map_or(Ok(None), |end| Ok(Some(end))),
        }
    }

    /// The tables of the linear engine, made on first use; an error when backreferences rule it out.
    fn swept(&mut self) -> Result<&mut Sweep, SearchError> {
        if self.core.program.has_backrefs {
            let memory = &self.cache().memory;
            if memory.full {
                return Err(SearchError::StackTooLarge { limit: memory.room });
            }
            return Err(SearchError::BudgetExhausted { budget: self.budget });
        }
        let (core, text) = (self.core, self.text);
        let cache = self.cache();
        match &mut cache.sweep {
            Some(sweep) => Ok(sweep),
            empty => Ok(empty.insert(Sweep::new(&core.program, text)?)),
        }
    }

    /// The groups of a match whose bounds are known.
    fn groups(&mut self, start: usize, end: usize, slots: &mut Vec<usize>) -> Result<(), SearchError> {
        let (core, text) = (self.core, self.text);
        if core.program.slots == 2 && !core.program.has_keep {
            slots.clear();
            slots.extend([start, end]);
            return Ok(());
        }
        let cache = self.cache();
        let found = match cache.sweep {
            Some(_) => Err(OutOfFuel),
            None => Backtracker::new(&core.program, &core.aheads, &mut cache.memory, true).match_at(text, start),
        };
        match found {
            Ok(_) => {
                slots.clear();
                slots.extend_from_slice(&cache.memory.slots[..core.program.slots]);
            }
            Err(OutOfFuel) => {
                self.swept()?.groups(&core.program, text, start, end, slots)?;
            }
        }
        if slots[0] == UNSET {
            slots[0] = start;
        }
        slots[1] = end;
        Ok(())
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
