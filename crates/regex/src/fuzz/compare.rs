//! Every engine against the definition, on one pattern and one text.

use super::reference;
use crate::core::{Config, Core};
use crate::engine::ahead::Aheads;
use crate::engine::backtrack::{Backtracker, Memory, UNSET};
use crate::engine::dfa::{Dfa, Marks, Run, match_at};
use crate::engine::sweep::Sweep;
use crate::hir::Hir;
use crate::program::{self, Program};
use crate::syntax::{self, ast::Flags};

/// Two results have to be equal; the rest says what they are results of.
macro_rules! same {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        let (found, expected) = (&$found, &$expected);
        if found != expected {
            return Err(format!("{}: found {found:?}, expected {expected:?}", format_args!($($what)+)));
        }
    };
}

fn compile(pattern: &str) -> Option<(Hir, Program, usize)> {
    let parsed = syntax::parse(pattern, Flags::default(), 250).ok()?;
    let lowered = syntax::lower(parsed, Flags::default(), false);
    let groups = lowered.group_names.len();
    let mut relaxed = program::relax(lowered.hir.clone());
    if relaxed.any(|h| matches!(h, Hir::Backref { .. })) {
        relaxed = program::tighten(relaxed);
    }
    let program = program::compile(&relaxed, groups, false, 100_000)?;
    Some((lowered.hir, program, groups))
}

/// Compares every engine that can run the pattern with the reference, at every position.
pub fn check(pattern: &str, text: &str) -> Result<(), String> {
    let Some((hir, program, groups)) = compile(pattern) else {
        return Ok(());
    };
    let mut memory = Memory::default();
    let regular = !program.has_subs && !program.has_backrefs;
    let complete = regular.then(|| {
        let mut dfa = Dfa::new(&program, 1 << 22).ok()?;
        dfa.complete(&program, 10_000, true).ok().map(|()| dfa)
    });
    let mut lazy = if regular { Dfa::new(&program, 1 << 22).ok() } else { None };
    let mut sweep = if program.has_backrefs { None } else { Sweep::new(&program, text.as_bytes()).ok() };
    let mut marks = Marks::default();
    let aheads = Aheads::new(&program, 10_000, 1 << 22, true);
    for at in (0..=text.len()).filter(|&p| text.is_char_boundary(p)) {
        // The match that begins at exactly this position.
        let Ok(found) = reference::find(&hir, groups, text, at) else {
            return Ok(());
        };
        // `find` may move on; only a match here counts, and \K is not generated.
        let here = found.as_ref().filter(|s| s[0] == Some(at));
        let end = here.map(|s| reference::span(s).1);

        memory.new_text(text.len());
        memory.fuel = 3_000_000;
        let mut backtracker = Backtracker::new(&program, &aheads, &mut memory, true);
        if let Ok(found) = backtracker.match_at(text.as_bytes(), at) {
            same!(found, end, "backtrack: {:?} on {:?} at {}", pattern, text, at);
            if let Some(slots) = here {
                let got: Vec<_> = (2..2 * groups).map(|i| Some(memory.slots[i]).filter(|&s| s != UNSET)).collect();
                same!(&got[..], &slots[2..], "groups: {:?} on {:?} at {}", pattern, text, at);
            }
        }
        memory.fuel = 3_000_000;
        if let Ok(found) = Backtracker::new(&program, &aheads, &mut memory, false).match_at(text.as_bytes(), at) {
            same!(found, end, "without groups: {:?} on {:?} at {}", pattern, text, at);
        }
        if let Some(sweep) = &mut sweep {
            same!(sweep.end(at), end, "sweep: {:?} on {:?} at {}", pattern, text, at);
            if let Some(slots) = here {
                let mut got = Vec::new();
                sweep
                    .groups(&program, text.as_bytes(), at, end.unwrap_or(at), &mut got)
                    .map_err(|e| format!("the sweep's groups: {e}"))?;
                let got: Vec<_> = got[2..].iter().map(|&s| Some(s).filter(|&s| s != UNSET)).collect();
                same!(&got[..], &slots[2..], "sweep's groups: {:?} on {:?} at {}", pattern, text, at);
            }
        }
        if let Some(Some(dfa)) = &complete {
            let found = match_at(&mut Run::Complete(dfa), &program, text.as_bytes(), at, &mut marks);
            let found = found.map_err(|e| format!("the complete automaton gave up: {e:?}"))?;
            same!(found, end, "automaton: {:?} on {:?} at {}", pattern, text, at);
        }
        if let Some(dfa) = &mut lazy
            && let Ok(found) = match_at(&mut Run::Lazy(dfa, &program), &program, text.as_bytes(), at, &mut marks)
        {
            same!(found, end, "lazy automaton: {:?} on {:?} at {}", pattern, text, at);
        }
    }
    // The leftmost match from every position on, found in one pass.
    let config = Config { anywhere_from: 0, splitting: false, ..Config::default() };
    let core = Core::new(pattern, &config, false).map_err(|e| e.to_string())?;
    for at in (0..=text.len()).filter(|&p| text.is_char_boundary(p)) {
        let (Ok(expected), Ok(found)) =
            (reference::find(&hir, groups, text, at), core.search(text.as_bytes()).find(at))
        else {
            return Ok(());
        };
        let expected = expected.as_ref().map(reference::span);
        same!(found, expected, "find: {:?} on {:?} from {}", pattern, text, at);
        let Ok(shortest) = core.search(text.as_bytes()).shortest(at) else {
            return Ok(());
        };
        if regular && !hir.any(|h| matches!(h, Hir::Atomic(_))) {
            let Ok(expected) = reference::shortest(&hir, groups, text, at) else {
                return Ok(());
            };
            same!(shortest, expected, "shortest: {:?} on {:?} from {}", pattern, text, at);
        } else {
            same!(shortest, expected.map(|e| e.1), "shortest: {:?} on {:?} from {}", pattern, text, at);
        }
        same!(
            core.search(text.as_bytes()).is_match(at),
            Ok(expected.is_some()),
            "is_match: {:?} on {:?}",
            pattern,
            text
        );
    }
    check_all(pattern, text)
}

/// Compares all matches, through the public API.
pub fn check_all(pattern: &str, text: &str) -> Result<(), String> {
    let Some((hir, _, groups)) = compile(pattern) else {
        return Ok(());
    };
    let Ok(expected) = reference::find_all(&hir, groups, text) else {
        return Ok(());
    };
    let regex = crate::Regex::new(pattern).map_err(|e| e.to_string())?;
    let found: Result<Vec<_>, _> = regex.try_find_iter(text).map(|m| m.map(|m| (m.start(), m.end()))).collect();
    if let Ok(found) = found {
        let expected: Vec<_> = expected.iter().map(reference::span).collect();
        same!(found, expected, "find_iter: {:?} on {:?}", pattern, text);
    }
    Ok(())
}
