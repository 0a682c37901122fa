//! Slow, vanished and too many clients, and a quiet end.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::engine::EngineConfig;
use crate::http::{Limits, ServerConfig};
use crate::registry::{Registry, Source};
use crate::served::LoadOptions;
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
    for size in [100_000, 200_000, 5_000_000] {
        let huge = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(size));
        assert_eq!(server.raw(huge.as_bytes()).status, 431, "a head of {size} bytes is told why it is refused");
    }
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
        let gone = Instant::now();
        server.idle();
        assert!(
            gone.elapsed() < Duration::from_secs(10),
            "ten times the second that it may take: {:?}",
            gone.elapsed()
        );
    }
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
fn answers_that_are_not_done_when_the_time_is_over_end_with_an_error() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let mut server = with(limits, EngineConfig { context: 512, ..config() });
    let many = json!({"prompt": vec!["x"; 300], "max_tokens": 500, "n": 4, "ignore_eos": true, "stream": true});
    let mut stream = server.connect();
    stream.write_all(request("/v1/completions", "", &many.to_string()).as_bytes()).unwrap();
    let mut whole = server.connect();
    let mut asked = many.clone();
    asked["stream"] = json!(false);
    whole.write_all(request("/v1/completions", "", &asked.to_string()).as_bytes()).unwrap();
    eventually(|| server.stats.generated_tokens.get() > 0 && server.stats.waiting.get() == 2);
    server.stop();
    // Both are read while the server ends.
    let whole = std::thread::spawn(move || Reply::read(whole));
    let streamed = Reply::read(stream);
    let last = streamed.data().pop().unwrap();
    assert!(last.contains("\"error\"") && last.contains("shuts down"), "{last}");
    let whole = whole.join().unwrap();
    assert_eq!((whole.status, whole.header("retry-after")), (503, Some("5")), "{whole:?}");
    server.join();
}

#[test]
fn live_messages_of_a_page_end_when_the_server_is_told_to_stop() {
    let mut server = with(Limits { drain: Duration::from_secs(600), ..Limits::default() }, config());
    let mut live = server.connect();
    live.write_all(b"GET /extra/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut some = [0; 200];
    assert!(live.read(&mut some).unwrap() > 0);
    server.stop();
    let mut rest = Vec::new();
    live.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "a whole reply: {:?}", String::from_utf8_lossy(&rest));
    server.join();
}

#[test]
fn without_a_queue_what_can_begin_at_once_is_answered_and_the_rest_refused() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 2, max_waiting: 0, ..config() });
    let short = json!({"prompt": "x", "max_tokens": 2});
    for _ in 0..3 {
        assert_eq!(server.post("/v1/completions", &short).status, 200);
        server.idle();
    }
    let mut first = server.connect();
    first.write_all(long(true).as_bytes()).unwrap();
    eventually(|| server.stats.running.get() == 1 && server.stats.waiting.get() == 0);
    let two = json!({"prompt": "x", "max_tokens": 2, "n": 2});
    assert_eq!(server.post("/v1/completions", &two).status, 429, "there is one place");
    drop(first);
    server.idle();
    assert_eq!(server.post("/v1/completions", &two).status, 200);
}

#[test]
fn more_answers_than_are_worked_on_at_once_are_refused_by_name() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 2, ..config() });
    for (field, fields) in [("n", json!({"n": 3})), ("best_of", json!({"best_of": 3}))] {
        let mut body = json!({"prompt": "x", "max_tokens": 2});
        body[field] = fields[field].clone();
        let reply = server.post("/v1/completions", &body);
        assert_eq!((reply.status, reply.param().as_deref()), (400, Some(field)));
    }
    let chat = json!({"messages": [{"role": "user", "content": "x"}], "n": 3});
    assert_eq!(server.post("/v1/chat/completions", &chat).param().as_deref(), Some("n"));
}

#[test]
fn a_request_of_many_prompts_does_not_shut_the_others_out() {
    let server = with(Limits::default(), EngineConfig { max_concurrent: 2, max_waiting: 2, ..config() });
    let many = json!({"prompt": vec!["x"; 2048], "max_tokens": 50, "ignore_eos": true, "stream": true});
    let mut large = server.connect();
    large.write_all(request("/v1/completions", "", &many.to_string()).as_bytes()).unwrap();
    eventually(|| server.stats.running.get() == 2);
    assert_eq!(server.stats.waiting.get(), 1, "it counts as one");
    for _ in 0..3 {
        let reply = server.post("/v1/completions", &json!({"prompt": "y", "max_tokens": 2}));
        assert_eq!(reply.status, 200);
    }
    assert_eq!(server.stats.waiting.get(), 1, "the large one is far from its end");
    let embedded = server.post("/v1/embeddings", &json!({"input": vec!["z"; 3]}));
    assert_eq!(embedded.status, 200);
}

#[test]
fn a_model_that_is_loading_keeps_nobody_waiting_who_asks_for_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| folder.path().join(name));
    for dir in &dirs {
        cupola_models::save(dir, &crate::testing::model("")).unwrap();
        byte_tokenizer().save_dir(dir).unwrap();
    }
    // Reading it waits until somebody writes.
    let pipe = dirs[1].join("generation_config.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let sources = dirs.iter().map(|dir| Source::new(dir).unwrap()).collect();
    let models = Registry::new(sources, LoadOptions::default()).unwrap();
    models.load_first().unwrap();
    let server = Running::of(ServerConfig::default(), models, Arc::default());
    let ask = |model: &str| {
        let body = json!({"model": model, "prompt": "x", "max_tokens": 2});
        request("/v1/completions", "", &body.to_string())
    };
    let mut loading = server.connect();
    loading.write_all(ask("two").as_bytes()).unwrap();
    // Opening the pipe waits for its reader: now the model is being loaded.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    for _ in 0..4 {
        let list = server.get("/v1/models").json();
        assert_eq!(list["data"][1]["max_model_len"], 512, "{list}");
        assert_eq!(server.get("/v1/models/two").json()["chat_template"], "plain");
    }
    assert_eq!(server.raw(ask("one").as_bytes()).status, 200);
    assert_eq!(server.get("/ready").status, 200);
    pipe.write_all(b"{}").unwrap();
    drop(pipe);
    assert_eq!(Reply::read(loading).status, 200);
}

#[test]
fn a_server_whose_engine_has_ended_says_so_and_loads_the_model_again() {
    let folder = tempfile::tempdir().unwrap();
    cupola_models::save(folder.path(), &crate::testing::model("")).unwrap();
    byte_tokenizer().save_dir(folder.path()).unwrap();
    let models = Registry::new(vec![Source::new(folder.path()).unwrap()], LoadOptions::default()).unwrap();
    let first = models.get(None).unwrap();
    let server = Running::of(ServerConfig::default(), models, Arc::default());
    assert_eq!(server.get("/ready").json()["status"], "ready");
    first.engine.end();
    let told = server.get("/ready");
    assert_eq!((told.status, told.json()["status"].clone()), (503, json!("loading")));
    // Nobody asks for the model, and yet it is back.
    eventually(|| server.get("/ready").status == 200);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).status, 200);
}
