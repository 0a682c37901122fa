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
const HOSTILE: [(&str, &str); 16] = [
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
