//! Generated patterns and haystacks: every engine against the reference.

use proptest::prelude::*;

use super::reference;
use crate::engine::backtrack::{Backtracker, Memory, UNSET};
use crate::engine::dfa::{Dfa, Marks, Run, match_at};
use crate::engine::sweep::Sweep;
use crate::hir::Hir;
use crate::program::{self, Program};
use crate::syntax::{self, ast::Flags};

/// A piece of pattern that is rich in overlaps: few letters, all constructs.
fn pattern(backrefs: bool) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "é", "[ab]", "[^a]", "\\w", "\\s", "\\S", ".", " ", "x"]),
        2 => prop::sample::select(vec!["^", "$", "\\b", "\\B", "(?m:^)", "(?m:$)", "\\Z", "\\A", "\\z", "\\<", "(?Rm:$)"]),
        1 => prop::sample::select(vec!["(?i:a)", "\\R", "\\h", "[\\w--b]", "", "\\X", "(?s:.)"]),
        1 => prop::sample::select(if backrefs { vec!["\\1", "(?i:\\1)", "(b?)\\1"] } else { vec!["ab", "a{2}"] }),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        let quantifier = prop::sample::select(vec![
            "*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{0,2}", "{1,2}?", "{2,}", "{1,3}+",
        ]);
        let group = prop::sample::select(vec!["(", "(?:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(", "(?:"]);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(|v| v.concat()),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|v| format!("(?:{})", v.join("|"))),
            3 => (inner.clone(), quantifier).prop_map(|(p, q)| format!("(?:{p}){q}")),
            3 => (group, inner).prop_map(|(g, p)| format!("{g}{p})")),
        ]
    })
}

fn haystack() -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["a", "b", "c", "é", "A", " ", "\n", "\r\n", "aa", "ab", "e\u{301}", "😀", "x"]);
    prop::collection::vec(piece, 0..9).prop_map(|v| v.concat())
}

fn compile(pattern: &str) -> Option<(Hir, Program, usize)> {
    let parsed = syntax::parse(pattern, Flags::default(), 250).expect(pattern);
    let lowered = syntax::lower(parsed, Flags::default(), false);
    let groups = lowered.group_names.len();
    let relaxed = program::relax(lowered.hir.clone());
    let program = program::compile(&relaxed, groups, false, 100_000)?;
    Some((lowered.hir, program, groups))
}

