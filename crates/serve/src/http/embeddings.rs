//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;

use super::{App, aside, body, json_response, sse, with_ignored};
use crate::api::{EmbeddingRequest, reply};
use crate::engine::{Job, Work};
use crate::error::{ApiError, ApiResult};
use crate::reading::{Piece, Reading};
use crate::served::Served;

fn start(served: &Arc<Served>, request: &EmbeddingRequest) -> ApiResult<Vec<(Reading, usize)>> {
    if let Some(dimensions) = request.dimensions.filter(|&d| d != served.hidden) {
        let message =
            format!("`dimensions` is {dimensions}; this model's vectors have {} and cannot be cut", served.hidden);
        return Err(ApiError::field("dimensions", message));
    }
    let mut jobs = Vec::with_capacity(request.inputs.len());
    for input in &request.inputs {
        let prompt = served.prompt(input, "input")?;
        served.room(prompt.len(), Some(0), "input")?;
        jobs.push(Job { prompt, work: Work::Embed });
    }
    let lengths: Vec<usize> = jobs.iter().map(|job| job.prompt.len()).collect();
    let answers = served.engine.submit_all(jobs).map_err(Served::refused)?;
    let reading = |answer| Reading::new(Arc::clone(served), answer, Vec::new(), 1, &[]);
    Ok(answers.into_iter().map(reading).zip(lengths).collect())
}

/// The mean of the last hidden values of a text's tokens, at length 1.
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = EmbeddingRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let (ignored, base64, model) = (request.ignored.clone(), request.base64, served.id.clone());
    let started = aside(move || start(&served, &request)).await??;
    let tokens: usize = started.iter().map(|(_, length)| length).sum();
    let data = sse::whole(&app, async {
        let mut data = Vec::with_capacity(started.len());
        for (index, (mut reading, _)) in started.into_iter().enumerate() {
            while let Some(piece) = reading.next().await? {
                if let Piece::Embedding(vector) = piece {
                    data.push(reply::embedding(index, &vector, base64));
                }
            }
        }
        Ok(data)
    });
    let data = data.await?;
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let response = json_response(&json!({"object": "list", "data": data, "model": model, "usage": usage}));
    Ok(with_ignored(response, &ignored))
}
