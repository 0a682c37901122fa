//! Requests that cannot be answered, and who may ask at all.

use serde_json::json;

use crate::error::StartError;
use crate::http::{Keys, Limits, Server, ServerConfig};
use crate::registry::{Registry, Source};
use crate::served::LoadOptions;
use crate::testing::{Running, byte_tokenizer, config, request};

fn server() -> Running {
    Running::new(ServerConfig::default())
}

#[test]
fn malformed_requests_get_an_error_that_names_what_is_wrong() {
    let server = server();
    let long = "x".repeat(600);
    for (path, body, status, param) in [
        ("/v1/chat/completions", "{".to_owned(), 400, None),
        ("/v1/chat/completions", "[]".into(), 400, None),
        ("/v1/chat/completions", String::new(), 400, None),
        ("/v1/chat/completions", "[".repeat(50_000), 400, None),
        ("/v1/chat/completions", "{}".into(), 400, Some("messages")),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "x"}], "model": "gpt-4"}).to_string(),
            404,
            Some("model"),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "x"}], "model": 4}).to_string(),
            400,
            Some("model"),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": long}]}).to_string(),
            400,
            Some("messages"),
        ),
        ("/v1/completions", json!({"prompt": [1, 2, 260]}).to_string(), 400, Some("prompt")),
        ("/v1/completions", json!({"prompt": vec![1; 513]}).to_string(), 400, Some("prompt")),
        ("/v1/completions", json!({"prompt": vec![1; 512]}).to_string(), 400, Some("prompt")),
        ("/v1/completions", json!({"prompt": "x", "logit_bias": {"260": 1}}).to_string(), 400, Some("logit_bias")),
        (
            "/v1/completions",
            json!({"prompt": "x", "response_format": {"type": "regex", "regex": "("}}).to_string(),
            400,
            Some("response_format"),
        ),
        ("/v1/embeddings", json!({"input": ""}).to_string(), 200, None),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f", "strict": true}}]}).to_string(),
            400,
            Some("tools[0].function.strict"),
        ),
        (
            "/v1/responses",
            json!({"input": "x", "previous_response_id": "r"}).to_string(),
            400,
            Some("previous_response_id"),
        ),
        ("/tokenize", "{}".into(), 400, Some("prompt")),
    ] {
        let reply = server.post_with(path, "", &body);
        let shown = body.chars().take(80).collect::<String>();
        assert_eq!(reply.status, status, "{path} {shown}: {}", reply.body);
        if status != 200 {
            assert_eq!(reply.param().as_deref(), param, "{path} {shown}");
            let error = &reply.json()["error"];
            assert!(
                error["message"].as_str().unwrap().len() > 10 && error["type"] == "invalid_request_error",
                "{error}"
            );
        }
    }
    let full = server.post("/v1/completions", &json!({"prompt": vec![1; 512]}));
    assert_eq!(full.json()["error"]["code"], "context_length_exceeded");
    // A prompt that fills the context can still be scored, and one token short of it be gone on with.
    let scored = json!({"prompt": vec![1; 512], "echo": true, "max_tokens": 0});
    assert_eq!(server.post("/v1/completions", &scored).status, 200);
    let last = json!({"prompt": vec![1; 511], "max_tokens": 1_000_000_000_000u64, "ignore_eos": true});
    assert_eq!(server.post("/v1/completions", &last).json()["usage"]["completion_tokens"], 1);
}

#[test]
fn paths_and_methods_that_do_not_exist() {
    let server = server();
    for path in [
        "/x",
        "/v1",
        "/v1/models/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/v1/models/%2e%2e%2f",
        "//",
        "/chat.js/../x",
        "/%00",
        "/C:%5Csecret.txt",
        "/..%5c..%5csecret.txt",
        "/%5c%5chost%5cshare",
        "/v1/models/..%5c..%5cconfig.json",
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
    }
    let wrong = server.get("/v1/chat/completions");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("post")));
    assert_eq!(wrong.json()["error"]["type"], "invalid_request_error");
    let bad = server.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n");
    assert_eq!(bad.status, 400);
}

