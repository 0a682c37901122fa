//! The messages of a chat, as a template wants them.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::error::{ApiError, ApiResult};

const MOST_MESSAGES: usize = 10_000;
const MOST_PARTS: usize = 1_000;

/// The text of a message: a string, or an array of text parts, which are joined.
///
/// # Errors
/// When there is a part that is no text, such as a picture.
pub fn content(fields: &mut Fields) -> ApiResult<Option<String>> {
    let parts = match fields.take("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) if parts.len() <= MOST_PARTS => parts,
        Some(other) => return Err(fields.wrong("content", "a string or an array of parts", &other)),
    };
    let place = fields.place("content");
    let mut whole = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut part = Fields::new(part, format!("{place}[{index}]"))?;
        let kind = part.text("type")?.ok_or_else(|| part.missing("type"))?;
        match kind.as_str() {
            "text" | "input_text" | "output_text" => {
                whole.push_str(&part.text("text")?.ok_or_else(|| part.missing("text"))?);
            }
            "refusal" => whole.push_str(&part.text("refusal")?.ok_or_else(|| part.missing("refusal"))?),
            other => {
                let place = part.place("type");
                let message = format!("`{place}` is {other:?}; this server takes text alone");
                return Err(ApiError::field(place, message));
            }
        }
        fields.absorb(part);
    }
    Ok(Some(whole))
}

/// Calls that an assistant made earlier, with their arguments as objects, which is how templates read them.
fn calls(fields: &mut Fields) -> ApiResult<Option<Value>> {
    let Some(items) = fields.array("tool_calls", MOST_PARTS)? else { return Ok(None) };
    let place = fields.place("tool_calls");
    let mut calls = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let mut call = Fields::new(item, format!("{place}[{index}]"))?;
        let id = call.text("id")?.unwrap_or_default();
        call.choice("type", &["function"])?;
        let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        let name = function.text("name")?.ok_or_else(|| function.missing("name"))?;
        let arguments = function.text("arguments")?.unwrap_or_else(|| "{}".into());
        let arguments: Value = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
        call.absorb(function);
        fields.absorb(call);
        calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
    }
    Ok(Some(Value::Array(calls)))
}

/// Takes `messages`.
///
/// # Errors
/// When there are none, or one has no role, an unknown role or no text.
pub fn take(fields: &mut Fields) -> ApiResult<Vec<Value>> {
    let items = fields.array("messages", MOST_MESSAGES)?.ok_or_else(|| fields.missing("messages"))?;
    if items.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty; it takes at least one message"));
    }
    let one = |(index, item)| {
        let mut message = Fields::new(item, format!("messages[{index}]"))?;
        let read = one(&mut message)?;
        fields.absorb(message);
        Ok(read)
    };
    items.into_iter().enumerate().map(one).collect()
}

fn one(fields: &mut Fields) -> ApiResult<Value> {
    let roles = ["system", "developer", "user", "assistant", "tool"];
    let role = fields.choice("role", &roles)?.ok_or_else(|| fields.missing("role"))?;
    let text = content(fields)?;
    let mut message = Map::new();
    message.insert("role".into(), json!(if role == "developer" { "system" } else { role }));
    let calls = if role == "assistant" { calls(fields)? } else { None };
    match (text, &calls) {
        (Some(text), _) => message.insert("content".into(), json!(text)),
        (None, Some(_)) => message.insert("content".into(), json!("")),
        (None, None) => return Err(fields.missing("content")),
    };
    if let Some(calls) = calls {
        message.insert("tool_calls".into(), calls);
    }
    if role == "tool"
        && let Some(id) = fields.text("tool_call_id")?
    {
        message.insert("tool_call_id".into(), json!(id));
    }
    if let Some(name) = fields.text("name")? {
        message.insert("name".into(), json!(name));
    }
    if fields.take("audio").is_some() || fields.take("function_call").is_some() {
        let place = fields.place("");
        return Err(ApiError::unsupported(place.trim_end_matches('.')));
    }
    Ok(Value::Object(message))
}

/// The texts of messages in the plain form for models without a chat template: `role: text`, one after another, ending
/// where the assistant's answer begins.
pub fn plain(messages: &[Value]) -> String {
    let mut text = String::new();
    for message in messages {
        let part = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        text.push_str(part("role"));
        text.push_str(": ");
        text.push_str(part("content"));
        if let Some(calls) = message.get("tool_calls") {
            text.push_str(&calls.to_string());
        }
        text.push('\n');
    }
    text.push_str("assistant:");
    text
}

/// Where an answer in the plain form ends: when the model begins the next turn.
pub const PLAIN_STOP: &str = "\nuser:";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> ApiResult<Vec<Value>> {
        take(&mut Fields::new(json!({"messages": value}), String::new())?)
    }

    #[test]
    fn texts_parts_and_calls() {
        let messages = read(json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"}
        ]))
        .unwrap();
        assert_eq!(messages[0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(messages[1], json!({"role": "user", "content": "ab", "name": "x"}));
        assert_eq!(messages[2]["tool_calls"][0]["function"]["arguments"], json!({"a": 1}));
        assert_eq!(messages[3]["tool_call_id"], "c1");
        assert_eq!(plain(&messages[..2]), "system: Be brief.\nuser: ab\nassistant:");
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_place() {
        for (wrong, place) in [
            (json!(null), "messages"),
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (json!([{"role": "king", "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 5}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "image_url"}]}]),
                "messages[1].content[0].type",
            ),
        ] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some(place));
        }
    }
}
