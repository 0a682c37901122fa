//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::mpsc::channel;

use super::chat::finish;
use super::sse::{self, Broken, Events};
use super::{App, aside, body, json_response, with_ignored};
use crate::api::CompletionRequest;
use crate::api::reply::{Head, TokenScore, Usage, legacy_logprobs};
use crate::engine::job::Generate;
use crate::engine::{Job, Work};
use crate::error::ApiResult;
use crate::reading::{Piece, Reading};
use crate::served::{Served, now};

/// A prompt that was handed to the engine.
struct Started {
    reading: Reading,
    /// The prompt's text, when answers begin with it.
    echo: Option<String>,
    tokens: usize,
}

/// What all answers of a request share.
#[derive(Clone)]
struct Shape {
    n: usize,
    best_of: usize,
    logprobs: bool,
    include_usage: bool,
}

fn start(served: &Arc<Served>, seed: u64, request: CompletionRequest) -> ApiResult<Vec<Started>> {
    request.sampling.check_ids(served.vocabulary)?;
    served.together(request.n, "n")?;
    served.together(request.best_of, "best_of")?;
    let constraint = served.constraint(&request.format, "response_format")?;
    let mut ends = if request.sampling.ignore_eos { Vec::new() } else { served.ends.clone() };
    // A prompt that is scored with one token behind it is how evaluations ask (lm-eval): they cut the last token off and would
    // take one of the prompt's where the answer was only an end. Behind one token there is nothing that an end could stop.
    if request.echo && request.logprobs.is_some() && request.max_tokens == 1 {
        ends.clear();
    }
    ends.extend(&request.sampling.stop_ids);
    let seed = request.sampling.seed.unwrap_or(seed);
    // To find the best, probabilities are needed even if nobody asked for them.
    let logprobs = request.logprobs.or((request.best_of > request.n).then_some(0));
    let mut jobs = Vec::with_capacity(request.prompts.len());
    let mut echoes = Vec::with_capacity(request.prompts.len());
    for prompt in &request.prompts {
        let ids = served.prompt(prompt, "prompt")?;
        let limit = served.room(ids.len(), Some(request.max_tokens), "prompt")?;
        let generate = Generate {
            choices: request.best_of,
            limit,
            sampling: request.sampling.clone(),
            seed,
            ends: ends.clone(),
            logprobs,
            score_prompt: request.echo && request.logprobs.is_some(),
            constraint: constraint.clone(),
        };
        let text = || served.tokenizer.decode_lossy(&ids).unwrap_or_default();
        echoes.push(request.echo.then(text));
        jobs.push(Job { prompt: ids, work: Work::Generate(Box::new(generate)) });
    }
    let prompts: Vec<Vec<u32>> = jobs.iter().map(|job| job.prompt.clone()).collect();
    let answers = served.engine.submit_all(jobs).map_err(Served::refused)?;
    let all = answers.into_iter().zip(prompts).zip(echoes).map(|((answer, prompt), echo)| {
        let tokens = prompt.len();
        let stops = &request.sampling.stop;
        Started { reading: Reading::new(Arc::clone(served), answer, prompt, request.best_of, stops), echo, tokens }
    });
    Ok(all.collect())
}

pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let body = body::json(&app, request).await?;
    let request = CompletionRequest::parse(&body)?;
    let served = app.model(request.model.clone()).await?;
    let ignored = request.ignored.clone();
    let head = Head { id: app.id("cmpl-"), created: now(), model: served.id.clone() };
    let streaming = request.streaming;
    let shape = Shape {
        n: request.n,
        best_of: request.best_of,
        logprobs: request.logprobs.is_some(),
        include_usage: streaming.include_usage,
    };
    let seed = app.seed();
    let started = aside(move || start(&served, seed, request)).await??;
    let response = if streaming.on {
        sse::stream(&app, move |events| async move { stream(&events, &head, started, &shape).await })
    } else {
        json_response(&sse::whole(&app, whole(&head, started, &shape)).await?)
    };
    Ok(with_ignored(response, &ignored))
}

#[derive(Clone, Default)]
struct Text {
    text: String,
    scores: Vec<TokenScore>,
    /// Where the generated tokens' scores begin.
    prompt: usize,
    finish: &'static str,
}