#[test]
fn a_body_that_is_no_json_or_too_large_or_invalid_is_refused() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let server = Running::new(ServerConfig { limits, ..ServerConfig::default() });
    let form = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\
                connection: close\r\n\r\n{}";
    assert_eq!(server.raw(form.as_bytes()).status, 415);
    assert_eq!(server.post_with("/v1/completions", "", &"x".repeat(1001)).status, 413);
    let lying = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 99999999999\r\nconnection: close\r\n\r\n{}";
    assert_eq!(server.raw(lying.as_bytes()).status, 413);
    let chunked = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        2000,
        "x".repeat(2000)
    );
    assert_eq!(server.raw(chunked.as_bytes()).status, 413);
    let both = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\
                transfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n";
    let both = server.raw(both.as_bytes());
    assert_eq!(both.status, 400, "{both:?}");
    let mut invalid = request("/v1/completions", "", "{\"prompt\": \"??\"}").into_bytes();
    let at = invalid.iter().position(|&b| b == b'?').unwrap();
    invalid[at] = 0xff;
    assert_eq!(server.raw(&invalid).status, 400);
}

#[test]
fn a_key_is_needed_where_there_is_one() {
    let keys = Keys::new(["sk-right".to_owned()]).unwrap();
    let server = Running::new(ServerConfig { keys, ..ServerConfig::default() });
    let with = |header: &str| server.post_with("/v1/completions", header, "{\"prompt\":\"x\",\"max_tokens\":1}");
    assert_eq!(with("authorization: Bearer sk-right\r\n").status, 200);
    assert_eq!(with("authorization: bearer sk-right\r\n").status, 200);
    for wrong in [
        "",
        "authorization: Bearer sk-Right\r\n",
        "authorization: Bearer sk-righ\r\n",
        "authorization: Bearer sk-right x\r\n",
        "authorization: Basic sk-right\r\n",
        "authorization: sk-right\r\n",
        "authorization: Bearer\r\n",
    ] {
        let reply = with(wrong);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("bearer")), "{wrong}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        assert!(!reply.body.contains("sk-"), "keys are never repeated");
    }
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get("/metrics").status, 401);
    for open in ["/", "/health", "/ready", "/chat.js"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
}

