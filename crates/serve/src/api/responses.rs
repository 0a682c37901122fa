//! `POST /v1/responses`.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::format::Format;
use super::sampling::{MOST_LOGPROBS, Sampling};
use super::tools::Tools;
use super::{leftovers, messages};
use crate::error::{ApiError, ApiResult};

const MOST_ITEMS: usize = 10_000;

/// A response to be made. Nothing is stored: each request brings the whole conversation.
#[derive(Clone, Debug)]
pub struct ResponseRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The conversation, as a template wants it.
    pub messages: Vec<Value>,
    /// The system text, which the reply repeats.
    pub instructions: Option<String>,
    /// How to pick tokens.
    pub sampling: Sampling,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<usize>,
    /// Report the tokens' log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    /// Send events as the answer comes.
    pub stream: bool,
    /// The form of the answer.
    pub format: Format,
    /// Functions that may be called.
    pub tools: Tools,
    /// Fields that the reply repeats as they were.
    pub repeated: Map<String, Value>,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

/// Fields that the reply repeats, with their values when absent.
fn repeated(body: &Value) -> Map<String, Value> {
    let defaults = [
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_logprobs", json!(0)),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
    ];
    let given = |name: &str| body.get(name).filter(|value| !value.is_null()).cloned();
    defaults.into_iter().map(|(name, default)| (name.to_owned(), given(name).unwrap_or(default))).collect()
}

impl ResponseRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is malformed, or asks for what is not offered.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let repeated = repeated(&fields.clone().into_value());
        let model = fields.text("model")?;
        let instructions = fields.text("instructions")?;
        let mut conversation = Vec::new();
        if let Some(text) = &instructions {
            conversation.push(json!({"role": "system", "content": text}));
        }
        conversation.extend(input(&mut fields)?);
        let stream = fields.flag("stream")?.unwrap_or(false);
        let sampling = Sampling::take(&mut fields)?;
        let max_output_tokens = fields.count("max_output_tokens", 1..=usize::MAX)?;
        let alternatives = fields.count("top_logprobs", 0..=MOST_LOGPROBS)?;
        let mut wanted = alternatives.is_some_and(|k| k > 0);
        for item in fields.array("include", 16)?.unwrap_or_default() {
            match item.as_str() {
                Some("message.output_text.logprobs") => wanted = true,
                Some("reasoning.encrypted_content") => {}
                _ => {
                    return Err(ApiError::field("include", format!("`include` asks for {item}, which is not offered")));
                }
            }
        }
        let logprobs = wanted.then(|| alternatives.unwrap_or(0));
        let mut ignored = Vec::new();
        let format = match fields.object("text")? {
            None => Format::Text,
            Some(mut text) => {
                let format = Format::take_flat(&mut text)?;
                text.refuse(&["verbosity"])?;
                ignored.extend(text.ignored());
                format
            }
        };
        let tools = Tools::take(&mut fields, true)?;
        if format != Format::Text && tools.demanded().is_some() {
            let message = "`text.format` and a demanded call in `tool_choice` exclude each other";
            return Err(ApiError::field("text.format", message));
        }
        if fields.flag("background")? == Some(true) {
            return Err(ApiError::unsupported("background"));
        }
        if fields.choice("truncation", &["auto", "disabled"])? == Some("auto") {
            return Err(ApiError::field("truncation", "`truncation` auto is not supported; shorten the input instead"));
        }
        fields.refuse(&["previous_response_id", "conversation", "prompt", "reasoning", "max_tool_calls"])?;
        if let Some(mut options) = fields.object("stream_options")? {
            options.flag("include_obfuscation")?;
            ignored.push("stream_options.include_obfuscation".into());
            ignored.extend(options.ignored());
        }
        let ignored = leftovers(fields, ignored);
        Ok(Self {
            model,
            messages: conversation,
            instructions,
            sampling,
            max_output_tokens,
            logprobs,
            stream,
            format,
            tools,
            repeated,
            ignored,
        })
    }
}

fn input(fields: &mut Fields) -> ApiResult<Vec<Value>> {
    let items = match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => return Ok(vec![json!({"role": "user", "content": text})]),
        Some(Value::Array(items)) if !items.is_empty() && items.len() <= MOST_ITEMS => items,
        Some(other) => return Err(fields.wrong("input", "a string or an array of items", &other)),
    };
    let mut conversation: Vec<Value> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let mut item = Fields::new(item, format!("input[{index}]"))?;
        match item.text("type")?.as_deref() {
            None | Some("message") => {
                let roles = ["system", "developer", "user", "assistant"];
                let role = item.choice("role", &roles)?.ok_or_else(|| item.missing("role"))?;
                let role = if role == "developer" { "system" } else { role };
                let text = messages::content(&mut item)?.ok_or_else(|| item.missing("content"))?;
                conversation.push(json!({"role": role, "content": text}));
            }
            Some("function_call") => {
                let id = item.text("call_id")?.ok_or_else(|| item.missing("call_id"))?;
                let name = item.text("name")?.ok_or_else(|| item.missing("name"))?;
                let arguments = item.text("arguments")?.ok_or_else(|| item.missing("arguments"))?;
                let arguments: Value = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
                let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
                // Calls of one turn are one message.
                match conversation.last_mut().and_then(|last| last.get_mut("tool_calls")).and_then(Value::as_array_mut)
                {
                    Some(calls) => calls.push(call),
                    None => conversation.push(json!({"role": "assistant", "content": "", "tool_calls": [call]})),
                }
            }
            Some("function_call_output") => {
                let id = item.text("call_id")?.ok_or_else(|| item.missing("call_id"))?;
                let output = item.text("output")?.ok_or_else(|| item.missing("output"))?;
                conversation.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
            }
            Some(other) => {
                let place = item.place("type");
                let message =
                    format!("`{place}` is {other:?}; this server takes messages, function calls and their outputs");
                return Err(ApiError::field(place, message));
            }
        }
        fields.absorb(item);
    }
    Ok(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> ApiResult<ResponseRequest> {
        ResponseRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn inputs_become_messages() {
        let request = read(json!({"instructions": "Be brief.", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "7"}
        ], "temperature": 0.5, "store": true}))
        .unwrap();
        let roles: Vec<&str> = request.messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(request.messages[2]["tool_calls"].as_array().unwrap().len(), 2);
        assert_eq!(request.repeated["temperature"], 0.5);
        assert_eq!(request.repeated["top_p"], 1.0);
        assert_eq!(request.ignored, ["store"]);
    }

    #[test]
    fn what_is_left_of_items_and_forms_is_reported() {
        let request = read(json!({"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a", "x": 1}], "status": "completed"},
            {"type": "function_call", "id": "fc", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "7", "y": 1}
        ], "text": {"format": {"type": "json_schema", "name": "n", "strict": true, "schema": {}, "z": 1}},
            "tools": [{"type": "function", "name": "f", "w": 1}]}))
        .unwrap();
        let mut ignored = request.ignored;
        ignored.sort();
        let expected =
            ["input[0].content[0].x", "input[0].status", "input[1].id", "input[2].y", "text.format.z", "tools[0].w"];
        assert_eq!(ignored, expected);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (field, value) in [
            ("input", json!([])),
            ("input", json!(7)),
            ("previous_response_id", json!("r")),
            ("background", json!(true)),
            ("truncation", json!("auto")),
            ("reasoning", json!({"effort": "low"})),
            ("include", json!(["file_search_call.results"])),
            ("max_output_tokens", json!(0)),
        ] {
            let mut body = json!({"input": "x"});
            body[field] = value;
            let error = read(body).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{}", error.message);
        }
    }
}
