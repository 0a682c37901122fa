//! Anchored matching with the automaton, in linear time over all matches of a text.
//!
//! A search that overshoots, as `a*b|a` does on `aaaa`, reads on to the end and then falls back to a match far to the
//! left; doing so at every match is quadratic. After a long overshoot the states that it went through are therefore
//! marked, at every 64th byte, as leading nowhere (T. Reps, "Maximal-munch tokenization in linear time", 1998). A later
//! search that comes to the same state at the same place stops there.

use std::collections::HashSet;

use super::build::{Dfa, Full, Loop};
use crate::alphabet::{Alphabet, Kind};
use crate::byteset::ByteSet;
use crate::program::Program;

/// Overshoots up to this length are not worth remembering.
pub(in crate::engine) const SHORT: usize = 128;

/// Marks are set at the first symbol of every so many bytes.
const SPACING: usize = 64;

/// Bytes that are skipped in the time of one step.
const LOOP_STEPS: u64 = 16;

/// Pairs of state and position that lead to no further match.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    failed: HashSet<(u32, usize)>,
    /// Symbols read so far, over all searches with these marks.
    pub steps: u64,
    /// Bytes read since this was last set to zero, skipped ones in part.
    pub attempt: u64,
}

impl Marks {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.failed.clear();
        self.steps = 0;
        self.attempt = 0;
    }
}

/// How transitions are looked up.
pub enum Run<'a> {
    /// In a complete table, shared between threads.
    Complete(&'a Dfa),
    /// In a table that grows while searching.
    Lazy(&'a mut Dfa, &'a Program),
}

impl Run<'_> {
    fn start(&self, before: Kind) -> u32 {
        match self {
            Run::Complete(dfa) => dfa.start(before),
            Run::Lazy(dfa, _) => dfa.start(before),
        }
    }
}

/// The end of the match that begins at `at`.
pub fn match_at(
    run: &mut Run<'_>,
    program: &Program,
    text: &[u8],
    at: usize,
    marks: &mut Marks,
) -> Result<Option<usize>, Full> {
    let before = program.alphabet.kind_before(text, at);
    let start = run.start(before);
    match run {
        Run::Complete(dfa) => {
            let next = &mut |s, k| Ok(dfa.next_or_loop(s, k));
            go(next, &|state| dfa.loop_at(state), program, text, at, start, marks)
        }
        Run::Lazy(dfa, p) => {
            let next = &mut |s, k| dfa.next_lazy(p, s, k).map(|(to, matched)| (to, matched, false));
            go(next, &|_| None, program, text, at, start, marks)
        }
    }
}

#[inline(always)]
fn go<'a>(
    next: &mut impl FnMut(u32, Kind) -> Result<(u32, bool, bool), Full>,
    loop_at: &impl Fn(u32) -> Option<&'a Loop>,
    program: &Program,
    text: &[u8],
    at: usize,
    start: u32,
    marks: &mut Marks,
) -> Result<Option<usize>, Full> {
    let alphabet = &program.alphabet;
    let mut state = start;
    let mut pos = at;
    let mut last = usize::MAX;
    let mut check = if marks.failed.is_empty() { usize::MAX } else { next_check(at) };
    let (mut steps, mut skipped) = (0, 0);
    loop {
        if pos >= check {
            if marks.failed.contains(&(state, pos)) {
                break;
            }
            check = next_check(pos);
        }
        let (kind, len) = alphabet.next(text, pos).unwrap_or((alphabet.edge(), 0));
        let (to, matched, loops) = next(state, kind)?;
        last = if matched { pos } else { last };
        state = to;
        steps += 1;
        if state == 0 {
            break;
        }
        pos += len;
        if loops && let Some(found) = loop_at(state) {
            let stop = leave(alphabet, &found.leaving, text, pos, check);
            if stop > pos {
                if found.matched {
                    last = alphabet.prev(text, stop).map_or(pos, |(_, len)| stop - len);
                }
                steps += (stop - pos) as u64 / LOOP_STEPS;
                skipped += (stop - pos) - (stop - pos) / LOOP_STEPS as usize;
                pos = stop;
            }
        }
    }
    let from = if last == usize::MAX { at } else { last };
    if pos - from > SHORT {
        // The way is known now; go it again and mark what lies behind the last match.
        let (mut state, mut again) = (start, at);
        let mut check = next_check(at);
        while again < pos {
            let Some((kind, len)) = alphabet.next(text, again) else {
                break;
            };
            state = next(state, kind)?.0;
            again += len;
            if again >= check {
                check = next_check(again);
                if again > from && state != 0 {
                    marks.failed.insert((state, again));
                }
            }
        }
    }
    marks.steps += steps;
    marks.attempt += (pos - at - skipped) as u64;
    Ok((last != usize::MAX).then_some(last))
}

/// Where a loop is left that goes on at `at`, or a place before that where the states that were marked are to be looked at.
#[inline]
fn leave(alphabet: &Alphabet, leaving: &ByteSet, text: &[u8], at: usize, check: usize) -> usize {
    let mut to = check.min(text.len());
    if to < text.len() && !alphabet.bytes {
        while to > at && text[to] & 0xC0 == 0x80 {
            to -= 1;
        }
    }
    leaving.find(text, at, to.max(at))
}

/// The next multiple of [`SPACING`] beyond `at`.
pub(in crate::engine) fn next_check(at: usize) -> usize {
    (at / SPACING + 1) * SPACING
}
