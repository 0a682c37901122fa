//! The public interface as its users meet it.

use cupola_regex::{NoExpand, Regex, RegexBuilder, RegexSet, RegexSetBuilder, Replacer, SearchError, bytes, escape};

fn spans(regex: &Regex, text: &str) -> Vec<std::ops::Range<usize>> {
    regex.find_iter(text).map(|m| m.range()).collect()
}

#[test]
fn every_option_of_the_builder_counts() {
    let build = |pattern: &str, set: &dyn Fn(&mut RegexBuilder)| {
        let mut builder = RegexBuilder::new(pattern);
        set(&mut builder);
        builder.build().unwrap()
    };
    assert!(build("é", &|b| _ = b.case_insensitive(true)).is_match("É"));
    assert_eq!(spans(&build("^.", &|b| _ = b.multi_line(true)), "a\nb"), [0..1, 2..3]);
    assert!(build("a.b", &|b| _ = b.dot_matches_new_line(true)).is_match("a\nb"));
    assert_eq!(spans(&build("(?m).$", &|b| _ = b.crlf(true)), "a\r\nb"), [0..1, 3..4]);
    assert_eq!(spans(&build("a+", &|b| _ = b.swap_greed(true)), "aa"), [0..1, 1..2]);
    assert!(build("a b # c", &|b| _ = b.ignore_whitespace(true)).is_match("ab"));
    assert!(!build(r"^\w$", &|b| _ = b.unicode(false)).is_match("é"));
    assert_eq!(spans(&build("(?m)^.+$", &|b| _ = b.line_terminator(b';')), "a\nb;c"), [0..3, 4..5]);
    assert!(RegexBuilder::new("a").line_terminator(0xFF).build().is_err());
    let counted = |limit: usize| build("(?:a|b)*a(?:a|b){5}c", &|b| _ = b.dfa_size_limit(limit)).memory();
    assert!(counted(1 << 10) < counted(4 << 20));
    assert!(RegexBuilder::new("((a))").nest_limit(2).build().is_err());
    assert!(RegexBuilder::new("(a)").nest_limit(2).build().is_ok());
}

#[test]
fn replacements() {
    let regex = Regex::new(r"(?<a>\w)(\d)?").unwrap();
    assert_eq!(regex.replace("x1 y", "<$2$a>"), "<1x> y");
    assert_eq!(regex.replace_all("x1 y", "${a}_$$"), "x_$ y_$");
    assert_eq!(regex.replacen("x y z", 2, NoExpand("$a")), "$a $a z");
    assert_eq!(regex.replace_all("x1 y", |c: &cupola_regex::Captures<'_>| c["a"].to_uppercase()), "X Y");
    assert!(matches!(regex.replace_all("--", "x"), std::borrow::Cow::Borrowed("--")));
    let in_bytes = bytes::Regex::new(r"(?-u)(\xFF+)").unwrap();
    assert_eq!(&*in_bytes.replace_all(b"a\xFF\xFFb", &b"<$1>"[..]), b"a<\xFF\xFF>b");
}

#[test]
fn sets_say_which_patterns_match() {
    let set = RegexSet::new(["a+", "b", r"(?<=a)c"]).unwrap();
    let matched = set.matches("xac");
    assert_eq!(matched.iter().collect::<Vec<_>>(), [0, 2]);
    assert!(matched.matched(2) && !matched.matched(1) && matched.matched_any());
    assert_eq!((set.len(), matched.len()), (3, 3));
    assert!(!set.is_match("x") && !RegexSet::empty().is_match("x"));
    assert!(RegexSet::new(["a", "("]).is_err());
}

#[test]
fn names_clones_and_threads() {
    let regex = Regex::new(r"(\d+)-(?<unit>\w+)").unwrap();
    assert_eq!(regex.capture_names().collect::<Vec<_>>(), [None, None, Some("unit")]);
    assert_eq!(regex.captures_len(), 3);
    let text = "12-kg ".repeat(500);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let regex = regex.clone();
            let text = &text;
            scope.spawn(move || assert_eq!(regex.captures_iter(text).filter(|c| &c["unit"] == "kg").count(), 500));
        }
    });
    assert!("(".parse::<Regex>().is_err());
    assert_eq!(regex.to_string(), regex.as_str());
}

#[test]
fn escaped_text_matches_itself() {
    let text = "a.b*c[d]{e}(f)|g^h$i\\j #k-l&&m~n<o>p\n/é";
    for pattern in [escape(text), format!("(?x){}", escape(text))] {
        assert_eq!(Regex::new(&pattern).unwrap().find(text).map(|m| m.len()), Some(text.len()), "{pattern}");
    }
}

