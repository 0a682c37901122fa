//! Other engines' opinions: the `regex` crate on what it supports, fancy-regex on the rest.

use proptest::prelude::*;

/// A random pattern, and whether some part of it may match the empty string so that a loop around it may have empty turns.
#[derive(Debug, Clone)]
struct Random {
    text: String,
    nullable: bool,
}

/// Whether loops without an upper bound may be put around what may match the empty string.
#[derive(Clone, Copy, PartialEq)]
enum EmptyTurns {
    /// Engines agree on them.
    Generated,
    /// Engines differ by definition, so that such loops are not generated.
    LeftOut,
}

/// Patterns that both sides understand in the same way.
fn pattern(empty_turns: EmptyTurns) -> impl Strategy<Value = Random> {
    let consuming = vec![
        "a",
        "b",
        "é",
        "中",
        "[a-c]",
        "[^b]",
        r"\w",
        r"\W",
        r"\d",
        r"\s",
        r"\S",
        ".",
        "(?i:É)",
        "(?i:s)",
        r"\p{Lu}",
        r"\pN",
        r"[\w--b]",
        r"[a-z&&[^c]]",
        "(?s:.)",
        r"\x{e9}",
        "[[:upper:]]",
        r"[^\W\d]",
        "(?R:.)",
    ];
    let assertions = vec![
        r"\b",
        r"\B",
        "^",
        "$",
        "(?m:^)",
        "(?m:$)",
        r"\A",
        r"\z",
        "(?Rm:$)",
        "(?Rm:^)",
        r"\b{start}",
        r"\b{end}",
        r"\b{start-half}",
        r"\b{end-half}",
    ];
    let leaves = |texts: Vec<&'static str>, nullable| {
        prop::sample::select(texts).prop_map(move |text| Random { text: text.to_owned(), nullable })
    };
    // As often as if all of them lay in one list.
    let leaf = prop_oneof![
        consuming.len() as u32 => leaves(consuming, false),
        assertions.len() as u32 => leaves(assertions, true),
    ];
    leaf.prop_recursive(4, 20, 3, move |inner| {
        let texts = |parts: &[Random]| parts.iter().map(|p| p.text.clone()).collect::<Vec<_>>();
        // The quantifier, and whether it matches the empty string whatever it stands behind.
        let quantifier = prop::sample::select(vec![
            ("*", true),
            ("+", false),
            ("?", true),
            ("*?", true),
            ("+?", false),
            ("??", true),
            ("{2}", false),
            ("{0,2}", true),
            ("{1,2}?", false),
            ("{2,}", false),
            ("{3}?", false),
        ]);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(move |parts| Random {
                text: texts(&parts).concat(),
                nullable: parts.iter().all(|p| p.nullable),
            }),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(move |parts| Random {
                text: format!("(?:{})", texts(&parts).join("|")),
                nullable: parts.iter().any(|p| p.nullable),
            }),
            2 => (inner.clone(), quantifier).prop_map(move |(p, (quantifier, skips))| {
                let unbounded = quantifier.starts_with(['*', '+']) || quantifier.contains(",}");
                let left_out = empty_turns == EmptyTurns::LeftOut && unbounded && p.nullable;
                let quantifier = if left_out { "?" } else { quantifier };
                Random { text: format!("(?:{}){quantifier}", p.text), nullable: p.nullable || skips || left_out }
            }),
            1 => inner.prop_map(|p| Random { text: format!("({})", p.text), nullable: p.nullable }),
        ]
    })
}

fn haystack() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", "é", "É", "中", "ſ", "S", " ", "\n", "\r\n", "\r", "1", "_", "-", "\u{300}", "ab", "😀",
        "\u{a0}",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|v| v.concat())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

