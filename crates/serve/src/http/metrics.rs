//! What was asked how often, and what the engines count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use crate::engine::stats;

/// Requests by route and status.
#[derive(Default)]
pub(super) struct Requests(Mutex<BTreeMap<(String, u16), u64>>);

impl Requests {
    pub(super) fn count(&self, route: &str, status: u16) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry((route.to_owned(), status)).or_default() += 1;
    }
}

/// `GET /metrics`, in Prometheus's words.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let mut text = String::from("# HELP cupola_http_requests_total Requests by route and status.\n");
    text.push_str("# TYPE cupola_http_requests_total counter\n");
    for ((route, status), count) in app.requests.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        text.push_str(&format!("cupola_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n"));
    }
    stats::write(&app.models.stats(), &mut text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
