//! Reading a request's fields: each is honoured, refused by name, or reported as ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// A JSON object whose fields are taken out one by one. Null means absent. What is left at the end was not understood.
#[derive(Clone, Debug)]
pub struct Fields {
    map: Map<String, Value>,
    path: String,
    /// What was left over of objects inside.
    inner: Vec<String>,
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("the boolean {b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::malformed(format!("the request's body is not valid JSON: {e}")))?;
        Self::new(value, String::new())
    }

    /// The fields of a value found at `path` of the request.
    ///
    /// # Errors
    /// When it is not an object.
    pub fn new(value: Value, path: String) -> ApiResult<Self> {
        match value {
            Value::Object(map) => Ok(Self { map, path, inner: Vec::new() }),
            other => {
                let found = kind(&other);
                let whole = "the request's body".to_owned();
                let name = if path.is_empty() { whole } else { format!("`{path}`") };
                let message = format!("{name} must be a JSON object, not {found}");
                Err(if path.is_empty() { ApiError::malformed(message) } else { ApiError::field(path, message) })
            }
        }
    }

    /// A field's place in the request.
    pub fn place(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error about a field.
    pub fn wrong(&self, name: &str, expected: &str, found: &Value) -> ApiError {
        let place = self.place(name);
        let message = format!("`{place}` must be {expected}, not {}", kind(found));
        ApiError::field(place, message)
    }

    /// An error about a field that has to be there.
    pub fn missing(&self, name: &str) -> ApiError {
        let place = self.place(name);
        let message = format!("`{place}` is missing");
        ApiError { code: Some("missing_required_parameter"), ..ApiError::field(place, message) }
    }

    /// Takes a field as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string.
    ///
    /// # Errors
    /// When the field is something else.
    pub fn text(&mut self, name: &str) -> ApiResult<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// When the field is something else.
    pub fn flag(&mut self, name: &str) -> ApiResult<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    /// Takes an integer of a range. A number such as `1.0` counts as one.
    ///
    /// # Errors
    /// When the field is something else or outside of the range.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> ApiResult<Option<i64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = |x: f64| x.fract() == 0.0 && x.abs() < 9e15;
        let number = value.as_i64().or_else(|| value.as_f64().filter(|&x| whole(x)).map(|x| x as i64));
        let expected = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "an integer".to_owned(),
            (low, i64::MAX) => format!("an integer of at least {low}"),
            (low, high) => format!("an integer from {low} to {high}"),
        };
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(name, &expected, &value)),
        }
    }

    /// Takes a count.
    ///
    /// # Errors
    /// As [`Fields::integer`].
    pub fn count(&mut self, name: &str, range: RangeInclusive<usize>) -> ApiResult<Option<usize>> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let number = self.integer(name, bound(*range.start())..=bound(*range.end()))?;
        Ok(number.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// Takes a number of a range.
    ///
    /// # Errors
    /// When the field is something else or outside of the range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> ApiResult<Option<f64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = match (*range.start(), *range.end()) {
                    (low, f64::INFINITY) => format!("a number of at least {low}"),
                    (low, high) => format!("a number from {low} to {high}"),
                };
                Err(self.wrong(name, &expected, &value))
            }
        }
    }

    /// Takes an array of at most `most` entries.
    ///
    /// # Errors
    /// When the field is something else or longer.
    pub fn array(&mut self, name: &str, most: usize) -> ApiResult<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() <= most => Ok(Some(items)),
            Some(Value::Array(items)) => {
                let place = self.place(name);
                let message = format!("`{place}` has {} entries; at most {most} are allowed", items.len());
                Err(ApiError::field(place, message))
            }
            Some(other) => Err(self.wrong(name, "an array", &other)),
        }
    }

    /// Takes an object.
    ///
    /// # Errors
    /// When the field is something else.
    pub fn object(&mut self, name: &str) -> ApiResult<Option<Self>> {
        let place = self.place(name);
        self.take(name).map(|value| Self::new(value, place)).transpose()
    }

    /// Takes a string out of a list of known ones.
    ///
    /// # Errors
    /// When the field is something else.
    pub fn choice(&mut self, name: &str, known: &[&'static str]) -> ApiResult<Option<&'static str>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match known.iter().find(|k| **k == text) {
            Some(&found) => Ok(Some(found)),
            None => {
                let place = self.place(name);
                let message = format!("`{place}` must be one of {}, not {text:?}", known.join(", "));
                Err(ApiError::field(place, message))
            }
        }
    }

    /// Refuses fields that would change the answer and are not offered.
    ///
    /// # Errors
    /// When one of them is there.
    pub fn refuse(&mut self, names: &[&str]) -> ApiResult<()> {
        for name in names {
            if self.take(name).is_some() {
                return Err(ApiError::unsupported(self.place(name)));
            }
        }
        Ok(())
    }

    /// The rest as JSON.
    pub fn into_value(self) -> Value {
        Value::Object(self.map)
    }

    /// Takes over what is left of an object inside, from which everything known was taken.
    pub fn absorb(&mut self, inner: Self) {
        self.inner.extend(inner.ignored());
    }

    /// The names of what is left: fields without effect here, and unknown ones, with those of objects inside.
    pub fn ignored(self) -> Vec<String> {
        let Self { map, path, inner } = self;
        let name = |key: String| if path.is_empty() { key } else { format!("{path}.{key}") };
        let own = map.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| name(key));
        own.chain(inner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::new(value, String::new()).unwrap()
    }

    #[test]
    fn null_is_absent_and_the_rest_is_reported() {
        let mut all = fields(json!({"a": null, "b": 2.0, "c": "x", "user": "me", "store": null}));
        assert_eq!(all.integer("a", 0..=1).unwrap(), None);
        assert_eq!(all.integer("b", 0..=2).unwrap(), Some(2));
        assert_eq!(all.text("c").unwrap().as_deref(), Some("x"));
        assert_eq!(all.ignored(), ["user"]);
    }

    #[test]
    fn errors_name_the_field_and_what_was_found() {
        let error = fields(json!({"n": 2.5})).integer("n", 1..=8).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some("n")));
        assert_eq!(error.message, "`n` must be an integer from 1 to 8, not the number 2.5");
        let mut outer = fields(json!({"o": {"x": []}}));
        let error = outer.object("o").unwrap().unwrap().text("x").unwrap_err();
        assert_eq!(error.message, "`o.x` must be a string, not an array");
        assert_eq!(fields(json!({"t": -0.5})).number("t", 0.0..=2.0).unwrap_err().param.as_deref(), Some("t"));
        assert_eq!(fields(json!({"f": 1})).refuse(&["e", "f"]).unwrap_err().code, Some("unsupported_parameter"));
        assert!(fields(json!({"f": null})).refuse(&["f"]).is_ok());
        for body in ["", "[]", "{\"a\":", "\u{1}", "{\"a\":1}}"] {
            assert_eq!(Fields::parse(body.as_bytes()).unwrap_err().status, 400, "{body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Fields::parse(deep.as_bytes()).unwrap_err().status, 400);
        assert_eq!(Fields::parse(b"{\"a\": \"\xff\"}").unwrap_err().status, 400);
    }
}
