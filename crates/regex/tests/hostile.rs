//! Patterns and texts that mean harm: an error or an answer, soon and in bounded memory.

use std::time::{Duration, Instant};

use cupola_regex::{Error, Regex, RegexBuilder, SearchError, fuzz};

/// Runs `work` and insists that it ends in time; the bound is generous, against hanging rather than slowness.
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let out = work();
    assert!(begun.elapsed() < Duration::from_secs(20), "{what} took {:?}", begun.elapsed());
    out
}

#[test]
fn deep_nesting_is_an_error() {
    for (open, close) in [("(", ")"), ("(?:", ")"), ("[", "]"), ("(?=", ")"), ("(?>", ")"), ("(?i:", ")")] {
        let pattern = open.repeat(50_000) + "a" + &close.repeat(50_000);
        let error = soon(open, || Regex::new(&pattern).unwrap_err());
        assert!(matches!(error, Error::TooDeep { limit: 250, .. }), "{open}");
    }
    let error = Regex::new(&format!("a{}", "*?".repeat(50_000))).unwrap_err();
    assert!(matches!(error, Error::TooDeep { .. }));
    assert!(Regex::new(&("(".repeat(200) + "a" + &")".repeat(200))).is_ok());
}

#[test]
fn huge_counts_are_errors() {
    assert!(matches!(Regex::new("a{65536}"), Err(Error::Syntax { .. })));
    assert!(matches!(Regex::new("a{99999999999999999999}"), Err(Error::Syntax { .. })));
    for pattern in
        ["(?:a{1000}){1000}", r"(?:\w{0,60000}){0,60000}", "(((a{100}){100}){100}){100}", "(?:(?=a{1000})a){1000}{900}"]
    {
        let error = soon(pattern, || Regex::new(pattern).unwrap_err());
        assert!(matches!(error, Error::TooLarge { .. }), "{pattern}: {error}");
    }
    assert!(matches!(RegexBuilder::new("a{100}").size_limit(50).build(), Err(Error::TooLarge { limit: 50, .. })));
}

#[test]
fn large_but_honest_patterns_compile() {
    for pattern in ["^.{1,2500}", r"\w{500}", r"(?:\p{L}|\p{N}){1,200}x", "(?:a?){200}a{200}", r"\pL{1000}"] {
        let regex = soon(pattern, || Regex::new(pattern).unwrap());
        let text = "a".repeat(3000);
        soon(pattern, || regex.find_iter(&text).count());
        assert!(regex.memory() < 20 << 20, "{pattern}: {}", regex.memory());
    }
    let words: Vec<String> = (0..3000).map(|n| format!("word{n}")).collect();
    let regex = soon("3000 words", || Regex::new(&format!(r"\b(?:{})\b", words.join("|"))).unwrap());
    assert_eq!(regex.find("a word2999 b").map(|m| m.range()), Some(2..10));
    let characters: String = (0x4E00..0x5600).filter_map(char::from_u32).map(|c| format!("{c}|")).collect();
    let regex = soon("2048 characters", || Regex::new(&format!("(?:{characters}x)y")).unwrap());
    assert_eq!(regex.find("中丫y").map(|m| m.range()), Some(3..7));
}

#[test]
fn nothing_hangs_without_backreferences() {
    for pattern in [
        "(a+)+b",
        "(a|a)*b",
        "(a|aa)+b",
        "(?=(a+)+b)a",
        "(?<=(a|aa)+)b",
        "(?<!a+b?)c",
        "(?>a+)+b",
        "(?:a?){50}a{50}b",
        "a*b|a",
        ".*.*.*x",
        "(?:(?:a*)*)*b",
        r"(?:\w+\s*)+:",
        "(?=.*(?=.*(?=.*b)))a",
        "(?!(?:a|a)*b)a",
    ] {
        let regex = Regex::new(pattern).unwrap();
        for text in ["a".repeat(100_000), "aab ".repeat(25_000), "a".repeat(99_999) + "b"] {
            let found = soon(pattern, || regex.try_find_iter(&text).collect::<Result<Vec<_>, _>>());
            assert!(found.is_ok(), "{pattern}: {found:?}");
        }
    }
}

#[test]
fn backreferences_end_in_time() {
    for pattern in ["(a+)\\1+b", "(a*)*\\1b", "(a|a)*\\1b", "((a*)\\2)+b", "(?=(a+))\\1*b", "(.*)(.*)(.*)\\3\\2\\1x"] {
        let regex = Regex::new(pattern).unwrap();
        for text in ["a".repeat(2_000), "a".repeat(131_072)] {
            let found = soon(pattern, || regex.try_find_iter(&text).last());
            if let Some(Err(error)) = found {
                assert!(matches!(error, SearchError::BudgetExhausted { .. }), "{pattern}: {error}");
            }
        }
    }
    // A limit is told apart from "no match", and the budget can be set.
    let regex = RegexBuilder::new("(a|a)*\\1b").backtrack_limit(1000).build().unwrap();
    let text = "a".repeat(200) + " b";
    assert!(matches!(regex.try_find(&text), Err(SearchError::BudgetExhausted { .. })));
    assert!(regex.try_is_match(&text).is_err() && regex.try_captures(&text).is_err());
    assert!(!regex.is_match(&text) && regex.find(&text).is_none());
    assert_eq!(regex.try_find("zz"), Ok(None));
}

