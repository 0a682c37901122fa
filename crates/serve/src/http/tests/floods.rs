//! Many clients at once: floods, half-open connections, readers that take a byte at a time, clients that vanish in every phase.
//!
//! The numbers are those of ordinary test runs; `--features long-tests` runs the full ones (10,000 requests, 2,000 half-open
//! connections where a process may have so many files, 1,000 vanished clients in each phase, 100,000 short requests).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine::EngineConfig;
use crate::http::{Limits, ServerConfig};
use crate::testing::{Reply, Running, byte_tokenizer, config, eventually, request};

fn with(limits: Limits, engine: EngineConfig) -> Running {
    Running::with(ServerConfig { limits, ..ServerConfig::default() }, engine, byte_tokenizer(), None)
}

/// The first number in an ordinary run, the second with all of them.
fn count(usual: usize, full: usize) -> usize {
    if cfg!(feature = "long-tests") { full } else { usual }
}

/// How many connections this process may have: two files each, and some for the rest.
fn connections(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    wanted.min((files.unwrap_or(256usize).saturating_sub(100)) / 2)
}

/// Asks for many things from some threads, and returns how often each status came.
fn flood(server: &Running, requests: usize, threads: usize, body: &Value) -> Vec<(u16, usize)> {
    let next = AtomicUsize::new(0);
    let ask = || {
        let mut found = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < requests {
            found.push(server.post("/v1/completions", body).status);
        }
        found
    };
    let mut all: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    all.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
}

#[test]
fn a_flood_is_answered_or_told_to_come_again_and_nobody_is_cut_off() {
    let server = with(Limits::default(), EngineConfig { max_waiting: 16, ..config() });
    let statuses = flood(&server, count(512, 10_000), 256, &json!({"prompt": "x", "max_tokens": 3}));
    assert!(statuses.iter().all(|(status, _)| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(statuses[0].0, 200);
    server.idle();
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status, 200);
}

#[test]
fn half_open_connections_end_with_their_time_and_others_are_answered_meanwhile() {
    let brief = Duration::from_millis(500);
    let limits = Limits { head: brief, head_crowded: brief, connections: 4096, ..Limits::default() };
    let server = with(limits, config());
    let many = connections(count(256, 2000));
    let half: Vec<TcpStream> = (0..many)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: loc").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(10), "the others wait");
    for mut stream in half {
        let mut rest = Vec::new();
        // Closed by the server: an end or a reset, never a time-out of ours.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "half-open connections stay");
        }
    }
}

/// A request that is gone on with for as long as somebody reads.
fn long(prompt: &str) -> String {
    let body = json!({"prompt": prompt, "max_tokens": 500, "ignore_eos": true, "stream": true});
    request("/v1/completions", "", &body.to_string())
}

fn send(server: &Running, request: &str) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Whether all that requests had is free again, and the server answers.
fn as_before(server: &Running) {
    server.idle();
    eventually(|| server.stats.state_bytes.get() == 0);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status, 200);
}

#[test]
fn clients_that_vanish_while_their_prompt_is_read_leave_nothing_behind() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 4, ..config() });
    let before = server.stats.abandoned.get();
    for round in 0..count(100, 1000) {
        // Another prompt each time, so that none is known already.
        let stream = send(&server, &long(&format!("{round:04}{}", "p".repeat(480))));
        if round % 2 == 0 {
            eventually(|| server.stats.running.get() > 0);
        }
        drop(stream);
    }
    as_before(&server);
    assert!(server.stats.abandoned.get() > before);
}

#[test]
fn clients_that_vanish_while_they_are_answered_leave_nothing_behind() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 4, ..config() });
    for _ in 0..count(100, 1000) {
        let mut stream = send(&server, &long("x"));
        let mut some = [0; 400];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
    }
    as_before(&server);
}

#[test]
fn clients_that_vanish_while_they_wait_leave_nothing_behind() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 1, ..config() });
    let rounds = count(100, 1000);
    for round in 0..rounds / 10 {
        let mut first = send(&server, &long("x"));
        let mut some = [0; 400];
        first.read_exact(&mut some).unwrap();
        let waiting: Vec<TcpStream> = (0..10).map(|_| send(&server, &long("y"))).collect();
        if round % 2 == 0 {
            eventually(|| server.stats.waiting.get() > 0);
        }
        drop(waiting);
        drop(first);
    }
    as_before(&server);
}

#[test]
fn a_reader_of_a_byte_at_a_time_holds_up_nobody_and_is_cut() {
    let limits = Limits { write: Duration::from_millis(500), ..Limits::default() };
    let server = with(limits, config());
    let many =
        json!({"prompt": vec!["x"; 30], "max_tokens": 500, "n": 2, "ignore_eos": true, "logprobs": 20, "stream": true});
    let mut slow = send(&server, &request("/v1/completions", "", &many.to_string()));
    slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let begun = Instant::now();
    let mut byte = [0];
    let mut taken = 0;
    // At most fifty bytes a second, of some megabytes.
    while server.stats.abandoned.get() == 0 {
        let _ = slow.read(&mut byte);
        taken += 1;
        if taken % 50 == 1 {
            assert_eq!(server.post("/v1/completions", &json!({"prompt": "y", "max_tokens": 2})).status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it is not cut");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    as_before(&server);
}

#[test]
fn a_body_of_64_megabytes_is_told_that_it_is_too_large() {
    let server = with(Limits::default(), config());
    let size = 64 << 20;
    let mut stream = server.connect();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // As clients do that send all of it before they look for an answer.
    let block = vec![b'x'; 1 << 16];
    for _ in 0..size / block.len() {
        if stream.write_all(&block).is_err() {
            break;
        }
    }
    assert_eq!(Reply::read(stream).status, 413);
    let told: String =
        request("/v1/completions", "", "").replace("content-length: 0", &format!("content-length: {size}"));
    assert_eq!(server.raw(told.as_bytes()).status, 413);
}

#[test]
fn short_requests_leave_nothing_behind() {
    let server = with(Limits::default(), config());
    let statuses = flood(&server, count(500, 100_000), 8, &json!({"prompt": "x", "max_tokens": 1}));
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert_eq!(statuses[0].0, 200);
    as_before(&server);
}
