//! Linear time: steps are counted, for texts of 64 KiB and 1 MiB.

use crate::core::{Config, Core, Work};

/// Steps taken to find all matches.
fn work(pattern: &str, text: &str, splitting: bool) -> (usize, Work) {
    let config = Config { splitting, ..Config::default() };
    let core = Core::new(pattern, &config, false).unwrap();
    let mut search = core.search(text.as_bytes());
    let (mut at, mut count) = (0, 0);
    while at <= text.len() {
        let Some((start, end)) = search.find(at).unwrap() else {
            break;
        };
        at = if start == end { core.step(text.as_bytes(), end) } else { end };
        count += 1;
    }
    (count, search.work())
}

/// Patterns and units of text on which many engines need quadratic time or worse.
const HOSTILE: [(&str, &str); 25] = [
    ("a*b|a", "a"),
    ("(?:a+)+$", "a"),
    ("(?:a|a)*b", "a"),
    ("a{1,50}b|a", "a"),
    ("[a-z]+ing", "a"),
    (r"\w+@\w+\.com", "a"),
    ("(?=(a+)+b)a", "a"),
    ("(?=a*b)a", "a"),
    ("(?:(?=a*c)a|b)+", "a"),
    ("(?<=b.*)a", "a"),
    ("(?<!a{3,}b)a", "a"),
    ("(?>a*)b|a", "a"),
    ("(?>a*?b|a)*c|a", "ab"),
    ("(?:a*)*(?!a)b", "a"),
    (r"\s+(?!\S)|\s+x", " "),
    (r"(?=\X+b)\X", "e\u{301}"),
    // Lookaheads that hold, and that do not, at the beginning and inside.
    ("(?=a*$)a", "a"),
    ("(?!a*b)a", "a"),
    ("a(?=[^b]*$)", "a"),
    // What lookaheads need is near, far or not there.
    (r"(?=\w*\d)a", "a"),
    (r"(?=\w*\d)[a1]", "1"),
    (r"(?=(?s:.)*\d)ab", "aaaaaaaaaaaaaaaa1"),
    (r"(?=[^b]*\d)a(?!a)", "a1b"),
    // Loops that are skipped, and read in vain.
    ("a[^b]*c|a", "a"),
    ("\"[^\"]*x|\"", "\"a"),
];

#[test]
fn all_matches_take_linear_time() {
    for (pattern, unit) in HOSTILE {
        for size in [1 << 16, 1 << 20] {
            let text = unit.repeat(size / unit.len());
            let (_, work) = work(pattern, &text, false);
            // The meter allows 64 steps for each byte; overshoots of the automaton are at most 128 symbols for each
            // match. The sweep's cost is fixed: every instruction once for each symbol.
            let bound = 300 * text.len() as u64 + 10_000;
            assert!(work.steps <= bound, "{pattern:?} took {} steps on {} bytes", work.steps, text.len());
        }
    }
}

#[test]
fn the_sweep_takes_over_where_backtracking_is_exponential() {
    let text = "a".repeat(5000);
    let (count, work) = work("(?=(?:a|aa)*b)a|(?:aa?)+c|a", &text, true);
    assert_eq!(count, 5000);
    assert!(work.swept);
}

#[test]
fn groups_are_found_in_linear_time_too() {
    let text = "a".repeat(40_000) + "b";
    let pattern = "(?=ab|a)(?:(?:a|aa)*x|((?:aa?)*))(b)";
    let core = Core::new(pattern, &Config::default(), false).unwrap();
    let mut search = core.search(text.as_bytes());
    let mut slots = Vec::new();
    assert!(search.captures(0, &mut slots).unwrap());
    assert!(search.work().swept);
    assert_eq!(slots, [0, 40_001, 0, 40_000, 40_000, 40_001]);
}

#[test]
fn a_search_for_one_match_takes_linear_time() {
    for (pattern, unit) in HOSTILE {
        let text = unit.repeat((1 << 18) / unit.len());
        let core = Core::new(pattern, &Config::default(), false).unwrap();
        let mut search = core.search(text.as_bytes());
        search.find(0).unwrap();
        assert!(search.work().steps <= 300 * text.len() as u64 + 10_000, "{pattern:?}: {}", search.work().steps);
    }
}

/// Patterns for each engine but the transducer, which reads every byte once by its construction, and what they run on.
const ENGINES: [(&str, &str, &str); 5] = [
    ("sweep", "(?=(?:a|aa)*b)a|(?:aa?)+c|a", "a"),
    ("sweep behind a lookbehind", "(?<=(?:a|aa)+)(?:aa?)*c|a", "a"),
    ("inner literal", r"[\w.]+@[\w.]+", "abcdefgh.abcdefgh abcdefgh.abcdefgh abcdefgh.abcdefgh x@y.z "),
    ("one pass", "[a-z]+ing", "abcdefgh ing "),
    ("lazy automaton", "(?:a|b)*a(?:a|b){12}c|ab", "abbaabab"),
];

