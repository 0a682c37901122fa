//! The chat page: three files in the binary.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::pages::links;

/// Nothing but this server's own files, and no script inside of the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

pub(super) async fn html(State(app): State<Arc<App>>) -> Response {
    file("text/html; charset=utf-8", include_str!("../../assets/chat.html").replace("<!-- links -->", &links(&app)))
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("../../assets/chat.js"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("../../assets/chat.css"))
}
