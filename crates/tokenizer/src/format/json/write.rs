//! The whole file from a tokenizer.

use super::FORMAT;
use crate::decode::DecodeStep;
use crate::error::{Error, Result};
use crate::format::{byte_chars, tiktoken};
use crate::model::Model;
use crate::model::bpe::{Alphabet, Bpe, Unknown};
use crate::normalize::{Form, Normalizer};
use crate::split::{Behavior, Metaspace, Pattern, PrependScheme, Step, patterns};
use crate::template::Part;
use crate::tokenizer::{Padding, PaddingLength, Side, Tokenizer, Truncation, TruncationStrategy};
use serde_json::{Map, Value, json};

pub(super) fn tokenizer(tokenizer: &Tokenizer) -> Result<Value> {
    let parts = tokenizer.parts();
    let byte_level = parts.model.is_byte_level();
    let normalizers: Vec<Value> = parts.normalizers.iter().map(normalizer).collect::<Result<_>>()?;
    let decoders: Vec<Value> = parts.decoder.steps().iter().map(decoder).collect();
    let added: Vec<Value> = tokenizer
        .added_tokens()
        .map(|t| {
            json!({
                "id": t.id, "content": t.content, "single_word": t.single_word, "lstrip": t.lstrip,
                "rstrip": t.rstrip, "normalized": t.normalized, "special": t.special,
            })
        })
        .collect();
    let decoder = if byte_level && decoders.is_empty() {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})
    } else {
        sequence("decoders", decoders)
    };
    Ok(json!({
        "version": "1.0",
        "truncation": parts.truncation.as_ref().map(truncation),
        "padding": parts.padding.as_ref().map(padding),
        "added_tokens": added,
        "normalizer": sequence("normalizers", normalizers),
        "pre_tokenizer": pre_tokenizer(parts.pre_tokenizer.steps(), byte_level)?,
        "post_processor": template(tokenizer)?,
        "decoder": decoder,
        "model": model(tokenizer)?,
    }))
}

/// Nothing, the one step, or a sequence of them.
fn sequence(key: &str, mut steps: Vec<Value>) -> Value {
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", key: steps}),
    }
}

fn no_form(what: &str) -> Error {
    Error::unsupported(FORMAT, format!("writing {what}"))
}

fn pattern(pattern: &Pattern) -> Value {
    if pattern.is_literal() { json!({"String": pattern.as_str()}) } else { json!({"Regex": pattern.as_str()}) }
}

fn normalizer(step: &Normalizer) -> Result<Value> {
    Ok(match step {
        Normalizer::Unicode(Form::Nfc) => json!({"type": "NFC"}),
        Normalizer::Unicode(Form::Nfd) => json!({"type": "NFD"}),
        Normalizer::Unicode(Form::Nfkc) => json!({"type": "NFKC"}),
        Normalizer::Unicode(Form::Nfkd) => json!({"type": "NFKD"}),
        Normalizer::Lowercase => json!({"type": "Lowercase"}),
        Normalizer::StripAccents => json!({"type": "StripAccents"}),
        Normalizer::Nmt => json!({"type": "Nmt"}),
        Normalizer::Strip { left, right } => json!({"type": "Strip", "strip_left": left, "strip_right": right}),
        Normalizer::Prepend(text) => json!({"type": "Prepend", "prepend": text}),
        Normalizer::Replace { pattern: p, content } => {
            json!({"type": "Replace", "pattern": pattern(p), "content": content})
        }
        Normalizer::Bert(b) => json!({
            "type": "BertNormalizer", "clean_text": b.clean_text, "handle_chinese_chars": b.chinese_chars,
            "strip_accents": b.strip_accents, "lowercase": b.lowercase,
        }),
        Normalizer::Precompiled(map) => {
            json!({"type": "Precompiled", "precompiled_charsmap": tiktoken::to_base64(map.raw())})
        }
        Normalizer::SentencePiece(s) => {
            let rules = s.rules().map_err(no_form)?;
            let replace =
                |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
            let mut steps = Vec::new();
            if let Some(map) = rules.map {
                steps.push(normalizer(&Normalizer::Precompiled(map.clone()))?);
            }
            if rules.remove_extra_whitespaces {
                // At the end SentencePiece drops marks, whether they were spaces or not.
                let ends = if rules.space == " " { "^ +| +$" } else { "^ +|[ \u{2581}]+$" };
                steps.push(replace(json!({ "Regex": ends }), ""));
                steps.push(replace(json!({"Regex": " {2,}"}), " "));
            }
            if rules.add_dummy_prefix {
                steps.push(json!({"type": "Prepend", "prepend": rules.space}));
            }
            if rules.space != " " {
                steps.push(replace(json!({"String": " "}), rules.space));
            }
            sequence("normalizers", steps)
        }
    })
}

