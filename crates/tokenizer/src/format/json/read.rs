//! Normalisers, pre-tokenisers, templates and decoders from JSON.

use super::FORMAT;
use crate::decode::{DecodeStep, Decoder};
use crate::error::{Error, Result};
use crate::normalize::{BertNormalizer, Charsmap, Form, Normalizer};
use crate::split::{Behavior, Metaspace, Pattern, PreTokenizer, PrependScheme, Step, patterns};
use crate::template::{Part, Template};
use crate::tokenizer::{Padding, PaddingLength, Side, Truncation, TruncationStrategy};
use serde_json::Value;

/// Sections inside sections are followed this deep.
const DEPTH: usize = 16;

/// A file must not ask for sequences that fill the memory.
const MAX_PADDING: u64 = 1 << 24;

/// One section of the file with its name, whose keys must all be known.
struct Section<'a> {
    name: String,
    value: &'a Value,
}

impl<'a> Section<'a> {
    fn new(place: &str, value: &'a Value) -> Result<Self> {
        let kind = value.get("type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| Error::malformed(FORMAT, format!("{place} has no type")))?;
        Ok(Self { name: format!("{place} {kind}"), value })
    }

    fn kind(&self) -> &str {
        self.value["type"].as_str().unwrap_or_default()
    }

    fn keys(&self, known: &[&str]) -> Result<()> {
        for key in self.value.as_object().into_iter().flat_map(|m| m.keys()) {
            if key != "type" && !known.contains(&&key[..]) {
                return Err(Error::unsupported(FORMAT, format!("{}.{key}", self.name)));
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.value.get(key).map_or("nothing".to_string(), |v| crate::error::excerpt(&v.to_string()));
        Error::malformed(FORMAT, format!("{}.{key} is {found}; {expected} is expected", self.name))
    }

    fn bool(&self, key: &str, default: bool) -> Result<bool> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    fn str(&self, key: &str) -> Result<&'a str> {
        self.value.get(key).and_then(Value::as_str).ok_or_else(|| self.wrong(key, "a text"))
    }

    fn usize(&self, key: &str) -> Result<usize> {
        let number = self.value.get(key).and_then(Value::as_u64);
        number.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.wrong(key, "a number"))
    }

    fn char(&self, key: &str) -> Result<char> {
        let mut chars = self.str(key)?.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.wrong(key, "one character")),
        }
    }

    fn list(&self, key: &str) -> Result<&'a [Value]> {
        self.value.get(key).and_then(Value::as_array).map(|v| &v[..]).ok_or_else(|| self.wrong(key, "a list"))
    }

    fn pattern(&self, key: &str) -> Result<Pattern> {
        let value = self.value.get(key).unwrap_or(&Value::Null);
        if let Some(text) = value.get("String").and_then(Value::as_str) {
            Pattern::literal(text)
        } else if let Some(regex) = value.get("Regex").and_then(Value::as_str) {
            Pattern::regex(regex)
        } else {
            Err(self.wrong(key, "{\"String\": ...} or {\"Regex\": ...}"))
        }
    }

    fn unsupported(&self) -> Error {
        Error::unsupported(FORMAT, self.name.clone())
    }
}

fn too_deep(place: &str) -> Error {
    Error::malformed(FORMAT, format!("{place}: more than {DEPTH} sequences inside each other"))
}

pub(super) fn normalizer(value: Option<&Value>) -> Result<Vec<Normalizer>> {
    let mut steps = Vec::new();
    if let Some(value) = value.filter(|v| !v.is_null()) {
        push_normalizer(value, &mut steps, 0)?;
    }
    Ok(steps)
}

