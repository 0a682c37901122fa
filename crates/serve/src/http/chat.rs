//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::sse::{self, Broken, Events};
use super::{App, aside, body, json_response, with_ignored};
use crate::api::calls::{Call, CallFinder, Part};
use crate::api::reply::{Head, Usage, chat_logprob, tool_arguments, tool_call, tool_head};
use crate::api::tools::Tools;
use crate::api::{ChatRequest, Sampling};
use crate::engine::job::Generate;
use crate::engine::{End, Job, Work};
use crate::error::ApiResult;
use crate::reading::{Piece, Reading};
use crate::served::{Served, now};

/// A chat that was handed to an engine.
pub(super) struct Started {
    pub(super) reading: Reading,
    pub(super) usage: Usage,
}

/// What chats and responses share of a request.
pub(super) struct Conversation {
    pub(super) messages: Vec<Value>,
    pub(super) sampling: Sampling,
    pub(super) max_tokens: Option<usize>,
    pub(super) choices: usize,
    pub(super) logprobs: Option<usize>,
    pub(super) format: crate::api::format::Format,
    pub(super) tools: Tools,
    pub(super) template_arguments: serde_json::Map<String, Value>,
    /// Where the request's fields for messages and form stand.
    pub(super) fields: [&'static str; 2],
}

/// Encodes a conversation and hands it to the engine.
pub(super) fn start(served: &Arc<Served>, seed: u64, conversation: Conversation) -> ApiResult<Started> {
    let Conversation {
        messages,
        mut sampling,
        max_tokens,
        choices,
        logprobs,
        format,
        tools,
        template_arguments,
        fields,
    } = conversation;
    sampling.check_ids(served.vocabulary)?;
    served.together(choices, "n")?;
    let prompt = served.chat(&messages, &tools, template_arguments)?;
    let limit = served.room(prompt.ids.len(), max_tokens, fields[0])?;
    let constraint = match tools.demanded() {
        Some(schema) => served.constraint(&crate::api::format::Format::Schema(schema), "tools")?,
        None => served.constraint(&format, fields[1])?,
    };
    sampling.stop.extend(prompt.stop);
    let mut ends = if sampling.ignore_eos { Vec::new() } else { served.ends.clone() };
    ends.extend(&sampling.stop_ids);
    let stops = sampling.stop.clone();
    let generate = Generate {
        choices,
        limit,
        seed: sampling.seed.unwrap_or(seed),
        sampling,
        ends,
        logprobs,
        score_prompt: false,
        constraint,
    };
    let usage = Usage { prompt: prompt.ids.len(), ..Usage::default() };
    let job = Job { prompt: prompt.ids.clone(), work: Work::Generate(Box::new(generate)) };
    let answer = served.engine.submit(job).map_err(Served::refused)?;
    Ok(Started { reading: Reading::new(Arc::clone(served), answer, prompt.ids, choices, &stops), usage })
}

/// The word for an end. An answer of which a limit left half a call was cut, and holds no call to be made.
pub(super) fn finish(end: End, finder: Option<&CallFinder>) -> &'static str {
    let calls = finder.is_some_and(|finder| finder.calls() > 0);
    let broken_off = finder.is_some_and(CallFinder::broken_off);
    match end {
        _ if calls && !(broken_off && end == End::Length) => "tool_calls",
        End::Stop => "stop",
        End::Length => "length",
    }
}

pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = ChatRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let ignored = request.ignored.clone();
    let head = Head { id: app.id("chatcmpl-"), created: now(), model: served.id.clone() };
    let (choices, tools, streaming) = (request.n, request.tools.clone(), request.streaming);
    let seed = app.seed();
    let conversation = Conversation {
        messages: request.messages,
        sampling: request.sampling,
        max_tokens: request.max_tokens,
        choices,
        logprobs: request.logprobs,
        format: request.format,
        tools: request.tools,
        template_arguments: request.template_arguments,
        fields: ["messages", "response_format"],
    };
    let wants_scores = request.logprobs.is_some();
    let started = aside(move || start(&served, seed, conversation)).await??;
    let response = if streaming.on {
        let ids = Arc::clone(&app);
        sse::stream(&app, move |events| async move {
            stream(&ids, &events, &head, started, choices, &tools, streaming.include_usage).await
        })
    } else {
        json_response(&sse::whole(&app, whole(&app, &head, started, choices, &tools, wants_scores)).await?)
    };
    Ok(with_ignored(response, &ignored))
}

#[derive(Default)]
struct Message {
    text: String,
    calls: Vec<Call>,
    scores: Vec<Value>,
    finish: &'static str,
}

impl Message {
    fn take(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.text.push_str(&text),
                Part::Call(name) => self.calls.push(Call { name, arguments: String::new() }),
                // They follow their call.
                Part::Arguments(more) => {
                    if let Some(call) = self.calls.last_mut() {
                        call.arguments.push_str(&more);
                    }
                }
                Part::Done => {}
            }
        }
    }
}