fn pre_tokenizer(steps: &[Step], byte_level: bool) -> Result<Value> {
    let mut steps = steps;
    let mut tail = None;
    if byte_level {
        let is_gpt2 = |s: &Step| matches!(s, Step::Pattern { pattern, behavior: Behavior::Isolated, .. } if pattern.as_str() == patterns::GPT2);
        let (prefix, regex) = match steps {
            [before @ .., Step::PrefixSpace, last] if is_gpt2(last) => {
                steps = before;
                (true, true)
            }
            [before @ .., last] if is_gpt2(last) => {
                steps = before;
                (false, true)
            }
            [before @ .., Step::PrefixSpace] => {
                steps = before;
                (true, false)
            }
            _ => (false, false),
        };
        tail = Some(json!({
            "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false, "use_regex": regex,
        }));
    }
    let mut list: Vec<Value> = steps.iter().map(step).collect::<Result<_>>()?;
    list.extend(tail);
    Ok(sequence("pretokenizers", list))
}

fn behavior(behavior: Behavior) -> &'static str {
    match behavior {
        Behavior::Removed => "Removed",
        Behavior::Isolated => "Isolated",
        Behavior::MergedWithPrevious => "MergedWithPrevious",
        Behavior::MergedWithNext => "MergedWithNext",
        Behavior::Contiguous => "Contiguous",
    }
}

fn metaspace(m: &Metaspace) -> Value {
    let scheme = match m.prepend {
        PrependScheme::Always => "always",
        PrependScheme::First => "first",
        PrependScheme::Never => "never",
    };
    json!({"type": "Metaspace", "replacement": m.replacement.to_string(), "prepend_scheme": scheme, "split": m.split})
}

fn step(step: &Step) -> Result<Value> {
    Ok(match step {
        Step::Pattern { pattern: p, behavior: b, invert } => {
            json!({"type": "Split", "pattern": pattern(p), "behavior": behavior(*b), "invert": invert})
        }
        Step::PrefixSpace => return Err(no_form("a prefix space that is not the last step")),
        Step::Metaspace(m) => metaspace(m),
        Step::WhitespaceSplit => json!({"type": "WhitespaceSplit"}),
        Step::Words => json!({"type": "Whitespace"}),
        Step::Bert => json!({"type": "BertPreTokenizer"}),
        Step::Punctuation(b) => json!({"type": "Punctuation", "behavior": behavior(*b)}),
        Step::Digits { individual } => json!({"type": "Digits", "individual_digits": individual}),
        Step::Delimiter(c) => json!({"type": "CharDelimiterSplit", "delimiter": c.to_string()}),
        Step::FixedLength(n) => json!({"type": "FixedLength", "length": n}),
        // An empty match before each hyphen between letters splits there and drops nothing.
        Step::Syllables => json!({
            "type": "Split", "pattern": {"Regex": r"(?<=\p{Alphabetic})(?=[-\u00AD\u2010]\p{Alphabetic})"},
            "behavior": "Isolated", "invert": false,
        }),
    })
}

fn decoder(step: &DecodeStep) -> Value {
    match step {
        DecodeStep::Replace { pattern: p, content } => {
            json!({"type": "Replace", "pattern": pattern(p), "content": content})
        }
        DecodeStep::ByteFallback => json!({"type": "ByteFallback"}),
        DecodeStep::Fuse => json!({"type": "Fuse"}),
        DecodeStep::Strip { content, start, stop } => {
            json!({"type": "Strip", "content": content.to_string(), "start": start, "stop": stop})
        }
        DecodeStep::Metaspace(m) => metaspace(m),
        DecodeStep::WordPiece { prefix, cleanup } => json!({"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}),
        DecodeStep::Suffix(suffix) => json!({"type": "BPEDecoder", "suffix": suffix}),
    }
}

fn template(tokenizer: &Tokenizer) -> Result<Value> {
    let template = &tokenizer.parts().template;
    if template.is_plain() {
        return Ok(Value::Null);
    }
    let mut special = Map::new();
    let mut parts = |list: &[Part]| -> Result<Vec<Value>> {
        list.iter()
            .map(|part| match *part {
                Part::Token { id, type_id } => {
                    let name = tokenizer.id_to_token(id).ok_or_else(|| no_form("a template with an unknown id"))?;
                    let name = name.into_owned();
                    special.insert(name.clone(), json!({"id": name, "ids": [id], "tokens": [name]}));
                    Ok(json!({"SpecialToken": {"id": name, "type_id": type_id}}))
                }
                Part::First { type_id } => Ok(json!({"Sequence": {"id": "A", "type_id": type_id}})),
                Part::Second { type_id } => Ok(json!({"Sequence": {"id": "B", "type_id": type_id}})),
            })
            .collect()
    };
    let (single, pair) = (parts(template.single())?, parts(template.pair())?);
    Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}))
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Left => "Left",
        Side::Right => "Right",
    }
}

