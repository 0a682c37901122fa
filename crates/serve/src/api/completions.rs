//! `POST /v1/completions`.

use serde_json::Value;

use super::fields::Fields;
use super::format::Format;
use super::sampling::{MOST_CHOICES, MOST_LOGPROBS, Sampling, token_id};
use super::{Streaming, leftovers};
use crate::error::{ApiError, ApiResult};

/// The most prompts of one request.
pub const MOST_PROMPTS: usize = 2048;
/// What a completion gets that does not say how long it may be; the original API's number.
const MAX_TOKENS: usize = 16;

/// A text, or its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text, to be encoded.
    Text(String),
    /// Token numbers.
    Ids(Vec<u32>),
}

impl Prompt {
    /// Takes a field of one prompt or several: a string, an array of strings, of numbers, or of arrays of numbers.
    ///
    /// # Errors
    /// When it is something else, or missing.
    pub fn take(fields: &mut Fields, name: &str) -> ApiResult<Vec<Self>> {
        let expected = "a string, an array of strings, an array of token numbers, or an array of such arrays";
        let items = match fields.take(name) {
            None => return Err(fields.missing(name)),
            Some(Value::String(text)) => return Ok(vec![Self::Text(text)]),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(fields.wrong(name, expected, &other)),
        };
        let empty = || ApiError::field(name, format!("`{name}` is an empty array; it takes at least one entry"));
        let ids = |items: &[Value]| items.iter().map(token_id).collect::<Option<Vec<u32>>>();
        let Some(first) = items.first() else { return Err(empty()) };
        if first.is_number() {
            let ids = ids(&items).ok_or_else(|| ApiError::field(name, format!("`{name}` must be {expected}")))?;
            return Ok(vec![Self::Ids(ids)]);
        }
        if items.len() > MOST_PROMPTS {
            let message = format!("`{name}` has {} entries; at most {MOST_PROMPTS} are allowed", items.len());
            return Err(ApiError::field(name, message));
        }
        let one = |item: Value| match item {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(inner) => {
                ids(&inner).map(Self::Ids).ok_or_else(|| ApiError::field(name, format!("`{name}` must be {expected}")))
            }
            other => Err(fields.wrong(name, expected, &other)),
        };
        items.into_iter().map(one).collect()
    }
}

/// Texts to be gone on with, or scored.
#[derive(Clone, Debug)]
pub struct CompletionRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// How to pick tokens.
    pub sampling: Sampling,
    /// The most tokens of an answer. 0 with `echo` scores the prompt.
    pub max_tokens: usize,
    /// How many answers to each prompt.
    pub n: usize,
    /// How many are generated, of which the likeliest `n` are sent.
    pub best_of: usize,
    /// Report the tokens' log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    /// Begin answers with their prompt.
    pub echo: bool,
    /// Whether the answer is streamed.
    pub streaming: Streaming,
    /// The form of the answer.
    pub format: Format,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

impl CompletionRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is malformed, or asks for what is not offered.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let mut ignored = Vec::new();
        let model = fields.text("model")?;
        let prompts = Prompt::take(&mut fields, "prompt")?;
        let streaming = Streaming::take(&mut fields, &mut ignored)?;
        let sampling = Sampling::take(&mut fields)?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        let max_tokens = fields.count("max_tokens", 0..=usize::MAX)?.unwrap_or(MAX_TOKENS);
        let n = fields.count("n", 1..=MOST_CHOICES)?.unwrap_or(1);
        let best_of = fields.count("best_of", 1..=MOST_CHOICES)?.unwrap_or(n);
        if best_of < n {
            return Err(ApiError::field(
                "best_of",
                format!("`best_of` is {best_of}, but `n` answers are asked for: {n}"),
            ));
        }
        if best_of > n && streaming.on {
            return Err(ApiError::field(
                "best_of",
                "`best_of` above `n` cannot be streamed: the best is known at the end",
            ));
        }
        let logprobs = match fields.take("logprobs") {
            None | Some(Value::Bool(false)) => None,
            Some(value) => match value.as_u64().and_then(|k| usize::try_from(k).ok()) {
                Some(k) if k <= MOST_LOGPROBS => Some(k),
                _ => return Err(fields.wrong("logprobs", &format!("an integer from 0 to {MOST_LOGPROBS}"), &value)),
            },
        };
        if max_tokens == 0 && !echo {
            return Err(ApiError::field("max_tokens", "`max_tokens` is 0, which is only allowed with `echo`"));
        }
        let format = Format::take(&mut fields)?;
        fields.refuse(&["suffix"])?;
        let ignored = leftovers(fields, ignored);
        Ok(Self { model, prompts, sampling, max_tokens, n, best_of, logprobs, echo, streaming, format, ignored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> ApiResult<CompletionRequest> {
        CompletionRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn the_four_forms_of_a_prompt() {
        let prompts = |value: Value| read(json!({"prompt": value})).map(|r| r.prompts);
        assert_eq!(prompts(json!("a")).unwrap(), [Prompt::Text("a".into())]);
        assert_eq!(prompts(json!(["a", "b"])).unwrap().len(), 2);
        assert_eq!(prompts(json!([1, 2])).unwrap(), [Prompt::Ids(vec![1, 2])]);
        assert_eq!(prompts(json!([[1], [2, 3]])).unwrap(), [Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])]);
        for wrong in [json!(null), json!([]), json!(5), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!([null])] {
            let error = prompts(wrong.clone()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some("prompt")), "{wrong}");
        }
    }

    #[test]
    fn scoring_and_limits() {
        let scoring = read(json!({"prompt": "a", "echo": true, "max_tokens": 0, "logprobs": 1})).unwrap();
        assert_eq!((scoring.max_tokens, scoring.logprobs, scoring.echo), (0, Some(1), true));
        assert_eq!(read(json!({"prompt": "a"})).unwrap().max_tokens, 16);
        for (field, value) in [
            ("max_tokens", json!(0)),
            ("best_of", json!({"n": 2})),
            ("logprobs", json!(21)),
            ("logprobs", json!(true)),
            ("suffix", json!("x")),
            ("echo", json!("x")),
        ] {
            let error = read(json!({"prompt": "a", field: value})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field));
        }
        assert_eq!(read(json!({"prompt": "a", "n": 3, "best_of": 2})).unwrap_err().param.as_deref(), Some("best_of"));
        let streamed = json!({"prompt": "a", "best_of": 2, "stream": true});
        assert_eq!(read(streamed).unwrap_err().param.as_deref(), Some("best_of"));
    }
}
