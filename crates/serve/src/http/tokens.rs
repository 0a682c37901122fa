//! `POST /tokenize` and `POST /detokenize`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, json};

use super::{App, aside, body, json_response, with_ignored};
use crate::api::tokens::{DetokenizeRequest, Source, TokenizeRequest};
use crate::api::tools::Tools;
use crate::error::{ApiError, ApiResult};

pub(super) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = TokenizeRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let ignored = request.ignored.clone();
    let context = served.context;
    let ids = aside(move || match &request.source {
        Source::Text(text) => served.encode(text, request.add_special_tokens),
        Source::Messages(messages) => Ok(served.chat(messages, &Tools::default(), Map::new())?.ids),
    });
    let ids = ids.await??;
    let reply = json!({"tokens": ids, "count": ids.len(), "max_model_len": context});
    Ok(with_ignored(json_response(&reply), &ignored))
}

pub(super) async fn detokenize(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = DetokenizeRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let text = served.tokenizer.decode_lossy(&request.tokens);
    let text = text.map_err(|error| ApiError::field("tokens", format!("`tokens`: {error}")))?;
    Ok(with_ignored(json_response(&json!({"prompt": text, "text": text})), &request.ignored))
}
