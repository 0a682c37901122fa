//! The folder of a run: written, read back, followed while it grows, damaged.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use cupola_io::run::{Eval, Event, Histogram, Record, RunDir, RunInfo, Sample, Status, Step};
use tempfile::{TempDir, tempdir};

fn run(name: &str) -> (TempDir, RunDir) {
    let folder = tempdir().expect("a folder");
    let run = RunDir::create(folder.path().join(name), &RunInfo::new(name)).expect("a new run");
    (folder, run)
}

fn records(run: &RunDir) -> Vec<Record> {
    let mut tail = run.tail().expect("readable");
    std::iter::from_fn(|| tail.read().expect("no damaged line")).collect()
}

fn raw(run: &RunDir, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).create(true).open(run.metrics_path()).expect("writable");
    file.write_all(bytes).expect("writable");
}

fn one_of_each() -> Vec<Record> {
    vec![
        Step::new(1).time(0.5).tokens(u64::MAX).with("loss", 2.25).with("lr", 1e-300).with("a b\"<", -0.0).into(),
        Step::new(2).with("loss", f64::INFINITY).with("low", f64::NEG_INFINITY).into(),
        Eval { step: 2, time: 1.0, values: [("val_loss".to_owned(), 2.5)].into() }.into(),
        Sample { step: 2, prompt: "The\n\u{2028}".into(), text: "</script>\r\n\0 \u{1f525}".into() }.into(),
        Event { step: 2, name: "nan".into(), message: "loss is NaN".into() }.into(),
        Histogram {
            step: 2,
            name: "norm".into(),
            what: "update".into(),
            edges: vec![-1.0, 0.0, 2.0],
            counts: vec![3, 4],
        }
        .into(),
    ]
}

#[test]
fn what_was_appended_is_read_back() {
    let (_folder, run) = run("a");
    let mut writer = run.append().expect("writable");
    for record in one_of_each() {
        writer.append(&record).expect("writable");
    }
    writer.sync().expect("writable");
    let mut expected = vec![Record::Header { schema: 1 }];
    expected.extend(one_of_each());
    assert_eq!(records(&run), expected);
    let text = fs::read_to_string(run.metrics_path()).expect("readable");
    assert_eq!(text.lines().count(), expected.len());
    assert!(text.starts_with("{\"kind\":\"header\",\"schema\":1}\n{\"kind\":\"step\",\"step\":1,"), "{text}");
}

#[test]
fn a_loss_that_is_no_number_stays_one() {
    let line = Record::from(Step::new(7).with("loss", f64::NAN)).to_line();
    assert_eq!(line, "{\"kind\":\"step\",\"step\":7,\"time\":0.0,\"tokens\":0,\"loss\":\"NaN\"}\n");
    let Ok(Record::Step(step)) = Record::parse(line.as_bytes()) else { panic!("{line}") };
    assert!(step.values["loss"].is_nan());
}

#[test]
fn a_half_written_line_is_cut_off_by_the_next_writer_and_waits_for_its_end_in_a_reader() {
    let (_folder, run) = run("a");
    run.append().expect("writable").append(&Step::new(1).into()).expect("writable");
    let mut tail = run.tail().expect("readable");
    assert!(tail.read().expect("fine").is_some() && tail.read().expect("fine").is_some());
    raw(&run, b"{\"kind\":\"step\",\"st");
    assert_eq!(tail.read().expect("fine"), None);
    raw(&run, b"ep\":2}\n{\"kind\":");
    assert_eq!(tail.read().expect("fine"), Some(Step::new(2).into()));
    assert_eq!(tail.read().expect("fine"), None);
    // The writer died; another goes on, with a line that begins differently.
    run.append().expect("writable").append(&Step::new(3).into()).expect("writable");
    assert_eq!(tail.read().expect("fine"), Some(Step::new(3).into()));
    assert_eq!(tail.read().expect("fine"), None);
    assert_eq!(records(&run).len(), 4);
    assert_eq!(tail.position(), fs::metadata(run.metrics_path()).expect("there").len());
}

#[test]
fn every_place_of_a_crash_leaves_whole_lines() {
    let (_folder, run) = run("a");
    let mut writer = run.append().expect("writable");
    let steps = 3;
    for step in 1..=steps {
        writer.append(&Step::new(step).with("loss", 1.0).into()).expect("writable");
    }
    let whole = fs::read(run.metrics_path()).expect("readable");
    for length in 0..=whole.len() {
        fs::write(run.metrics_path(), &whole[..length]).expect("writable");
        let lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(records(&run).len(), lines, "{length} bytes");
        run.append().expect("writable").append(&Step::new(9).into()).expect("writable");
        let after = records(&run);
        assert_eq!((after.len(), after.last()), (lines.max(1) + 1, Some(&Step::new(9).into())), "{length} bytes");
    }
}

