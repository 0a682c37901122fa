//! Generated patterns and haystacks: every engine against the reference.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::fuzz::compare::{check, check_all};

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

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_with_the_reference(p in pattern(false), texts in prop::collection::vec(haystack(), 3)) {
        for text in &texts {
            check(&p, text).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn engines_agree_with_the_reference_on_backreferences(
        p in pattern(true).prop_map(|p| format!("(a|b|é)??{p}")),
        texts in prop::collection::vec(haystack(), 3),
    ) {
        for text in &texts {
            check(&p, text).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn what_lookaheads_need_and_openings_agree_with_the_reference(
        p in prop::sample::select(vec![
            r"(?=\w*\d)(?=\w*[a-z])\b\w{3,}\b", r"(?=[^x]*?x)(?:a|é)+", r"(?=.*\d)\w", r"(?=\w*+-)\w\w", r"\b(?=\w*\d)(?!\w*x)\w+",
            r"(?=[^中]*[中a]+)b", r"\b(\w+) \1\b", r"(\w)(?:x|\1)", r"((?:a|中)+)\d?\1", r"([^a]+)a\1", r"(?<=(\w))\1", r"(?i:(é|b+)-\1)",
            r"(?:(a)|b)+ \1", r"(?=(\w))\b\1b", r"(\w*) \1b",
        ]),
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "é", "É", " ", "-", "x", "1", "中", "😀", "\u{200d}", "\n", "word", "word ", "a a", "٣", "nothing of all that. ", "中文中文",
        ]), 0..60),
    ) {
        check_all(p, &pieces.concat()).map_err(TestCaseError::fail)?;
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