#[test]
fn plans_name_the_engine() {
    for (pattern, word) in [
        (r"\w+|\s+(?!\S)|[^\w\s]", "transducer"),
        ("a[bc]+d", "automaton"),
        (r"(a)\1", "backreferences"),
        ("(?=ab)a", "lookaheads at its beginning"),
        ("a(?=ab)a", "sweep"),
        ("Romeo", "SIMD"),
    ] {
        let plan = Regex::new(pattern).unwrap().plan();
        assert!(plan.contains(word), "{pattern}: {plan}");
    }
}

#[test]
#[should_panic(expected = "inside a character")]
fn a_search_cannot_start_inside_a_character() {
    Regex::new("a").unwrap().find_at("é", 1);
}

#[test]
fn limits_are_told_apart_in_every_form() {
    // The first match is found; behind it the budget ends.
    let regex = RegexBuilder::new(r"x|(a|a)*\1[bc]").backtrack_limit(1000).build().unwrap();
    let text = format!("x{}", "a".repeat(200));
    let limit = |error: &SearchError| matches!(error, SearchError::BudgetExhausted { .. });
    let found: Vec<_> = regex.try_captures_iter(&text).collect();
    assert!(found.len() == 2 && found[0].is_ok() && found[1].as_ref().is_err_and(limit));
    assert_eq!(regex.captures_iter(&text).count(), 1);
    let parts: Vec<_> = regex.try_split(&text).collect();
    assert!(parts.len() == 2 && parts[0] == Ok("") && parts[1].as_ref().is_err_and(limit));
    assert_eq!(regex.split(&text).collect::<Vec<_>>(), ["", &text[1..]]);
    assert!(regex.try_replace_all(&text, "-").is_err_and(|e| limit(&e)));
    assert!(regex.try_replacen(&text, 2, "-").is_err_and(|e| limit(&e)));
    assert_eq!(regex.try_replace(&text, "-").unwrap(), format!("-{}", &text[1..]));
    assert_eq!(regex.replace_all(&text, "-"), format!("-{}", &text[1..]));

    let set = RegexSetBuilder::new([r"(a|a)*\1[bc]", "X"]).backtrack_limit(1000).build().unwrap();
    assert!(set.try_matches(&text).is_err_and(|e| limit(&e)) && set.try_is_match(&text).is_err());
    let set =
        RegexSetBuilder::new([r"(a|a)*\1[bc]", "X"]).backtrack_limit(1000).case_insensitive(true).build().unwrap();
    assert_eq!(set.try_is_match(&text), Ok(true), "one pattern is known to match");
    assert_eq!(set.matches(&text).into_iter().collect::<Vec<_>>(), [1]);
    assert_eq!(set.try_matches("zz").map(|m| m.matched_any()), Ok(false));
}

#[test]
fn groups_can_be_taken_apart_and_read_into_kept_memory() {
    let regex = Regex::new(r"(\d+)-(\d+)|(?<word>[a-z]+)").unwrap();
    let mut locations = regex.capture_locations();
    assert_eq!((locations.len(), locations.get(0)), (4, None));
    assert_eq!(regex.captures_read(&mut locations, "é 12-345").map(|m| m.range()), Some(3..9));
    assert_eq!((locations.get(1), locations.get(2), locations.get(3)), (Some((3, 5)), Some((6, 9)), None));
    assert_eq!(regex.captures_read_at(&mut locations, "1-2 ab", 3).map(|m| m.as_str()), Some("ab"));
    assert_eq!((locations.get(1), locations.get(3), locations.get(9)), (None, Some((4, 6)), None));
    assert!(regex.captures_read(&mut locations, "-").is_none());
    assert_eq!((locations.get(0), locations.len()), (None, 4));

    let date = Regex::new(r"(\d{4})-(\d\d)").unwrap();
    let (whole, [year, month]) = date.captures("on 1999-12-31").unwrap().extract();
    assert_eq!((whole, year, month), ("1999-12", "1999", "12"));
    let in_bytes = cupola_regex::bytes::Regex::new("a(.)").unwrap();
    assert_eq!(in_bytes.captures(b"xab").unwrap().extract(), (&b"ab"[..], [&b"b"[..]]));
}

#[test]
fn the_number_of_groups_that_take_part_is_known_where_it_is_fixed() {
    for (pattern, expected) in [
        ("a", Some(1)),
        ("(a)(b)", Some(3)),
        ("(a)|(b)", Some(2)),
        ("(a)|b", None),
        ("(a)?", None),
        ("(a)+", Some(2)),
        ("(?:b)*(a){2,}", Some(2)),
        ("((a)|(b))c", Some(3)),
        ("(?=(a))(?!(b))(?>(c))", Some(3)),
    ] {
        assert_eq!(Regex::new(pattern).unwrap().static_captures_len(), expected, "{pattern}");
    }
}

