//! What is served, and whether it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{App, json_response};
use crate::error::{ApiError, ApiResult};

/// `GET /v1/models`.
pub(super) async fn list(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let cards = app.models.names().map(|name| app.models.card(name)).collect::<ApiResult<Vec<_>>>()?;
    Ok(json_response(&json!({"object": "list", "data": cards})))
}

/// `GET /v1/models/{id}`.
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> ApiResult<Response> {
    Ok(json_response(&app.models.card(&id)?))
}

/// `GET /health`: the process lives.
pub(super) async fn health() -> Response {
    json_response(&json!({"status": "ok"}))
}

/// `GET /ready`: requests are answered.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let draining = app.draining.load(Ordering::Relaxed);
    let mut response = json_response(&json!({"status": if draining { "draining" } else { "ready" }}));
    if draining {
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
