//! What every request passes.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use crate::error::{ApiError, ApiResult};

/// Paths that need no key: they tell nothing.
const OPEN: [&str; 5] = ["/", "/chat.js", "/chat.css", "/health", "/ready"];

/// Checks a request, has it answered, and writes down how it ended.
pub(super) async fn pass(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // Paths that do not exist share one name, so that a client cannot make the list of names grow.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = match check(&app, &request) {
        Err(error) => error.into_response(),
        Ok(()) => match CatchPanic(Box::pin(next.run(request))).await {
            Ok(response) => response,
            Err(_) => ApiError::server("this request met a mistake in the server").into_response(),
        },
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&app.id("req-")) {
        headers.insert("x-request-id", id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    app.requests.count(&route, response.status().as_u16());
    response
}

fn check(app: &App, request: &Request) -> ApiResult<()> {
    let headers = request.headers();
    let host = host(request);
    if app.loopback && !host.as_deref().is_some_and(is_loopback) {
        return Err(ApiError::host(host.as_deref().unwrap_or_default()));
    }
    origin(headers, host.as_deref())?;
    let path = request.uri().path();
    if !app.keys.is_empty() && !OPEN.contains(&path) {
        key(app, headers)?;
    }
    if app.draining.load(Ordering::Relaxed) && path != "/health" && path != "/ready" && path != "/metrics" {
        return Err(ApiError::unavailable("the server is shutting down"));
    }
    Ok(())
}

/// The host that a request is meant for: from its target or its header, of which there must be one.
fn host(request: &Request) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().to_owned());
    }
    let mut all = request.headers().get_all(header::HOST).iter();
    let host = all.next()?.to_str().ok()?.to_owned();
    all.next().is_none().then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name == "[::1]" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Pages of other origins may not ask: a browser says where a request comes from.
fn origin(headers: &HeaderMap, host: Option<&str>) -> ApiResult<()> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").to_owned());
    if let Some(origin) = text("origin") {
        let own = host.is_some_and(|host| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        });
        if !own {
            return Err(ApiError::origin(format!("a page of {origin:?} may not use this server")));
        }
    }
    match text("sec-fetch-site").as_deref() {
        None | Some("same-origin" | "none") => Ok(()),
        // A link that somebody follows to a page of this server is no harm.
        Some(_) if text("sec-fetch-mode").as_deref() == Some("navigate") => Ok(()),
        Some(site) => Err(ApiError::origin(format!("a {site:?} page may not use this server"))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for own in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:80",
            "10.0.0.1",
            "",
            "localhost:80@evil.example",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