#[test]
#[should_panic(expected = "group 2 took no part")]
fn a_group_that_took_no_part_cannot_be_extracted() {
    Regex::new("(a)(b)?").unwrap().captures("a").unwrap().extract::<2>();
}

#[test]
fn the_shortest_match_is_told_as_soon_as_it_is_known() {
    let ends = |pattern: &str, text: &str| {
        let ours = Regex::new(pattern).unwrap();
        let theirs = regex::Regex::new(pattern).unwrap();
        assert_eq!(ours.shortest_match(text), theirs.shortest_match(text), "{pattern:?} on {text:?}");
        assert_eq!(ours.shortest_match_at(text, 1), theirs.shortest_match_at(text, 1), "{pattern:?} on {text:?}");
        let in_bytes = bytes::Regex::new(pattern).unwrap();
        assert_eq!(in_bytes.shortest_match(text.as_bytes()), ours.shortest_match(text));
        assert_eq!(in_bytes.shortest_match_at(text.as_bytes(), 1), ours.shortest_match_at(text, 1));
        ours.shortest_match(text)
    };
    assert_eq!(ends("a+", "baaa"), Some(2));
    assert_eq!(ends("a+?b|c", "xaabc"), Some(4));
    assert_eq!(ends("a*", "aaa"), Some(0));
    assert_eq!(ends(r"\bfoo\b", "food foo"), Some(8));
    assert_eq!(ends("é|e", "xé"), Some(3));
    assert_eq!(ends("q", "xyz"), None);
    // What is not regular ends where the leftmost match does, and what is possessive where it must.
    assert_eq!(Regex::new(r"(?=(a+))\1").unwrap().shortest_match("xaaab"), Some(4));
    assert_eq!(Regex::new("a++").unwrap().shortest_match("xaaab"), Some(4));
    let limited = RegexBuilder::new(r"(a|a)*\1[bc]").backtrack_limit(1000).build().unwrap();
    assert!(limited.try_shortest_match_at(&"a".repeat(200), 0).is_err());
    assert_eq!(limited.shortest_match(&"a".repeat(200)), None);
}

#[test]
fn replacements_can_be_borrowed_and_say_that_they_are_constant() {
    let regex = Regex::new("a|b").unwrap();
    let mut seen = Vec::new();
    let mut note = |c: &cupola_regex::Captures<'_>| {
        seen.push(c[0].to_owned());
        "-"
    };
    assert_eq!(regex.replace_all("xayb", note.by_ref()), "x-y-");
    assert_eq!(regex.replace_all("b", note.by_ref()), "-");
    assert_eq!(seen, ["a", "b", "b"]);
    let constant = |mut text: &str| Replacer::<str>::no_expansion(&mut text).map(|t| t.into_owned());
    assert_eq!(constant("plain"), Some("plain".to_owned()));
    assert_eq!(constant("$0"), None);
    assert_eq!(Replacer::<str>::no_expansion(&mut NoExpand("$0")).as_deref(), Some("$0"));
    assert_eq!(regex.replacen("abab", 3, "").into_owned(), "b");
    assert_eq!(regex.replace_all("ab", std::borrow::Cow::Borrowed("[$0]")), "[a][b]");
    let in_bytes = bytes::Regex::new("a").unwrap();
    assert_eq!(&*in_bytes.replace_all(b"xax", b"<$0>"), b"x<a>x");
    assert_eq!(&*in_bytes.replace_all(b"xax", *b"-"), b"x-x");
}

#[test]
fn conversions_and_iterators_know_what_they_hold() {
    let regex: Regex = String::from(r"(?<a>x)(y)?").try_into().unwrap();
    assert_eq!(String::from(regex.clone()), r"(?<a>x)(y)?");
    let found = regex.captures("zx").unwrap();
    assert_eq!((found.iter().len(), regex.capture_names().len()), (3, 3));
    let mut groups = found.iter();
    groups.next();
    assert_eq!((groups.len(), groups.clone().count()), (2, 2));
    assert_eq!(<&str>::from(found.get_match()), "x");
    let in_bytes = bytes::Regex::new("x").unwrap();
    assert_eq!(<&[u8]>::from(in_bytes.find(b"zx").unwrap()), b"x");
    let set = RegexSet::new(["a", "b", "^c"]).unwrap();
    let matched = set.matches_at("acb", 1);
    assert_eq!((&matched).into_iter().rev().collect::<Vec<_>>(), [1]);
    assert_eq!(set.matches("ab").into_iter().rev().collect::<Vec<_>>(), [1, 0]);
    assert!(set.is_match_at("ab", 1) && !set.is_match_at("a", 1) && !matched.matched_all());
    assert!(RegexSet::default().matches("").matched_all());
}