/// Compares every engine that can run the pattern with the reference, at every position.
fn check(pattern: &str, text: &str) -> Result<(), TestCaseError> {
    let Some((hir, program, groups)) = compile(pattern) else {
        return Ok(());
    };
    let mut memory = Memory::default();
    let regular = !program.has_subs && !program.has_backrefs;
    let complete = regular.then(|| {
        let mut dfa = Dfa::new(&program, 1 << 22).unwrap();
        dfa.complete(&program, 10_000).ok().map(|()| dfa)
    });
    let mut lazy = regular.then(|| Dfa::new(&program, 1 << 22).unwrap());
    let sweep = (!program.has_backrefs).then(|| Sweep::new(&program, text.as_bytes()).unwrap());
    let mut marks = Marks::default();
    for at in (0..=text.len()).filter(|&p| text.is_char_boundary(p)) {
        // The match that begins at exactly this position.
        let Ok(found) = reference::find(&hir, groups, text, at) else {
            return Ok(());
        };
        // `find` may move on; only a match here counts, and \K is not generated.
        let here = found.as_ref().filter(|s| s[0] == Some(at));
        let end = here.map(|s| s[1].unwrap());

        memory.new_text();
        memory.fuel = 3_000_000;
        let mut backtracker = Backtracker::new(&program, &mut memory, true);
        if let Ok(found) = backtracker.match_at(text.as_bytes(), at) {
            prop_assert_eq!(found, end, "backtrack: {:?} on {:?} at {}", pattern, text, at);
            if let Some(slots) = here {
                let got: Vec<_> = (2..2 * groups).map(|i| Some(memory.slots[i]).filter(|&s| s != UNSET)).collect();
                prop_assert_eq!(&got[..], &slots[2..], "groups: {:?} on {:?} at {}", pattern, text, at);
            }
        }
        memory.fuel = 3_000_000;
        if let Ok(found) = Backtracker::new(&program, &mut memory, false).match_at(text.as_bytes(), at) {
            prop_assert_eq!(found, end, "without groups: {:?} on {:?} at {}", pattern, text, at);
        }
        if let Some(sweep) = &sweep {
            prop_assert_eq!(sweep.end(at), end, "sweep: {:?} on {:?} at {}", pattern, text, at);
            if let Some(slots) = here {
                let mut got = Vec::new();
                sweep.groups(&program, text.as_bytes(), at, end.unwrap(), &mut got).unwrap();
                let got: Vec<_> = got[2..].iter().map(|&s| Some(s).filter(|&s| s != UNSET)).collect();
                prop_assert_eq!(&got[..], &slots[2..], "sweep's groups: {:?} on {:?} at {}", pattern, text, at);
            }
        }
        if let Some(Some(dfa)) = &complete {
            let found = match_at(&mut Run::Complete(dfa), &program, text.as_bytes(), at, &mut marks).unwrap();
            prop_assert_eq!(found, end, "automaton: {:?} on {:?} at {}", pattern, text, at);
        }
        if let Some(dfa) = &mut lazy
            && let Ok(found) = match_at(&mut Run::Lazy(dfa, &program), &program, text.as_bytes(), at, &mut marks)
        {
            prop_assert_eq!(found, end, "lazy automaton: {:?} on {:?} at {}", pattern, text, at);
        }
    }
    // All matches, through the public API.
    let Ok(expected) = reference::find_all(&hir, groups, text) else {
        return Ok(());
    };
    let regex = crate::Regex::new(pattern).unwrap();
    let found: Result<Vec<_>, _> = regex.try_find_iter(text).map(|m| m.map(|m| (m.start(), m.end()))).collect();
    if let Ok(found) = found {
        let expected: Vec<_> = expected.iter().map(|s| (s[0].unwrap(), s[1].unwrap())).collect();
        prop_assert_eq!(found, expected, "find_iter: {:?} on {:?}", pattern, text);
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_with_the_reference(p in pattern(false), texts in prop::collection::vec(haystack(), 3)) {
        for text in &texts {
            check(&p, text)?;
        }
    }

    #[test]
    fn engines_agree_with_the_reference_on_backreferences(
        p in pattern(true).prop_map(|p| format!("(a|b|é)??{p}")),
        texts in prop::collection::vec(haystack(), 3),
    ) {
        for text in &texts {
            check(&p, text)?;
        }
    }
}

#[test]
fn patterns_that_broke_other_engines() {
    for (pattern, text) in [
        ("(a)?b\\1?", "aaa bbb"),
        ("(?:(?=a)a|b)+", "aa"),
        ("(?:a(?!b)|b(?!a))+", "aabba"),
        ("(?=(\\w))\\1", "ab"),
        ("(a)(?=\\1)", "aaa"),
        ("((?:a|b)+)(?=\\1)", "abab"),
        ("(?=(a+))a*b\\1", "aaabaaa"),
        ("(?:(?i)a)|b", "aAbB"),
        ("$+", "a\n"),
        ("(?:$\\n)+", "a\n\n"),
        ("(?:^|$)+", "ab"),
        ("(a*){2}(x)", "aax"),
        ("(|a)*", "aaa"),
        ("(|a)+", "aaa"),
        ("(a*)*", "b"),
        ("(a*)+", "aa"),
        ("(?:a?b??)*?c", "abac"),
        ("(a|b\\1)+", "ababa"),
        ("a*b|a", "aaaa"),
    ] {
        check(pattern, text).unwrap();
    }
}