fn push_normalizer(value: &Value, steps: &mut Vec<Normalizer>, depth: usize) -> Result<()> {
    let section = Section::new("normalizer", value)?;
    if depth > DEPTH {
        return Err(too_deep("normalizer"));
    }
    let step = match section.kind() {
        "Sequence" => {
            section.keys(&["normalizers"])?;
            for inner in section.list("normalizers")? {
                push_normalizer(inner, steps, depth + 1)?;
            }
            return Ok(());
        }
        "NFC" => Normalizer::Unicode(Form::Nfc),
        "NFD" => Normalizer::Unicode(Form::Nfd),
        "NFKC" => Normalizer::Unicode(Form::Nfkc),
        "NFKD" => Normalizer::Unicode(Form::Nfkd),
        "Lowercase" => Normalizer::Lowercase,
        "StripAccents" => Normalizer::StripAccents,
        "Nmt" => Normalizer::Nmt,
        "Strip" => {
            section.keys(&["strip_left", "strip_right"])?;
            Normalizer::Strip { left: section.bool("strip_left", true)?, right: section.bool("strip_right", true)? }
        }
        "Prepend" => {
            section.keys(&["prepend"])?;
            Normalizer::Prepend(section.str("prepend")?.to_string())
        }
        "Replace" => {
            section.keys(&["pattern", "content"])?;
            Normalizer::Replace { pattern: section.pattern("pattern")?, content: section.str("content")?.to_string() }
        }
        "Precompiled" => {
            section.keys(&["precompiled_charsmap"])?;
            let raw = crate::format::tiktoken::base64(section.str("precompiled_charsmap")?.as_bytes());
            let raw = raw.ok_or_else(|| section.wrong("precompiled_charsmap", "base64"))?;
            Normalizer::Precompiled(Charsmap::new(&raw)?)
        }
        "BertNormalizer" => {
            section.keys(&["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"])?;
            let accents = value.get("strip_accents").filter(|v| !v.is_null());
            Normalizer::Bert(BertNormalizer {
                clean_text: section.bool("clean_text", true)?,
                chinese_chars: section.bool("handle_chinese_chars", true)?,
                strip_accents: accents.map(|_| section.bool("strip_accents", false)).transpose()?,
                lowercase: section.bool("lowercase", true)?,
            })
        }
        _ => return Err(section.unsupported()),
    };
    steps.push(step);
    Ok(())
}

/// The pre-tokeniser, and whether its last step turns text into byte characters.
pub(super) fn pre_tokenizer(value: Option<&Value>) -> Result<(PreTokenizer, bool)> {
    let mut steps = Vec::new();
    let mut byte_level = false;
    if let Some(value) = value.filter(|v| !v.is_null()) {
        push_step(value, &mut steps, &mut byte_level, 0)?;
    }
    Ok((PreTokenizer::new(steps), byte_level))
}

fn push_step(value: &Value, steps: &mut Vec<Step>, byte_level: &mut bool, depth: usize) -> Result<()> {
    let section = Section::new("pre_tokenizer", value)?;
    if depth > DEPTH {
        return Err(too_deep("pre_tokenizer"));
    }
    if *byte_level {
        // What follows would see byte characters instead of text.
        return Err(Error::unsupported(FORMAT, format!("{} after ByteLevel", section.name)));
    }
    let step = match section.kind() {
        "Sequence" => {
            section.keys(&["pretokenizers"])?;
            for inner in section.list("pretokenizers")? {
                push_step(inner, steps, byte_level, depth + 1)?;
            }
            return Ok(());
        }
        "ByteLevel" => {
            section.keys(&["add_prefix_space", "trim_offsets", "use_regex"])?;
            if section.bool("add_prefix_space", true)? {
                steps.push(Step::PrefixSpace);
            }
            *byte_level = true;
            if !section.bool("use_regex", true)? {
                return Ok(());
            }
            Step::Pattern { pattern: Pattern::regex(patterns::GPT2)?, behavior: Behavior::Isolated, invert: false }
        }
        "Split" => {
            section.keys(&["pattern", "behavior", "invert"])?;
            Step::Pattern {
                pattern: section.pattern("pattern")?,
                behavior: behavior(&section)?,
                invert: section.bool("invert", false)?,
            }
        }
        "Metaspace" => Step::Metaspace(metaspace(&section)?),
        "WhitespaceSplit" => Step::WhitespaceSplit,
        "Whitespace" => Step::Words,
        "BertPreTokenizer" => Step::Bert,
        "Punctuation" => {
            section.keys(&["behavior"])?;
            Step::Punctuation(if value.get("behavior").is_some() { behavior(&section)? } else { Behavior::Isolated })
        }
        "Digits" => {
            section.keys(&["individual_digits"])?;
            Step::Digits { individual: section.bool("individual_digits", false)? }
        }
        "CharDelimiterSplit" => {
            section.keys(&["delimiter"])?;
            Step::Delimiter(section.char("delimiter")?)
        }
        "FixedLength" => {
            section.keys(&["length"])?;
            Step::FixedLength(section.usize("length")?)
        }
        _ => return Err(section.unsupported()),
    };
    steps.push(step);
    Ok(())
}

fn behavior(section: &Section<'_>) -> Result<Behavior> {
    match section.str("behavior")? {
        "Removed" => Ok(Behavior::Removed),
        "Isolated" => Ok(Behavior::Isolated),
        "MergedWithPrevious" => Ok(Behavior::MergedWithPrevious),
        "MergedWithNext" => Ok(Behavior::MergedWithNext),
        "Contiguous" => Ok(Behavior::Contiguous),
        _ => Err(section.wrong("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous")),
    }
}

