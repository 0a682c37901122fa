//! Where a match can begin, found faster than by trying.

use aho_corasick::{AhoCorasick, MatchKind, StartKind};
use memchr::memmem::Finder;

use crate::hir::Hir;
use crate::literals::{self, Prefixes};
use crate::need::{Near, Need};
use crate::program::{self, Program};
use crate::starts::{Starts, Window};

/// What is known of matches from the literals in a pattern.
#[derive(Debug)]
pub struct Prefilter {
    first: First,
    /// The first literal found is a match by itself.
    exact: bool,
    /// A text without which there is no match.
    required: Option<Finder<'static>>,
}

/// What is known of one text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places {
    window: Window,
    near: Near,
}

impl Places {
    /// Symbols read on ways back.
    #[cfg(test)]
    pub fn steps(&self) -> u64 {
        self.near.steps
    }
}

/// How the next position at which a match may begin is found.
#[derive(Debug)]
enum First {
    /// A match can begin anywhere.
    Anywhere,
    /// Only at the beginning of the text.
    Start,
    /// With one of these symbols, and with what is needed behind them.
    Symbols(Box<Starts>, Option<Box<Need>>),
    /// With this text.
    Literal(Box<Finder<'static>>),
    /// With one of several texts.
    Literals(AhoCorasick),
}

impl Prefilter {
    pub fn new(hir: &Hir, program: &Program) -> Self {
        if begins_at_start(hir) {
            return Prefilter { first: First::Start, exact: false, required: None };
        }
        let Prefixes { literals, exact } = literals::prefixes(hir);
        let exact = exact && literals::is_plain(hir);
        let shortest = literals.iter().map(Vec::len).min().unwrap_or(0);
        let first = if literals.len() == 1 && shortest > 0 {
            Some(First::Literal(Box::new(Finder::new(&literals[0]).into_owned())))
        } else if shortest > 1 || exact && shortest > 0 {
            let mut builder = AhoCorasick::builder();
            let builder = builder.match_kind(MatchKind::LeftmostFirst).start_kind(StartKind::Unanchored);
            builder.build(&literals).ok().map(First::Literals)
        } else {
            None
        };
        if let Some(first) = first {
            return Prefilter { first, exact, required: None };
        }
        let required = literals::required(hir);
        let required = (!required.is_empty()).then(|| Finder::new(&required).into_owned());
        let invalid = program.first.contains(program.alphabet.invalid) && !program.alphabet.bytes;
        let first = if program.nullable || invalid || program.first.contains(program.alphabet.edge()) {
            First::Anywhere
        } else {
            let starts = Box::new(Starts::new(program, &program::first_side(hir)));
            First::Symbols(starts, Need::new(program).map(Box::new))
        };
        Prefilter { first, exact: false, required }
    }

    /// Whether places are found by searching for literal text, which is faster than anything that reads every symbol.
    pub fn is_literal(&self) -> bool {
        matches!(self.first, First::Literal(_) | First::Literals(_))
    }

    /// Whether nothing better is known than the symbols with which a match may begin.
    pub fn is_by_symbol(&self) -> bool {
        matches!(self.first, First::Anywhere | First::Symbols(..))
    }

    /// Whether the assertion with which matches begin has been tested at each candidate.
    pub fn tests_lead(&self) -> bool {
        matches!(self.first, First::Symbols(..))
    }

    /// Whether matches begin with few of all symbols.
    pub fn is_selective(&self) -> bool {
        matches!(&self.first, First::Symbols(starts, _) if starts.is_selective())
    }

    /// The first position from `at` on where a match may begin, and its end if that is known too. `places` belong to the text.
    #[inline]
    pub fn candidate(
        &self,
        program: &Program,
        text: &[u8],
        at: usize,
        places: &mut Places,
    ) -> Option<(usize, Option<usize>)> {
        match &self.first {
            First::Anywhere => (at <= text.len()).then_some((at, None)),
            First::Start => (at == 0).then_some((at, None)),
            First::Symbols(starts, need) => {
                let mut at = starts.next(program, text, at, &mut places.window)?;
                if let Some(need) = need {
                    loop {
                        let from = need.next(program, text, at, &mut places.near)?;
                        if from == at {
                            break;
                        }
                        at = starts.next(program, text, from, &mut places.window)?;
                    }
                }
                Some((at, None))
            }
            First::Literal(finder) => {
                let found = at + finder.find(text.get(at..)?)?;
                Some((found, self.exact.then(|| found + finder.needle().len())))
            }
            First::Literals(automaton) => {
                let found = automaton.find(text.get(at..)?)?;
                Some((at + found.start(), self.exact.then(|| at + found.end())))
            }
        }
    }

    /// The next place from `at` on of the text without which there is no match: `None` when a search from `at` on is
    /// hopeless, `usize::MAX` when nothing is required.
    pub fn required_from(&self, text: &[u8], at: usize) -> Option<usize> {
        match &self.required {
            None => Some(usize::MAX),
            Some(finder) => finder.find(text.get(at..)?).map(|found| at + found),
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        let mut out = match &self.first {
            First::Anywhere => "Every position is tried.".to_owned(),
            First::Start => "Only the beginning of the text is tried.".to_owned(),
            First::Symbols(starts, need) => starts.describe() + need.as_ref().map_or("", |need| need.describe()),
            First::Literal(_) => "Places of a literal text are found by SIMD search.".to_owned(),
            First::Literals(automaton) => {
                format!("Places of {} literal texts are found by SIMD search.", automaton.patterns_len())
            }
        };
        if self.exact {
            out.push_str(" Each of them is a match.");
        }
        if let Some(finder) = &self.required {
            let text = String::from_utf8_lossy(finder.needle());
            out.push_str(&format!(" The search ends where `{text}` does not occur any more."));
        }
        out
    }
}

/// Whether every match begins at the beginning of the text.
fn begins_at_start(hir: &Hir) -> bool {
    match hir {
        Hir::Assert(assertion) => {
            assertion.0.iter().all(|(before, _)| before.edge && !before.invalid && before.symbols.is_empty())
        }
        Hir::Concat(items) => items.first().is_some_and(begins_at_start),
        Hir::Alternate(items) => !items.is_empty() && items.iter().all(begins_at_start),
        Hir::Capture { item, .. } | Hir::Atomic(item) => begins_at_start(item),
        Hir::Repeat { item, min, .. } => *min > 0 && begins_at_start(item),
        _ => false,
    }
}
