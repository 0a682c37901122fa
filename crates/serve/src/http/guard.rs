//! What every request passes.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cupola_monitor::guard;

use super::sse::Until;
use super::{App, Phase};
use crate::error::{ApiError, ApiResult};

/// Paths that need no key: they tell nothing.
const OPEN: [&str; 5] = ["/", "/chat.js", "/chat.css", "/health", "/ready"];

/// Checks a request, has it answered, and writes down how it ended.
pub(super) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // Paths that do not exist share one name, so that a client cannot make the list of names grow.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let others = app.pages.iter().any(|page| request.uri().path().starts_with(&page.path));
    let mut response = match check(&app, &request) {
        Err(error) => error.into_response(),
        Ok(()) => match CatchPanic(Box::pin(next.run(request))).await {
            Ok(response) => response,
            Err(_) => ApiError::server("this request met a mistake in the server").into_response(),
        },
    };
    if others && response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
        // Live messages have no end of their own, and nobody waits for their last.
        response = response.map(|body| Body::new(Until::new(body, app.until(Phase::Draining))));
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&app.id("req-")) {
        headers.insert("x-request-id", id);
    }
    guard::harden(headers);
    app.requests.count(&route, response.status().as_u16());
    response
}

fn check(app: &App, request: &Request) -> ApiResult<()> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    guard::check(method, uri, headers, &app.hosts).map_err(ApiError::stranger)?;
    let path = uri.path();
    if !app.keys.is_empty() && !OPEN.contains(&path) && !app.pages.iter().any(|page| page.is_open(path)) {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if !app.pages.iter().any(|page| reads && path.starts_with(&page.path) && page.pass.is_in(headers)) {
            key(app, headers)?;
        }
    }
    if app.phase() != Phase::Serving && path != "/health" && path != "/ready" && path != "/metrics" {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    Ok(())
}

fn key(app: &App, headers: &HeaderMap) -> ApiResult<()> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized("this server needs a key: send `authorization: Bearer KEY`"));
    };
    let value = value.to_str().unwrap_or_default();
    let given = match value.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key,
        _ => "",
    };
    if app.keys.allow(given) { Ok(()) } else { Err(ApiError::unauthorized("the key is not one of this server's")) }
}

/// A future whose panic is a value.
pub(super) struct CatchPanic<T>(pub(super) Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Future for CatchPanic<T> {
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