/// Steps of any kind that `find_iter` takes on `size` bytes.
fn found(pattern: &str, unit: &str, size: usize) -> (u64, Work) {
    let regex = crate::Regex::new(pattern).unwrap();
    let text = unit.repeat(size / unit.len());
    let mut matches = regex.find_iter(&text);
    while matches.next().is_some() {}
    let work = matches.work();
    (work.steps + work.table, work)
}

#[test]
fn find_iter_grows_as_the_text_does_with_each_engine() {
    for (engine, pattern, unit) in ENGINES {
        let (small, _) = found(pattern, unit, 1 << 16);
        let (large, work) = found(pattern, unit, 1 << 20);
        assert!(small > 1 << 12, "{engine}: {pattern:?} is searched in a way that is not counted: {small}");
        assert!(large <= small * 17, "{engine}: {pattern:?} took {small} steps and then {large}");
        assert_eq!(work.swept, engine.starts_with("sweep"), "{engine}");
    }
}

/// Groups inside lookarounds that reach far beyond the match, or far back.
const CAPTURED: [(&str, &str, &str); 6] = [
    ("(?=(a*)b)a|(?=(?:a|aa)*c)a|a", "a", "b"),
    ("(?:(?=(a*)b)a)+|(?=(?:a|aa)*c)a", "a", "b"),
    ("(?<=(a.*))a|(?=(?:a|aa)*c)a|a", "a", "b"),
    ("(?=((?>(a|aa)+)b))a|(?=(?:a|aa)*c)a|a", "a", "b"),
    ("(?<=(x)((?>a)*))a|(?=(?:a|aa)*c)a|a", "a", "b"),
    ("(?=.*(?<=(a)(a*))b)a|(?=(?:a|aa)*c)a|a", "a", "b"),
];

#[test]
fn groups_in_lookarounds_take_linear_time_over_all_matches() {
    let work = |pattern: &str, unit: &str, tail: &str, size: usize| {
        let regex = crate::Regex::new(pattern).unwrap();
        let text = unit.repeat(size) + tail;
        let mut matches = regex.captures_iter(&text);
        let mut count = 0;
        while matches.next().is_some() {
            count += 1;
        }
        let work = matches.work();
        assert!(work.swept, "{pattern:?}");
        (count, work.steps + work.table)
    };
    for (pattern, unit, tail) in CAPTURED {
        let (few, small) = work(pattern, unit, tail, 1 << 11);
        let (many, large) = work(pattern, unit, tail, 1 << 14);
        assert!(large <= small * 9, "{pattern:?} took {small} steps and then {large}");
        assert!(few == 1 && many == 1 || many == few * 8, "{pattern:?}: {few} matches and then {many}");
    }
}

#[test]
fn groups_in_lookarounds_are_those_of_the_definition_when_the_sweep_finds_them() {
    let text = "a".repeat(1 << 12) + "b";
    let whole = |pattern: &str, at: usize| -> Vec<Option<std::ops::Range<usize>>> {
        let core = Core::new(pattern, &Config::default(), false).unwrap();
        let mut search = core.search(text.as_bytes());
        let mut slots = Vec::new();
        // The budget is spent first.
        assert!(search.captures(0, &mut slots).unwrap());
        while !search.work().swept {
            assert!(search.captures(at, &mut slots).unwrap());
        }
        assert!(search.captures(at, &mut slots).unwrap());
        slots.chunks(2).map(|s| (s[0] != usize::MAX).then(|| s[0]..s[1])).collect()
    };
    assert_eq!(whole(CAPTURED[0].0, 100), [Some(100..101), Some(100..4096)]);
    assert_eq!(whole(CAPTURED[1].0, 100), [Some(100..4096), Some(4095..4096)]);
    assert_eq!(whole(CAPTURED[2].0, 100), [Some(100..101), Some(99..100)]);
    assert_eq!(whole(CAPTURED[3].0, 100), [Some(100..101), Some(100..4097), Some(4095..4096)]);
    assert_eq!(whole(CAPTURED[5].0, 100), [Some(100..101), Some(4095..4096), Some(4096..4096)]);
    assert_eq!(whole(r"(?>a\Ka*)b|(?=(?:a|aa)*c)a", 100), [Some(101..4097)]);
}
