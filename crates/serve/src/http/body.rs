//! Reading a body within its limits.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header;

use super::App;
use crate::error::{ApiError, ApiResult};

/// The whole body of a request that says it is JSON.
pub(super) async fn json(app: &App, request: Request) -> ApiResult<Vec<u8>> {
    let headers = request.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !kind.ends_with("+json") {
        return Err(ApiError::not_json());
    }
    let limit = app.limits.body_bytes;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::too_large(limit));
    }
    let read = read(request.into_body(), limit);
    match tokio::time::timeout(app.limits.body, read).await {
        Ok(body) => body,
        Err(_) => Err(ApiError::too_slow(app.limits.body.as_secs())),
    }
}

async fn read(mut body: Body, limit: usize) -> ApiResult<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| ApiError::malformed(format!("the request's body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}