fn metaspace(section: &Section<'_>) -> Result<Metaspace> {
    section.keys(&["replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"])?;
    let prepend = match section.value.get("prepend_scheme").and_then(Value::as_str) {
        Some("always") => PrependScheme::Always,
        Some("first") => PrependScheme::First,
        Some("never") => PrependScheme::Never,
        Some(_) => return Err(section.wrong("prepend_scheme", "always, first or never")),
        None if section.bool("add_prefix_space", true)? => PrependScheme::Always,
        None => PrependScheme::Never,
    };
    Ok(Metaspace { replacement: section.char("replacement")?, prepend, split: section.bool("split", true)? })
}

pub(super) fn decoder(value: Option<&Value>) -> Result<Decoder> {
    let mut steps = Vec::new();
    if let Some(value) = value.filter(|v| !v.is_null()) {
        push_decoder(value, &mut steps, 0)?;
    }
    let fuse = steps.iter().position(|s| matches!(s, DecodeStep::Fuse)).unwrap_or(steps.len());
    for step in &steps[fuse..] {
        match step {
            DecodeStep::Fuse | DecodeStep::Strip { stop: 0, .. } => {}
            // They would need the end of the text, which a stream does not know.
            _ => return Err(Error::unsupported(FORMAT, format!("decoder {step:?} after Fuse"))),
        }
    }
    Ok(Decoder::new(steps))
}

fn push_decoder(value: &Value, steps: &mut Vec<DecodeStep>, depth: usize) -> Result<()> {
    let section = Section::new("decoder", value)?;
    if depth > DEPTH {
        return Err(too_deep("decoder"));
    }
    let step = match section.kind() {
        "Sequence" => {
            section.keys(&["decoders"])?;
            for inner in section.list("decoders")? {
                push_decoder(inner, steps, depth + 1)?;
            }
            return Ok(());
        }
        // Tokens are raw bytes here already.
        "ByteLevel" => return Ok(()),
        "ByteFallback" => DecodeStep::ByteFallback,
        "Fuse" => DecodeStep::Fuse,
        "Replace" => {
            section.keys(&["pattern", "content"])?;
            DecodeStep::Replace { pattern: section.pattern("pattern")?, content: section.str("content")?.to_string() }
        }
        "Strip" => {
            section.keys(&["content", "start", "stop"])?;
            DecodeStep::Strip {
                content: section.char("content")?,
                start: section.usize("start")?,
                stop: section.usize("stop")?,
            }
        }
        "Metaspace" => DecodeStep::Metaspace(metaspace(&section)?),
        "WordPiece" => {
            section.keys(&["prefix", "cleanup"])?;
            DecodeStep::WordPiece {
                prefix: section.str("prefix")?.to_string(),
                cleanup: section.bool("cleanup", true)?,
            }
        }
        "BPEDecoder" => {
            section.keys(&["suffix"])?;
            DecodeStep::Suffix(section.str("suffix")?.to_string())
        }
        _ => return Err(section.unsupported()),
    };
    steps.push(step);
    Ok(())
}

/// The template; `id` finds the id of a special token.
pub(super) fn template(value: Option<&Value>, id: &dyn Fn(&str) -> Option<u32>) -> Result<Template> {
    let Some(value) = value.filter(|v| !v.is_null()) else {
        return Ok(Template::default());
    };
    let section = Section::new("post_processor", value)?;
    match section.kind() {
        // Only moves offsets, which here are always those of the whole token.
        "ByteLevel" => Ok(Template::default()),
        "Sequence" => {
            section.keys(&["processors"])?;
            let mut found = None;
            for inner in section.list("processors")? {
                let kind = Section::new("post_processor", inner)?;
                if kind.kind() == "ByteLevel" {
                    continue;
                }
                if found.is_some() || kind.kind() == "Sequence" {
                    return Err(Error::unsupported(FORMAT, "a post_processor Sequence with several templates"));
                }
                found = Some(template(Some(inner), id)?);
            }
            Ok(found.unwrap_or_default())
        }
        "BertProcessing" | "RobertaProcessing" => {
            section.keys(&["sep", "cls", "trim_offsets", "add_prefix_space"])?;
            let token = |key: &str| {
                let id = value.get(key).and_then(|v| v.get(1)).and_then(Value::as_u64);
                id.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| section.wrong(key, "[token, id]"))
            };
            let (cls, sep) = (token("cls")?, token("sep")?);
            let roberta = section.kind() == "RobertaProcessing";
            let second = u32::from(!roberta);
            let tok = |id, type_id| Part::Token { id, type_id };
            let single = vec![tok(cls, 0), Part::First { type_id: 0 }, tok(sep, 0)];
            let mut pair = single.clone();
            if roberta {
                pair.push(tok(sep, 0));
            }
            pair.extend([Part::Second { type_id: second }, tok(sep, second)]);
            Template::new(single, pair)
        }
        "TemplateProcessing" => {
            section.keys(&["single", "pair", "special_tokens"])?;
            let parts = |key: &str| parts(&section, key, id);
            Template::new(parts("single")?, parts("pair")?)
        }
        _ => Err(section.unsupported()),
    }
}

