//! Chat templates: from messages to the text that a model was trained to continue.
//!
//! A template is the Jinja text of a model directory, run by minijinja with the names that such templates use:
//! `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token`, the functions `raise_exception` and
//! `strftime_now`, Python's methods of strings and dictionaries, `tojson` as Python's `json.dumps` writes, and
//! `break`/`continue`. Two forms are built in: [`CHATML`] and [`LLAMA3`].

use crate::error::{Error, Result};
use crate::tokenizer::{EncodeOptions, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// ChatML: `<|im_start|>role`, the text, `<|im_end|>`.
pub const CHATML: &str = "{%- for message in messages -%}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/// Llama 3: a header with the role, two line ends, the trimmed text, `<|eot_id|>`.
pub const LLAMA3: &str = "{{- bos_token }}{%- for message in messages -%}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}";

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template is run with beside the messages.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// End with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// Descriptions of tools, as JSON.
    pub tools: Option<serde_json::Value>,
    /// Further names for the template, such as `enable_thinking`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Seconds since 1970 for `strftime_now`, in UTC; the present time when not set.
    pub now: Option<i64>,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

/// A template may do so many steps; one that asks for more is refused instead of hanging.
const FUEL: u64 = 5_000_000;

fn error(e: &minijinja::Error) -> Error {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Error::Template(text)
}

impl ChatTemplate {
    /// Compiles a template with the texts of the tokens that begin and end a sequence.
    ///
    /// # Errors
    /// When the template is malformed.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let mut environment = Environment::new();
        // As transformers configures Jinja.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| error(&e))?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", source.to_string()).map_err(|e| error(&e))?;
        Ok(Self { environment, bos: bos.to_string(), eos: eos.to_string() })
    }

    /// The text of a chat. Messages are anything that serialises to objects with `role` and `content`.
    ///
    /// # Errors
    /// When the template refuses the messages (`raise_exception`) or fails.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String> {
        let mut environment = self.environment.clone();
        let present = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let now = options.now.unwrap_or_else(present);
        environment.add_function("strftime_now", move |format: String| strftime(&format, now));
        let extra = Value::from(Serde(&options.extra));
        let base = context! {
            messages => Value::from(Serde(messages)),
            tools => options.tools.as_ref().map(|t| Value::from(Serde(t))),
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let template = environment.get_template("chat").map_err(|e| error(&e))?;
        template.render(context! { ..extra, ..base }).map_err(|e| error(&e))
    }
}

/// The arguments of `tojson`, with the defaults of transformers.
struct Dump {
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    comma: String,
    colon: String,
}

/// Python's `json.dumps`, without escapes for markup.
fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let comma = if indent.is_some() { "," } else { ", " };
    let [comma, colon] = match separators {
        None => [comma.to_string(), ": ".to_string()],
        Some(given) => <[String; 2]>::try_from(given).map_err(|given| {
            let what = format!("tojson: {} separators, not two", given.len());
            minijinja::Error::new(ErrorKind::InvalidOperation, what)
        })?,
    };
    let flag = |name: &str| Ok::<bool, minijinja::Error>(kwargs.get::<Option<bool>>(name)?.unwrap_or(false));
    let dump = Dump { indent, ascii: flag("ensure_ascii")?, sorted: flag("sort_keys")?, comma, colon };
    kwargs.assert_all_used()?;
    let json =
        serde_json::to_value(value).map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let mut out = String::new();
    dump.value(&json, 0, &mut out);
    Ok(Value::from_safe_string(out))
}

impl Dump {
    fn line(&self, out: &mut String, depth: usize) {
        if let Some(width) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            out.push_str(&quoted);
            return;
        }
        for c in quoted.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }

    fn value(&self, value: &serde_json::Value, depth: usize, out: &mut String) {
        match value {
            serde_json::Value::Array(items) if !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { &self.comma } else { "" });
                    self.line(out, depth + 1);
                    self.value(item, depth + 1, out);
                }
                self.line(out, depth);
                out.push(']');
            }
            serde_json::Value::Object(map) if !map.is_empty() => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                out.push('{');
                for (i, (key, item)) in entries.into_iter().enumerate() {
                    out.push_str(if i > 0 { &self.comma } else { "" });
                    self.line(out, depth + 1);
                    self.text(key, out);
                    out.push_str(&self.colon);
                    self.value(item, depth + 1, out);
                }
                self.line(out, depth);
                out.push('}');
            }
            serde_json::Value::String(text) => self.text(text, out),
            other => out.push_str(&other.to_string()),
        }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The directives of `strftime` that concern date and time of day, in UTC.
fn strftime(format: &str, now: i64) -> Result<String, minijinja::Error> {
    let (days, seconds) = (now.div_euclid(86_400), now.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let first_of_year = days - day_of_year(year, month, day);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[month as usize - 1];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year.rem_euclid(100))),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{:02}", (hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{second:02}")),
            Some('j') => out.push_str(&format!("{:03}", days - first_of_year + 1)),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('z') => out.push_str("+0000"),
            Some('%') => out.push('%'),
            other => {
                let what = format!("strftime_now: %{} is not known", other.map(String::from).unwrap_or_default());
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * from_march + 2) / 153;
    let day = from_march - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since the first of January.
fn day_of_year(year: i64, month: i64, day: i64) -> i64 {
    let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[month as usize - 1] + if month > 2 { leap } else { 0 } + day - 1
}

