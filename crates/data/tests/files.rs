//! Files in, documents out; what is wrong with a file is said with its place.

mod common;

use std::fs;

use common::{bpe, extents, letters, text};
use cupola_data::input::{Format, find, split, spool};
use cupola_data::read::{Content, Cursor, OnBad, ReadOptions, Reader};
use cupola_data::{Error, TokenizeOptions, tokenize};

fn all(extents: &[cupola_data::Extent], options: &ReadOptions) -> Result<(Vec<Content>, u64), Error> {
    let mut reader = Reader::new(extents, options, Cursor::default());
    let mut contents = Vec::new();
    while let Some(piece) = reader.next_piece()? {
        contents.push(piece.content);
    }
    Ok((contents, reader.skipped))
}

#[test]
fn folders_are_walked_in_order_and_patterns_match() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    fs::create_dir_all(root.join("b/deep")).expect("ours");
    for (name, contents) in [
        ("b/deep/2.txt", &b"two"[..]),
        ("b/1.md", b"one"),
        ("a.jsonl", b"\"zero\"\n"),
        ("image.png", b"\x89PNG\0\0"),
        (".hidden", b"no"),
        ("c.ids", b"1 2"),
    ] {
        fs::write(root.join(name), contents).expect("ours");
    }
    let names = |pattern: &str| -> Vec<String> {
        let found = find(&[root.join(pattern).to_str().expect("UTF-8")], None).expect("there is something");
        let name = |path: &std::path::Path| path.strip_prefix(root).expect("inside").display().to_string();
        found.extents.iter().map(|extent| name(&extent.path)).collect()
    };
    assert_eq!(names(""), ["a.jsonl", "b/1.md", "b/deep/2.txt", "c.ids"]);
    assert_eq!(names("**/*.txt"), ["b/deep/2.txt"]);
    assert_eq!(names("b/?.md"), ["b/1.md"]);
    let found = find(&[root.to_str().expect("UTF-8")], None).expect("as above");
    assert_eq!(found.skipped, [root.join("image.png")]);
    let formats: Vec<Format> = found.extents.iter().map(|extent| extent.format).collect();
    assert_eq!(formats, [Format::Jsonl, Format::Text, Format::Text, Format::Integers]);
    for missing in ["nothing.txt", "*.none"] {
        let error = find(&[root.join(missing).to_str().expect("UTF-8")], None).expect_err("nothing is there");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_contains_itself_through_a_link_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.txt"), "a").expect("ours");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).expect("links are allowed");
    let error = find(&[dir.path().to_str().expect("UTF-8")], None).expect_err("it never ends");
    assert!(error.to_string().contains("contains itself"), "{error}");
    std::os::unix::fs::symlink("self.txt", dir.path().join("self.txt")).expect("links are allowed");
    let error = find(&[dir.path().join("self.txt").to_str().expect("UTF-8")], None).expect_err("it leads nowhere");
    assert!(error.to_string().contains("self.txt"), "{error}");
}

#[test]
fn the_last_tenth_is_cut_off_between_characters_and_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.txt"), "0123456789").expect("ours");
    fs::write(dir.path().join("b.txt"), "ü".repeat(45)).expect("ours");
    let (train, held) = split(&extents(dir.path(), "?.txt"), 0.9).expect("readable");
    let lengths = |extents: &[cupola_data::Extent]| extents.iter().map(|e| (e.begin, e.end)).collect::<Vec<_>>();
    assert_eq!(lengths(&train), [(0, 10), (0, 80)]);
    assert_eq!(lengths(&held), [(80, 90)]);
    let (train, held) = split(&extents(dir.path(), "b.txt"), 0.5).expect("readable");
    assert_eq!((lengths(&train), lengths(&held)), (vec![(0, 46)], vec![(46, 90)]));
    fs::write(dir.path().join("c.jsonl"), "\"first\"\n\"second\"\n").expect("ours");
    let (train, held) = split(&extents(dir.path(), "c.jsonl"), 0.1).expect("readable");
    assert_eq!((lengths(&train), lengths(&held)), (vec![(0, 8)], vec![(8, 17)]));
}

#[test]
fn bad_lines_are_refused_by_number_or_skipped_with_a_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let lines = "{\"text\": \"one\"}\r\n\n\"two\"\n{\"text\": 3}\n{\"body\": \"x\"}\n[1\n{\"text\": \"last\"}";
    fs::write(dir.path().join("x.jsonl"), lines).expect("ours");
    let found = extents(dir.path(), "x.jsonl");
    let error = all(&found, &ReadOptions::default()).expect_err("line 4 is no text");
    assert!(error.to_string().contains("line 4: found `text`: 3, expected a text"), "{error}");
    let options = ReadOptions { on_bad: OnBad::Skip, ..ReadOptions::default() };
    let (contents, skipped) = all(&found, &options).expect("bad lines are skipped");
    let texts = ["one", "two", "last"].map(|text| Content::Text(text.to_string()));
    assert_eq!((contents.as_slice(), skipped), (&texts[..], 3));
    let options = ReadOptions { field: "body".to_string(), ..ReadOptions::default() };
    let error = all(&found, &options).expect_err("line 1 has no body");
    assert!(
        error.to_string().contains("line 1: found an object with [\"text\"], expected the field `body`"),
        "{error}"
    );
}

