//! Slow, vanished and too many clients, and a quiet end.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::EngineConfig;
use crate::http::{Limits, ServerConfig};
use crate::testing::{Reply, Running, byte_tokenizer, config, eventually, request};

fn with(limits: Limits, engine: EngineConfig) -> Running {
    Running::with(ServerConfig { limits, ..ServerConfig::default() }, engine, byte_tokenizer(), None)
}

fn short() -> Limits {
    let brief = Duration::from_millis(300);
    Limits { head: brief, head_crowded: brief, body: brief, write: Duration::from_secs(1), ..Limits::default() }
}

fn long(stream: bool) -> String {
    let body = json!({"prompt": "x", "max_tokens": 500, "ignore_eos": true, "stream": stream});
    request("/v1/completions", "", &body.to_string())
}

#[test]
fn half_open_connections_are_closed_and_do_not_keep_others_waiting() {
    let server = with(Limits { connections: 64, ..short() }, config());
    let half: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: loc").unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(start.elapsed() < Duration::from_secs(30));
    for mut stream in half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
}

#[test]
fn a_body_that_never_comes_ends_in_408_and_heads_have_a_size() {
    let server = with(short(), config());
    let mut stream = server.connect();
    stream.write_all(b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{").unwrap();
    assert_eq!(Reply::read(stream).status, 408);
    let huge = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let status = server.raw(huge.as_bytes()).status;
    assert!(status == 431 || status == 0, "refused, maybe before it was read: {status}");
    let many: String = (0..200).map(|i| format!("x{i}: y\r\n")).collect();
    assert_eq!(server.raw(format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes()).status, 431);
}

#[test]
fn clients_that_vanish_free_their_place_whatever_they_waited_for() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 2, ..config() });
    for round in 0..10 {
        let gone: Vec<_> = (0..6)
            .map(|i| {
                let mut stream = server.connect();
                stream.write_all(long((i + round) % 2 == 0).as_bytes()).unwrap();
                stream
            })
            .collect();
        if round % 2 == 0 {
            eventually(|| server.stats.running.get() > 0);
        }
        for stream in gone {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    server.idle();
    assert_eq!(server.stats.state_bytes.get(), 0);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status, 200);
}

#[test]
fn more_requests_than_may_wait_are_told_when_to_come_again() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 1, max_waiting: 1, ..config() });
    let mut first = server.connect();
    first.write_all(long(true).as_bytes()).unwrap();
    eventually(|| server.stats.running.get() == 1);
    let mut second = server.connect();
    second.write_all(long(true).as_bytes()).unwrap();
    eventually(|| server.stats.waiting.get() == 1);
    let refused = server.post("/v1/completions", &json!({"prompt": "x"}));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
}

#[test]
fn a_reader_that_takes_nothing_holds_up_nobody_and_is_cut() {
    let server = with(short(), config());
    let mut slow = server.connect();
    let many =
        json!({"prompt": vec!["x"; 30], "max_tokens": 500, "n": 2, "ignore_eos": true, "logprobs": 20, "stream": true});
    slow.write_all(request("/v1/completions", "", &many.to_string()).as_bytes()).unwrap();
    eventually(|| server.stats.generated_tokens.get() > 0);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "y", "max_tokens": 2})).status, 200);
    eventually(|| server.stats.abandoned.get() > 0);
    server.idle();
}

#[test]
fn a_server_that_is_told_to_stop_finishes_what_it_has_begun() {
    let mut server = with(Limits::default(), config());
    let mut stream = server.connect();
    stream.write_all(long(true).as_bytes()).unwrap();
    let mut resting = server.connect();
    resting.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    eventually(|| server.stats.generated_tokens.get() > 0);
    server.stop();
    let reply = Reply::read(stream);
    assert_eq!(reply.data().last().map(String::as_str), Some("[DONE]"));
    assert_eq!(reply.chunks().last().unwrap()["choices"][0]["finish_reason"], "length");
    server.join();
    assert!(std::net::TcpStream::connect(server.address).is_err(), "nobody listens any more");
    // Another server may have the port at once.
    assert!(std::net::TcpListener::bind(server.address).is_ok());
}

#[test]
fn answers_that_are_not_done_when_the_time_is_over_are_cut() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let mut server = with(limits, EngineConfig { context: 512, ..config() });
    let many = json!({"prompt": vec!["x"; 300], "max_tokens": 500, "n": 4, "ignore_eos": true, "stream": true});
    let mut stream = server.connect();
    stream.write_all(request("/v1/completions", "", &many.to_string()).as_bytes()).unwrap();
    eventually(|| server.stats.generated_tokens.get() > 0);
    server.stop();
    server.join();
}
