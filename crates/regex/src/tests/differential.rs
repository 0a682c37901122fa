//! Generated patterns and haystacks: every engine against the reference.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::fuzz::compare::check;

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
