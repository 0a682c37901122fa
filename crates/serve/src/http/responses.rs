//! `POST /v1/responses`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::chat::{Conversation, Started, start};
use super::sse::{self, Broken, Events};
use super::{App, aside, body, json_response, with_ignored};
use crate::api::ResponseRequest;
use crate::api::calls::{Call, CallFinder, Part};
use crate::api::reply::{Usage, chat_logprob};
use crate::api::tools::Tools;
use crate::engine::End;
use crate::error::ApiResult;
use crate::reading::Piece;
use crate::served::now;

/// What a response shows at all times.
struct Frame {
    id: String,
    created: u64,
    model: String,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    repeated: Map<String, Value>,
}

impl Frame {
    fn response(&self, status: &str, output: &[Value], end: Option<End>, usage: Option<Usage>) -> Value {
        let mut response = Value::Object(self.repeated.clone());
        response["id"] = json!(self.id);
        response["object"] = json!("response");
        response["created_at"] = json!(self.created);
        response["status"] = json!(status);
        response["background"] = json!(false);
        response["error"] = Value::Null;
        response["incomplete_details"] = match end {
            Some(End::Length) => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        response["instructions"] = json!(self.instructions);
        response["max_output_tokens"] = json!(self.max_output_tokens);
        response["model"] = json!(self.model);
        response["output"] = json!(output);
        response["previous_response_id"] = Value::Null;
        response["reasoning"] = json!({"effort": null, "summary": null});
        response["store"] = json!(false);
        response["usage"] = usage.map_or(Value::Null, |usage| usage.responses());
        response["user"] = Value::Null;
        response
    }
}

fn status(end: Option<End>) -> &'static str {
    if end == Some(End::Length) { "incomplete" } else { "completed" }
}

fn content(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

fn message(id: &str, status: &str, content: &[Value]) -> Value {
    json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
}

fn function_call(id: &str, call_id: &str, status: &str, call: &Call) -> Value {
    json!({"id": id, "type": "function_call", "call_id": call_id, "name": call.name, "arguments": call.arguments,
        "status": status})
}

pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = ResponseRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let (ignored, stream) = (request.ignored.clone(), request.stream);
    let frame = Frame {
        id: app.id("resp_"),
        created: now(),
        model: served.id.clone(),
        instructions: request.instructions,
        max_output_tokens: request.max_output_tokens,
        repeated: request.repeated,
    };
    let tools = request.tools.clone();
    let seed = app.seed();
    let conversation = Conversation {
        messages: request.messages,
        sampling: request.sampling,
        max_tokens: request.max_output_tokens,
        choices: 1,
        logprobs: request.logprobs,
        format: request.format,
        tools: request.tools,
        template_arguments: Map::new(),
        fields: ["input", "text.format"],
    };
    let started = aside(move || start(&served, seed, conversation)).await??;
    let ids = Arc::clone(&app);
    let response = if stream {
        sse::stream(&app, move |events| async move {
            let mut writer = Writer::new(ids, frame, Some(events));
            writer.write(started, &tools).await.map(|_| ())
        })
    } else {
        let mut writer = Writer::new(ids, frame, None);
        let whole = async {
            writer.write(started, &tools).await.map_err(|broken| match broken {
                Broken::Error(error) => error,
                Broken::Gone => crate::error::ApiError::server("the reader went away"),
            })
        };
        json_response(&sse::whole(&app, whole).await?)
    };
    Ok(with_ignored(response, &ignored))
}

/// Builds a response, and tells every step of it where there is somebody to listen.
struct Writer {
    app: Arc<App>,
    frame: Frame,
    events: Option<Arc<Events>>,
    sequence: usize,
    output: Vec<Value>,
    open: Option<Open>,
    calling: Option<Calling>,
}

/// The call that is being written.
struct Calling {
    id: String,
    call_id: String,
    call: Call,
}

/// The message that is being written.
struct Open {
    id: String,
    text: String,
    logprobs: Vec<Value>,
}

impl Writer {
    fn new(app: Arc<App>, frame: Frame, events: Option<Arc<Events>>) -> Self {
        Self { app, frame, events, sequence: 0, output: Vec::new(), open: None, calling: None }
    }