#[test]
fn integers_are_read_across_pieces_and_letters_are_refused_by_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.ids");
    let numbers: Vec<u32> = (0..500).map(|i| i * 37 % 1009).collect();
    let text: Vec<String> = numbers.iter().map(u32::to_string).collect();
    fs::write(&path, text.join("\r\n")).expect("ours");
    let found = extents(dir.path(), "x.ids");
    let options = ReadOptions { piece: Some(64), ..ReadOptions::default() };
    let ids: Vec<u32> = all(&found, &options)
        .expect("numbers alone")
        .0
        .into_iter()
        .flat_map(|content| match content {
            Content::Ids(ids) => ids,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, numbers);
    for (contents, place) in
        [("12 x3 4", "byte 3"), ("1 4294967296", "byte 2"), ("7 -1", "byte 2"), ("\u{fe0f}", "byte 0")]
    {
        fs::write(&path, contents).expect("ours");
        let error = all(&extents(dir.path(), "x.ids"), &options).expect_err("no number");
        assert!(error.to_string().contains(place), "{error}");
    }
    fs::write(&path, "25 26 27").expect("ours");
    let error = tokenize(
        &dir.path().join("out"),
        &extents(dir.path(), "x.ids"),
        &letters(),
        &TokenizeOptions::default(),
        &mut |_| {},
    );
    let error = error.expect_err("27 is not in the vocabulary").to_string();
    assert!(error.contains("x.ids") && error.contains("the id 27, expected an id below 27"), "{error}");
}

#[test]
fn text_that_is_not_utf8_is_refused_by_byte_and_a_byte_order_mark_is_no_text() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("x.txt"), b"\xef\xbb\xbfhello").expect("ours");
    let (contents, _) = all(&extents(dir.path(), "x.txt"), &ReadOptions::default()).expect("text");
    assert_eq!(contents, [Content::Text("hello".to_string())]);
    fs::write(dir.path().join("x.txt"), b"hell\xff").expect("ours");
    let found = extents(dir.path(), "x.txt");
    let error = all(&found, &ReadOptions::default()).expect_err("0xff is no UTF-8");
    assert!(error.to_string().contains("byte 4: found the byte 0xff"), "{error}");
    let options = ReadOptions { on_bad: OnBad::Skip, ..ReadOptions::default() };
    assert_eq!(all(&found, &options).expect("skipped").1, 1);
    fs::write(dir.path().join("x.txt"), b"shorter").expect("ours");
    let error = all(&found, &ReadOptions::default()).expect_err("the file has changed");
    assert!(error.to_string().contains("the length in bytes is 7, expected 5"), "{error}");
}

#[test]
fn a_text_in_pieces_has_the_ids_of_the_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = text(3000);
    fs::write(dir.path().join("x.txt"), &text).expect("ours");
    let found = extents(dir.path(), "x.txt");
    let options = ReadOptions { piece: Some(100), ..ReadOptions::default() };
    let (pieces, _) = all(&found, &options).expect("text");
    assert!(pieces.len() > 200, "{}", pieces.len());
    let tokenizer = bpe();
    let ids: Vec<u32> = pieces
        .iter()
        .flat_map(|piece| match piece {
            Content::Text(text) => tokenizer.encode(text).expect("all bytes are known"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, tokenizer.encode(&text).expect("as above"));
}

#[test]
fn standard_input_becomes_a_file_that_can_be_split() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("input.txt");
    let extent = spool(&b"from a pipe"[..], &file, None).expect("the folder is ours");
    assert_eq!(extent.len(), 11);
    let (contents, _) = all(&[extent], &ReadOptions::default()).expect("text");
    assert_eq!(contents, [Content::Text("from a pipe".to_string())]);
    // As another format where that is said.
    let extent = spool(&b"\"one\"\n\"two\""[..], &file, Some(Format::Jsonl)).expect("the folder is ours");
    let (contents, _) = all(&[extent], &ReadOptions::default()).expect("lines");
    assert_eq!(contents, ["one", "two"].map(|text| Content::Text(text.to_string())));
}

#[test]
fn of_prompts_and_completions_both_are_read_and_half_of_a_pair_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let read = |line: &str| {
        fs::write(dir.path().join("x.jsonl"), line).expect("ours");
        all(&extents(dir.path(), "x.jsonl"), &ReadOptions::default()).map(|(contents, _)| contents)
    };
    let pair = Content::Completion { prompt: "is it lit?".to_string(), completion: " yes".to_string() };
    assert_eq!(read(r#"{"prompt": "is it lit?", "completion": " yes"}"#).expect("a pair"), [pair]);
    for (line, message) in [
        (
            r#"{"prompt": "a", "n": 1}"#,
            r#"an object with ["n", "prompt"], expected the field `text`, `messages`, or `prompt` and"#,
        ),
        (r#"{"prompt": "a", "completion": 1}"#, "found `prompt`: \"a\" and `completion`: 1, expected two texts"),
        (r#"{"prompt": "a", "completion": ""}"#, "found an empty `completion`"),
    ] {
        let error = read(line).expect_err(line).to_string();
        assert!(error.contains(message), "{error}");
    }
}