#[test]
fn a_loop_whose_turn_may_be_empty_goes_on_as_in_the_regex_crate() {
    // A lookahead behind such a loop is not the `regex` crate's, but filters what that crate would try one after the other:
    // from 0..4, which the loop without it finds, it leaves the next shorter 0..3. Perl's loop has ended at 1.
    let with_lookahead = cupola_regex::Regex::new(r"(?:\B|[^\W\d])*(?=[^\W\d].)[^b]").unwrap();
    assert_eq!(with_lookahead.find("acca").map(|m| m.range()), Some(0..3));
    for p in [r"(?:\B|[^\W\d])*", r"(?:\B|[^\W\d])*[^b]", r"(?:\B|[^\W\d])*?[^b]", r"(?:|a)*b", r"(?:a??|b)+c"] {
        for text in ["acca", "abca", "aab", "bc", ""] {
            let ours = cupola_regex::Regex::new(p).unwrap().find(text).map(|m| m.range());
            let theirs = regex::Regex::new(p).unwrap().find(text).map(|m| m.range());
            assert_eq!(ours, theirs, "{p:?} on {text:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_regex_crate(p in pattern(EmptyTurns::Generated), texts in prop::collection::vec(haystack(), 3)) {
        let p = p.text;
        let ours = cupola_regex::Regex::new(&p).unwrap();
        let theirs = regex::Regex::new(&p).unwrap();
        prop_assert_eq!(ours.captures_len(), theirs.captures_len());
        prop_assert_eq!(ours.static_captures_len(), theirs.static_captures_len(), "{:?}", p);
        for text in &texts {
            let found: Vec<Vec<Option<_>>> =
                ours.captures_iter(text).map(|c| c.iter().map(|m| m.map(|m| m.range())).collect()).collect();
            let expected: Vec<Vec<Option<_>>> =
                theirs.captures_iter(text).map(|c| c.iter().map(|m| m.map(|m| m.range())).collect()).collect();
            prop_assert_eq!(&found, &expected, "{:?} on {:?}", p, text);
            let spans: Vec<_> = ours.find_iter(text).map(|m| m.range()).collect();
            let whole: Vec<_> = expected.iter().map(|c| c[0].clone().unwrap()).collect();
            prop_assert_eq!(&spans, &whole, "{:?} on {:?}", p, text);
            prop_assert_eq!(ours.is_match(text), theirs.is_match(text));
            let parts: Vec<_> = ours.split(text).collect();
            let their_parts: Vec<_> = theirs.split(text).collect();
            prop_assert_eq!(parts, their_parts);
            let three: Vec<_> = ours.splitn(text, 3).collect();
            let their_three: Vec<_> = theirs.splitn(text, 3).collect();
            prop_assert_eq!(three, their_three);
            prop_assert_eq!(ours.replace_all(text, "<$0$1x${1}$$>"), theirs.replace_all(text, "<$0$1x${1}$$>"));
            for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                let found = ours.find_at(text, at).map(|m| m.range());
                prop_assert_eq!(&found, &theirs.find_at(text, at).map(|m| m.range()), "{:?} on {:?} from {}", p, text, at);
                // That crate promises some end that is known early, not the least one.
                let (least, some) = (ours.shortest_match_at(text, at), theirs.shortest_match_at(text, at));
                prop_assert_eq!(least.is_some(), some.is_some(), "{:?} on {:?} from {}", p, text, at);
                prop_assert!(least <= some && some <= found.map(|m| m.end), "{:?} on {:?} from {}", p, text, at);
            }
        }
    }

    /// In longer texts matches are found in other ways than in short ones.
    #[test]
    fn agrees_with_the_regex_crate_on_long_texts(p in pattern(EmptyTurns::Generated), text in haystack(), other in haystack()) {
        let p = p.text;
        let text = text.repeat(600 / text.len().max(1)) + &other + &text.repeat(2) + &" ".repeat(600) + &other;
        let found: Vec<_> = cupola_regex::Regex::new(&p).unwrap().find_iter(&text).map(|m| m.range()).collect();
        let expected: Vec<_> = regex::Regex::new(&p).unwrap().find_iter(&text).map(|m| m.range()).collect();
        prop_assert_eq!(found, expected, "{:?} on {:?}", p, text);
        let bytes = [text.as_bytes(), b"\xE4\xB8ab\xFF", text.as_bytes()].concat();
        if let Ok(theirs) = regex::bytes::Regex::new(&p)
            && !p.contains(r"\b")
            && !p.contains(r"\B")
        {
            let ours = cupola_regex::bytes::Regex::new(&p).unwrap();
            let found: Vec<_> = ours.find_iter(&bytes).map(|m| m.range()).collect();
            let expected: Vec<_> = theirs.find_iter(&bytes).map(|m| m.range()).collect();
            prop_assert_eq!(found, expected, "{:?} on {:?}", p, bytes);
        }
    }

    #[test]
    fn agrees_with_the_regex_crate_on_bytes(
        p in pattern(EmptyTurns::Generated),
        ascii in any::<bool>(),
        texts in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab1 \n\xC3\xA9\xE4\xB8\xAD\xFF\x80S".to_vec()), 0..10), 3),
    ) {
        let p = p.text;
        let p = if ascii { format!("(?-u){p}").replace(r"\p{Lu}", "[A-Z]").replace(r"\pN", "[0-9]").replace(r"\x{e9}", r"\xE9") } else { p };
        // Inside characters and next to invalid bytes that crate lets no Unicode word boundary match; here such bytes
        // are no word characters.
        let words = !ascii && (p.contains(r"\b") || p.contains(r"\B"));
        let Ok(theirs) = regex::bytes::Regex::new(&p) else { return Ok(()) };
        let ours = cupola_regex::bytes::Regex::new(&p).unwrap();
        for text in &texts {
            let found: Vec<_> = ours.find_iter(text).map(|m| m.range()).collect();
            if words && !text.is_ascii() {
                continue;
            }
            let expected: Vec<_> = theirs.find_iter(text).map(|m| m.range()).collect();
            prop_assert_eq!(found, expected, "{:?} on {:?}", p, text);
            // Word boundaries over bytes are not regular here, so that the end may be that of the leftmost match.
            let (end, leftmost) = (ours.shortest_match(text), ours.find(text).map(|m| m.end()));
            prop_assert_eq!(end.is_some(), theirs.shortest_match(text).is_some(), "{:?} on {:?}", p, text);
            prop_assert!(end <= leftmost, "{:?} on {:?}", p, text);
        }
    }

    /// Of loops whose turns may be empty fancy-regex has two opinions, so they are left out: what it hands to the `regex`
    /// crate goes on after an empty turn was refused, what it runs by itself ends the loop with it, as Perl and PCRE2 do.
    #[test]
    fn agrees_with_fancy_regex_on_lookaround(
        head in pattern(EmptyTurns::LeftOut), inner in pattern(EmptyTurns::LeftOut), tail in pattern(EmptyTurns::LeftOut),
        look in prop::sample::select(vec!["(?=", "(?!", "(?>"]),
        texts in prop::collection::vec(haystack(), 3),
    ) {
        let p = format!("{}{look}{}){}", head.text, inner.text, tail.text);
        let Ok(theirs) = fancy_regex::Regex::new(&p) else { return Ok(()) };
        let ours = cupola_regex::Regex::new(&p).unwrap();
        for text in &texts {
            let Ok(expected) = theirs.find(text) else { continue };
            prop_assert_eq!(ours.find(text).map(|m| m.range()), expected.map(|m| m.range()), "{:?} on {:?}", p, text);
        }
    }
}

/// A character of each kind that the rules of UAX 29 tell apart, and of several scripts with conjuncts.
fn segments() -> impl Strategy<Value = String> {
    let characters = prop::sample::select(vec![
        'a',
        '\r',
        '\n',
        '\u{7}',
        '\u{301}',
        '\u{200d}',
        '\u{200c}',
        '\u{915}',
        '\u{924}',
        '\u{937}',
        '\u{94d}',
        '\u{93c}',
        '\u{93f}',
        '\u{995}',
        '\u{9cd}',
        '\u{1000}',
        '\u{1039}',
        '\u{1780}',
        '\u{17d2}',
        '\u{1a20}',
        '\u{1a60}',
        '\u{600}',
        '\u{e33}',
        '\u{1100}',
        '\u{1161}',
        '\u{11a8}',
        '\u{ac00}',
        '\u{ac01}',
        '\u{1f1e6}',
        '\u{1f1e9}',
        '\u{1f468}',
        '\u{1f3fd}',
        '\u{2764}',
        '\u{fe0f}',
        '\u{20e3}',
        '1',
        '\u{e0020}',
        '\u{ad}',
        '中',
        '\u{110bd}',
    ]);
    prop::collection::vec(characters, 0..24).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn grapheme_clusters_are_those_of_unicode_segmentation(text in segments()) {
        use unicode_segmentation::UnicodeSegmentation;
        let clusters = cupola_regex::Regex::new(r"\X").unwrap();
        let found: Vec<&str> = clusters.find_iter(&text).map(|m| m.as_str()).collect();
        prop_assert_eq!(found, text.graphemes(true).collect::<Vec<_>>());
    }
}

/// The cases of lookbehind, backreferences and `\K` are written down; fancy-regex reads them in the same way.
#[test]
fn fancy_regex_agrees_with_the_cases_beyond_the_regex_crate() {
    let file: toml::Table = toml::from_str(include_str!("cases/beyond.toml")).unwrap();
    let cases = file["case"].as_array().unwrap();
    let mut asked = 0;
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let Ok(theirs) = fancy_regex::Regex::new(text("pattern")) else {
            continue;
        };
        let found: Result<Vec<_>, _> =
            theirs.find_iter(text("haystack")).map(|m| m.map(|m| vec![m.start(), m.end()])).collect();
        let number = |value: &toml::Value| value.as_integer().unwrap() as usize;
        let pairs = case["matches"].as_array().unwrap().iter();
        let expected: Vec<Vec<usize>> =
            pairs.map(|pair| pair.as_array().unwrap().iter().map(number).collect()).collect();
        assert_eq!(found.unwrap(), expected, "{}", text("name"));
        asked += 1;
    }
    assert!(asked > 28, "{asked} of {} cases are understood", cases.len());
}
