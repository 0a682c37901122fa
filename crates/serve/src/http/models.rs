//! What is served, and whether it is.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{App, Phase, aside, json_response};
use crate::error::{ApiError, ApiResult};

/// `GET /v1/models`.
pub(super) async fn list(State(app): State<Arc<App>>) -> ApiResult<Response> {
    // Those of models that are not loaded are made from files.
    let cards = move || app.models.names().map(|name| app.models.card(name)).collect::<ApiResult<Vec<_>>>();
    Ok(json_response(&json!({"object": "list", "data": aside(cards).await??})))
}

/// `GET /v1/models/ID`, where an id may have slashes.
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> ApiResult<Response> {
    Ok(json_response(&aside(move || app.models.card(&id)).await??))
}

/// `GET /health`: the process lives.
pub(super) async fn health() -> Response {
    json_response(&json!({"status": "ok"}))
}

/// `GET /ready`: requests are answered. A first model whose engine has ended is loaded again, also when nobody asks for it.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let status = match app.phase() {
        Phase::Serving if app.models.is_ready() => "ready",
        Phase::Serving => "loading",
        Phase::Draining | Phase::Over => "draining",
    };
    if status == "loading" {
        tokio::task::spawn_blocking(move || app.models.revive());
    }
    let mut response = json_response(&json!({"status": status}));
    if status != "ready" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// A path that does not exist.
pub(super) async fn no_route(request: Request) -> Response {
    ApiError::no_route(request.method().as_str(), request.uri().path()).into_response()
}

/// A path that exists, with another method.
pub(super) async fn no_method(request: Request) -> Response {
    ApiError::method(request.method().as_str(), request.uri().path()).into_response()
}