fn truncation(t: &Truncation) -> Value {
    let strategy = match t.strategy {
        TruncationStrategy::LongestFirst => "LongestFirst",
        TruncationStrategy::OnlyFirst => "OnlyFirst",
        TruncationStrategy::OnlySecond => "OnlySecond",
    };
    json!({"direction": side(t.side), "max_length": t.max_length, "strategy": strategy, "stride": t.stride})
}

fn padding(p: &Padding) -> Value {
    let strategy = match p.length {
        PaddingLength::Longest => json!("BatchLongest"),
        PaddingLength::Fixed(n) => json!({"Fixed": n}),
    };
    json!({
        "strategy": strategy, "direction": side(p.side), "pad_to_multiple_of": p.multiple_of, "pad_id": p.id,
        "pad_type_id": p.type_id, "pad_token": p.token,
    })
}

/// Ids by token: the model's own and, so that every reader gives them the same id, the added ones.
fn vocab(tokenizer: &Tokenizer, byte_level: bool) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (id, token) in tokenizer.model().vocab().iter() {
        let text = if byte_level { byte_chars::encode(token) } else { utf8(token)? };
        map.insert(text, json!(id));
    }
    for token in tokenizer.added_tokens() {
        map.insert(token.content.clone(), json!(token.id));
    }
    Ok(map)
}

fn utf8(token: &[u8]) -> Result<String> {
    String::from_utf8(token.to_vec()).map_err(|_| no_form("a token that is not UTF-8 in a vocabulary of characters"))
}

fn unknown(tokenizer: &Tokenizer, unknown: Unknown) -> Result<(Option<String>, bool)> {
    match unknown {
        Unknown::Refuse | Unknown::Drop => Ok((None, false)),
        Unknown::Token { id, fuse } => {
            let name = tokenizer.id_to_token(id).ok_or_else(|| no_form("an unknown token without a text"))?;
            Ok((Some(name.into_owned()), fuse))
        }
    }
}

fn model(tokenizer: &Tokenizer) -> Result<Value> {
    match tokenizer.model() {
        Model::Bpe(bpe) => bpe_model(tokenizer, bpe),
        // Characters and bytes are byte-pair encodings without merges.
        Model::Chars(chars) => {
            let (name, fuse) = unknown(tokenizer, chars.unknown())?;
            Ok(json!({
                "type": "BPE", "dropout": null, "unk_token": name, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": fuse, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab(tokenizer, false)?, "merges": [],
            }))
        }
        Model::Bytes(_) => Ok(json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab(tokenizer, true)?, "merges": [],
        })),
        Model::WordPiece(m) => {
            let unknown = m.unknown().map_or(Unknown::Refuse, |id| Unknown::Token { id, fuse: false });
            let (name, _) = self::unknown(tokenizer, unknown)?;
            let name = name.ok_or_else(|| no_form("a WordPiece model without an unknown token"))?;
            Ok(json!({
                "type": "WordPiece", "unk_token": name, "continuing_subword_prefix": m.prefix(),
                "max_input_chars_per_word": m.max_chars(), "vocab": vocab(tokenizer, false)?,
            }))
        }
        Model::Unigram(m) => {
            let mut list = Vec::new();
            let size = tokenizer.vocab_size() as u32;
            for id in 0..size {
                let text =
                    tokenizer.token_bytes(id).ok_or_else(|| no_form("a Unigram vocabulary with holes in its ids"))?;
                list.push(json!([utf8(text)?, m.score(id).unwrap_or(0.0)]));
            }
            let unk_id = match m.unknown() {
                Unknown::Token { id, .. } => Some(id),
                _ => None,
            };
            Ok(json!({"type": "Unigram", "unk_id": unk_id, "vocab": list, "byte_fallback": m.byte_fallback()}))
        }
    }
}

fn bpe_model(tokenizer: &Tokenizer, bpe: &Bpe) -> Result<Value> {
    let byte_level = bpe.alphabet() == Alphabet::Bytes;
    if bpe.has_frozen() {
        return Err(no_form("user-defined pieces of a SentencePiece BPE, which are found before anything is merged"));
    }
    let config = bpe.config();
    let text = |id: u32| match bpe.vocab().bytes(id) {
        Some(token) if byte_level => Ok(byte_chars::encode(token)),
        Some(token) => utf8(token),
        None => Err(no_form("a merge of a token that is not in the vocabulary")),
    };
    let mut merges = Vec::new();
    for rule in bpe.merges() {
        merges.push(json!([text(rule.left)?, text(rule.right)?]));
    }
    let (name, fuse) = unknown(tokenizer, config.unknown)?;
    let affix = |s: String| if s.is_empty() { Value::Null } else { Value::String(s) };
    Ok(json!({
        "type": "BPE", "dropout": null, "unk_token": name, "continuing_subword_prefix": affix(config.prefix),
        "end_of_word_suffix": affix(config.suffix), "fuse_unk": fuse, "byte_fallback": config.byte_fallback,
        "ignore_merges": config.whole_first, "vocab": vocab(tokenizer, byte_level)?, "merges": merges,
    }))
}