fn parts(section: &Section<'_>, key: &str, id: &dyn Fn(&str) -> Option<u32>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for part in section.list(key)? {
        let wrong = || section.wrong(key, "a list of SpecialToken and Sequence");
        let number = |v: &Value| v.get("type_id").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        if let Some(token) = part.get("SpecialToken") {
            let name = token.get("id").and_then(Value::as_str).ok_or_else(wrong)?;
            let type_id = number(token).unwrap_or(0);
            let listed = section.value.get("special_tokens").and_then(|t| t.get(name)).and_then(|t| t.get("ids"));
            match listed.and_then(Value::as_array) {
                Some(ids) => {
                    for id in ids {
                        let id = id.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong)?;
                        parts.push(Part::Token { id, type_id });
                    }
                }
                None => {
                    let missing = || Error::malformed(FORMAT, format!("{}: {name:?} has no id", section.name));
                    parts.push(Part::Token { id: id(name).ok_or_else(missing)?, type_id });
                }
            }
        } else if let Some(sequence) = part.get("Sequence") {
            let type_id = number(sequence).unwrap_or(0);
            parts.push(match sequence.get("id").and_then(Value::as_str) {
                Some("A") => Part::First { type_id },
                Some("B") => Part::Second { type_id },
                _ => return Err(wrong()),
            });
        } else {
            return Err(wrong());
        }
    }
    Ok(parts)
}

fn side(value: &Value, place: &str) -> Result<Side> {
    match value.get("direction").and_then(Value::as_str) {
        None | Some("Right") => Ok(Side::Right),
        Some("Left") => Ok(Side::Left),
        Some(other) => {
            Err(Error::malformed(FORMAT, format!("{place}.direction is {other:?}; Left or Right is expected")))
        }
    }
}

pub(super) fn truncation(value: Option<&Value>) -> Result<Option<Truncation>> {
    let Some(value) = value.filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let section = Section { name: "truncation".into(), value };
    section.keys(&["direction", "max_length", "strategy", "stride"])?;
    let strategy = match section.str("strategy")? {
        "LongestFirst" => TruncationStrategy::LongestFirst,
        "OnlyFirst" => TruncationStrategy::OnlyFirst,
        "OnlySecond" => TruncationStrategy::OnlySecond,
        _ => return Err(section.wrong("strategy", "LongestFirst, OnlyFirst or OnlySecond")),
    };
    let stride = section.usize("stride")?;
    Ok(Some(Truncation {
        max_length: section.usize("max_length")?,
        stride,
        strategy,
        side: side(value, "truncation")?,
    }))
}

pub(super) fn padding(value: Option<&Value>) -> Result<Option<Padding>> {
    let Some(value) = value.filter(|v| !v.is_null()) else {
        return Ok(None);
    };
    let section = Section { name: "padding".into(), value };
    section.keys(&["strategy", "direction", "pad_to_multiple_of", "pad_id", "pad_type_id", "pad_token"])?;
    let length = match value.get("strategy") {
        Some(Value::String(s)) if s == "BatchLongest" => PaddingLength::Longest,
        Some(v) => match v.get("Fixed").and_then(Value::as_u64) {
            Some(n) if n <= MAX_PADDING => PaddingLength::Fixed(n as usize),
            _ => return Err(section.wrong("strategy", "BatchLongest or {\"Fixed\": n} with n up to 16777216")),
        },
        None => return Err(section.wrong("strategy", "BatchLongest or {\"Fixed\": n}")),
    };
    let multiple = value.get("pad_to_multiple_of").filter(|v| !v.is_null());
    let multiple_of = multiple.map(|_| section.usize("pad_to_multiple_of")).transpose()?;
    if multiple_of.is_some_and(|n| n as u64 > MAX_PADDING) {
        return Err(section.wrong("pad_to_multiple_of", "a number up to 16777216"));
    }
    let small = |key| u32::try_from(section.usize(key)?).map_err(|_| section.wrong(key, "an id"));
    Ok(Some(Padding {
        length,
        multiple_of,
        side: side(value, "padding")?,
        id: small("pad_id")?,
        type_id: small("pad_type_id")?,
        token: section.str("pad_token")?.to_string(),
    }))
}
