//! The definition of matching, executed word by word over [`Hir`] by continuations: slow, and short enough to be read
//! and believed. It shares no code with the engines: no program, no alphabet, no relaxation.

use crate::engine::backtrack::same_letter;
use crate::hir::{Assertion, Fold, Hir, Side};

/// Positions of groups; two for each.
pub type Slots = Vec<Option<usize>>;

/// More work than a test should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

type Then<'k> = &'k mut dyn FnMut(&mut State<'_>, usize) -> bool;

/// The state of one attempt.
pub struct State<'t> {
    text: &'t str,
    slots: Slots,
    keep: Option<usize>,
    steps: u64,
}

/// The leftmost match from `at` on: slots of all groups, the whole match first.
pub fn find(hir: &Hir, groups: usize, text: &str, at: usize) -> Result<Option<Slots>, TooSlow> {
    let mut steps = 20_000;
    for start in (at..=text.len()).filter(|&p| text.is_char_boundary(p)) {
        let mut state = State { text, slots: vec![None; 2 * groups], keep: None, steps };
        let mut end = None;
        let matched = go(hir, &mut state, start, &mut |_, at| {
            end = Some(at);
            true
        });
        if state.steps == 0 {
            return Err(TooSlow);
        }
        steps = state.steps;
        if matched {
            state.slots[0] = Some(state.keep.unwrap_or(start));
            state.slots[1] = end;
            return Ok(Some(state.slots));
        }
    }
    Ok(None)
}

/// The least end of all matches from `at` on.
pub fn shortest(hir: &Hir, groups: usize, text: &str, at: usize) -> Result<Option<usize>, TooSlow> {
    let mut least = None;
    let mut steps = 20_000;
    for start in (at..=text.len()).filter(|&p| text.is_char_boundary(p)) {
        let mut state = State { text, slots: vec![None; 2 * groups], keep: None, steps };
        go(hir, &mut state, start, &mut |_, end| {
            least = least.filter(|&least| least <= end).or(Some(end));
            false
        });
        if state.steps == 0 {
            return Err(TooSlow);
        }
        steps = state.steps;
    }
    Ok(least)
}

/// Where a match begins and ends.
pub fn span(slots: &Slots) -> (usize, usize) {
    slots[0].zip(slots[1]).expect("a match has set both ends")
}

/// All matches as `find_iter` defines them.
pub fn find_all(hir: &Hir, groups: usize, text: &str) -> Result<Vec<Slots>, TooSlow> {
    let mut out: Vec<Slots> = Vec::new();
    let (mut at, mut last) = (0, None);
    while at <= text.len() {
        let Some(slots) = find(hir, groups, text, at)? else {
            break;
        };
        let (start, end) = span(&slots);
        at = end;
        if start >= end {
            at += text[end..].chars().next().map_or(1, char::len_utf8);
            if last == Some(end) {
                continue;
            }
        }
        last = Some(end);
        out.push(slots);
    }
    Ok(out)
}

/// Matches `hir` at `at` and then whatever `then` demands; the first way that works is taken.
fn go(hir: &Hir, state: &mut State<'_>, at: usize, then: Then<'_>) -> bool {
    if state.steps == 0 {
        return true;
    }
    state.steps -= 1;
    match hir {
        Hir::Empty => then(state, at),
        Hir::Fail => false,
        Hir::Class(_, set) => match state.text[at..].chars().next() {
            Some(c) if set.contains(u32::from(c)) => then(state, at + c.len_utf8()),
            _ => false,
        },
        Hir::Assert(assertion) => holds(assertion, state.text, at) && then(state, at),
        Hir::Concat(items) => concat(items, state, at, then),
        Hir::Alternate(items) => items.iter().any(|item| go(item, state, at, then)),
        Hir::Repeat { item, min, max, greedy } => repeat(item, *min, *max, *greedy, 0, state, at, then),
        Hir::Capture { index, item } => {
            let slot = 2 * *index as usize;
            go(item, state, at, &mut |state, end| {
                let old = (state.slots[slot], state.slots[slot + 1]);
                (state.slots[slot], state.slots[slot + 1]) = (Some(at), Some(end));
                let matched = then(state, end);
                if !matched {
                    (state.slots[slot], state.slots[slot + 1]) = old;
                }
                matched
            })
        }
        Hir::Atomic(item) => {
            let slots = state.slots.clone();
            let mut end = None;
            let found = go(item, state, at, &mut |_, at| {
                end = Some(at);
                true
            });
            if state.steps == 0 {
                return true;
            }
            let matched = found && then(state, end.expect("the continuation that ends the item sets it"));
            if !matched {
                state.slots = slots;
            }
            matched
        }
        Hir::Look { ahead, negative, item } => {
            let slots = state.slots.clone();
            let found = if *ahead {
                go(item, state, at, &mut |_, _| true)
            } else {
                // The nearest beginning from which the item ends here.
                let text = state.text;
                (0..=at)
                    .rev()
                    .filter(|&p| text.is_char_boundary(p))
                    .any(|from| go(item, state, from, &mut |_, end| end == at))
            };
            if *negative {
                state.slots = slots.clone();
            }
            let matched = found != *negative && then(state, at);
            if !matched && state.steps > 0 {
                state.slots = slots;
            }
            matched
        }
        Hir::Backref { index, fold } => {
            let slot = 2 * *index as usize;
            let (Some(from), Some(to)) = (state.slots[slot], state.slots[slot + 1]) else {
                return false;
            };
            let mut end = at;
            for wanted in state.text[from..to].chars() {
                let Some(found) = state.text[end..].chars().next() else {
                    return false;
                };
                let equal = match fold {
                    Fold::None => wanted == found,
                    Fold::Ascii => wanted.eq_ignore_ascii_case(&found),
                    Fold::Simple => same_letter(u32::from(wanted), u32::from(found)),
                };
                if !equal {
                    return false;
                }
                end += found.len_utf8();
            }
            then(state, end)
        }
        Hir::Keep => {
            let old = state.keep.replace(at);
            let matched = then(state, at);
            if !matched {
                state.keep = old;
            }
            matched
        }
    }
}

fn concat(items: &[Hir], state: &mut State<'_>, at: usize, then: Then<'_>) -> bool {
    match items.split_first() {
        None => then(state, at),
        Some((first, rest)) => go(first, state, at, &mut |state, at| concat(rest, state, at, then)),
    }
}

/// Iterations up to `min` are free, except that an empty one ends an unbounded loop when it is the last mandatory one
/// (or the first of all); an empty iteration beyond that is refused.
#[allow(clippy::too_many_arguments, reason = "the whole state of a loop")]
fn repeat(
    item: &Hir,
    min: u32,
    max: Option<u32>,
    greedy: bool,
    done: u32,
    state: &mut State<'_>,
    at: usize,
    then: Then<'_>,
) -> bool {
    if max == Some(done) {
        return then(state, at);
    }
    if done >= min && !greedy && then(state, at) {
        return true;
    }
    let again = go(item, state, at, &mut |state, end| {
        if end == at && max.is_none() {
            if done + 1 == min.max(1) {
                return then(state, end);
            }
            if done + 1 > min {
                return false;
            }
        }
        repeat(item, min, max, greedy, done + 1, state, end, then)
    });
    again || done >= min && greedy && then(state, at)
}

fn holds(assertion: &Assertion, text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at..].chars().next();
    let permits = |side: &Side, c: Option<char>| c.map_or(side.edge, |c| side.symbols.contains(u32::from(c)));
    assertion.0.iter().any(|(b, a)| permits(b, before) && permits(a, after))
}