#[test]
fn a_replaced_file_is_read_from_its_start() {
    let (_folder, run) = run("a");
    let mut writer = run.append().expect("writable");
    writer.append(&Step::new(1).with("loss", 3.0).into()).expect("writable");
    let mut tail = run.tail().expect("readable");
    while tail.read().expect("fine").is_some() {}
    let new = "{\"kind\":\"header\",\"schema\":1}\n{\"kind\":\"step\",\"step\":5}\n".repeat(3);
    cupola_io::atomic::write_bytes(run.metrics_path(), new.as_bytes()).expect("writable");
    assert_eq!(tail.read().expect("fine"), Some(Record::Header { schema: 1 }));
    assert_eq!(tail.read().expect("fine"), Some(Step::new(5).into()));
}

#[test]
fn metrics_that_do_not_exist_yet_are_waited_for() {
    let (_folder, run) = run("a");
    let mut tail = run.tail().expect("no error");
    assert_eq!(tail.read().expect("no error"), None);
    let _writer = run.append().expect("writable");
    assert_eq!(tail.read().expect("fine"), Some(Record::Header { schema: 1 }));
}

#[test]
fn damaged_lines_are_errors_with_their_number_and_reading_goes_on() {
    let deep = "[".repeat(100_000);
    let too_many: String = (0..300).map(|i| format!(",\"v{i}\":1")).collect();
    let long_name = "n".repeat(200);
    for (line, found) in [
        ("nonsense".to_owned(), "expected"),
        ("\u{1b}[2J".to_owned(), "expected"),
        ("[]".to_owned(), "invalid"),
        ("{}".to_owned(), "missing field `kind`"),
        (r#"{"kind":"step"}"#.to_owned(), "missing field `step`"),
        (r#"{"kind":"step","step":-1}"#.to_owned(), "invalid value"),
        (r#"{"kind":"step","step":1e400}"#.to_owned(), "number out of range"),
        (r#"{"kind":"step","step":18446744073709551616}"#.to_owned(), "invalid type"),
        (r#"{"kind":"step","step":1,"step":"#.to_owned(), "EOF"),
        (format!("{{\"kind\":\"step\",\"step\":1,\"x\":{deep}"), "EOF while parsing a list"),
        (format!("{{\"kind\":\"step\",\"step\":1{too_many}}}"), "at most 256"),
        (format!("{{\"kind\":\"step\",\"step\":1,\"{long_name}\":1}}"), "at most 128 bytes"),
        (r#"{"kind":"header","schema":2}"#.to_owned(), "schema 2, expected 1"),
        (r#"{"kind":"sample","step":1,"prompt":7,"text":""}"#.to_owned(), "expected a string"),
        (
            r#"{"kind":"histogram","step":1,"name":"","what":"","edges":[0],"counts":[]}"#.to_owned(),
            "1 edges and 0 counts",
        ),
        (r#"{"kind":"histogram","step":1,"name":"","what":"","edges":[0,0],"counts":[1]}"#.to_owned(), "do not rise"),
    ] {
        let (_folder, run) = run("a");
        drop(run.append().expect("writable"));
        raw(&run, format!("{line}\n").as_bytes());
        raw(&run, b"{\"kind\":\"step\",\"step\":4}\n");
        let mut tail = run.tail().expect("readable");
        tail.read().expect("the header");
        let error = tail.read().expect_err(&line).to_string();
        assert!(error.contains("line 2: ") && error.contains(found), "{error}");
        assert!(error.len() < 600 && !error.contains('\u{1b}'), "{error}");
        assert_eq!(tail.read().expect("the next line"), Some(Step::new(4).into()));
    }
}

#[test]
fn unknown_kinds_and_values_that_are_no_numbers_are_passed_over() {
    assert_eq!(Record::parse(br#"{"step":1,"kind":"later"}"#), Ok(Record::Unknown));
    let line =
        br#"{"loss":1,"note":"x","step":3,"list":[1,{"a":[]}],"map":{"b":2},"off":null,"on":true,"kind":"step"}"#;
    assert_eq!(Record::parse(line), Ok(Step::new(3).with("loss", 1.0).into()));
}

#[test]
fn an_endless_line_is_passed_over_without_being_kept() {
    let (_folder, run) = run("a");
    drop(run.append().expect("writable"));
    for _ in 0..24 {
        raw(&run, &vec![b'x'; 1 << 20]);
    }
    let mut tail = run.tail().expect("readable");
    tail.read().expect("the header");
    let error = tail.read().expect_err("a long line").to_string();
    assert!(error.contains("line 2: longer than 4194304 bytes"), "{error}");
    assert_eq!(tail.read().expect("still inside the line"), None);
    raw(&run, b"xx\n{\"kind\":\"step\",\"step\":4}\nbad\n");
    assert_eq!(tail.read().expect("the next line"), Some(Step::new(4).into()));
    let error = tail.read().expect_err("a bad line").to_string();
    assert!(error.contains("line 4: "), "{error}");
}

#[test]
fn a_file_of_another_format_is_not_appended_to() {
    let (_folder, run) = run("a");
    fs::write(run.metrics_path(), "step,loss\n1,2\n").expect("writable");
    let error = run.append().expect_err("not metrics").to_string();
    assert!(error.contains("the first line"), "{error}");
    assert_eq!(fs::read_to_string(run.metrics_path()).expect("there"), "step,loss\n1,2\n");
    fs::remove_file(run.metrics_path()).expect("there");
    fs::create_dir(run.metrics_path()).expect("writable");
    for error in [run.append().expect_err("a folder"), run.tail().expect_err("a folder")] {
        assert!(error.to_string().ends_with("expected a regular file"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_does_not_block() {
    let (_folder, run) = run("a");
    fs::remove_file(run.path().join("run.json")).expect("there");
    for name in ["run.json", "metrics.jsonl"] {
        let made = std::process::Command::new("mkfifo").arg(run.path().join(name)).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    }
    assert!(run.info().is_err() && run.tail().is_err() && run.append().is_err() && !RunDir::is_run(run.path()));
}

#[test]
fn run_json_comes_back_with_what_only_newer_versions_know_left_out() {
    let (folder, run) = run("a <b>");
    let mut info = run.info().expect("own file");
    assert_eq!((info.name.as_str(), info.status, info.schema), ("a <b>", Status::Running, 1));
    info.config.insert("lr".into(), 0.5.into());
    info.model.parameters = 7;
    run.set_info(&info).expect("writable");
    run.set_status(Status::Finished).expect("writable");
    info.status = Status::Finished;
    assert_eq!(run.info().expect("own file"), info);
    let text = fs::read_to_string(run.path().join("run.json")).expect("there");
    fs::write(run.path().join("run.json"), text.replacen('{', "{\"later\": [1],", 1)).expect("writable");
    assert_eq!(run.info().expect("own file"), info);
    let again = RunDir::create(folder.path().join("a <b>"), &info).expect_err("taken").to_string();
    assert!(again.contains("a run already"), "{again}");
}

#[test]
fn damaged_run_json_is_an_error() {
    let (folder, run) = run("a");
    let path = run.path().join("run.json");
    let whole = fs::read(&path).expect("there");
    for length in 0..whole.len() - 2 {
        fs::write(&path, &whole[..length]).expect("writable");
        assert!(run.info().is_err(), "{length} bytes");
    }
    let text = String::from_utf8(whole).expect("text");
    for (damaged, found) in [
        (text.replace("\"schema\": 1", "\"schema\": 2"), "the schema is 2, expected 1"),
        (text.replace("running", "flying"), "unknown variant `flying`"),
        (text.replace("\"config\": {", &format!("\"config\": {{\"a\": {}", "[".repeat(1 << 20))), "recursion limit"),
        (" ".repeat(5 << 20), "more than 4 MiB"),
    ] {
        fs::write(&path, damaged).expect("writable");
        let error = run.info().expect_err(found).to_string();
        assert!(error.contains(found), "{error}");
    }
    assert!(RunDir::open(folder.path()).is_err());
    assert_eq!(RunDir::list(folder.path()).expect("a folder"), [run]);
    assert!(RunDir::list(folder.path().join("none")).is_err());
}

fn checkpoint(run: &RunDir, step: u64) {
    fs::create_dir_all(run.checkpoint_path(step)).expect("writable");
}

#[test]
fn checkpoints_are_found_by_step_and_by_name() {
    let (_folder, run) = run("a");
    assert_eq!(run.checkpoints().expect("none yet"), [0; 0]);
    for step in [1_000_000, 20, 300] {
        checkpoint(&run, step);
    }
    fs::create_dir(run.path().join("checkpoints").join(".step-000400.1-0.tmp")).expect("writable");
    fs::create_dir(run.path().join("checkpoints").join("step-5")).expect("writable");
    assert_eq!(run.checkpoints().expect("listed"), [20, 300, 1_000_000]);
    run.set_checkpoint("best", 20).expect("writable");
    run.set_checkpoint("best", 300).expect("writable");
    let ends_with = |name: &str, end: &str| {
        let found = run.checkpoint(name).unwrap_or_else(|error| panic!("{error}"));
        assert!(found.ends_with(Path::new("checkpoints").join(end)), "{}", found.display());
    };
    ends_with("best", "step-000300");
    ends_with("step-1000000", "step-1000000");
    for missing in ["last", "step-000301", "step-300", "..", "../a", "a/b", "", "Best", "step-x", "step-000301/.."] {
        assert!(run.checkpoint(missing).is_err(), "{missing}");
    }
    assert!(run.set_checkpoint("step-7", 7).is_err() && run.set_checkpoint("../x", 7).is_err());
}

#[test]
fn a_name_that_leads_out_of_the_checkpoints_is_refused() {
    let (_folder, run) = run("a");
    checkpoint(&run, 1);
    for text in ["../../etc", "step-000001/../..", "step-1", "", "step-000001\nx", "best"] {
        fs::write(run.path().join("checkpoints").join("last"), text).expect("writable");
        let error = run.checkpoint("last").expect_err(text).to_string();
        assert!(error.contains("expected one such as step-000300"), "{error}");
    }
}
