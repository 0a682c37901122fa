//! Functions that a model may call: descriptions in, calls out.
//!
//! A chat template that knows `tools` gets them as they are. For any other, a system message describes them and asks for
//! the form `<tool_call>{"name": .., "arguments": ..}</tool_call>`, which answers are searched for ([`super::calls`]). When a call is demanded
//! (`required`, or a function's name), the answer is constrained to such an object, so that it cannot be anything else.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::error::{ApiError, ApiResult};

const MOST_TOOLS: usize = 128;
pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";

/// Whether an answer has to be a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// Some function.
    Required,
    /// This function.
    Function(String),
}

/// The functions of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools {
    /// Descriptions: `{type: "function", function: {name, description, parameters}}`.
    pub list: Vec<Value>,
    /// What is demanded.
    pub choice: Choice,
    /// More than one call in one answer.
    pub parallel: bool,
}

impl Tools {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`. `flat` is the form of responses, where a tool's name stands
    /// beside its type.
    ///
    /// # Errors
    /// When a tool is no function, has no name, or a function is demanded that is not there.
    pub fn take(fields: &mut Fields, flat: bool) -> ApiResult<Self> {
        let items = fields.array("tools", MOST_TOOLS)?.unwrap_or_default();
        let mut list = Vec::with_capacity(items.len());
        let mut strict = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("tools[{index}]");
            let mut tool = Fields::new(item, place.clone())?;
            match tool.text("type")?.as_deref() {
                Some("function") => {}
                Some(other) => {
                    let message = format!("`{place}.type` is {other:?}; only functions are supported");
                    return Err(ApiError::field(format!("{place}.type"), message));
                }
                None => return Err(tool.missing("type")),
            }
            let mut inner =
                if flat { None } else { Some(tool.object("function")?.ok_or_else(|| tool.missing("function"))?) };
            let function = inner.as_mut().unwrap_or(&mut tool);
            let name = function.text("name")?.ok_or_else(|| function.missing("name"))?;
            let description = function.text("description")?.unwrap_or_default();
            let parameters =
                function.object("parameters")?.map_or_else(|| json!({"type": "object"}), Fields::into_value);
            if function.flag("strict")? == Some(true) {
                strict.push(function.place("strict"));
            }
            inner.into_iter().for_each(|inner| tool.absorb(inner));
            fields.absorb(tool);
            list.push(json!({"type": "function", "function":
                {"name": name, "description": description, "parameters": parameters}}));
        }
        let choice = Self::choice(fields, flat)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let tools = Self { list, choice, parallel };
        // A demanded call follows its schema in any case; of a free answer nobody knows before whether it will be one.
        if tools.choice == Choice::Auto
            && let Some(place) = strict.into_iter().next()
        {
            let message = format!(
                "`{place}` is true, which is followed where `tool_choice` demands a call; leave it out, or demand one"
            );
            return Err(ApiError { code: Some("unsupported_parameter"), ..ApiError::field(place, message) });
        }
        match &tools.choice {
            Choice::Required if tools.list.is_empty() => {
                Err(ApiError::field("tool_choice", "`tool_choice` demands a call, but `tools` is empty"))
            }
            Choice::Function(name) if tools.find(name).is_none() => {
                let message = format!("`tool_choice` demands the function {name:?}, which is not in `tools`");
                Err(ApiError::field("tool_choice", message))
            }
            _ => Ok(tools),
        }
    }

    fn choice(fields: &mut Fields, flat: bool) -> ApiResult<Choice> {
        match fields.take("tool_choice") {
            None => Ok(Choice::Auto),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Ok(Choice::Auto),
                "none" => Ok(Choice::None),
                "required" => Ok(Choice::Required),
                _ => {
                    let message = format!("`tool_choice` must be auto, none, required or a function, not {word:?}");
                    Err(ApiError::field("tool_choice", message))
                }
            },
            Some(value) => {
                let mut named = Fields::new(value, "tool_choice".into())?;
                named.choice("type", &["function"])?.ok_or_else(|| named.missing("type"))?;
                let mut inner =
                    if flat { None } else { Some(named.object("function")?.ok_or_else(|| named.missing("function"))?) };
                let function = inner.as_mut().unwrap_or(&mut named);
                let name = function.text("name")?.ok_or_else(|| function.missing("name"))?;
                inner.into_iter().for_each(|inner| named.absorb(inner));
                fields.absorb(named);
                Ok(Choice::Function(name))
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.list.iter().find(|tool| tool["function"]["name"] == name)
    }

    /// True when answers may hold calls.
    pub fn offered(&self) -> bool {
        !self.list.is_empty() && self.choice != Choice::None
    }

    /// The schema of a demanded call.
    pub fn demanded(&self) -> Option<Value> {
        let one = |tool: &Value| {
            json!({
                "type": "object",
                "properties": {
                    "name": {"const": tool["function"]["name"]},
                    "arguments": tool["function"]["parameters"],
                },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        };
        match &self.choice {
            Choice::Auto | Choice::None => None,
            Choice::Function(name) => self.find(name).map(one),
            Choice::Required if self.list.len() == 1 => self.list.first().map(one),
            Choice::Required => Some(json!({"anyOf": self.list.iter().map(one).collect::<Vec<_>>()})),
        }
    }

    /// The system message for templates that do not know tools.
    pub fn instructions(&self) -> String {
        let mut text = String::from("You may call functions. They are, one on each line:\n");
        for tool in &self.list {
            text.push_str(&tool["function"].to_string());
            text.push('\n');
        }
        text.push_str("To call one, answer with ");
        text.push_str(OPEN);
        text.push_str("{\"name\": its name, \"arguments\": an object of its parameters}");
        text.push_str(CLOSE);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(value: Value) -> ApiResult<Tools> {
        Tools::take(&mut Fields::new(value, String::new())?, false)
    }

    fn two() -> Value {
        json!([
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g", "description": "G"}}
        ])
    }

    #[test]
    fn choices() {
        assert!(!tools(json!({})).unwrap().offered());
        assert!(tools(json!({"tools": two()})).unwrap().offered());
        assert!(!tools(json!({"tools": two(), "tool_choice": "none"})).unwrap().offered());
        let required = tools(json!({"tools": two(), "tool_choice": "required"})).unwrap();
        assert_eq!(required.demanded().unwrap()["anyOf"].as_array().unwrap().len(), 2);
        let named = json!({"type": "function", "function": {"name": "g"}});
        let named = tools(json!({"tools": two(), "tool_choice": named})).unwrap();
        assert_eq!(named.demanded().unwrap()["properties"]["name"]["const"], "g");
        for wrong in [
            json!({"tool_choice": "required"}),
            json!({"tools": two(), "tool_choice": "sometimes"}),
            json!({"tools": two(), "tool_choice": {"type": "function", "function": {"name": "h"}}}),
        ] {
            assert_eq!(tools(wrong).unwrap_err().param.as_deref(), Some("tool_choice"));
        }
        let mut strict = two();
        strict[1]["function"]["strict"] = json!(true);
        let error = tools(json!({"tools": strict})).unwrap_err();
        assert_eq!(
            (error.param.as_deref(), error.code),
            (Some("tools[1].function.strict"), Some("unsupported_parameter"))
        );
        for choice in ["required", "none"] {
            assert!(tools(json!({"tools": strict, "tool_choice": choice})).is_ok(), "{choice}");
        }
        strict[1]["function"]["strict"] = json!(false);
        assert!(tools(json!({"tools": strict})).is_ok());
        let error = tools(json!({"tools": [{"type": "web_search"}]})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("tools[0].type"));
    }
}
