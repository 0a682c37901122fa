//! What is sent back, in the shapes that the official clients parse.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::calls::Call;

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompts.
    pub prompt: usize,
    /// Those of them that had been read before.
    pub cached: usize,
    /// Tokens of all answers.
    pub completion: usize,
}

impl Usage {
    /// For completions and chats.
    pub fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }

    /// For responses.
    pub fn responses(&self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.completion,
        })
    }
}

/// A token with its probability, as text.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub token: Named,
    /// The likeliest tokens in its place.
    pub top: Vec<Named>,
}

/// A token's bytes and log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// What it adds to a text.
    pub bytes: Vec<u8>,
    /// Its log-probability; none for the first token of a prompt.
    pub logprob: Option<f32>,
}

impl Named {
    /// Its text, or its bytes in hexadecimal when they are no text by themselves.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => self.bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
        }
    }

    fn chat(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("token".into(), json!(self.text()));
        map.insert("logprob".into(), number(self.logprob));
        map.insert("bytes".into(), json!(self.bytes));
        map
    }
}

/// JSON has no infinities: a token that cannot occur has the least number that clients read.
fn number(logprob: Option<f32>) -> Value {
    match logprob {
        None => Value::Null,
        Some(x) if x.is_finite() => json!(x),
        Some(_) => json!(-9999.0),
    }
}

/// An entry of a chat's `logprobs.content`.
pub fn chat_logprob(score: &TokenScore) -> Value {
    let mut entry = score.token.chat();
    entry.insert("top_logprobs".into(), score.top.iter().map(|t| Value::Object(t.chat())).collect());
    Value::Object(entry)
}

/// `logprobs` of a completion. Offsets count characters from `start` on.
pub fn legacy_logprobs(scores: &[TokenScore], start: usize) -> Value {
    let mut at = start;
    let offset = |score: &TokenScore| {
        let here = at;
        at += String::from_utf8_lossy(&score.token.bytes).chars().count();
        here
    };
    let offsets: Vec<usize> = scores.iter().map(offset).collect();
    let top = |score: &TokenScore| match score.token.logprob {
        None => Value::Null,
        Some(_) => Value::Object(score.top.iter().map(|t| (t.text(), number(t.logprob))).collect()),
    };
    json!({
        "tokens": scores.iter().map(|s| s.token.text()).collect::<Vec<_>>(),
        "token_logprobs": scores.iter().map(|s| number(s.token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": scores.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// What all parts of one reply share.
#[derive(Clone, Debug)]
pub struct Head {
    /// The reply's id.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's id.
    pub model: String,
}

impl Head {
    /// A reply or a chunk of one.
    pub fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    /// A chunk of a chat.
    pub fn chat_chunk(&self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        self.object("chat.completion.chunk", vec![choice])
    }

    /// A chunk of a completion.
    pub fn text_chunk(&self, index: usize, text: &str, logprobs: Option<Value>, finish: Option<&str>) -> Value {
        let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish});
        self.object("text_completion", vec![choice])
    }

    /// The last chunk, with the numbers of tokens.
    pub fn usage_chunk(&self, object: &str, usage: Usage) -> Value {
        let mut chunk = self.object(object, Vec::new());
        chunk["usage"] = usage.json();
        chunk
    }
}

/// A call in a whole message.
pub fn tool_call(id: &str, call: &Call) -> Value {
    json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// The beginning of a call in a stream.
pub fn tool_head(index: usize, id: &str, name: &str) -> Value {
    let function = json!({"name": name, "arguments": ""});
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
}

/// A piece of the arguments of the call with this number.
pub fn tool_arguments(index: usize, piece: &str) -> Value {
    json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
}

/// An embedding: numbers, or their bytes in base 64.
pub fn embedding(index: usize, vector: &[f32], base64: bool) -> Value {
    let value = if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        json!(STANDARD.encode(bytes))
    } else {
        json!(vector)
    };
    json!({"object": "embedding", "index": index, "embedding": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8], logprob: Option<f32>) -> Named {
        Named { bytes: bytes.to_vec(), logprob }
    }

    #[test]
    fn both_shapes_of_logprobs() {
        let scores = [
            TokenScore { token: named("é".as_bytes(), None), top: vec![named(b"x", Some(-1.0))] },
            TokenScore { token: named(b"\xe2\x80", Some(-0.5)), top: vec![named(b"y", Some(f32::NEG_INFINITY))] },
            TokenScore { token: named(b"z", Some(-0.25)), top: vec![] },
        ];
        let legacy = legacy_logprobs(&scores, 0);
        assert_eq!(legacy["tokens"], json!(["é", "bytes:\\xe2\\x80", "z"]));
        assert_eq!(legacy["token_logprobs"], json!([null, -0.5, -0.25]));
        assert_eq!(legacy["top_logprobs"], json!([null, {"y": -9999.0}, {}]));
        assert_eq!(legacy["text_offset"], json!([0, 1, 2]));
        let chat = chat_logprob(&scores[1]);
        assert_eq!(chat["bytes"], json!([0xe2, 0x80]));
        assert_eq!(chat["logprob"], -0.5);
        assert_eq!(chat["top_logprobs"][0]["token"], "y");
    }

    #[test]
    fn vectors_as_numbers_and_as_bytes() {
        assert_eq!(embedding(1, &[0.5, -1.0], false)["embedding"], json!([0.5, -1.0]));
        assert_eq!(embedding(1, &[1.0], true)["embedding"], "AACAPw==");
    }
}
