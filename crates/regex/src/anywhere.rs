//! The next match of a regular pattern, wherever it begins.
//!
//! Attempts from each position at which a match may begin read words again and again, as `[a-z]+ing` does. Here the text is
//! read once (see [`Through`]); or, where every match contains a literal text that what comes before it cannot contain, as
//! `[\w.]+@[\w.]+` does, places of that text are found by SIMD search and the pattern is read back from them. What either
//! needs is made when a text of some length is searched for the first time.

use std::sync::OnceLock;

use memchr::memmem::Finder;

use crate::engine::dfa::{Backward, Earliest, Full, Through};
use crate::hir::Hir;
use crate::literals;
use crate::program::{self, Program};

/// Places of the inner text may come this often, in bytes between two of them; if they come more often, reading the text
/// through is faster.
const PLACES_EVERY: usize = 48;

/// How the next match is found.
#[derive(Debug)]
pub struct Anywhere {
    reversed: Reversed,
    inner: Option<Inner>,
    /// Bytes that each automaton may take.
    memory: usize,
}

/// A literal text inside, and what comes before it.
#[derive(Debug)]
struct Inner {
    finder: Finder<'static>,
    before: Reversed,
}

/// A reversed program, made when it is first needed.
#[derive(Debug)]
struct Reversed {
    hir: Hir,
    by_bytes: bool,
    limit: usize,
    program: OnceLock<Option<Program>>,
}

impl Reversed {
    fn new(hir: Hir, by_bytes: bool, limit: usize) -> Self {
        Reversed { hir, by_bytes, limit, program: OnceLock::new() }
    }

    fn get(&self) -> Result<&Program, Full> {
        let make = || program::compile(&program::reverse(&self.hir), 1, self.by_bytes, self.limit);
        self.program.get_or_init(make).as_ref().ok_or(Full)
    }
}

/// The automata, which grow while they are used.
#[derive(Debug, Default)]
pub struct Automata {
    through: Option<Through>,
    before: Option<Backward>,
    /// Tells the least end.
    earliest: Option<Earliest>,
}

impl Automata {
    /// Forgets what belongs to a text.
    pub fn new_text(&mut self) {
        if let Some(through) = &mut self.through {
            through.new_text();
        }
        if let Some(before) = &mut self.before {
            before.steps = 0;
        }
    }

    /// The least end of all matches that begin at `at` or later, for a regular pattern.
    pub fn shortest(
        &mut self,
        program: &Program,
        text: &[u8],
        at: usize,
        memory: usize,
    ) -> Result<Option<usize>, Full> {
        let earliest = match &mut self.earliest {
            Some(earliest) => earliest,
            none => none.insert(Earliest::new(program, memory)?),
        };
        let found = earliest.end(program, text, at);
        if found.is_err() {
            self.earliest = None;
        }
        found
    }

    /// Symbols read in this text.
    #[cfg(test)]
    pub fn steps(&self) -> u64 {
        self.through.as_ref().map_or(0, |t| t.steps) + self.before.as_ref().map_or(0, |b| b.steps)
    }
}

/// What is known of one text.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// From places of the inner text.
    inner: bool,
    /// Where that began and how many places there have been.
    begun: Option<usize>,
    places: usize,
}

/// Where to look next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is no further match.
    Nothing,
    /// A match.
    Match(usize, usize),
    /// A match may begin at `start`; if none does, the search goes on with places from `from` on.
    Candidate { start: usize, from: usize },
    /// Not in this way.
    GaveUp,
}

impl Anywhere {
    /// For a regular pattern.
    pub fn new(hir: &Hir, by_bytes: bool, limit: usize, memory: usize) -> Self {
        let inner = literals::inner(hir).map(|(before, text)| Inner {
            finder: Finder::new(&text).into_owned(),
            before: Reversed::new(before, by_bytes, limit),
        });
        Anywhere { reversed: Reversed::new(hir.clone(), by_bytes, limit), inner, memory }
    }

    /// Whether every symbol is read, as there is no inner text.
    pub fn reads_all(&self) -> bool {
        self.inner.is_none()
    }

    /// At the beginning of a text.
    pub fn begin(&self) -> Progress {
        Progress { inner: self.inner.is_some(), begun: None, places: 0 }
    }

    /// The next match, or where one may begin. Matches begin at `at` or later; there are none with places of the inner text
    /// before `from`.
    pub fn next(
        &self,
        progress: &mut Progress,
        automata: &mut Automata,
        program: &Program,
        text: &[u8],
        (at, from): (usize, usize),
    ) -> Next {
        // Only where reading in either direction finds the same symbols.
        let inside = !program.alphabet.bytes && text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        let found = if inside { Err(Full) } else { self.try_next(progress, automata, program, text, (at, from)) };
        found.unwrap_or_else(|Full| {
            automata.through = None;
            automata.before = None;
            Next::GaveUp
        })
    }

    fn try_next(
        &self,
        progress: &mut Progress,
        automata: &mut Automata,
        program: &Program,
        text: &[u8],
        (at, from): (usize, usize),
    ) -> Result<Next, Full> {
        let mut from = from.max(at);
        if let Some(inner) = self.inner.as_ref().filter(|_| progress.inner) {
            let begun = *progress.begun.get_or_insert(at);
            while let Some(place) = text.get(from..).and_then(|rest| inner.finder.find(rest)).map(|found| from + found)
            {
                progress.places += 1;
                from = place + program.alphabet.next(text, place).map_or(1, |n| n.1);
                if progress.places.saturating_sub(16) * PLACES_EVERY > place.saturating_sub(begun) {
                    progress.inner = false;
                    break;
                }
                let before = inner.before.get()?;
                let backward = match &mut automata.before {
                    Some(backward) => backward,
                    none => none.insert(Backward::new(before, self.memory)?),
                };
                if let Some(start) = backward.start(before, text, at, place)? {
                    return Ok(Next::Candidate { start, from });
                }
            }
            if progress.inner {
                return Ok(Next::Nothing);
            }
        }
        let reversed = self.reversed.get()?;
        let through = match &mut automata.through {
            Some(through) => through,
            none => none.insert(Through::new(program, reversed, self.memory)?),
        };
        let found = through.find(program, reversed, text, at)?;
        Ok(found.map_or(Next::Nothing, |(start, end)| Next::Match(start, end)))
    }

    /// In words.
    pub fn describe(&self) -> String {
        let mut out = " In texts of some length the next match is found in one pass: one automaton reads to where it ends, another \
                       one back to where it begins."
            .to_owned();
        if let Some(inner) = &self.inner {
            let text = String::from_utf8_lossy(inner.finder.needle());
            out.push_str(&format!(
                " Where `{text}` is rare, its places are found by SIMD search and the way goes back from them."
            ));
        }
        out
    }
}