async fn whole(
    app: &App,
    head: &Head,
    started: Started,
    choices: usize,
    tools: &Tools,
    wants_scores: bool,
) -> ApiResult<Value> {
    let Started { mut reading, mut usage } = started;
    let mut messages: Vec<Message> = (0..choices).map(|_| Message::default()).collect();
    let mut finders: Vec<Option<CallFinder>> =
        (0..choices).map(|_| tools.offered().then(|| CallFinder::new(tools))).collect();
    while let Some(piece) = reading.next().await? {
        match piece {
            Piece::Prompt { cached, .. } => usage.cached = cached,
            Piece::Embedding(_) => {}
            Piece::Text { choice, text, score, token } => {
                usage.completion += usize::from(token);
                let message = &mut messages[choice];
                message.scores.extend(score.as_ref().map(chat_logprob));
                match &mut finders[choice] {
                    Some(finder) => message.take(finder.push(&text)),
                    None => message.text.push_str(&text),
                }
            }
            Piece::End { choice, end } => {
                let message = &mut messages[choice];
                if let Some(finder) = &mut finders[choice] {
                    message.take(finder.finish());
                }
                message.finish = finish(end, finders[choice].as_ref());
            }
        }
    }
    let choice = |(index, message): (usize, Message)| {
        let content =
            if message.calls.is_empty() || !message.text.is_empty() { json!(message.text) } else { Value::Null };
        let mut object = json!({"role": "assistant", "content": content, "refusal": null});
        if !message.calls.is_empty() {
            object["tool_calls"] = message.calls.iter().map(|call| tool_call(&app.id("call_"), call)).collect();
        }
        let logprobs = if wants_scores { json!({"content": message.scores, "refusal": null}) } else { Value::Null };
        json!({"index": index, "message": object, "logprobs": logprobs, "finish_reason": message.finish})
    };
    let mut reply = head.object("chat.completion", messages.into_iter().enumerate().map(choice).collect());
    reply["usage"] = usage.json();
    Ok(reply)
}

async fn stream(
    app: &App,
    events: &Events,
    head: &Head,
    started: Started,
    choices: usize,
    tools: &Tools,
    include_usage: bool,
) -> Result<(), Broken> {
    let Started { mut reading, mut usage } = started;
    let mut finders: Vec<Option<CallFinder>> =
        (0..choices).map(|_| tools.offered().then(|| CallFinder::new(tools))).collect();
    let mut calls = vec![0; choices];
    let chunk = |index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>| {
        let mut chunk = head.chat_chunk(index, delta, logprobs, finish);
        if include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    for index in 0..choices {
        events.data(&chunk(index, json!({"role": "assistant", "content": ""}), None, None)).await?;
    }
    while let Some(piece) = events.during(reading.next()).await?? {
        match piece {
            Piece::Prompt { cached, .. } => usage.cached = cached,
            Piece::Embedding(_) => {}
            Piece::Text { choice, text, score, token } => {
                usage.completion += usize::from(token);
                let logprobs = score.as_ref().map(|score| json!({"content": [chat_logprob(score)], "refusal": null}));
                let parts = match &mut finders[choice] {
                    Some(finder) => finder.push(&text),
                    None if text.is_empty() => Vec::new(),
                    None => vec![Part::Text(text)],
                };
                if parts.is_empty() && logprobs.is_some() {
                    events.data(&chunk(choice, json!({"content": ""}), logprobs, None)).await?;
                } else {
                    send(app, events, &chunk, choice, parts, logprobs, &mut calls[choice]).await?;
                }
            }
            Piece::End { choice, end } => {
                if let Some(finder) = &mut finders[choice] {
                    let parts = finder.finish();
                    send(app, events, &chunk, choice, parts, None, &mut calls[choice]).await?;
                }
                events.data(&chunk(choice, json!({}), None, Some(finish(end, finders[choice].as_ref())))).await?;
            }
        }
    }
    if include_usage {
        events.data(&head.usage_chunk("chat.completion.chunk", usage)).await?;
    }
    events.done().await?;
    Ok(())
}

async fn send(
    app: &App,
    events: &Events,
    chunk: &impl Fn(usize, Value, Option<Value>, Option<&str>) -> Value,
    choice: usize,
    parts: Vec<Part>,
    mut logprobs: Option<Value>,
    calls: &mut usize,
) -> Result<(), Broken> {
    for part in parts {
        match part {
            Part::Text(text) => events.data(&chunk(choice, json!({"content": text}), logprobs.take(), None)).await?,
            Part::Call(name) => {
                events.data(&chunk(choice, tool_head(*calls, &app.id("call_"), &name), logprobs.take(), None)).await?;
                *calls += 1;
            }
            Part::Arguments(more) => {
                let index = calls.saturating_sub(1);
                events.data(&chunk(choice, tool_arguments(index, &more), logprobs.take(), None)).await?;
            }
            Part::Done => {}
        }
    }
    Ok(())
}
