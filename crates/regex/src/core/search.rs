//! One search: which of the engines runs when.

use std::sync::Arc;

use super::{Cache, Core, Engine, FUEL, FUEL_PER_BYTE};
use crate::anywhere::{Anywhere, Next, Progress};
use crate::engine::backtrack::{Backtracker, OutOfFuel, UNSET};
use crate::engine::dfa::{Run, match_at};
use crate::engine::opening::Asked;
use crate::engine::scan::{End, Splitter};
use crate::engine::sweep::Sweep;
use crate::error::SearchError;
use crate::prefilter::Places;
use crate::program::SubKind;

/// Why a search has its working memory.
const HELD: &str = "the memory is only given back when the search is dropped";

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
    places: Places,
    opening: Asked,
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

impl Core {
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
            places: Places::default(),
            opening: Asked::default(),
            required: 0,
            required_seen: (0, 0),
        }
    }
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
        let (budget, back) = (self.budget, self.places.steps());
        let cache = self.cache();
        Work {
            steps: back
                + cache.marks.steps
                + cache.memory.ahead.steps
                + cache.automata.steps()
                + (budget - cache.memory.fuel),
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
            let Some((start, _)) = core.prefilter.candidate(&core.program, text, at, &mut self.places) else {
                return Ok(None);
            };
            if let Ok(found) = self.cache().automata.shortest(&core.program, text, start, core.dfa_size_limit) {
                return Ok(found);
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
            let Some((start, end)) = core.prefilter.candidate(&core.program, text, at, &mut self.places) else {
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
        if core.opening.as_ref().is_some_and(|opening| !opening.allows(text, at, &mut self.opening)) {
            return Ok(None);
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
