//! Answers of a given form: tokens that would leave it are never picked.

use std::sync::Arc;

use cupola_tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use crate::api::format::{Format, LARGEST_REGEX};

/// Makes constraints for one vocabulary.
pub struct Constraints {
    factory: ParserFactory,
}

/// The state of one answer's form.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    eos: u32,
}

/// What a constraint leaves to pick from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Some tokens.
    Tokens,
    /// Nothing: the answer is complete.
    Nothing,
}

/// The bytes that each token adds to a text. Taken from decoding it behind another one, since what a token is worth may
/// depend on the decoder's steps (spaces written as other characters, bytes written as text).
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let count = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let ordinary = |&id: &u32| !tokenizer.is_special(id) && tokenizer.token_bytes(id).is_some_and(|b| b.is_ascii());
    let first = (0..count).find(ordinary);
    let before = first.and_then(|id| tokenizer.decode_bytes(&[id]).ok()).unwrap_or_default();
    let word = |id: u32| {
        let Some(raw) = tokenizer.token_bytes(id) else { return Vec::new() };
        if tokenizer.is_special(id) {
            return [&[TokTrie::SPECIAL_TOKEN_MARKER], raw].concat();
        }
        let both = first.and_then(|first| tokenizer.decode_bytes(&[first, id]).ok());
        both.and_then(|both| both.strip_prefix(&before[..]).map(<[u8]>::to_vec)).unwrap_or_default()
    };
    (0..count).map(word).collect()
}

impl Constraints {
    /// For a tokenizer.
    ///
    /// # Errors
    /// When the vocabulary cannot be used.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let mut words = words(tokenizer);
        let size = u32::try_from(words.len()).map_err(|_| "the vocabulary is too large".to_owned())?;
        let eos = tokenizer.eos().unwrap_or(size);
        if eos == size {
            // A token that no model picks, so that there is an end.
            words.push([&[TokTrie::SPECIAL_TOKEN_MARKER][..], b"<end>"].concat());
        }
        let info = TokRxInfo::new(words.len() as u32, eos);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|e| e.to_string())?;
        factory.quiet();
        // Well below what the library allows by itself: forms come from strangers, and take the time of everybody else.
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = 200_000;
        limits.step_lexer_fuel = 50_000;
        limits.max_lexer_states = 20_000;
        limits.precompute_large_lexemes = false;
        limits.verbose_errors = false;
        Ok(Self { factory })
    }

    /// The constraint for a form; none for free text. It takes time that grows with the form, up to a limit.
    ///
    /// # Errors
    /// When the form is malformed, uses what is not supported, or is too large.
    pub fn compile(&self, format: &Format) -> Result<Option<Constraint>, String> {
        let grammar = match format {
            Format::Text => return Ok(None),
            Format::Schema(schema) => {
                let mut schema = schema.clone();
                // Free white space would let a weak model go on for ever without saying anything.
                let options = JsonCompileOptions { whitespace_flexible: false, ..JsonCompileOptions::default() };
                if !schema.is_object() {
                    return Err("the schema is not an object".to_owned());
                }
                if patterns_at_once(&schema) > PATTERNS {
                    return Err(format!("more than {PATTERNS} patterns are to hold for one text at once"));
                }
                if longest_pattern(&schema) > LARGEST_REGEX {
                    return Err(format!("a pattern has more than {LARGEST_REGEX} bytes"));
                }
                options.apply_to(&mut schema);
                TopLevelGrammar::from_json_schema(schema)
            }
            Format::Grammar(text) => TopLevelGrammar::from_lark(text.clone()),
            Format::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        };
        let mut matcher = Matcher::new(self.factory.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        // Forms that go beyond the limits of their automata show it at the first step: the request's fault, not the server's.
        matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
        Ok(Some(Constraint { matcher, eos: self.factory.tok_env().eos_token() }))
    }
}

/// So many patterns may have to hold for one text at once: what they have in common takes time that multiplies.
const PATTERNS: usize = 16;

/// The most patterns below one `allOf`.
fn patterns_at_once(schema: &Value) -> usize {
    fn patterns(schema: &Value) -> usize {
        match schema {
            Value::Object(map) => usize::from(map.contains_key("pattern")) + map.values().map(patterns).sum::<usize>(),
            Value::Array(items) => items.iter().map(patterns).sum(),
            _ => 0,
        }
    }
    match schema {
        Value::Object(map) => {
            let here = map.get("allOf").map_or(0, patterns) + usize::from(map.contains_key("pattern"));
            map.values().map(patterns_at_once).max().unwrap_or(0).max(here)
        }
        Value::Array(items) => items.iter().map(patterns_at_once).max().unwrap_or(0),
        _ => 0,
    }
}

