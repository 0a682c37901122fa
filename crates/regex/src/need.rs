//! What must follow where a match begins: `(?=\w*\d)` holds only where nothing but word characters comes before a digit. The
//! next digit is looked for as [`crate::starts`] does, and the way back from it tells which places it serves.

use crate::alphabet::KindSet;
use crate::hir::Side;
use crate::program::Program;
use crate::starts::{Starts, Window};

/// A symbol that every match needs, behind a run of others.
#[derive(Debug)]
pub struct Need {
    symbols: Starts,
    run: KindSet,
}

/// The first of the symbols from `from` on, and from where on it can be reached. It belongs to one text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Near {
    window: Window,
    from: usize,
    reached_from: usize,
    symbol: Option<usize>,
    /// Symbols read on ways back.
    pub steps: u64,
}

impl Need {
    /// What the lookaheads at the beginning of a program need, if that is little.
    pub fn new(program: &Program) -> Option<Need> {
        let (run, kinds, symbols) = program.need.as_ref()?;
        let symbols = Starts::of_symbols(program, kinds.clone(), &Side::only(symbols.clone()));
        Some(Need { symbols, run: run.clone() })
    }

    /// The first position from `at` on from which only the run leads to a symbol.
    #[inline]
    pub fn next(&self, program: &Program, text: &[u8], at: usize, near: &mut Near) -> Option<usize> {
        if !(near.from <= at && near.symbol.is_some_and(|symbol| at <= symbol)) {
            let symbol = self.symbols.next(program, text, at, &mut near.window)?;
            let mut reached_from = symbol;
            while reached_from > at
                && let Some((kind, len)) = program.alphabet.prev(text, reached_from)
                && self.run.contains(kind)
            {
                reached_from = reached_from.saturating_sub(len).max(at);
                near.steps += 1;
            }
            (near.from, near.reached_from, near.symbol) = (at, reached_from, Some(symbol));
        }
        Some(near.reached_from.max(at))
    }

    /// In words.
    pub fn describe(&self) -> &'static str {
        " Positions from which a lookahead cannot reach a symbol that it needs are passed over as well."
    }
}