impl Tokenizer {
    /// The chat template of this tokenizer.
    ///
    /// # Errors
    /// When it has none, or it is malformed.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let source = self.parts().chat_template.as_deref();
        let source = source.ok_or_else(|| Error::Template("this tokenizer has no chat template".into()))?;
        let text = |id: Option<u32>| id.and_then(|id| self.id_to_token(id)).unwrap_or_default();
        ChatTemplate::new(source, &text(self.bos()), &text(self.eos()))
    }

    /// The ids of a chat. The template's own special tokens are recognised; so that what people wrote cannot turn into
    /// control tokens, a message that contains the text of a special token is refused.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode_with`], and when a message contains a special token.
    pub fn encode_chat<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<Vec<u32>> {
        for message in messages {
            self.refuse_special(&Value::from(Serde(message)))?;
        }
        let text = self.chat_template()?.render(messages, options)?;
        self.encode_with(&text, &EncodeOptions::default().allow(crate::AllowedSpecial::All))
    }

    fn refuse_special(&self, value: &Value) -> Result<()> {
        if let Some(text) = value.as_str() {
            let found = self.added_tokens().find(|t| t.special && text.contains(&t.content));
            return found.map_or(Ok(()), |t| {
                Err(Error::Template(format!("a message contains the text of the special token {:?}", t.content)))
            });
        }
        if matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
            for item in value.try_iter().map_err(|e| error(&e))? {
                match value.kind() {
                    ValueKind::Map => self.refuse_special(&value.get_item(&item).map_err(|e| error(&e))?)?,
                    _ => self.refuse_special(&item)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> Vec<Message> {
        vec![Message::new("system", "Be brief."), Message::new("user", " Hello! ")]
    }

    #[test]
    fn built_in_forms() {
        let prompt = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let chatml = ChatTemplate::new(CHATML, "", "").unwrap();
        let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello! <|im_end|>\n";
        assert_eq!(chatml.render(&chat(), &ChatOptions::default()).unwrap(), expected);
        assert_eq!(chatml.render(&chat(), &prompt).unwrap(), format!("{expected}<|im_start|>assistant\n"));
        let llama = ChatTemplate::new(LLAMA3, "<|begin_of_text|>", "<|eot_id|>").unwrap();
        assert_eq!(
            llama.render(&chat(), &prompt).unwrap(),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHello!<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }

    #[test]
    fn what_templates_of_models_use() {
        let source = "{{ bos_token }}{% for m in messages if m.role != 'system' %}\n\
            {{ m['content'].strip().upper() }}{% if loop.last %}{% break %}{% endif %}\n{% endfor %}\
            {% if tools is not none %}{{ tools | tojson }}{% endif %}|{{ strftime_now('%d %b %Y') }}|{{ flag }}";
        let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
        let mut options = ChatOptions { now: Some(1_700_000_000), ..ChatOptions::default() };
        options.tools = Some(serde_json::json!([{"name": "f", "é": [1, 2.5, null, true]}]));
        options.extra.insert("flag".into(), serde_json::json!(7));
        let text = template.render(&chat(), &options).unwrap();
        assert_eq!(text, "<s>HELLO![{\"name\": \"f\", \"é\": [1, 2.5, null, true]}]|14 Nov 2023|7");
    }

    #[test]
    fn json_is_what_python_writes() {
        let options = |extra: &str| {
            let extra = serde_json::from_str(extra).unwrap();
            ChatOptions { extra, ..ChatOptions::default() }
        };
        let render = |source: &str, extra: &str| {
            ChatTemplate::new(source, "", "").unwrap().render(&chat(), &options(extra)).unwrap()
        };
        let value = r#"{"x": {"b": ["é<", {}], "a": 1}}"#;
        assert_eq!(render("{{ x | tojson }}", value), r#"{"b": ["é<", {}], "a": 1}"#);
        assert_eq!(render("{{ x | tojson(sort_keys=true) }}", value), r#"{"a": 1, "b": ["é<", {}]}"#);
        assert_eq!(render("{{ x | tojson(ensure_ascii=true) }}", value), r#"{"b": ["\u00e9<", {}], "a": 1}"#);
        assert_eq!(render("{{ x | tojson(separators=(',', ':')) }}", value), r#"{"b":["é<",{}],"a":1}"#);
        assert_eq!(
            render("{{ x | tojson(indent=2) }}", value),
            "{\n  \"b\": [\n    \"é<\",\n    {}\n  ],\n  \"a\": 1\n}"
        );
    }

    #[test]
    fn refusals_and_endless_templates_are_errors() {
        let refuse = ChatTemplate::new("{{ raise_exception('no system role') }}", "", "").unwrap();
        let error = refuse.render(&chat(), &ChatOptions::default()).unwrap_err().to_string();
        assert!(error.contains("no system role"), "{error}");
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(ChatTemplate::new(endless, "", "").unwrap().render(&chat(), &ChatOptions::default()).is_err());
        assert!(ChatTemplate::new("{% for %}", "", "").is_err());
    }

    #[test]
    fn dates() {
        let format = |now| strftime("%A %e %B %Y %j %H:%M:%S %I %p %y", now).unwrap();
        assert_eq!(format(0), "Thursday  1 January 1970 001 00:00:00 12 AM 70");
        assert_eq!(format(951_827_696), "Tuesday 29 February 2000 060 12:34:56 12 PM 00");
        assert!(strftime("%Q", 0).is_err());
    }
}