/// The bytes of the longest pattern.
fn longest_pattern(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => {
            let own = map.get("pattern").and_then(Value::as_str).map_or(0, str::len);
            let named = map.get("patternProperties").and_then(Value::as_object);
            let named = named.into_iter().flat_map(|all| all.keys()).map(String::len);
            let inner = map.values().map(longest_pattern);
            named.chain(inner).max().unwrap_or(0).max(own)
        }
        Value::Array(items) => items.iter().map(longest_pattern).max().unwrap_or(0),
        _ => 0,
    }
}

impl Constraint {
    /// Takes the tokens that do not fit out of the logits.
    ///
    /// # Errors
    /// When the form cannot be followed any further.
    pub fn restrict(&mut self, logits: &mut [f32]) -> Result<Left, String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|e| e.to_string())?;
        let mut any = false;
        for (id, logit) in logits.iter_mut().enumerate() {
            if id < mask.len() && mask.get(id) {
                any |= id != self.eos as usize;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(if any { Left::Tokens } else { Left::Nothing })
    }

    /// Goes on behind a token.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn accept(&mut self, id: u32) -> Result<(), String> {
        self.matcher.consume_token(id).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    /// What a model that always wants `wanted` most writes under a constraint.
    fn written(format: &Format, wanted: &str) -> String {
        let tokenizer = crate::testing::byte_tokenizer();
        let constraints = Constraints::new(&tokenizer).unwrap();
        let mut constraint = constraints.compile(format).unwrap().unwrap();
        let mut ids = Vec::new();
        for _ in 0..200 {
            let mut logits = vec![0.0f32; tokenizer.vocab_size() + 3];
            wanted.bytes().rev().enumerate().for_each(|(rank, byte)| logits[byte as usize] = 1.0 + rank as f32);
            if constraint.restrict(&mut logits).unwrap() == Left::Nothing {
                break;
            }
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap();
            if best as u32 == tokenizer.eos().unwrap() {
                break;
            }
            constraint.accept(best as u32).unwrap();
            ids.push(best as u32);
        }
        tokenizer.decode(&ids).unwrap()
    }

    #[test]
    fn a_schema_is_followed_without_white_space() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["a", "b"],
            "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}}
        });
        let text = written(&Format::Schema(schema), " \n\ty");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["a"], "yy", "{text}");
        assert_eq!(value["b"].as_array().unwrap().len(), 2);
        assert!(!text.contains([' ', '\n', '\t']), "{text}");
        let object = written(&Format::Schema(json!({"type": "object"})), "} ");
        assert_eq!(object, "{}");
    }

    #[test]
    fn expressions_and_grammars() {
        assert_eq!(written(&Format::Regex("(ab){3}".into()), "ba"), "ababab");
        assert_eq!(written(&Format::Grammar("start: \"x\" \"y\"+ \"z\"".into()), "z"), "xyz");
    }

    #[test]
    fn malformed_and_enormous_forms_are_refused_in_time() {
        let constraints = Constraints::new(&crate::testing::byte_tokenizer()).unwrap();
        let start = Instant::now();
        let long: Vec<String> = (0..200_000).map(|i| format!("value number {i}")).collect();
        for format in [
            Format::Schema(json!({"type": "circle"})),
            Format::Schema(json!({"$ref": "http://example.com/x"})),
            Format::Schema(json!({"$ref": "#/$defs/missing"})),
            Format::Regex("(".into()),
            Format::Grammar("start: missing_rule".into()),
        ] {
            assert!(constraints.compile(&format).is_err(), "{format:?}");
        }
        // Whether these are refused, or found too large when they are used, does not matter, as long as it ends.
        let nested = constraints.compile(&Format::Regex("((((a{1,500}){1,500}){1,500}){1,500})b".into()));
        if let Ok(Some(mut nested)) = nested {
            let _ = nested.restrict(&mut [0.0; 260]);
            let _ = nested.accept(u32::from(b'a'));
            let _ = nested.restrict(&mut [0.0; 260]);
        }
        let _ = constraints.compile(&Format::Schema(json!({"enum": long})));
        let _ =
            constraints.compile(&Format::Schema(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
