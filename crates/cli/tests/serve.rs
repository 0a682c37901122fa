//! `cupola serve` and `cupola chat`, run as a user runs them.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::http::{self, Program};
use common::{arg, cupola};
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tokenizer::{Tokenizer, train::BpeTrainer};

/// A small model with random weights.
fn model_in(dir: &Path) {
    let tokenizer: Tokenizer = BpeTrainer::byte_level(256).and_then(|t| t.train(["a b"])).expect("bytes alone");
    let spec = ModelSpec::from_toml(&format!(
        "vocab_size = {}\nhidden_size = 16\nmax_position_embeddings = 256\nattention = {{ num_attention_heads = 2 }}",
        tokenizer.vocab_size()
    ));
    let model = Decoder::new(&spec.expect("it is valid")).init(3);
    cupola_models::save(dir, &model).expect("it is writable");
    tokenizer.save_dir(dir).expect("it is writable");
}

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(args: &[&str], key: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.arg("serve").args(args).env_remove("CUPOLA_API_KEY").stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(key) = key {
            command.env("CUPOLA_API_KEY", key);
        }
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it can be read");
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers in UTF-8");
        reply
    }

    /// Asks the process to end and returns its exit code.
    fn end(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("there is kill").success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const LIST: &str = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[cfg(unix)]
#[test]
fn it_answers_drains_on_sigterm_and_may_start_again_on_the_same_port() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    model_in(&one);
    model_in(&two);
    let args = [arg(&one), arg(&two), "--name", "first", "--port", "0"];
    let server = Running::start(&args, None);
    let list = server.ask(LIST);
    assert!(list.contains("\"id\":\"first\"") && list.contains("\"id\":\"two\""), "{list}");
    for model in ["first", "two"] {
        let reply = server
            .ask(&post("/v1/completions", &format!("{{\"model\":\"{model}\",\"prompt\":\"a\",\"max_tokens\":2}}")));
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    // An answer that has begun is finished.
    let mut stream = TcpStream::connect(&server.address).expect("it listens");
    let long = post(
        "/v1/completions",
        "{\"model\":\"two\",\"prompt\":\"a\",\"max_tokens\":250,\"ignore_eos\":true,\"stream\":true}",
    );
    stream.write_all(long.as_bytes()).expect("it reads");
    let mut first = [0; 15];
    stream.read_exact(&mut first).expect("it answers");
    let address = server.address.clone();
    let ending = std::thread::spawn(move || server.end());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("it answers in UTF-8");
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(ending.join().expect("no panic"), Some(0));
    let port = address.rsplit_once(':').expect("an address has a port").1.to_owned();
    let again = Running::start(&[arg(&one), "--port", &port], None);
    assert_eq!(again.address, address);
    assert!(again.ask(LIST).starts_with("HTTP/1.1 200"));
}

/// `cupola serve` with these arguments, and its address.
fn served(args: &[&str]) -> (Program, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.arg("serve").args(args).env_remove("CUPOLA_API_KEY");
    let mut program = Program::start(command);
    let address = program.wait_for("listening on http://");
    (program, address)
}

#[cfg(unix)]
#[test]
fn a_page_that_shows_a_run_does_not_keep_the_server_from_ending() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let model = folder.path().join("model");
    model_in(&model);
    let run = cupola_io::run::RunDir::create(folder.path().join("one"), &cupola_io::run::RunInfo::new("one"));
    run.expect("a run").set_status(cupola_io::run::Status::Running).expect("it is writable");
    for signal in ["TERM", "INT"] {
        let (mut server, address) =
            served(&[arg(&model), "--port", "0", "--runs", arg(folder.path()), "--drain", "600"]);
        let mut live = TcpStream::connect(&address).expect("it listens");
        write!(live, "GET /runs/api/live?run=one HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("it reads");
        assert!(live.read(&mut [0; 100]).expect("it answers") > 0);
        server.signal(signal);
        assert_eq!(server.ended_within(Duration::from_secs(20)), Some(0), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_server_at_once() {
    let folder = tempfile::TempDir::new().expect("a folder");
    model_in(folder.path());
    let (mut server, address) = served(&[arg(folder.path()), "--port", "0", "--drain", "600"]);
    // A body that never comes keeps its connection open for half a minute.
    let mut open = TcpStream::connect(&address).expect("it listens");
    write!(
        open,
        "POST /tokenize HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    )
    .expect("it reads");
    assert!(http::get(&address, "/health").expect("it listens").starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    server.wait_for("once more ends at once");
    assert!(server.child.try_wait().expect("it is our child").is_none(), "it waits");
    server.signal("TERM");
    assert_eq!(server.ended_within(Duration::from_secs(10)), Some(130));
}

#[test]
fn keys_come_from_a_file_and_a_context_beyond_the_trained_one_is_warned_of() {
    let folder = tempfile::TempDir::new().expect("a folder");
    model_in(folder.path());
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "sk-one\n\nsk-two\n").expect("it is writable");
    let (mut server, address) =
        served(&[arg(folder.path()), "--port", "0", "--api-key-file", arg(&keys), "--ctx", "300", "--name", "a/b"]);
    let status = |key: &str| {
        let head = format!("GET /v1/models/a/b HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        http::ask(&address, &format!("{head}authorization: Bearer {key}\r\n\r\n")).expect("it listens")
    };
    for key in ["sk-one", "sk-two"] {
        let reply = status(key);
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("\"max_model_len\":300"), "{reply}");
    }
    assert!(status("sk-three").starts_with("HTTP/1.1 401") && status("").starts_with("HTTP/1.1 401"));
    server.wait_for("warning: a context of 300 tokens is more than the 256 the model was trained for");
    std::fs::write(&keys, "two words\n").expect("it is writable");
    cupola(&["serve", arg(folder.path()), "--port", "0", "--api-key-file", arg(&keys)], b"").fails(2, "key");
}

#[test]
fn a_model_that_nobody_asks_for_is_unloaded() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    model_in(&one);
    model_in(&two);
    let (_server, address) = served(&[arg(&one), arg(&two), "--port", "0", "--idle", "1"]);
    let free = || {
        let text = http::get(&address, "/metrics").expect("it listens");
        let line = text.lines().find_map(|line| line.strip_prefix("cupola_pages_free{model=\"two\"} "));
        line.expect("it is there").parse::<u64>().expect("a number")
    };
    assert_eq!(free(), 0, "not loaded yet");
    let ask = || http::post(&address, "/v1/completions", "{\"model\":\"two\",\"prompt\":\"a\",\"max_tokens\":2}");
    assert!(ask().expect("it listens").starts_with("HTTP/1.1 200"));
    let start = Instant::now();
    while free() > 0 {
        assert!(start.elapsed() < http::PATIENCE, "it stays");
        std::thread::yield_now();
    }
    assert!(ask().expect("it listens").starts_with("HTTP/1.1 200"), "and comes back");
}

#[test]
fn a_key_of_the_environment_is_asked_for() {
    let folder = tempfile::TempDir::new().expect("a folder");
    model_in(folder.path());
    let server = Running::start(&[arg(folder.path()), "--port", "0"], Some("sk-right"));
    assert!(server.ask(LIST).starts_with("HTTP/1.1 401"));
    let with_key = LIST.replace("\r\n\r\n", "\r\nauthorization: Bearer sk-right\r\n\r\n");
    assert!(server.ask(&with_key).starts_with("HTTP/1.1 200"));
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let missing = folder.path().join("missing");
    cupola(&["serve"], b"").fails(2, "<DIR>");
    cupola(&["serve", arg(&missing)], b"").fails(1, "missing");
    cupola(&["serve", arg(folder.path()), "--port", "0"], b"").fails(3, "config.json");
    cupola(&["serve", arg(folder.path()), "--host", "0.0.0.0", "--port", "0"], b"").fails(2, "give a key");
    cupola(&["serve", arg(folder.path()), "--cache-size", "lots"], b"").fails(2, "no size");
    cupola(&["serve", arg(folder.path()), "--name", "a", "--name", "b"], b"").fails(2, "--name");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    cupola(&["serve", arg(folder.path()), "--port", &port], b"").fails(1, "cannot listen");
    model_in(folder.path());
    std::fs::write(folder.path().join("model.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}")
        .expect("it is writable");
    cupola(&["serve", arg(folder.path()), "--port", "0"], b"").fails(3, "model.safetensors");
}

#[test]
fn a_script_can_chat_with_a_directory_and_with_a_server() {
    let folder = tempfile::TempDir::new().expect("a folder");
    model_in(folder.path());
    let options = ["--max-tokens", "5", "--seed", "1", "--temperature", "0"];
    let talk = |place: &str| {
        let args = [&["chat", place][..], &options].concat();
        cupola(&args, b"/set ignore_eos true\nHello\n/retry\n/new\nHello\n/quit\nnever read\n").ok().text().to_owned()
    };
    let alone = talk(arg(folder.path()));
    let server = Running::start(&[arg(folder.path()), "--port", "0"], None);
    assert_eq!(alone, talk(&format!("http://{}", server.address)));
    assert!(alone.lines().count() >= 3, "three answers: {alone:?}");
    cupola(&["chat", "ftp://x"], b"").fails(1, "http://HOST:PORT");
    cupola(&["chat", &format!("http://{}", server.address), "--model", "other"], b"Hello\n").fails(1, "does not exist");
}

#[test]
fn the_terminal_shows_runs_of_a_server_that_asks_for_a_key() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let model = folder.path().join("model");
    model_in(&model);
    let run = cupola_io::run::RunDir::create(folder.path().join("one"), &cupola_io::run::RunInfo::new("one"));
    run.expect("a run").set_status(cupola_io::run::Status::Finished).expect("it is writable");
    let server = Running::start(&[arg(&model), "--port", "0", "--runs", arg(folder.path())], Some("sk-right"));
    let url = format!("http://{}/runs/?run=one", server.address);
    let look = |key: &str| {
        let mut tui = Command::new(env!("CARGO_BIN_EXE_cupola"));
        let output = tui
            .args(["tui", "--once", &url])
            .env("CUPOLA_API_KEY", key)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, shown) = look("sk-right");
    assert!(code == Some(0) && shown.starts_with("one (finished)"), "{code:?} {shown}");
    assert_eq!((look("sk-wrong").0, look("").0, look("a\r\nb").0), (Some(1), Some(1), Some(1)));
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_that_is_none_is_refused_in_one_line() {
    let folder = tempfile::TempDir::new().expect("a folder");
    model_in(folder.path());
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, "no certificate").expect("it is writable");
    let both = ["--tls-cert", arg(&certificate), "--tls-key", arg(&key)];
    let serve = |options: &[&str]| cupola(&[&["serve", arg(folder.path()), "--port", "0"], options].concat(), b"");
    let refused = serve(&both);
    assert_eq!(refused.err.trim_end().lines().count(), 1, "{}", refused.err);
    refused.fails(2, "certificate.pem: there is no certificate in PEM");
    serve(&both[..2]).fails(2, "--tls-key");
}

#[test]
fn the_training_page_is_beside_the_chat_and_each_leads_to_the_other() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let model = folder.path().join("model");
    model_in(&model);
    let server = Running::start(&[arg(&model), "--port", "0", "--runs", arg(folder.path())], None);
    let get = |path: &str| server.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    assert!(get("/").contains("<a href=\"runs/\">Training</a>"));
    assert!(get("/runs/api/view.html").contains("<div id=\"links\"><a href=\"../\">Chat with the model</a></div>"));
}
