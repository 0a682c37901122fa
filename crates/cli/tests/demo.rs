//! `cupola demo` and `cupola train --dash`, from the first step to the last answer.
#![cfg(unix)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::http::{Program, get, post};
use common::micro::Micro;
use common::{arg, cupola};

#[test]
fn the_demo_shows_its_training_and_then_answers_at_the_same_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("demo");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["demo", "--steps", "3", "--port", "0", "--threads", "2", "--out", arg(&out)]);
    let mut demo = Program::start(command);
    let address = demo.wait_for("dashboard: http://");
    let address = address.trim_end_matches('/');
    // While it trains, `/` leads to the runs.
    let page = get(address, "/").expect("it listens");
    assert!(page.starts_with("HTTP/1.1 307") && page.to_ascii_lowercase().contains("location: /runs/"), "{page}");
    assert!(get(address, "/runs/").expect("it listens").contains("<title>Cupola runs</title>"));
    demo.wait_for("step 1/3");
    assert!(get(address, "/runs/api/runs").expect("it listens").contains("\"id\":\"demo\""), "the run is listed");
    let chat = demo.wait_for("chat with it: http://");
    assert!(chat.starts_with(&format!("{address} ")), "the same port: {chat}");
    assert!(get(address, "/").expect("it listens").contains("chat.js"));
    assert!(get(address, "/runs/api/run?run=demo&points=10").expect("it listens").contains("\"status\":\"finished\""));
    assert!(get(address, "/v1/models").expect("it listens").contains("\"id\":\"demo\""));
    let body = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"max_tokens\":4,\"ignore_eos\":true}";
    let reply = post(address, "/v1/chat/completions", body).expect("it listens");
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("\"completion_tokens\":4"), "{reply}");
    // Somebody looks at the run: that keeps nothing from ending.
    let mut live = TcpStream::connect(address).expect("it listens");
    write!(live, "GET /runs/api/live?run=demo HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("it reads");
    assert!(live.read(&mut [0; 100]).expect("it answers") > 0);
    demo.signal("INT");
    assert_eq!(demo.ended_within(Duration::from_secs(20)), Some(0));
    assert!(!demo.said.iter().any(|line| line.contains("saving after this step")), "{:#?}", demo.said);
}

#[test]
fn a_port_that_is_taken_ends_the_demo_before_it_trains() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("demo");
    cupola(&["demo", "--port", &port, "--out", arg(&out)], b"").fails(1, "cannot serve on");
    assert!(!out.exists());
}

#[test]
fn a_training_is_shown_in_the_browser_while_it_goes_on() {
    let micro = Micro::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(micro.arguments("one", &["--steps", "1000000", "--dash=0"]));
    let mut train = Program::start(command);
    let address = train.wait_for("dashboard: http://");
    let address = address.trim_end_matches('/');
    train.wait_for("step 1/1000000");
    let run = get(address, "/runs/api/run?run=one&points=10").expect("it listens");
    assert!(run.contains("\"status\":\"running\"") && run.contains("loss"), "{run}");
    let mut live = TcpStream::connect(address).expect("it listens");
    write!(live, "GET /runs/api/live?run=one HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("it reads");
    let mut said = String::new();
    let mut some = [0; 4096];
    while !said.contains("event: run") {
        let read = live.read(&mut some).expect("it answers");
        assert!(read > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    train.signal("INT");
    assert_eq!(train.ended_within(Duration::from_secs(120)), Some(130));
    assert!(train.said.iter().any(|line| line.contains("saving after this step")), "{:#?}", train.said);
    assert!(get(address, "/runs/").is_none(), "the page ends with the training");
}