#[test]
fn pages_of_other_origins_and_tricked_names_are_turned_away() {
    let server = server();
    let get = |headers: &str| {
        server.raw(format!("GET /v1/models HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes()).status
    };
    assert_eq!(get("host: evil.example\r\n"), 421);
    assert_eq!(get("host: localhost\r\nhost: evil.example\r\n"), 421);
    assert_eq!(get(""), 421);
    assert_eq!(get("host: 127.0.0.1:99\r\n"), 200);
    assert_eq!(get("host: localhost:5\r\norigin: http://localhost:5\r\n"), 200);
    assert_eq!(get("host: localhost:5\r\norigin: http://localhost:6\r\n"), 403);
    assert_eq!(get("host: localhost\r\norigin: null\r\n"), 403);
    assert_eq!(get("host: localhost\r\norigin: http://evil.example\r\n"), 403);
    assert_eq!(get("host: localhost\r\nsec-fetch-site: cross-site\r\n"), 403);
    assert_eq!(get("host: localhost\r\nsec-fetch-site: same-origin\r\n"), 200);
    let preflight = server.raw(
        b"OPTIONS /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(preflight.status, 403);
    assert!(preflight.header("access-control-allow-origin").is_none());
}

#[test]
fn the_page_may_load_nothing_but_its_own_files() {
    let server = server();
    let page = server.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    for text in [&page.body, &server.get("/chat.js").body, &server.get("/chat.css").body] {
        assert!(!text.contains("http://") && !text.contains("https://"), "an outside address");
    }
    assert!(!page.body.contains("<style") && !page.body.contains("style=") && !page.body.contains("onclick"));
    let scripts = page.body.matches("<script").count();
    assert_eq!((scripts, page.body.matches("<script src=\"chat.js\" defer></script>").count()), (1, 1));
    assert!(server.get("/chat.js").body.len() < 12 << 10, "the page stays small");
}

#[test]
fn a_panic_in_the_shared_step_answers_500_and_leaves_other_texts_untouched() {
    fn fault(tokens: &[u32]) {
        assert!(!tokens.contains(&u32::from(b'~')), "injected");
    }
    let server = Running::with(ServerConfig::default(), config(), byte_tokenizer(), Some(fault));
    let ask = |prompt: &str| {
        let bias = json!({"126": -100});
        server.post(
            "/v1/completions",
            &json!({"prompt": prompt, "max_tokens": 40, "seed": 1, "logit_bias": bias, "ignore_eos": true}),
        )
    };
    let prompts: Vec<String> = (0..6).map(|i| format!("prompt {i}")).collect();
    let expected: Vec<_> = prompts.iter().map(|prompt| ask(prompt).json()["choices"].clone()).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> =
            prompts.iter().map(|prompt| scope.spawn(|| ask(prompt).json()["choices"].clone())).collect();
        for _ in 0..10 {
            let failed = ask("bad ~");
            assert_eq!((failed.status, failed.json()["error"]["type"].clone()), (500, json!("server_error")));
        }
        let found: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
        assert_eq!(found, expected);
    });
    let streamed = server.post("/v1/completions", &json!({"prompt": "~", "stream": true}));
    assert_eq!(streamed.status, 200);
    assert!(streamed.data().last().unwrap().starts_with("{\"error\":"), "an event, never a silent cut: {streamed:?}");
    assert!(!streamed.body.contains("[DONE]"));
}

#[test]
fn what_is_wrong_at_the_start_is_one_line() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let registry = || Registry::new(vec![Source::new(dir.path()).unwrap()], LoadOptions::default()).unwrap();
    let bind = |config: ServerConfig| runtime.block_on(Server::bind(config, registry())).err();
    let open = ServerConfig { host: "0.0.0.0".into(), port: 0, ..ServerConfig::default() };
    assert!(matches!(bind(open.clone()), Some(StartError::OpenWithoutKey { .. })));
    let keys = Keys::new(["k".to_owned()]).unwrap();
    assert!(bind(ServerConfig { keys, ..open }).is_none());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(matches!(bind(ServerConfig { port, ..ServerConfig::default() }), Some(StartError::Bind { .. })));
    assert!(Source::new(dir.path().join("missing")).is_err());
    let hostile: [(&str, &[u8]); 8] = [
        ("config.json", b""),
        ("config.json", b"{\"model_type\":\"llama\""),
        ("config.json", b"<!DOCTYPE html><html>"),
        ("config.json", b"version https://git-lfs.github.com/spec/v1\n"),
        ("config.json", br#"{"model_type":"llama","vocab_size":9223372036854775807,"hidden_size":64,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":4}"#),
        ("config.json", br#"{"model_type":"cupola","spec":{"vocab_size":10,"hidden_size":8,"attention":{"num_attention_heads":2}}}"#),
        ("model.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
        ("model.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"),
    ];
    for (file, bytes) in hostile {
        std::fs::write(dir.path().join(file), bytes).unwrap();
        let error = registry().load_first().unwrap_err().to_string();
        assert!(!error.is_empty() && error.lines().count() <= 12, "{error}");
    }
}

#[test]
fn pages_of_others_are_nested_behind_the_same_guards() {
    let server = server();
    assert_eq!(server.get("/extra/").body, "extra page");
    assert_eq!(server.get("/extra/x").body, "extra x");
    let bare = server.get("/extra");
    assert_eq!((bare.status, bare.header("location")), (308, Some("/extra/")));
    assert_eq!(server.get("/extra/y").status, 404);
    let other = "GET /extra/x HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(server.raw(other.as_bytes()).status, 421);
}
