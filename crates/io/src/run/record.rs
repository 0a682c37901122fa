//! What is measured: the lines of `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SCHEMA;
use super::histogram::Histogram;

/// Numbers by name. JSON has no NaN and no infinities; the file holds the texts `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub type Values = BTreeMap<String, f64>;

/// The most numbers of one line.
const MOST_VALUES: usize = 256;
/// The longest name of a number, in bytes.
const MOST_NAME: usize = 128;

/// One line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// The first line of a file.
    Header {
        /// The version of the format, [`SCHEMA`].
        schema: u32,
    },
    /// A step of training.
    Step(Step),
    /// A validation.
    Eval(Eval),
    /// What the model wrote.
    Sample(Sample),
    /// Something that happened.
    Event(Event),
    /// How the numbers of one tensor are distributed.
    Histogram(Histogram),
    /// A line of a kind that this version does not know.
    Unknown,
}

/// A step of training. Usual names of `values` are `loss`, `lr`, `grad_norm`, `tokens_per_s`, `mfu`, `memory_mb`,
/// `bits_per_byte` and `update_ratio`; any other is kept and shown as well. What stands behind a `/` is a part of what stands
/// before it: `update_ratio/layers.0` is drawn beside `update_ratio`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The step's number, from 1 on.
    pub step: u64,
    /// Seconds of training so far, pauses between resumed parts not counted.
    pub time: f64,
    /// Tokens (or samples) trained on so far.
    pub tokens: u64,
    /// What was measured.
    pub values: Values,
}

impl Step {
    /// A step without numbers.
    pub fn new(step: u64) -> Self {
        Self { step, ..Self::default() }
    }

    /// Sets the seconds of training so far.
    #[must_use]
    pub fn time(self, time: f64) -> Self {
        Self { time, ..self }
    }

    /// Sets the tokens so far.
    #[must_use]
    pub fn tokens(self, tokens: u64) -> Self {
        Self { tokens, ..self }
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }
}

/// A validation. Usual names of `values` are `val_loss` and `val_bits_per_byte`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eval {
    /// The step after which it was made.
    pub step: u64,
    /// Seconds of training so far.
    pub time: f64,
    /// What was measured.
    pub values: Values,
}

/// What the model wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The step after which it was made.
    pub step: u64,
    /// What the model was given.
    pub prompt: String,
    /// What it wrote, without the prompt.
    pub text: String,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The step at which it happened.
    pub step: u64,
    /// Its kind: `nan`, `spike`, `plateau`, `checkpoint`, `resume`, `interrupt`, or another word.
    pub name: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

