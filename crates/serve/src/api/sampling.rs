//! The fields that all ways of generating share.

use serde_json::Value;

use super::fields::Fields;
use crate::error::{ApiError, ApiResult};

/// The most answers to one prompt.
pub const MOST_CHOICES: usize = 128;
/// The most alternatives that are reported for a token.
pub const MOST_LOGPROBS: usize = 20;
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;
const MOST_BIASES: usize = 1024;

/// How to pick tokens and when to end. The defaults change nothing: the model's own distribution, to the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that have this mass together.
    pub top_p: f64,
    /// Only tokens at least so likely relative to the likeliest.
    pub min_p: f64,
    /// Locally typical sampling with this mass; 1 for off.
    pub typical_p: f64,
    /// Divides the logits of tokens that occurred; 1 for off.
    pub repetition_penalty: f64,
    /// Subtracted from the logits of tokens that were generated.
    pub presence_penalty: f64,
    /// Subtracted from a token's logit each time it was generated.
    pub frequency_penalty: f64,
    /// Added to single tokens' logits.
    pub logit_bias: Vec<(u32, f32)>,
    /// Equal seeds give equal answers.
    pub seed: Option<u64>,
    /// Texts that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end an answer beside the model's own.
    pub stop_ids: Vec<u32>,
    /// Go on after the model's end token, up to the limit.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignore_eos: false,
        }
    }
}

/// A token's number.
pub fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl Sampling {
    /// Takes the fields.
    ///
    /// # Errors
    /// When one of them has the wrong type or lies outside of its range.
    pub fn take(fields: &mut Fields) -> ApiResult<Self> {
        let neutral = Self::default();
        Ok(Self {
            temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(neutral.temperature),
            top_k: match fields.integer("top_k", -1..=i64::from(u32::MAX))? {
                None | Some(-1) => 0,
                Some(k) => usize::try_from(k).unwrap_or(0),
            },
            top_p: above_zero(fields, "top_p")?.unwrap_or(neutral.top_p),
            min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(neutral.min_p),
            typical_p: above_zero(fields, "typical_p")?.unwrap_or(neutral.typical_p),
            repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?.unwrap_or(1.0),
            presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
            logit_bias: biases(fields)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64),
            stop: stops(fields)?,
            stop_ids: stop_ids(fields)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        })
    }

    /// That every token named is one of the vocabulary.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_ids(&self, vocabulary: usize) -> ApiResult<()> {
        let check = |field: &str, id: u32| {
            if (id as usize) < vocabulary {
                return Ok(());
            }
            Err(ApiError::field(field, format!("`{field}` names the token {id}; the vocabulary has {vocabulary}")))
        };
        self.logit_bias.iter().try_for_each(|&(id, _)| check("logit_bias", id))?;
        self.stop_ids.iter().try_for_each(|&id| check("stop_token_ids", id))
    }
}

/// A mass: at most 1 and above 0, or 0 itself, which then means the likeliest token alone.
fn above_zero(fields: &mut Fields, name: &str) -> ApiResult<Option<f64>> {
    Ok(fields.number(name, 0.0..=1.0)?.map(|p| p.max(1e-9)))
}

fn biases(fields: &mut Fields) -> ApiResult<Vec<(u32, f32)>> {
    let Some(object) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let Value::Object(map) = object.into_value() else { return Ok(Vec::new()) };
    if map.len() > MOST_BIASES {
        let message = format!("`logit_bias` has {} entries; at most {MOST_BIASES} are allowed", map.len());
        return Err(ApiError::field("logit_bias", message));
    }
    let mut biases = Vec::with_capacity(map.len());
    for (key, value) in map {
        let id = key.parse::<u32>().map_err(|_| {
            ApiError::field("logit_bias", format!("`logit_bias` has the key {key:?}, which is not a token's number"))
        })?;
        let bias = value.as_f64().filter(|b| (-100.0..=100.0).contains(b)).ok_or_else(|| {
            ApiError::field("logit_bias", format!("`logit_bias.{key}` must be a number from -100 to 100"))
        })?;
        biases.push((id, bias as f32));
    }
    biases.sort_by_key(|&(id, _)| id);
    Ok(biases)
}

fn stops(fields: &mut Fields) -> ApiResult<Vec<String>> {
    let texts = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            let text = |item: Value| match item {
                Value::String(text) => Ok(text),
                other => Err(fields.wrong("stop", "a string or an array of strings", &other)),
            };
            items.into_iter().map(text).collect::<ApiResult<_>>()?
        }
        Some(other) => return Err(fields.wrong("stop", "a string or an array of strings", &other)),
    };
    let place = || fields.place("stop");
    if texts.len() > MOST_STOPS {
        return Err(ApiError::field(place(), format!("`stop` has {} texts; at most {MOST_STOPS}", texts.len())));
    }
    if let Some(long) = texts.iter().find(|text| text.len() > LONGEST_STOP) {
        return Err(ApiError::field(
            place(),
            format!("a text of `stop` has {} bytes; at most {LONGEST_STOP}", long.len()),
        ));
    }
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

fn stop_ids(fields: &mut Fields) -> ApiResult<Vec<u32>> {
    let items = fields.array("stop_token_ids", MOST_BIASES)?.unwrap_or_default();
    let id =
        |item: &Value| token_id(item).ok_or_else(|| fields.wrong("stop_token_ids", "an array of token numbers", item));
    items.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> ApiResult<Sampling> {
        Sampling::take(&mut Fields::new(value, String::new())?)
    }

    #[test]
    fn nothing_asked_for_is_neutral() {
        assert_eq!(read(json!({})).unwrap(), Sampling::default());
        let nulls = json!({"temperature": null, "top_p": null, "stop": null, "logit_bias": null, "seed": null});
        assert_eq!(read(nulls).unwrap(), Sampling::default());
    }

    #[test]
    fn every_field_arrives() {
        let all = read(json!({
            "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8, "repetition_penalty": 1.1,
            "presence_penalty": -1, "frequency_penalty": 2, "logit_bias": {"7": -100, "3": 1.5}, "seed": -1,
            "stop": ["\n", ""], "stop_token_ids": [5], "ignore_eos": true
        }));
        let expected = Sampling {
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            typical_p: 0.8,
            repetition_penalty: 1.1,
            presence_penalty: -1.0,
            frequency_penalty: 2.0,
            logit_bias: vec![(3, 1.5), (7, -100.0)],
            seed: Some(u64::MAX),
            stop: vec!["\n".into()],
            stop_ids: vec![5],
            ignore_eos: true,
        };
        assert_eq!(all.unwrap(), expected);
        assert!(expected.check_ids(8).is_ok());
        assert_eq!(expected.check_ids(7).unwrap_err().param.as_deref(), Some("logit_bias"));
    }

    #[test]
    fn wrong_types_and_ranges_are_refused_by_name() {
        for (field, value) in [
            ("temperature", json!(2.1)),
            ("temperature", json!("hot")),
            ("top_k", json!(-2)),
            ("top_p", json!(1.5)),
            ("min_p", json!(-0.1)),
            ("repetition_penalty", json!(0)),
            ("presence_penalty", json!(3)),
            ("frequency_penalty", json!([])),
            ("seed", json!(1.5)),
            ("stop", json!([1])),
            ("stop", json!({})),
            ("stop", json!(vec!["x"; 17])),
            ("stop_token_ids", json!([-1])),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"1": 101})),
            ("logit_bias", json!([1])),
            ("ignore_eos", json!(1)),
        ] {
            let error = read(json!({field: value})).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{}", error.message);
        }
    }
}