#[test]
fn comparing_a_backreference_without_regard_to_case_is_paid_for() {
    // Every comparison runs to the end of the text and fails there.
    for (pattern, unit) in [("(?i)(.+)\\1b", "éÉ"), ("(?i)(.+)\\1b", "sſ"), ("(?i-u)(.+)\\1b", "aA")] {
        let text = unit.repeat(20_000);
        let regex = Regex::new(pattern).unwrap();
        let found = soon(pattern, || regex.try_find(&text));
        assert!(matches!(found, Err(SearchError::BudgetExhausted { .. })), "{pattern}: {found:?}");
    }
    let regex = Regex::new("(?i)(é+)-\\1").unwrap();
    assert_eq!(regex.find("éÉé-ÉéÉ").map(|m| m.range()), Some(0..13));
    assert!(Regex::new("(?i)^(é+)-\\1$").unwrap().find("éÉé-Éé").is_none());
}

#[test]
fn captured_lookarounds_are_searched_in_time_and_without_a_limit() {
    let text = "a".repeat(100_000) + "b";
    for (pattern, matches, first) in [
        ("(?=(a*b))a", 100_000, 0..100_001),
        ("(?:(?=(a*b))a)+", 1, 99_999..100_001),
        ("(?:(?=(a+)b)a|b)+", 1, 99_999..100_000),
        ("(?<=(a.*))b", 1, 99_999..100_000),
        ("(?<=^(a*))a", 100_000, 0..0),
    ] {
        let regex = Regex::new(pattern).unwrap();
        let groups: Vec<_> =
            soon(pattern, || regex.captures_iter(&text).map(|c| c.get(1).map(|m| m.range())).collect());
        assert_eq!((groups.len(), &groups[0]), (matches, &Some(first)), "{pattern}");
        assert!(soon(pattern, || regex.try_captures(&text)).is_ok(), "{pattern}");
        let replaced = soon(pattern, || regex.replace_all(&text, "x"));
        assert!(replaced.contains('x'), "{pattern}");
    }
}

#[test]
fn known_killers_of_other_engines() {
    let ranges = |pattern: &str, text: &str| -> Vec<_> {
        Regex::new(pattern).unwrap().find_iter(text).map(|m| m.range()).collect()
    };
    assert_eq!(ranges("(a)?b\\1?", "aaa bbb"), [4..5, 5..6, 6..7]);
    assert_eq!(ranges("(?=(a+)+b)a", "aab"), [0..1, 1..2]);
    assert_eq!(ranges("(a+)\\1+b", "aaab aaaab"), [0..4, 5..10]);
}

/// Anything at all: an error or an answer, never a panic. The seed is fixed; the fuzz targets call the same function.
#[test]
fn mutated_patterns_and_texts_do_no_harm() {
    let seeds = [
        r"(?i:'s|'t)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)",
        r"(?<y>\d{4})-\k<y>",
        r"[[a-z]&&[^b-y]--\w~~\d]",
        r"(?<=a|bc)\X\R\K\h",
        r"(?>a*+|b++)?c{2,3}?",
        r"(?xms-u) a # b",
        r"\Q.*\E\x{41}\u0041\cA\012",
        r"(a)(b)?\2\g{-1}(?P=n)",
    ];
    let mut random = 12345u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let alphabet: Vec<char> = r"ab()[]{}|*+?^$.\<>=!:'-&~,0123pPnNRXKkgsSwWdDé中x#".chars().collect();
    for _ in 0..6000 {
        let mut pattern: Vec<char> = seeds[next(seeds.len())].chars().collect();
        for _ in 0..1 + next(4) {
            let at = next(pattern.len() + 1);
            match next(3) {
                0 if at < pattern.len() => drop(pattern.remove(at)),
                1 if at < pattern.len() => pattern[at] = alphabet[next(alphabet.len())],
                _ => pattern.insert(at, alphabet[next(alphabet.len())]),
            }
        }
        let pattern: String = pattern.into_iter().collect();
        let text: Vec<u8> = (0..next(30)).map(|_| b"aab 1\n'\xC3\xA9\xE4\xB8\xAD\xFF"[next(12)]).collect();
        fuzz::search(&pattern, &text);
    }
}
