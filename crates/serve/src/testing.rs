//! What tests of this crate share: small real models, tokenizers and servers, and a client of plain sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tokenizer::model::{Bytes, Model};
use cupola_tokenizer::{AddedToken, Tokenizer, TokenizerParts};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::engine::job::Generate;
use crate::engine::{Answer, Engine, EngineConfig, Event, Job, Stats, Work};
use crate::http::{Server, ServerConfig};
use crate::registry::Registry;
use crate::served::Served;

/// One token for each byte, and an end token with the number 256.
pub(crate) fn byte_tokenizer() -> Tokenizer {
    let bytes = Bytes::new(0).unwrap();
    let mut parts = TokenizerParts::new(Model::Bytes(bytes));
    parts.added_tokens.push(AddedToken::special(256, "<|end|>"));
    parts.eos = Some(256);
    Tokenizer::new(parts).unwrap()
}

/// What small models are made of.
const SMALL: &str = "vocab_size = 260\nhidden_size = 32\nmax_position_embeddings = 512\n\
                     initializer_range = 0.4\nattention = { num_attention_heads = 4, num_key_value_heads = 2 }\n";

/// A small model whose layers are of these kinds.
pub(crate) fn model(extra: &str) -> Decoder {
    let layers = if extra.is_empty() { "num_hidden_layers = 2\n" } else { "" };
    Decoder::new(&ModelSpec::from_toml(&format!("{SMALL}{layers}{extra}")).unwrap()).init(7)
}

/// An engine for tests.
pub(crate) fn engine(config: EngineConfig) -> Engine {
    Engine::new(model(""), config, Arc::default()).unwrap()
}

/// Settings for small models.
pub(crate) fn config() -> EngineConfig {
    EngineConfig { context: 512, cache_bytes: 64 << 20, ..EngineConfig::default() }
}

/// A job that generates.
pub(crate) fn job(prompt: &[u32], limit: usize, seed: u64) -> Job {
    let generate = Generate {
        choices: 1,
        limit,
        sampling: crate::api::Sampling::default(),
        seed,
        ends: vec![256],
        logprobs: Some(2),
        score_prompt: false,
        constraint: None,
    };
    Job { prompt: prompt.to_vec(), work: Work::Generate(Box::new(generate)) }
}

/// Changes how a job generates.
pub(crate) fn with(mut job: Job, change: impl FnOnce(&mut Generate)) -> Job {
    if let Work::Generate(generate) = &mut job.work {
        change(generate);
    }
    job
}

/// All events of an answer.
pub(crate) fn events(mut answer: Answer) -> Vec<Event> {
    std::iter::from_fn(|| answer.wait()).collect()
}

/// A server in a thread of its own, with a small model called `small`.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<Stats>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self::with(config, self::config(), byte_tokenizer(), None)
    }

    pub(crate) fn with(
        config: ServerConfig,
        engine: EngineConfig,
        tokenizer: Tokenizer,
        fault: Option<fn(&[u32])>,
    ) -> Self {
        let stats: Arc<Stats> = Arc::default();
        let ends = tokenizer.eos().into_iter().collect();
        let mut served = Served::new(model(""), tokenizer, ends, "small", engine.clone(), Arc::clone(&stats)).unwrap();
        if fault.is_some() {
            served.engine = Engine::start(model(""), engine, Arc::clone(&stats), fault).unwrap();
        }
        Self::of(config, Registry::of(served, Arc::clone(&stats)), stats)
    }

    pub(crate) fn of(config: ServerConfig, models: Registry, stats: Arc<Stats>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let server = Server::bind(ServerConfig { port: 0, ..config }, models).await.unwrap();
                let extra =
                    Router::new().route("/", get(|| async { "extra page" })).route("/x", get(|| async { "extra x" }));
                let extra = extra.route("/live", get(|| async { live() }));
                let server = server.nest("/extra/", "Extra <&>", extra);
                let server = server.nest("/runs/", "Training", cupola_monitor::router(cupola_monitor::Hub::empty()));
                ready.send(server.address()).unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        let address = address.recv_timeout(Duration::from_secs(60)).unwrap();
        Self { address, stats, stop: Some(stop), thread: Some(thread) }
    }

    /// Tells the server to stop; does not wait for it.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits for the end of a server that was told to stop.
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that answers before it has read everything may close first.
        let _ = stream.write_all(bytes);
        Reply::read(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, "", &body.to_string())
    }

    /// Posts a body with further headers, each with its line end.
    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &str) -> Reply {
        self.raw(request(path, headers, body).as_bytes())
    }

    /// Waits until nothing runs and nothing waits.
    pub(crate) fn idle(&self) {
        eventually(|| self.stats.running.get() == 0 && self.stats.waiting.get() == 0);
    }
}

/// Messages without an end.
fn live() -> axum::response::Response {
    let hub = cupola_monitor::Hub::empty();
    let body = axum::body::Body::from_stream(hub.live(&[], None));
    axum::response::IntoResponse::into_response(([("content-type", "text/event-stream")], body))
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A request with a JSON body.
pub(crate) fn request(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Waits for a condition, for a minute at most.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it did not happen within a minute");
        std::thread::yield_now();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("replies are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Self { status, head: head.to_ascii_lowercase(), body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The field that an error names.
    pub(crate) fn param(&self) -> Option<String> {
        self.json()["error"]["param"].as_str().map(str::to_owned)
    }

    /// The data of all events, as text.
    pub(crate) fn data(&self) -> Vec<String> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The data of all events but the last word.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let all = self.data();
        all.iter().filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole
}
