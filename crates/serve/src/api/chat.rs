//! `POST /v1/chat/completions`.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::format::Format;
use super::sampling::{MOST_CHOICES, MOST_LOGPROBS, Sampling};
use super::tools::Tools;
use super::{Streaming, leftovers, messages};
use crate::error::{ApiError, ApiResult};

/// A chat to be gone on with.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The messages, as a template wants them.
    pub messages: Vec<Value>,
    /// How to pick tokens.
    pub sampling: Sampling,
    /// The most tokens of an answer; up to the end of the context when absent.
    pub max_tokens: Option<usize>,
    /// How many answers.
    pub n: usize,
    /// Report the tokens' log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    /// Whether the answer is streamed.
    pub streaming: Streaming,
    /// The form of the answer.
    pub format: Format,
    /// Functions that may be called.
    pub tools: Tools,
    /// Further names for the chat template.
    pub template_arguments: Map<String, Value>,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is malformed, or asks for what is not offered.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let mut ignored = Vec::new();
        let model = fields.text("model")?;
        let messages = messages::take(&mut fields)?;
        let streaming = Streaming::take(&mut fields, &mut ignored)?;
        let sampling = Sampling::take(&mut fields)?;
        let old = fields.count("max_tokens", 1..=usize::MAX)?;
        let max_tokens = fields.count("max_completion_tokens", 1..=usize::MAX)?.or(old);
        let n = fields.count("n", 1..=MOST_CHOICES)?.unwrap_or(1);
        let alternatives = fields.count("top_logprobs", 0..=MOST_LOGPROBS)?;
        let logprobs = match (fields.flag("logprobs")?.unwrap_or(false), alternatives) {
            (true, alternatives) => Some(alternatives.unwrap_or(0)),
            (false, None | Some(0)) => None,
            (false, Some(_)) => {
                let message = "`top_logprobs` is only allowed when `logprobs` is true";
                return Err(ApiError::field("top_logprobs", message));
            }
        };
        let format = Format::take(&mut fields)?;
        let tools = Tools::take(&mut fields, false)?;
        if format != Format::Text && tools.demanded().is_some() {
            let message = "`response_format` and a demanded call in `tool_choice` exclude each other";
            return Err(ApiError::field("response_format", message));
        }
        let template_arguments = match fields.object("chat_template_kwargs")?.map(Fields::into_value) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        if let Some(modalities) = fields.array("modalities", 8)?
            && modalities.iter().any(|m| m != "text")
        {
            return Err(ApiError::unsupported("modalities"));
        }
        fields.refuse(&[
            "functions",
            "function_call",
            "audio",
            "reasoning_effort",
            "verbosity",
            "web_search_options",
        ])?;
        let ignored = leftovers(fields, ignored);
        Ok(Self {
            model,
            messages,
            sampling,
            max_tokens,
            n,
            logprobs,
            streaming,
            format,
            tools,
            template_arguments,
            ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut extra: Value) -> ApiResult<ChatRequest> {
        extra["messages"] = json!([{"role": "user", "content": "x"}]);
        ChatRequest::parse(extra.to_string().as_bytes())
    }

    #[test]
    fn fields_that_change_the_answer_arrive() {
        let request = read(json!({
            "model": "m", "max_completion_tokens": 5, "max_tokens": 9, "n": 3, "logprobs": true, "top_logprobs": 2,
            "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
            "chat_template_kwargs": {"think": false}, "temperature": 0
        }))
        .unwrap();
        assert_eq!(request.max_tokens, Some(5));
        assert_eq!((request.n, request.logprobs), (3, Some(2)));
        assert_eq!(request.streaming, Streaming { on: true, include_usage: true });
        assert_eq!(request.template_arguments["think"], json!(false));
        assert_eq!(request.ignored, ["stream_options.include_obfuscation"]);
    }

    #[test]
    fn what_is_left_of_objects_inside_is_reported_with_its_place() {
        let body = json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}], "weight": 1},
                {"role": "assistant", "content": null, "annotations": [], "refusal": null, "tool_calls": [
                    {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}", "x": 1}}]},
                {"role": "tool", "tool_call_id": "c", "content": "2"}
            ],
            "tools": [{"type": "function", "y": 1, "function": {"name": "f", "strict": true, "z": 2,
                "parameters": {"type": "object", "kept": 1}}}],
            "tool_choice": {"type": "function", "mode": "m", "function": {"name": "f", "w": 1}},
        });
        let mut ignored = ChatRequest::parse(body.to_string().as_bytes()).unwrap().ignored;
        ignored.sort();
        let expected = [
            "messages[0].content[0].cache_control",
            "messages[0].weight",
            "messages[1].annotations",
            "messages[1].tool_calls[0].function.x",
            "messages[1].tool_calls[0].index",
            "tool_choice.function.w",
            "tool_choice.mode",
            "tools[0].function.z",
            "tools[0].y",
        ];
        assert_eq!(ignored, expected);
        let schema = json!({"name": "n", "description": "d", "strict": true, "schema": {"type": "object", "k": 1}});
        let request = read(json!({"response_format": {"type": "json_schema", "v": 1, "json_schema": schema}})).unwrap();
        assert_eq!(request.ignored, ["response_format.json_schema.description", "response_format.v"]);
        let user = json!([{"role": "user", "content": "x", "tool_calls": [], "tool_call_id": "c"}]);
        let request = ChatRequest::parse(json!({"messages": user}).to_string().as_bytes()).unwrap();
        assert_eq!(request.ignored, ["messages[0].tool_call_id", "messages[0].tool_calls"]);
    }

    #[test]
    fn fields_without_effect_are_reported_and_others_refused() {
        let request = read(json!({"x": 1, "user": "u", "store": true, "service_tier": "auto", "seed": null})).unwrap();
        assert_eq!(request.ignored, ["service_tier", "store", "user", "x"]);
        for (field, value) in [
            ("functions", json!([])),
            ("function_call", json!("auto")),
            ("reasoning_effort", json!("low")),
            ("modalities", json!(["text", "audio"])),
            ("audio", json!({})),
            ("n", json!(0)),
            ("n", json!(129)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!("many")),
            ("top_logprobs", json!(3)),
            ("logprobs", json!(1)),
            ("stream", json!("yes")),
            ("stream_options", json!({"include_usage": true})),
        ] {
            let error = read(json!({field: value})).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{}", error.message);
        }
    }
}