impl Text {
    /// The mean log-probability of the tokens generated.
    fn quality(&self) -> f64 {
        let own = &self.scores[self.prompt.min(self.scores.len())..];
        let sum: f64 = own.iter().filter_map(|score| score.token.logprob).map(f64::from).sum();
        if own.is_empty() { f64::NEG_INFINITY } else { sum / own.len() as f64 }
    }
}

async fn whole(head: &Head, started: Vec<Started>, shape: &Shape) -> ApiResult<Value> {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for one in started {
        let Started { mut reading, echo, tokens } = one;
        usage.prompt += tokens;
        let mut texts = vec![Text::default(); shape.best_of];
        while let Some(piece) = reading.next().await? {
            match piece {
                Piece::Prompt { cached, scores } => {
                    usage.cached += cached;
                    if let Some(echo) = &echo {
                        let scores = if shape.logprobs { scores } else { Vec::new() };
                        let begin = Text { text: echo.clone(), prompt: scores.len(), scores, finish: "" };
                        texts.fill(begin);
                    }
                }
                Piece::Embedding(_) => {}
                Piece::Text { choice, text, score, token } => {
                    usage.completion += usize::from(token);
                    texts[choice].text.push_str(&text);
                    texts[choice].scores.extend(score);
                }
                Piece::End { choice, end } => texts[choice].finish = finish(end, None),
            }
        }
        if shape.best_of > shape.n {
            // The best first; equal ones in their order.
            texts.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
            texts.truncate(shape.n);
        }
        for text in texts {
            let logprobs = shape.logprobs.then(|| legacy_logprobs(&text.scores, 0));
            let chunk = head.text_chunk(choices.len(), &text.text, logprobs, Some(text.finish));
            choices.push(chunk["choices"][0].clone());
        }
    }
    let mut reply = head.object("text_completion", choices);
    reply["usage"] = usage.json();
    Ok(reply)
}

async fn stream(events: &Arc<Events>, head: &Head, started: Vec<Started>, shape: &Shape) -> Result<(), Broken> {
    // One task for each prompt follows its answers; their pieces are sent as they come.
    let (sender, mut pieces) = channel(started.len().max(8));
    let mut usage = Usage { prompt: started.iter().map(|one| one.tokens).sum(), ..Usage::default() };
    let echoes: Vec<Option<String>> = started.iter().map(|one| one.echo.clone()).collect();
    for (prompt, mut one) in started.into_iter().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    () = sender.closed() => return,
                    piece = one.reading.next() => piece.transpose(),
                };
                let Some(piece) = piece else { return };
                if sender.send((prompt, piece)).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let chunk = |index: usize, text: &str, logprobs: Option<Value>, finish: Option<&str>| {
        let mut chunk = head.text_chunk(index, text, logprobs, finish);
        if shape.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut lengths = vec![0; echoes.len() * shape.n];
    while let Some((prompt, piece)) = events.during(pieces.recv()).await? {
        match piece? {
            Piece::Prompt { cached, scores } => {
                usage.cached += cached;
                let Some(echo) = &echoes[prompt] else { continue };
                for choice in 0..shape.n {
                    let index = prompt * shape.n + choice;
                    lengths[index] = echo.chars().count();
                    let logprobs = shape.logprobs.then(|| legacy_logprobs(&scores, 0));
                    events.data(&chunk(index, echo, logprobs, None)).await?;
                }
            }
            Piece::Embedding(_) => {}
            Piece::Text { choice, text, score, token } => {
                usage.completion += usize::from(token);
                let index = prompt * shape.n + choice;
                let scores: Vec<TokenScore> = score.into_iter().collect();
                let logprobs = (shape.logprobs && token).then(|| legacy_logprobs(&scores, lengths[index]));
                let width: usize = scores.iter().map(|s| String::from_utf8_lossy(&s.token.bytes).chars().count()).sum();
                lengths[index] += width;
                if logprobs.is_some() || !text.is_empty() {
                    events.data(&chunk(index, &text, logprobs, None)).await?;
                }
            }
            Piece::End { choice, end } => {
                let index = prompt * shape.n + choice;
                events.data(&chunk(index, "", None, Some(finish(end, None)))).await?;
            }
        }
    }
    if shape.include_usage {
        events.data(&head.usage_chunk("text_completion", usage)).await?;
    }
    events.done().await?;
    Ok(())
}
