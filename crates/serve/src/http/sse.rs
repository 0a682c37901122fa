//! Answers in parts: server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::guard::CatchPanic;
use super::{App, Phase};
use crate::error::{ApiError, ApiResult};

/// Parts that may wait for a slow reader. The rest of the answer waits in the engine's channel, which the request's own limit of
/// tokens bounds; no step ever waits for a reader.
const WAITING: usize = 32;

/// Where a task sends the parts of its answer.
pub(super) struct Events {
    sender: Sender<Bytes>,
    ping: Duration,
}

impl Events {
    /// Sends JSON.
    ///
    /// # Errors
    /// When the reader is gone.
    pub(super) async fn data(&self, value: &Value) -> Result<(), Gone> {
        self.raw(format!("data: {value}\n\n")).await
    }

    /// Sends JSON under a name.
    ///
    /// # Errors
    /// When the reader is gone.
    pub(super) async fn named(&self, name: &str, value: &Value) -> Result<(), Gone> {
        self.raw(format!("event: {name}\ndata: {value}\n\n")).await
    }

    /// Sends the word that ends a stream.
    ///
    /// # Errors
    /// When the reader is gone.
    pub(super) async fn done(&self) -> Result<(), Gone> {
        self.raw("data: [DONE]\n\n".into()).await
    }

    async fn raw(&self, text: String) -> Result<(), Gone> {
        self.sender.send(Bytes::from(text)).await.map_err(|_| Gone)
    }

    /// Waits for something while the reader stays, with a sign of life now and then.
    ///
    /// # Errors
    /// When the reader is gone.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.sender.closed() => return Err(Gone),
                value = &mut work => return Ok(value),
                () = tokio::time::sleep(self.ping) => self.raw(": ping\n\n".into()).await?,
            }
        }
    }
}

/// The reader went away.
#[derive(Debug)]
pub(super) struct Gone;

/// How a stream's task fails.
pub(super) enum Broken {
    /// The reader went away: there is nobody to tell.
    Gone,
    /// Something to tell the reader.
    Error(ApiError),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// A response whose parts `work` sends. An error on the way is the last event.
pub(super) fn stream<F>(app: &Arc<App>, work: impl FnOnce(Arc<Events>) -> F) -> Response
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let (sender, receiver) = channel(WAITING);
    let events = Arc::new(Events { sender, ping: app.limits.ping });
    let task = work(Arc::clone(&events));
    let (limit, over) = (app.limits.answer, app.until(Phase::Over));
    tokio::spawn(async move {
        let timed = async move {
            tokio::select! {
                outcome = task => outcome,
                () = tokio::time::sleep(limit) => Err(Broken::Error(late())),
                () = over => Err(Broken::Error(ended())),
            }
        };
        let outcome = match CatchPanic(Box::pin(timed)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Broken::Error(ApiError::server("this request met a mistake in the server"))),
        };
        if let Err(Broken::Error(error)) = outcome {
            // Nothing more can be done for a reader that is gone as well.
            let _ = events.data(&error.body()).await;
        }
    });
    let mut response = Body::new(Parts(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A whole answer within its time.
pub(super) async fn whole<T>(app: &App, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    tokio::select! {
        outcome = work => outcome,
        () = tokio::time::sleep(app.limits.answer) => Err(late()),
        () = app.until(Phase::Over) => Err(ended()),
    }
}

fn late() -> ApiError {
    ApiError::unavailable("the answer took longer than allowed")
}

fn ended() -> ApiError {
    ApiError::unavailable("the server shuts down before this answer is done")
}

/// A body that ends when something happens.
pub(super) struct Until {
    body: Body,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Until {
    pub(super) fn new(body: Body, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { body, end: Box::pin(end) }
    }
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

struct Parts(Receiver<Bytes>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(hyper::body::Frame::data(part))))
    }
}
