//! The form that an answer has to have.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::error::{ApiError, ApiResult};

/// What the text of an answer may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Anything.
    #[default]
    Text,
    /// JSON that this schema allows.
    Schema(Value),
    /// A text of a grammar in Lark's notation.
    Grammar(String),
    /// A text that this regular expression matches as a whole.
    Regex(String),
}

/// Any JSON object.
fn any_object() -> Value {
    json!({"type": "object"})
}

/// Bytes of a schema.
const LARGEST_SCHEMA: usize = 256 << 10;
/// Bytes of a grammar in Lark's notation, which may be one regular expression.
const LARGEST_GRAMMAR: usize = 16 << 10;
/// Bytes of a regular expression, also of one in a schema: what it takes to follow one grows with the square of its length.
pub const LARGEST_REGEX: usize = 8 << 10;

impl Format {
    /// Takes `response_format` of chats and completions.
    ///
    /// # Errors
    /// When it has an unknown type or no schema.
    pub fn take(fields: &mut Fields) -> ApiResult<Self> {
        let Some(mut format) = fields.object("response_format")? else { return Ok(Self::Text) };
        let read = Self::named(&mut format)?;
        fields.absorb(format);
        Ok(read)
    }

    fn named(format: &mut Fields) -> ApiResult<Self> {
        let known = ["text", "json_object", "json_schema", "grammar", "regex"];
        match format.choice("type", &known)? {
            Some("text") => Ok(Self::Text),
            Some("json_object") => Ok(Self::Schema(any_object())),
            Some("json_schema") => {
                let mut named = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
                let schema = Self::schema(&mut named)?;
                format.absorb(named);
                Ok(schema)
            }
            Some(kind) => {
                let text = format.text(kind)?.ok_or_else(|| format.missing(kind))?;
                let most = if kind == "regex" { LARGEST_REGEX } else { LARGEST_GRAMMAR };
                if text.len() > most {
                    let place = format.place(kind);
                    let message = format!("`{place}` has {} bytes; at most {most} are allowed", text.len());
                    return Err(ApiError::field(place, message));
                }
                Ok(if kind == "regex" { Self::Regex(text) } else { Self::Grammar(text) })
            }
            None => Err(format.missing("type")),
        }
    }

    /// Takes `text.format` of a response, where the schema stands beside the type.
    ///
    /// # Errors
    /// As [`Format::take`].
    pub fn take_flat(text: &mut Fields) -> ApiResult<Self> {
        let Some(mut format) = text.object("format")? else { return Ok(Self::Text) };
        let read = match format.choice("type", &["text", "json_object", "json_schema"])? {
            Some("text") => Self::Text,
            Some("json_object") => Self::Schema(any_object()),
            Some(_) => Self::schema(&mut format)?,
            None => return Err(format.missing("type")),
        };
        text.absorb(format);
        Ok(read)
    }

    fn schema(named: &mut Fields) -> ApiResult<Self> {
        named.text("name")?.ok_or_else(|| named.missing("name"))?;
        // A schema is always followed to the letter.
        named.flag("strict")?;
        let schema = named.object("schema")?.ok_or_else(|| named.missing("schema"))?.into_value();
        let length = schema.to_string().len();
        if length > LARGEST_SCHEMA {
            let place = named.place("schema");
            let message = format!("`{place}` has {length} bytes; at most {LARGEST_SCHEMA} are allowed");
            return Err(ApiError::field(&place, message));
        }
        Ok(Self::Schema(schema))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> ApiResult<Format> {
        Format::take(&mut Fields::new(json!({"response_format": value}), String::new())?)
    }

    #[test]
    fn the_three_types_of_openai_and_grammars() {
        assert_eq!(read(json!(null)).unwrap(), Format::Text);
        assert_eq!(read(json!({"type": "text"})).unwrap(), Format::Text);
        assert_eq!(read(json!({"type": "json_object"})).unwrap(), Format::Schema(json!({"type": "object"})));
        let schema = json!({"type": "array"});
        let named = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
        assert_eq!(read(named).unwrap(), Format::Schema(schema));
        assert_eq!(read(json!({"type": "regex", "regex": "a+"})).unwrap(), Format::Regex("a+".into()));
        for (wrong, place) in [
            (json!("json"), "response_format"),
            (json!({}), "response_format.type"),
            (json!({"type": "xml"}), "response_format.type"),
            (json!({"type": "json_schema"}), "response_format.json_schema"),
            (json!({"type": "json_schema", "json_schema": {"name": "x"}}), "response_format.json_schema.schema"),
        ] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some(place));
        }
    }
}
