//! `cupola dash` and `cupola tui` as a user runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use cupola_io::run::{RunDir, RunInfo, Sample, Status, Step};

fn cupola(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn finished_run(path: &Path) {
    let run = RunDir::create(path, &RunInfo::new("a \u{1b}[31mrun")).expect("a run");
    let mut metrics = run.append().expect("writable");
    for step in 1..=40u32 {
        let loss = 4.0 / f64::from(step);
        metrics.append(&Step::new(step.into()).time(f64::from(step)).with("loss", loss).into()).expect("writable");
    }
    metrics.append(&Step::new(41).time(41.0).with("loss", f64::NAN).into()).expect("writable");
    metrics.append(&Sample { step: 41, prompt: "a".into(), text: "b".into() }.into()).expect("writable");
    run.set_status(Status::Finished).expect("writable");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn without_a_terminal_a_run_is_plain_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    finished_run(&folder.path().join("one"));
    for place in [folder.path().join("one"), folder.path().to_owned()] {
        let output = cupola(&["tui", place.to_str().expect("a path")]).output().expect("it runs");
        let text = text(&output);
        assert!(output.status.success() && !text.contains('\u{1b}'), "{text}");
        assert!(text.starts_with("a  [31mrun (finished), ") && text.contains("step 41  loss –  time 0:41\n"), "{text}");
        assert!(text.contains("nan: the loss is NaN at step 41\n"), "{text}");
    }
}

#[test]
fn what_is_no_run_is_refused_with_its_own_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path");
    for (place, code, said) in [
        (path, 3, "there is no run"),
        ("no-such-folder-anywhere", 3, "cannot list"),
        ("ftp://localhost/", 2, "is no address of a dashboard"),
        ("http://127.0.0.1:1/", 1, "cannot be reached"),
    ] {
        let output = cupola(&["tui", place]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{place}: {}", text(&output));
        assert!(text(&output).contains(said), "{place}: {}", text(&output));
    }
    let output = cupola(&["dash", path, "--host", "0.0.0.0", "--port", "0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn dash_serves_the_page_and_the_terminal_shows_the_same_run_from_its_address() {
    let folder = tempfile::tempdir().expect("a folder");
    finished_run(&folder.path().join("one"));
    let mut command = cupola(&["dash", folder.path().to_str().expect("a path"), "--port", "0"]);
    let mut dash = Running(command.stdout(Stdio::piped()).spawn().expect("it runs"));
    let mut line = String::new();
    let stdout = dash.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("it answers");
    assert!(page.starts_with("HTTP/1.0 200") && page.contains("<title>Cupola runs</title>"), "{page}");
    for place in [url.clone(), format!("{url}?run=one")] {
        let output = cupola(&["tui", &place]).output().expect("it runs");
        assert!(output.status.success() && text(&output).contains("step 41  loss –"), "{}", text(&output));
    }
    let output = cupola(&["tui", &format!("{url}?run=two")]).output().expect("it runs");
    assert!(output.status.code() == Some(1) && text(&output).contains("404"), "{}", text(&output));
}
