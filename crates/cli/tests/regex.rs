//! `cupola regex`, run as a user runs it, and what holds for the whole program.

mod common;

use common::{arg, cupola};
use serde_json::json;
use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn find_prints_ranges_and_text() {
    let run = cupola(&["regex", "find", r"\w+"], "a né\n".as_bytes()).ok();
    assert_eq!(run.text(), "0..1 \"a\"\n2..5 \"né\"\n");
    let run = cupola(&["regex", "find", r"\w+", "--json"], "a né\n".as_bytes()).ok();
    assert_eq!(run.json(), [json!({"source": "-", "matches": [[0, 1], [2, 5]]})]);
    assert_eq!(cupola(&["regex", "find", r"\w+", "--count"], b"a b c").ok().text(), "3\n");
}

#[test]
fn find_reads_several_files_and_names_them() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::write(&one, "xa").expect("it is writable");
    std::fs::write(&two, "aax").expect("it is writable");
    let run = cupola(&["regex", "find", "a+", arg(&one), arg(&two)], b"").ok();
    assert_eq!(run.text(), format!("{}: 1..2 \"a\"\n{}: 0..2 \"aa\"\n", one.display(), two.display()));
}

#[test]
fn bytes_that_are_no_text_need_the_option() {
    cupola(&["regex", "find", "a"], b"\xffa").fails(3, "not UTF-8 at byte 0; --bytes searches in it");
    assert_eq!(cupola(&["regex", "find", "a", "--bytes"], b"\xffa").ok().text(), "1..2 \"a\"\n");
}

#[test]
fn a_pattern_that_does_not_compile_is_refused_at_its_place() {
    cupola(&["regex", "find", "a(b"], b"").fails(3, "regex syntax error at byte");
    cupola(&["regex", "explain", "a{2,1}"], b"").fails(3, "regex syntax error at byte");
    cupola(&["regex", "find"], b"").fails(2, "<PATTERN>");
}

#[test]
fn explain_says_which_engine_runs_and_names_the_groups() {
    let run = cupola(&["regex", "explain", r"(?<word>\w+)\s(\d)"], b"").ok();
    for part in ["automaton", "1 word", "2 (no name)", "Unicode 16.0"] {
        assert!(run.text().contains(part), "{part} is not in\n{}", run.text());
    }
    let run = cupola(&["regex", "explain", "--json", r"(a)\1"], b"").ok();
    let object = &run.json()[0];
    assert_eq!(object["groups"], json!([null]));
    assert!(object["plan"].as_str().is_some_and(|plan| plan.contains("backreferences")), "{object}");
}

#[test]
fn each_line_of_json_is_answered_on_its_own() {
    let input = concat!(
        "{\"pattern\": \"a+\", \"haystack\": \"caaté a\"}\n",
        "{\"pattern\": \"a(\", \"haystack\": \"a\"}\n",
        "{\"pattern\": \"a*b|a\", \"haystack\": \"aab aa\"}\n",
        "{\"pattern\": \"\", \"haystack\": \"é\"}\n",
        "{\"pattern\": \"a\"}\n",
        "nonsense\n",
        "{\"pattern\": \"(a)?b\\\\1?\", \"haystack\": \"aaa bbb\"}\n",
    );
    let answers = cupola(&["regex", "find", "--jsonl"], input.as_bytes()).ok().json();
    assert_eq!(answers[0], json!({"matches": [[1, 3], [7, 8]]}));
    assert!(answers[1]["error"].as_str().is_some_and(|e| e.contains("syntax error")), "{}", answers[1]);
    assert_eq!(answers[2], json!({"matches": [[0, 3], [4, 5], [5, 6]]}));
    assert_eq!(answers[3], json!({"matches": [[0, 0], [2, 2]]}));
    assert!(answers[4]["error"].is_string() && answers[5]["error"].is_string());
    assert_eq!(answers[6], json!({"matches": [[4, 5], [5, 6], [6, 7]]}));
}

#[test]
fn a_program_can_ask_and_wait_for_the_answer() {
    use std::io::{BufRead, BufReader, Write};
    let mut child = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(["regex", "find", "--jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    for _ in 0..3 {
        stdin.write_all(b"{\"pattern\": \"a\", \"haystack\": \"ba\"}\n").expect("the program reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the program answers");
        assert_eq!(line, "{\"matches\":[[1,2]]}\n");
    }
    drop(stdin);
    assert!(child.wait().expect("the program ends").success());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let text = "a ".repeat(1 << 20);
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("long.txt");
    std::fs::write(&path, text).expect("it is writable");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(["regex", "find", "a", arg(&path)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut first = [0; 8];
    child.stdout.take().expect("it was asked for").read_exact(&mut first).expect("the program writes");
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
}

#[test]
fn help_and_version_are_there_and_wrong_usage_says_so() {
    let help = cupola(&["--help"], b"").ok();
    assert!(help.text().contains("tokenizer") && help.text().contains("Exit codes"), "{}", help.text());
    assert!(cupola(&["--version"], b"").ok().text().starts_with("cupola 0."));
    cupola(&["tokenise"], b"").fails(2, "unrecognized subcommand");
    assert_eq!(cupola(&[], b"").code, Some(2));
}