impl Record {
    /// Reads one line, with or without its end.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without the file's name.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow)]
            kind: std::borrow::Cow<'a, str>,
        }
        #[derive(Deserialize)]
        struct Header {
            schema: u32,
        }
        fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
            serde_json::from_slice(line).map_err(|error| error.to_string())
        }
        // The kind decides how the rest is read, wherever in the line it stands.
        let kind: Kind = read(line)?;
        Ok(match &*kind.kind {
            "header" => {
                let Header { schema } = read(line)?;
                if schema != SCHEMA {
                    return Err(format!("schema {schema}, expected {SCHEMA}"));
                }
                Self::Header { schema }
            }
            "step" => {
                let Measured { step, time, tokens, values } = read(line)?;
                Self::Step(Step { step, time, tokens, values })
            }
            "eval" => {
                let Measured { step, time, values, .. } = read(line)?;
                Self::Eval(Eval { step, time, values })
            }
            "sample" => Self::Sample(read(line)?),
            "event" => Self::Event(read(line)?),
            "histogram" => {
                let histogram: Histogram = read(line)?;
                if let Some(problem) = histogram.problem() {
                    return Err(problem);
                }
                Self::Histogram(histogram)
            }
            _ => Self::Unknown,
        })
    }

    /// The line, with its end. Texts hold no raw line ends in JSON, so a record is always one line.
    pub fn to_line(&self) -> String {
        #[derive(Serialize)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        enum Line<'a> {
            Header { schema: u32 },
            Step(Flat<'a>),
            Eval(Flat<'a>),
            Sample(&'a Sample),
            Event(&'a Event),
            Histogram(&'a Histogram),
            Unknown,
        }
        let line = match self {
            Self::Header { schema } => Line::Header { schema: *schema },
            Self::Step(Step { step, time, tokens, values }) => {
                Line::Step(Flat { step: *step, time: *time, tokens: Some(*tokens), values })
            }
            Self::Eval(Eval { step, time, values }) => {
                Line::Eval(Flat { step: *step, time: *time, tokens: None, values })
            }
            Self::Sample(sample) => Line::Sample(sample),
            Self::Event(event) => Line::Event(event),
            Self::Histogram(histogram) => Line::Histogram(histogram),
            Self::Unknown => Line::Unknown,
        };
        let mut text = serde_json::to_string(&line).expect("texts and numbers have a JSON form");
        text.push('\n');
        text
    }
}

impl From<Step> for Record {
    fn from(step: Step) -> Self {
        Self::Step(step)
    }
}

impl From<Eval> for Record {
    fn from(eval: Eval) -> Self {
        Self::Eval(eval)
    }
}

impl From<Sample> for Record {
    fn from(sample: Sample) -> Self {
        Self::Sample(sample)
    }
}

impl From<Event> for Record {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

impl From<Histogram> for Record {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(histogram)
    }
}

/// A step or a validation as it is written: its numbers beside the fixed keys.
struct Flat<'a> {
    step: u64,
    time: f64,
    tokens: Option<u64>,
    values: &'a Values,
}

/// The keys that are not names of measured numbers.
const FIXED: [&str; 4] = ["kind", "step", "time", "tokens"];

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("time", &Number(self.time))?;
        if let Some(tokens) = self.tokens {
            map.serialize_entry("tokens", &tokens)?;
        }
        for (name, value) in self.values.iter().filter(|(name, _)| !FIXED.contains(&name.as_str())) {
            map.serialize_entry(name, &Number(*value))?;
        }
        map.end()
    }
}

/// A step or a validation as it is read. Derived code would keep every unknown key aside before it looks at it, which
/// is most of the work of reading a long file.
struct Measured {
    step: u64,
    time: f64,
    tokens: u64,
    values: Values,
}

impl<'de> Deserialize<'de> for Measured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lines;
        impl<'de> Visitor<'de> for Lines {
            type Value = Measured;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the key `step`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Measured, A::Error> {
                let mut step = None;
                let mut read = Measured { step: 0, time: 0.0, tokens: 0, values: Values::new() };
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "kind" => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        "step" => step = Some(map.next_value()?),
                        "time" => {
                            read.time = map.next_value::<Maybe>()?.0.filter(|time| time.is_finite()).unwrap_or(0.0)
                        }
                        "tokens" => read.tokens = map.next_value()?,
                        _ => {
                            let Maybe(value) = map.next_value()?;
                            if let Some(value) = value {
                                if key.len() > MOST_NAME || read.values.len() >= MOST_VALUES {
                                    let found = format!(
                                        "too many or too long names, expected at most {MOST_VALUES} of at most {MOST_NAME} bytes"
                                    );
                                    return Err(de::Error::custom(found));
                                }
                                read.values.insert(key, value);
                            }
                        }
                    }
                }
                read.step = step.ok_or_else(|| de::Error::missing_field("step"))?;
                Ok(read)
            }
        }
        deserializer.deserialize_map(Lines)
    }
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

/// A number, one of the three texts for what JSON cannot write, or anything else, which is no measurement.
struct Maybe(Option<f64>);

impl<'de> Deserialize<'de> for Maybe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Maybe;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Maybe, E> {
                Ok(Maybe(Some(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Maybe, E> {
                Ok(Maybe(Some(value as f64)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Maybe, E> {
                Ok(Maybe(Some(value as f64)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Maybe, E> {
                Ok(Maybe(match value {
                    "NaN" => Some(f64::NAN),
                    "Infinity" => Some(f64::INFINITY),
                    "-Infinity" => Some(f64::NEG_INFINITY),
                    _ => None,
                }))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Maybe, E> {
                Ok(Maybe(None))
            }

            fn visit_unit<E>(self) -> Result<Maybe, E> {
                Ok(Maybe(None))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Maybe, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Maybe(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Maybe, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Maybe(None))
            }
        }
        deserializer.deserialize_any(Anything)
    }
}
