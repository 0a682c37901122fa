//! Splitting patterns: the transducer against the automaton and the reference.

use proptest::prelude::*;

use crate::core::{Config, Core};
use crate::fuzz::reference;
use crate::syntax::{self, ast::Flags};
use crate::{BorderMemory, Regex, bytes};

pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
pub const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
pub const DEEPSEEK: &str = concat!(
    r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|",
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Patterns that have a machine.
pub const PATTERNS: [&str; 7] = [GPT2, CL100K, LLAMA3, O200K, DEEPSEEK, r"\w+", r"\d{1,3}|\b\w"];

/// The same pattern without the machine for splitting.
fn plain(pattern: &str) -> std::sync::Arc<Core> {
    Core::new(pattern, &Config { splitting: false, ..Config::default() }, false).unwrap()
}

fn ends_of(core: &std::sync::Arc<Core>, text: &str) -> Vec<(usize, usize)> {
    let mut search = core.search(text.as_bytes());
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some((start, end)) = search.find(at).unwrap() {
        out.push((start, end));
        at = end;
    }
    out
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "word",
        "Word",
        "HTTP",
        "'",
        "'s",
        "'RE",
        "'ſ",
        "'ll",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u{3000}",
        "1",
        "23456",
        "é",
        "中",
        "中文",
        "你好。",
        "😀",
        "👩\u{200d}👩",
        "!",
        "...",
        "/",
        "ǅ",
        "ʰ",
        "e\u{301}",
        "\u{a0}",
        "\u{378}",
        "_",
        "==\n",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_transducer_agrees_with_the_automaton(texts in prop::collection::vec(text(), 4), repeat in 1usize..80) {
        for pattern in PATTERNS {
            let regex = Regex::new(pattern).unwrap();
            prop_assert!(regex.plan().contains("transducer"), "{}", regex.plan());
            let slow = plain(pattern);
            for text in &texts {
                let text = text.repeat(repeat);
                let found: Vec<_> = regex.find_iter(&text).map(|m| (m.start(), m.end())).collect();
                prop_assert_eq!(found, ends_of(&slow, &text), "{:?} on {:?}", pattern, text);
            }
        }
    }

    #[test]
    fn tokenizer_patterns_agree_with_the_reference(text in text()) {
        for pattern in [GPT2, CL100K, LLAMA3, O200K, DEEPSEEK] {
            let hir = syntax::lower(syntax::parse(pattern, Flags::default(), 100).unwrap(), Flags::default(), false).hir;
            let Ok(expected) = reference::find_all(&hir, 1, &text) else { continue };
            let expected: Vec<_> = expected.iter().map(|s| (s[0].unwrap(), s[1].unwrap())).collect();
            let found: Vec<_> = Regex::new(pattern).unwrap().find_iter(&text).map(|m| (m.start(), m.end())).collect();
            prop_assert_eq!(found, expected, "{:?} on {:?}", pattern, text);
        }
    }

    #[test]
    fn generated_splitting_patterns_agree_with_the_automaton(
        parts in prop::collection::vec(prop::sample::select(vec![
            r" ?\w+", r"\d{1,3}", r"\s+(?!\S)", r"\s*\n", r"[^\s\w]+", r"(?<=a)b+", r"\bab", r"a+b|a", r"x(?=\w)", r"\w+(?:'s)?",
            r"(?i:'re)", r"[a-c]+?", r"\s+$", r"(?m:^) +", r"\R+", r"\X",
        ]), 1..6),
        gaps in any::<bool>(),
        texts in prop::collection::vec(text(), 3),
    ) {
        let pattern = if gaps { parts.join("|") } else { format!("{}|(?s:.)", parts.join("|")) };
        let regex = Regex::new(&pattern).unwrap();
        let slow = plain(&pattern);
        for text in &texts {
            let text = text.repeat(3);
            let found: Vec<_> = regex.find_iter(&text).map(|m| (m.start(), m.end())).collect();
            prop_assert_eq!(found, ends_of(&slow, &text), "{:?} on {:?}: {}", pattern, text, regex.plan());
        }
    }

    #[test]
    fn borders_are_those_of_all_matches(texts in prop::collection::vec(text(), 4), repeat in 1usize..120, stop in 0usize..40) {
        // One memory for all patterns and texts.
        let mut memory = BorderMemory::default();
        let patterns = [CL100K, O200K, GPT2, r"\w+", "x*", "中|a*b", r"(\w)\1", "(?=a)", r"\bw(?=o)", r"(?m)^.", "word|HTTP"];
        for pattern in patterns {
            let regex = Regex::new(pattern).unwrap();
            for text in &texts {
                let text = text.repeat(repeat);
                let mut expected: Vec<usize> = regex.find_iter(&text).flat_map(|m| [m.start(), m.end()]).collect();
                expected.push(text.len());
                expected.retain(|&border| border > 0);
                expected.dedup();
                let mut found = Vec::new();
                let mut collect = |most: usize| {
                    found.clear();
                    regex.try_borders(&text, &mut memory, |base, ends| {
                        found.extend(ends.iter().map(|&end| base + end as usize));
                        found.len() < most
                    }).unwrap();
                    found.clone()
                };
                prop_assert_eq!(&collect(usize::MAX), &expected, "{:?} on {:?}", pattern, text);
                let some = collect(stop);
                prop_assert!(expected.starts_with(&some) && (some.len() >= stop || some == expected));
            }
        }
    }

    #[test]
    fn invalid_bytes_are_gaps(mut parts in prop::collection::vec((text(), prop::collection::vec(any::<u8>(), 0..3)), 1..8)) {
        let mut haystack = Vec::new();
        for (text, bytes) in &mut parts {
            haystack.extend_from_slice(text.as_bytes());
            haystack.append(bytes);
        }
        let ours = bytes::Regex::new(LLAMA3).unwrap();
        let found: Vec<_> = ours.find_iter(&haystack).map(|m| m.range()).collect();
        let slow = Core::new(LLAMA3, &Config { splitting: false, ..Config::default() }, true).unwrap();
        let mut search = slow.search(&haystack);
        let (mut expected, mut at) = (Vec::new(), 0);
        while let Some((start, end)) = search.find(at).unwrap() {
            expected.push(start..end);
            at = end;
        }
        prop_assert_eq!(found, expected);
    }
}