    async fn event(&mut self, kind: &str, mut value: Value) -> Result<(), Broken> {
        let Some(events) = &self.events else { return Ok(()) };
        value["type"] = json!(kind);
        value["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        Ok(events.named(kind, &value).await?)
    }

    async fn write(&mut self, started: Started, tools: &Tools) -> Result<Value, Broken> {
        let Started { mut reading, mut usage } = started;
        let begun = self.frame.response("in_progress", &[], None, None);
        self.event("response.created", json!({"response": begun})).await?;
        self.event("response.in_progress", json!({"response": begun})).await?;
        let mut finder = tools.offered().then(|| CallFinder::new(tools));
        let mut last = None;
        loop {
            let piece = match &self.events {
                Some(events) => events.during(reading.next()).await??,
                None => reading.next().await?,
            };
            match piece {
                None => break,
                Some(Piece::Prompt { cached, .. }) => usage.cached = cached,
                Some(Piece::Embedding(_)) => {}
                Some(Piece::Text { text, score, token, .. }) => {
                    usage.completion += usize::from(token);
                    let parts = match &mut finder {
                        Some(finder) => finder.push(&text),
                        None => vec![Part::Text(text)],
                    };
                    let mut score = score.as_ref().map(chat_logprob);
                    for part in parts {
                        self.part(part, score.take()).await?;
                    }
                    if let (Some(score), Some(open)) = (score, &mut self.open) {
                        open.logprobs.push(score);
                    }
                }
                Some(Piece::End { end, .. }) => {
                    last = Some(end);
                    for part in finder.as_mut().map(CallFinder::finish).unwrap_or_default() {
                        self.part(part, None).await?;
                    }
                }
            }
        }
        if self.output.is_empty() && self.open.is_none() && self.calling.is_none() {
            self.begin().await?;
        }
        self.called(status(last)).await?;
        self.close(status(last)).await?;
        let whole = self.frame.response(status(last), &self.output, last, Some(usage));
        let kind = if last == Some(End::Length) { "response.incomplete" } else { "response.completed" };
        self.event(kind, json!({"response": whole})).await?;
        Ok(whole)
    }

    async fn part(&mut self, part: Part, score: Option<Value>) -> Result<(), Broken> {
        match part {
            Part::Call(name) => {
                self.close("completed").await?;
                self.call(name).await
            }
            Part::Arguments(more) => self.arguments(&more).await,
            Part::Done => self.called("completed").await,
            Part::Text(text) if text.is_empty() && score.is_none() => Ok(()),
            Part::Text(text) => {
                if self.open.is_none() {
                    self.begin().await?;
                }
                let index = self.output.len();
                let Some(open) = &mut self.open else { return Ok(()) };
                open.text.push_str(&text);
                let logprobs: Vec<Value> = score.into_iter().collect();
                open.logprobs.extend(logprobs.iter().cloned());
                let delta = json!({"item_id": open.id, "output_index": index, "content_index": 0, "delta": text,
                    "logprobs": logprobs});
                self.event("response.output_text.delta", delta).await
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Broken> {
        let id = self.app.id("msg_");
        let index = self.output.len();
        let item = message(&id, "in_progress", &[]);
        self.event("response.output_item.added", json!({"output_index": index, "item": item})).await?;
        let part = json!({"item_id": id, "output_index": index, "content_index": 0, "part": content("", &[])});
        self.open = Some(Open { id, text: String::new(), logprobs: Vec::new() });
        self.event("response.content_part.added", part).await
    }

    async fn close(&mut self, status: &str) -> Result<(), Broken> {
        let Some(Open { id, text, logprobs }) = self.open.take() else { return Ok(()) };
        let index = self.output.len();
        let place = json!({"item_id": id, "output_index": index, "content_index": 0});
        let mut done = place.clone();
        done["text"] = json!(text);
        done["logprobs"] = json!(logprobs);
        self.event("response.output_text.done", done).await?;
        let part = content(&text, &logprobs);
        let mut done = place;
        done["part"] = part.clone();
        self.event("response.content_part.done", done).await?;
        let item = message(&id, status, &[part]);
        self.output.push(item.clone());
        self.event("response.output_item.done", json!({"output_index": index, "item": item})).await
    }

    async fn call(&mut self, name: String) -> Result<(), Broken> {
        let (id, call_id, index) = (self.app.id("fc_"), self.app.id("call_"), self.output.len());
        let call = Call { name, arguments: String::new() };
        let item = function_call(&id, &call_id, "in_progress", &call);
        self.calling = Some(Calling { id, call_id, call });
        self.event("response.output_item.added", json!({"output_index": index, "item": item})).await
    }

    async fn arguments(&mut self, more: &str) -> Result<(), Broken> {
        let Some(Calling { id, call, .. }) = &mut self.calling else { return Ok(()) };
        call.arguments.push_str(more);
        let delta = json!({"item_id": id, "output_index": self.output.len(), "delta": more});
        self.event("response.function_call_arguments.delta", delta).await
    }

    /// The end of a call, if one is open.
    async fn called(&mut self, status: &str) -> Result<(), Broken> {
        let Some(Calling { id, call_id, call }) = self.calling.take() else { return Ok(()) };
        let index = self.output.len();
        let done = json!({"item_id": id, "output_index": index, "arguments": call.arguments, "name": call.name});
        self.event("response.function_call_arguments.done", done).await?;
        let item = function_call(&id, &call_id, status, &call);
        self.output.push(item.clone());
        self.event("response.output_item.done", json!({"output_index": index, "item": item})).await
    }
}
