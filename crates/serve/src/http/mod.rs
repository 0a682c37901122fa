//! The HTTP server.
//!
//! - `limits`: how much, how many and how long
//! - `keys`: who may ask
//! - `connection`: sockets, time-outs, draining
//! - `guard`: what every request passes: hosts, origins, keys, panics
//! - `body`: reading a body within its limits
//! - `sse`: answers in parts
//! - `tls`: HTTPS, behind a feature
//! - `metrics`: what was asked how often
//! - `page`: the chat page
//! - `pages`: pages of others beside it
//! - `chat`, `completions`, `responses`, `embeddings`, `tokens`, `models`: the routes

mod body;
mod chat;
mod completions;
mod connection;
mod embeddings;
mod guard;
mod keys;
mod limits;
mod metrics;
mod models;
mod page;
mod pages;
mod responses;
mod sse;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
mod tokens;

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cupola_monitor::guard::Hosts;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use keys::Keys;
pub use limits::Limits;
#[cfg(feature = "tls")]
pub use tls::Tls;

use self::pages::{Page, Pass};
use crate::error::{ApiError, ApiResult, StartError};
use crate::registry::Registry;
use crate::served::{Served, now};

/// How a server listens and whom it answers.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The host to listen on.
    pub host: String,
    /// The port; 0 picks one.
    pub port: u16,
    /// Keys, one of which a request must bring; none for everybody.
    pub keys: Keys,
    /// How much, how many and how long.
    pub limits: Limits,
    /// Speak HTTPS with this certificate.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            keys: Keys::default(),
            limits: Limits::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It answers.
    Serving,
    /// It was told to stop, and lets what it answers finish.
    Draining,
    /// The time for that is over.
    Over,
}

/// What all requests share.
pub(crate) struct App {
    models: Registry,
    keys: Keys,
    limits: Limits,
    /// The names under which it may be asked.
    hosts: Hosts,
    pages: Vec<Page>,
    phase: watch::Sender<Phase>,
    requests: metrics::Requests,
    ids: AtomicU64,
    random: RandomState,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    extra: Option<Router>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or not allowed, or others could reach it and there is no key.
    pub async fn bind(config: ServerConfig, models: Registry) -> Result<Self, StartError> {
        let asked = format!("{}:{}", config.host, config.port);
        let failed = |source| StartError::Bind { address: asked.clone(), source };
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, config.port)).await.map_err(failed)?.collect();
        let loopback = addresses.iter().all(|address| address.ip().is_loopback());
        if !loopback && config.keys.is_empty() {
            return Err(StartError::OpenWithoutKey { host: config.host });
        }
        let listener = TcpListener::bind(&addresses[..]).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = App {
            models,
            keys: config.keys,
            limits: config.limits,
            hosts: Hosts::of(address),
            pages: Vec::new(),
            phase: watch::Sender::new(Phase::Serving),
            requests: metrics::Requests::default(),
            ids: AtomicU64::new(0),
            random: RandomState::new(),
            #[cfg(feature = "tls")]
            tls: config.tls,
        };
        Ok(Self { listener, address, app, extra: None })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loads the first model.
    ///
    /// # Errors
    /// When it cannot be served.
    pub fn load(&self) -> Result<(), StartError> {
        self.app.models.load_first()
    }

    /// Answers the routes of another router under a path such as `/runs/`, behind the same guards, with a link of this title on
    /// the chat page. Where there are keys, `/runs/` itself and `/runs/assets/` are open to everybody, and `POST /runs/key` with a key
    /// gives a cookie that opens the rest to a browser.
    #[must_use]
    pub fn nest(mut self, path: &str, title: &str, routes: Router) -> Self {
        let path = format!("/{}/", path.trim_matches('/'));
        let bare = path.trim_end_matches('/').to_owned();
        let extra = self.extra.unwrap_or_default();
        // Links of pages are relative to the path with its slash.
        let there = Redirect::permanent(&path);
        self.extra = Some(extra.nest(&path, routes).route(&bare, get(|| async { there })));
        #[cfg(feature = "tls")]
        let secure = self.app.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let secure = false;
        let pass = Pass::new(self.address.port(), secure);
        self.app.pages.push(Page { path, title: title.to_owned(), pass });
        self
    }

    /// Answers until `stop` is ready, then lets what is being answered finish.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let app = Arc::new(self.app);
        let router = router(&app, self.extra);
        connection::serve(self.listener, router, app, stop).await;
    }
}

fn router(app: &Arc<App>, extra: Option<Router>) -> Router {
    let own = Router::new()
        .route("/", get(page::html))
        .route("/chat.js", get(page::script))
        .route("/chat.css", get(page::style))
        .route("/health", get(models::health))
        .route("/ready", get(models::ready))
        .route("/metrics", get(metrics::show))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat::answer))
        .route("/v1/completions", post(completions::answer))
        .route("/v1/responses", post(responses::answer))
        .route("/v1/embeddings", post(embeddings::answer))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .with_state(Arc::clone(app));
    let mut all = match extra {
        Some(extra) => own.merge(extra),
        None => own,
    };
    for (index, page) in app.pages.iter().enumerate() {
        let app = Arc::clone(app);
        all = all.route(&format!("{}key", page.path), post(move || async move { pages::opened(&app.pages[index]) }));
    }
    all.fallback(models::no_route)
        .method_not_allowed_fallback(models::no_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(app), guard::pass))
}

impl App {
    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the server is so far. The future keeps nothing of it alive.
    fn until(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let mut now = self.phase.subscribe();
        async move {
            // A server that is gone is further than any phase.
            let _ = now.wait_for(|now| *now >= phase).await;
        }
    }

    /// A name that no other reply has.
    fn id(&self, prefix: &str) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{:016x}{:08x}", self.random.hash_one((number, now())), number as u32)
    }

    /// Random numbers for a request that brought no seed.
    fn seed(&self) -> u64 {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now();
        self.random.hash_one((number, time))
    }

    /// The model of a request; loads it, on a thread that may wait, if need be.
    async fn model(self: &Arc<Self>, name: Option<String>) -> ApiResult<Arc<Served>> {
        if let Some(served) = self.models.loaded(name.as_deref()) {
            return Ok(served);
        }
        let app = Arc::clone(self);
        aside(move || app.models.get(name.as_deref())).await?
    }
}

/// Runs work that takes a while beside the threads that answer sockets.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.is_panic() {
        true => ApiError::server("this request met a mistake in the server"),
        false => ApiError::unavailable("the server is shutting down"),
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(&self.body());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn json_response(value: &serde_json::Value) -> Response {
    let content = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([content], value.to_string()).into_response()
}

/// Names in a header, of the characters that names of fields are made of.
fn with_ignored(mut response: Response, ignored: &[String]) -> Response {
    const MOST: usize = 64;
    let plain = |name: &String| {
        let kept =
            name.chars().take(80).map(|c| if c.is_ascii_alphanumeric() || "_-.[]".contains(c) { c } else { '?' });
        kept.collect::<String>()
    };
    let names: Vec<String> = ignored.iter().take(MOST).map(plain).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", "))
        && !names.is_empty()
    {
        response.headers_mut().insert("x-ignored-fields", value);
    }
    response
}
