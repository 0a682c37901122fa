//! The cases under `tests/cases`, each through every way of asking.

use cupola_regex::{Regex, bytes};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    pattern: String,
    #[serde(default)]
    haystack: String,
    matches: Option<Vec<(usize, usize)>>,
    groups: Option<Vec<Vec<usize>>>,
    #[serde(default)]
    error: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

fn check(file: &str) -> usize {
    let file: File = toml::from_str(file).unwrap();
    for case in &file.case {
        let Case { name, pattern, haystack, .. } = case;
        let regex = match Regex::new(pattern) {
            Ok(regex) => regex,
            Err(error) => {
                assert!(case.error, "{name}: {error}");
                assert!(error.to_string().contains(pattern.as_str()), "{name}: {error}");
                continue;
            }
        };
        assert!(!case.error, "{name}: compiles");
        assert!(case.matches.is_some() != case.groups.is_some(), "{name}: says what to expect");
        if let Some(expected) = &case.matches {
            let found: Vec<_> = regex.find_iter(haystack).map(|m| (m.start(), m.end())).collect();
            assert_eq!(&found, expected, "{name}: find_iter");
            let captured: Vec<_> =
                regex.captures_iter(haystack).map(|c| (c.get_match().start(), c.get_match().end())).collect();
            assert_eq!(&captured, expected, "{name}: captures_iter");
            let first = regex.find(haystack).map(|m| (m.start(), m.end()));
            assert_eq!(first.as_ref(), expected.first(), "{name}: find");
            assert_eq!(regex.is_match(haystack), !expected.is_empty(), "{name}: is_match");
            if !pattern.is_empty() && expected.iter().all(|(start, end)| start < end) {
                let in_bytes = bytes::Regex::new(pattern).unwrap();
                let found: Vec<_> = in_bytes.find_iter(haystack.as_bytes()).map(|m| (m.start(), m.end())).collect();
                assert_eq!(&found, expected, "{name}: in bytes");
            }
        }
        if let Some(expected) = &case.groups {
            let captures = regex.captures(haystack).unwrap_or_else(|| panic!("{name}: no match"));
            let found: Vec<Vec<usize>> =
                captures.iter().map(|g| g.map_or(Vec::new(), |m| vec![m.start(), m.end()])).collect();
            assert_eq!(&found, expected, "{name}: groups");
        }
    }
    file.case.len()
}

#[test]
fn syntax() {
    assert!(check(include_str!("cases/syntax.toml")) > 30);
}

#[test]
fn groups_and_backreferences() {
    assert!(check(include_str!("cases/groups.toml")) > 10);
}

#[test]
fn lookaround() {
    assert!(check(include_str!("cases/lookaround.toml")) > 15);
}

#[test]
fn beyond_the_regex_crate() {
    assert!(check(include_str!("cases/beyond.toml")) > 30);
}

#[test]
fn errors_are_told() {
    assert!(check(include_str!("cases/errors.toml")) > 25);
}
