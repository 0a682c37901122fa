//! What goes wrong: at the start of the server, and in a request.

use std::path::PathBuf;

use cupola_monitor::guard::Refusal;
use serde_json::{Value, json};

/// Why a server does not start or a model does not load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An address that others can reach, and no key.
    #[error(
        "{host} can be reached from other machines: give a key with --api-key-file or CUPOLA_API_KEY, or listen on 127.0.0.1"
    )]
    OpenWithoutKey {
        /// The host asked for.
        host: String,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model directory that cannot be served.
    #[error("{path}: {what}")]
    Model {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A setting that cannot be followed.
    #[error("{0}")]
    Setting(String),
}

/// A refusal or failure as the wire shows it: `{"error": {message, type, param, code}}` with its status.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// What was found and what was expected.
    pub message: String,
    /// The kind of error, in OpenAI's words.
    pub kind: &'static str,
    /// The field concerned.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

const INVALID: &str = "invalid_request_error";

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None, retry_after: None }
    }

    /// 400 without a field, for a body that is no request at all.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, INVALID, message)
    }

    /// 400 about a field.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(400, INVALID, message) }
    }

    /// 400: a field that would change the answer and is not offered.
    pub fn unsupported(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("`{param}` is not supported by this server; leave it out");
        Self { code: Some("unsupported_parameter"), ..Self::field(param, message) }
    }

    /// 400: a prompt that does not fit into the model's context.
    pub fn context(param: &str, prompt: usize, context: usize) -> Self {
        let message = format!(
            "this model's context is {context} tokens; the prompt has {prompt} and leaves no room for an answer"
        );
        Self { code: Some("context_length_exceeded"), ..Self::field(param, message) }
    }

    /// 401: no key, or a wrong one.
    pub fn unauthorized(message: &str) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(401, "authentication_error", message) }
    }

    /// 404: no model of that name.
    pub fn no_model(name: &str) -> Self {
        let message = format!("the model {name:?} does not exist here; GET /v1/models lists those that do");
        Self { param: Some("model".into()), code: Some("model_not_found"), ..Self::new(404, INVALID, message) }
    }

    /// 404: no such route.
    pub fn no_route(method: &str, path: &str) -> Self {
        Self::new(404, INVALID, format!("there is no {method} {path}"))
    }

    /// 405.
    pub fn method(method: &str, path: &str) -> Self {
        Self::new(405, INVALID, format!("{path} does not take {method}; the header `allow` says what it takes"))
    }

    /// 408: a body that did not come in time.
    pub fn too_slow(seconds: u64) -> Self {
        Self::new(408, INVALID, format!("the request's body did not arrive within {seconds} s"))
    }

    /// 413: a body that is too large.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, INVALID, format!("the request's body is larger than {limit} bytes"))
    }

    /// 415: a body that does not say it is JSON.
    pub fn not_json() -> Self {
        Self::new(415, INVALID, "the request's body must be JSON, with `content-type: application/json`")
    }

    /// 421 or 403: a host name that is not this server's, or a page of another origin.
    pub fn stranger(refusal: Refusal) -> Self {
        Self::new(refusal.status().as_u16(), INVALID, refusal.to_string())
    }

    /// 429: the queue is full.
    pub fn busy(waiting: usize) -> Self {
        let message = format!("{waiting} requests are waiting already; try again later");
        Self { retry_after: Some(1), code: Some("queue_full"), ..Self::new(429, "rate_limit_error", message) }
    }

    /// 500.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(5), ..Self::new(503, "server_error", message) }
    }

    /// The object as it is sent.
    pub fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

/// `Result` of everything a request asks for.
pub type ApiResult<T> = std::result::Result<T, ApiError>;
