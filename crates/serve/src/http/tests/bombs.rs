//! Requests that are small to write and large to answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Limits, ServerConfig};
use crate::testing::Running;

/// Ten times the second that any of these may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn formed(server: &Running, format: &Value) -> (u16, Option<String>) {
    let body = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 4, "response_format": format});
    let begun = Instant::now();
    let reply = server.post("/v1/chat/completions", &body);
    assert!(
        begun.elapsed() < PATIENCE,
        "{:?} for {}",
        begun.elapsed(),
        format.to_string().chars().take(120).collect::<String>()
    );
    let param = if reply.status == 200 { None } else { reply.param() };
    (reply.status, param)
}

#[test]
fn forms_that_explode_are_refused_or_bounded() {
    let server = Running::new(ServerConfig::default());
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let regex = |text: &str| json!({"type": "regex", "regex": text});
    let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let wide: Vec<String> = (0..1_000_000).map(|i| format!("{i}")).collect();
    let both: Vec<Value> = (0..200).map(|i| json!({"pattern": format!("(a|b)*a(a|b){{{i}}}")})).collect();
    for (format, refused) in [
        (regex("((a{1,1000}){1,1000}){1,1000}"), false),
        (regex("(((((a*)*)*)*)*)*"), false),
        (regex("(a|aa|aaa)*b{0,5000}"), false),
        (regex(&"(".repeat(100_000)), true),
        (regex(&"[a-z]?".repeat(30_000)), true),
        (regex(&"[a-z]?".repeat(1300)), false),
        (schema(json!({"type": "string", "pattern": "[a-z]?".repeat(30_000)})), true),
        (schema(json!({"type": "object", "patternProperties": {"a?".repeat(30_000): {}}})), true),
        (json!({"type": "grammar", "grammar": format!("start: /{}/", "a?".repeat(30_000))}), true),
        (json!({"type": "grammar", "grammar": format!("start: /{}/", "a?".repeat(8000))}), false),
        (json!({"type": "grammar", "grammar": format!("start: {}", "\"a\"? ".repeat(2600))}), false),
        (schema(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})), false),
        (
            schema(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})),
            false,
        ),
        (schema(json!({"$ref": "http://127.0.0.1:1/secret"})), true),
        (schema(json!({"$ref": "file:///etc/passwd"})), true),
        (schema(json!({"enum": wide})), true),
        (schema(json!({"type": "string", "allOf": both})), false),
        (schema(deep), false),
        (json!({"type": "grammar", "grammar": "start: start start start | \"a\""}), false),
        (json!({"type": "grammar", "grammar": "x".repeat(300_000)}), true),
    ] {
        let (status, param) = formed(&server, &format);
        let shown = format.to_string().chars().take(80).collect::<String>();
        assert!(status == 400 || (status == 200 && !refused), "{shown}: {status}");
        assert!(
            status == 200 || param.as_deref().is_some_and(|param| param.starts_with("response_format")),
            "{shown}: {param:?}"
        );
    }
    server.idle();
    assert_eq!(formed(&server, &json!({"type": "text"})).0, 200);
}

#[test]
fn prompts_of_every_length_follow_one_rule() {
    let limits = Limits { body_bytes: 32 << 20, ..Limits::default() };
    let server = Running::new(ServerConfig { limits, ..ServerConfig::default() });
    let ask = |prompt: &Value, max_tokens: Value| {
        server.post("/v1/completions", &json!({"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true}))
    };
    let written = |length: usize, max_tokens: Value| {
        let reply = ask(&json!("x".repeat(length)), max_tokens);
        assert_eq!(reply.status, 200, "{length}: {reply:?}");
        reply.json()["usage"]["completion_tokens"].as_u64().unwrap()
    };
    // The context is 512 tokens, and a byte is one.
    assert_eq!((written(511, json!(5)), written(510, json!(5)), written(100, json!(1))), (1, 2, 1));
    assert_eq!(written(500, json!(1_000_000_000_000u64)), 12);
    for length in [512, 513, 10_000, 10_000_000] {
        let reply = ask(&json!("x".repeat(length)), json!(1));
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].clone()),
            (400, json!("context_length_exceeded")),
            "{length}"
        );
    }
    for (prompt, max_tokens, param) in [
        (json!("x"), json!(-1), "max_tokens"),
        (json!("x"), json!(1.5), "max_tokens"),
        (json!("x"), json!(1e300), "max_tokens"),
        (json!([-1]), json!(1), "prompt"),
        (json!([1e9]), json!(1), "prompt"),
    ] {
        let reply = ask(&prompt, max_tokens.clone());
        assert_eq!((reply.status, reply.param().as_deref()), (400, Some(param)), "{prompt} {max_tokens}");
    }
    // Behind no text and no tokens the answer begins as a text does, after the token that stands for that; no prompt at all is refused.
    for nothing in [json!(""), json!([[]]), json!([""])] {
        let usage = ask(&nothing, json!(2)).json()["usage"].clone();
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(1), &json!(2)), "{nothing}");
    }
    let none = ask(&json!([]), json!(2));
    assert_eq!((none.status, none.param().as_deref()), (400, Some("prompt")));
    // An answer of no tokens is one only where the prompt is sent back.
    let none = ask(&json!("x"), json!(0));
    assert_eq!((none.status, none.param().as_deref()), (400, Some("max_tokens")));
    let echoed = server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 0, "echo": true})).json();
    assert_eq!((&echoed["choices"][0]["text"], &echoed["usage"]["completion_tokens"]), (&json!("x"), &json!(0)));
    let chat = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0});
    assert_eq!(server.post("/v1/chat/completions", &chat).param().as_deref(), Some("max_tokens"));
}
