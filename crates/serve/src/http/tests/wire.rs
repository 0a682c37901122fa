//! The shapes that the official clients parse.

use serde_json::{Value, json};

use crate::http::ServerConfig;
use crate::registry::{Registry, Source};
use crate::served::LoadOptions;
use crate::testing::{Running, byte_tokenizer, config};

fn server() -> Running {
    Running::new(ServerConfig::default())
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6, "seed": 5, "ignore_eos": true});
    extra.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

fn complete(extra: Value) -> Value {
    let mut body = json!({"model": "small", "prompt": "Once", "max_tokens": 6, "seed": 5, "ignore_eos": true});
    extra.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[test]
fn models_are_listed_and_found() {
    let server = server();
    let list = server.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("small")));
    let card = server.get("/v1/models/small").json();
    assert_eq!(card["max_model_len"], 512);
    assert_eq!(card["chat_template"], "plain");
    assert_eq!(server.get("/v1/models/org/small").json()["error"]["code"], "model_not_found");
    let missing = server.get("/v1/models/other");
    assert_eq!((missing.status, missing.json()["error"]["code"].clone()), (404, json!("model_not_found")));
    assert_eq!(server.get("/health").json()["status"], "ok");
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn a_model_s_name_may_have_a_slash() {
    let folder = tempfile::tempdir().unwrap();
    cupola_models::save(folder.path(), &crate::testing::model("")).unwrap();
    byte_tokenizer().save_dir(folder.path()).unwrap();
    let source = Source { dir: folder.path().to_owned(), name: "org/model".into() };
    let models = Registry::new(vec![source], LoadOptions::default()).unwrap();
    let server = Running::of(ServerConfig::default(), models, std::sync::Arc::default());
    for path in ["/v1/models/org/model", "/v1/models/org%2Fmodel"] {
        assert_eq!(server.get(path).json()["id"], "org/model", "{path}");
    }
    assert_eq!(server.get("/v1/models/org").status, 404);
    let reply = server.post("/v1/completions", &json!({"model": "org/model", "prompt": "x", "max_tokens": 2}));
    assert_eq!(reply.json()["model"], "org/model");
}

#[test]
fn a_chat_and_its_stream_say_the_same() {
    let server = server();
    let whole = server.post("/v1/chat/completions", &chat(json!({"n": 2, "logprobs": true, "top_logprobs": 2})));
    let reply = whole.json();
    assert_eq!((whole.status, &reply["object"]), (200, &json!("chat.completion")));
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(reply["usage"]["completion_tokens"], 12);
    let message = &reply["choices"][0]["message"];
    assert_eq!((&message["role"], &reply["choices"][0]["finish_reason"]), (&json!("assistant"), &json!("length")));
    assert_eq!(reply["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 6);
    assert_eq!(reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);

    let streamed =
        json!({"n": 2, "logprobs": true, "top_logprobs": 2, "stream": true, "stream_options": {"include_usage": true}});
    let stream = server.post("/v1/chat/completions", &chat(streamed));
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_eq!(stream.data().last().unwrap(), "[DONE]");
    let chunks = stream.chunks();
    let (last, chunks) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &reply["usage"]));
    for chunk in chunks {
        assert_eq!((&chunk["object"], &chunk["usage"]), (&json!("chat.completion.chunk"), &Value::Null));
        assert_eq!((&chunk["id"], &chunk["created"]), (&last["id"], &last["created"]), "equal in all chunks");
    }
    for index in 0..2 {
        let own: Vec<&Value> = chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
        assert_eq!(own[0]["delta"], json!({"role": "assistant", "content": ""}));
        let (end, middle) = own[1..].split_last().unwrap();
        assert_eq!((&end["delta"], &end["finish_reason"]), (&json!({}), &json!("length")));
        assert!(middle.iter().all(|c| c["finish_reason"].is_null()));
        let text: String = middle.iter().map(|c| c["delta"]["content"].as_str().unwrap()).collect();
        let expected = &reply["choices"][index as usize];
        assert_eq!(expected["message"]["content"], text);
        let scores: Vec<Value> =
            middle.iter().flat_map(|c| c["logprobs"]["content"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!(expected["logprobs"]["content"], json!(scores));
    }
}

#[test]
fn a_completion_and_its_stream_say_the_same() {
    let server = server();
    let asked = json!({"prompt": ["Once", "Twice"], "n": 2, "logprobs": 2});
    let reply = server.post("/v1/completions", &complete(asked.clone())).json();
    assert_eq!(reply["object"], "text_completion");
    assert!(reply["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(reply["choices"].as_array().unwrap().len(), 4);
    assert_eq!(reply["usage"]["prompt_tokens"], 9);
    let mut streamed = asked;
    streamed["stream"] = json!(true);
    let stream = server.post("/v1/completions", &complete(streamed));
    assert_eq!(stream.data().last().unwrap(), "[DONE]");
    let chunks = stream.chunks();
    assert!(chunks.iter().all(|c| c["object"] == "text_completion" && c["choices"][0].get("delta").is_none()));
    for index in 0..4usize {
        let own: Vec<&Value> = chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
        let text: String = own.iter().map(|c| c["text"].as_str().unwrap()).collect();
        assert_eq!(reply["choices"][index]["text"], text);
        let join = |key: &str| -> Vec<Value> {
            own.iter().flat_map(|c| c["logprobs"][key].as_array().cloned().unwrap_or_default()).collect()
        };
        for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(reply["choices"][index]["logprobs"][key], json!(join(key)), "{key}");
        }
        assert_eq!(own.last().unwrap()["finish_reason"], "length");
    }
}

#[test]
fn a_prompt_is_scored_with_echo_and_no_tokens() {
    let server = server();
    let asked = json!({"prompt": "Once", "echo": true, "max_tokens": 0, "logprobs": 1});
    let reply = server.post("/v1/completions", &complete(asked)).json();
    let choice = &reply["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("Once"), &json!("length")));
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["O", "n", "c", "e"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 3]));
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert_eq!(logprobs["top_logprobs"][0], Value::Null);
    assert!((1..4).all(|i| logprobs["token_logprobs"][i].as_f64().unwrap() < 0.0));
    // The same scores as the first tokens of prompt and answer together, as token numbers.
    let both = json!({"prompt": [79, 110, 99, 101], "echo": true, "max_tokens": 3, "logprobs": 1, "temperature": 0});
    let reply = server.post("/v1/completions", &complete(both)).json();
    let longer = &reply["choices"][0]["logprobs"];
    assert_eq!(longer["tokens"].as_array().unwrap().len(), 7);
    assert_eq!(longer["token_logprobs"].as_array().unwrap()[..4], logprobs["token_logprobs"].as_array().unwrap()[..]);
    // A greedy token is the likeliest.
    let token = longer["tokens"][5].as_str().unwrap();
    assert_eq!(longer["top_logprobs"][5][token], longer["token_logprobs"][5]);
}

#[test]
fn sampling_fields_change_the_answer_and_seeds_repeat_it() {
    let server = server();
    let text = |extra: Value| server.post("/v1/completions", &complete(extra)).json()["choices"][0]["text"].clone();
    let base = text(json!({"max_tokens": 20}));
    assert_eq!(base, text(json!({"max_tokens": 20})), "equal seeds");
    let other: Vec<Value> = [
        json!({"seed": 6}),
        json!({"temperature": 0}),
        json!({"temperature": 0.3}),
        json!({"top_k": 1}),
        json!({"top_p": 0.1}),
        json!({"min_p": 0.9}),
        json!({"typical_p": 0.1}),
        json!({"logit_bias": {"65": 100}}),
        json!({"stop": base.as_str().unwrap().chars().nth(3).unwrap().to_string()}),
    ]
    .into_iter()
    .map(|mut extra| {
        extra["max_tokens"] = json!(20);
        text(extra)
    })
    .collect();
    assert!(other.iter().all(|text| *text != base), "{base} {other:?}");
    assert_eq!(other[7], "A".repeat(20));
    let greedy = json!({"max_tokens": 40, "temperature": 0});
    let greedy = text(greedy);
    for penalty in ["presence_penalty", "frequency_penalty", "repetition_penalty"] {
        assert_ne!(greedy, text(json!({"max_tokens": 40, "temperature": 0, penalty: 2})), "{penalty}");
    }
    // The best of several is the one with the highest mean log-probability.
    let all = server.post("/v1/completions", &complete(json!({"n": 4, "logprobs": 0}))).json();
    let mean = |choice: &Value| {
        let all: Vec<f64> =
            choice["logprobs"]["token_logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let choices = all["choices"].as_array().unwrap();
    let best = choices.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap();
    let found = server.post("/v1/completions", &complete(json!({"best_of": 4}))).json();
    assert_eq!(found["choices"][0]["text"], best["text"]);
    assert_eq!(found["choices"].as_array().unwrap().len(), 1);
}

#[test]
fn vectors_come_as_numbers_and_as_bytes() {
    let server = server();
    let numbers = server.post("/v1/embeddings", &json!({"input": ["a", "b"], "model": "small"})).json();
    assert_eq!(numbers["data"].as_array().unwrap().len(), 2);
    assert_eq!(numbers["data"][1]["index"], 1);
    let vector = numbers["data"][0]["embedding"].as_array().unwrap();
    assert_eq!(vector.len(), 32);
    assert!((vector.iter().map(|x| x.as_f64().unwrap().powi(2)).sum::<f64>() - 1.0).abs() < 1e-5);
    let bytes = server.post("/v1/embeddings", &json!({"input": "a", "encoding_format": "base64"})).json();
    assert_eq!(bytes["data"][0]["embedding"].as_str().unwrap().len(), (32usize * 4).div_ceil(3) * 4);
    assert_eq!(bytes["usage"], json!({"prompt_tokens": 1, "total_tokens": 1}));
    assert_eq!(
        server.post("/v1/embeddings", &json!({"input": "a", "dimensions": 8})).param().as_deref(),
        Some("dimensions")
    );
}

#[test]
fn a_response_and_its_events_say_the_same() {
    let server = server();
    let body = json!({"input": "Hi", "instructions": "Be brief.", "max_output_tokens": 5, "temperature": 0});
    let whole = server.post("/v1/responses", &body).json();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let stream = server.post("/v1/responses", &streamed);
    let events = stream.chunks();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let named: Vec<&str> = stream.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, named, "each event has a line with its name");
    assert_eq!(
        kinds[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    let end =
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"];
    assert_eq!(kinds[kinds.len() - 4..], end);
    assert!(kinds[4..kinds.len() - 4].iter().all(|kind| *kind == "response.output_text.delta"));
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index);
    }
    let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(deltas, text);
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(events.last().unwrap()["response"]["usage"], whole["usage"]);
}

#[test]
fn answers_follow_a_schema_and_calls_are_made_when_demanded() {
    let server = server();
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let reply = server.post("/v1/chat/completions", &chat(json!({"response_format": format, "max_tokens": 30}))).json();
    let value: Value = serde_json::from_str(reply["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(value["ok"].is_boolean());
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": schema}});
    let asked = json!({"tools": [tool], "tool_choice": "required", "max_tokens": 80});
    let reply = server.post("/v1/chat/completions", &chat(asked.clone())).json();
    let call = &reply["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("look")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["ok"].is_boolean());
    assert_eq!(reply["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(reply["choices"][0]["message"]["content"], Value::Null);
    let mut streamed = asked;
    streamed["stream"] = json!(true);
    let chunks = server.post("/v1/chat/completions", &chat(streamed)).chunks();
    let deltas: Vec<&Value> =
        chunks.iter().map(|c| &c["choices"][0]["delta"]["tool_calls"][0]).filter(|d| !d.is_null()).collect();
    assert_eq!((&deltas[0]["function"]["name"], &deltas[0]["function"]["arguments"]), (&json!("look"), &json!("")));
    let arguments = deltas[1..].iter().map(|delta| delta["function"]["arguments"].as_str().unwrap());
    assert_eq!(arguments.collect::<String>(), call["function"]["arguments"].as_str().unwrap());
    assert!(deltas.len() > 3, "a piece for each token: {deltas:?}");
    assert!(
        deltas[0]["id"].is_string() && deltas[1..].iter().all(|delta| delta["id"].is_null() && delta["index"] == 0)
    );
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_scored_prompt_has_one_token_behind_it_even_when_that_is_the_end() {
    let server = server();
    let ask = |logit_bias: Value| {
        let body = json!({"prompt": [72, 105], "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0, "logit_bias": logit_bias});
        server.post("/v1/completions", &body).json()["choices"][0]["logprobs"].clone()
    };
    let (ended, usual) = (ask(json!({"256": 100})), ask(json!({"97": 100})));
    for scores in [&ended, &usual] {
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(scores[list].as_array().map(Vec::len), Some(3), "{list}: {scores}");
        }
    }
    assert_eq!(ended["token_logprobs"][1], usual["token_logprobs"][1]);
    assert!(ended["token_logprobs"][1].is_number(), "the prompt's own scores are all there");
}

#[test]
fn a_response_streams_a_call_in_pieces_and_says_the_same_as_a_whole_one() {
    let server = server();
    let schema = json!({"type": "object", "properties": {"n": {"enum": ["north", "south"]}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false});
    let tool = json!({"type": "function", "name": "look", "parameters": schema});
    let mut body =
        json!({"input": "x", "tools": [tool], "tool_choice": "required", "max_output_tokens": 80, "temperature": 0});
    let whole = server.post("/v1/responses", &body).json();
    let call = &whole["output"][0];
    assert_eq!(
        (&call["type"], &call["name"], &call["status"]),
        (&json!("function_call"), &json!("look"), &json!("completed"))
    );
    body["stream"] = json!(true);
    let events = server.post("/v1/responses", &body).chunks();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<&Value>>();
    let deltas = of("response.function_call_arguments.delta");
    assert!(deltas.len() > 3, "{deltas:?}");
    let together: String = deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(json!(together), call["arguments"]);
    assert_eq!(of("response.function_call_arguments.done")[0]["arguments"], call["arguments"]);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["output"][0]["arguments"]),
        (&json!("response.completed"), &call["arguments"])
    );
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<u64>>());
}

#[test]
fn an_answer_that_is_cut_inside_of_a_call_ends_with_its_length() {
    let server = server();
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": schema}});
    // The name and the first letters of its arguments.
    let begun = "{\"name\":\"look\",\"arguments\":{\"o".len();
    let mut asked = json!({"tools": [tool], "tool_choice": "required", "max_tokens": begun});
    let reply = server.post("/v1/chat/completions", &chat(asked.clone())).json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{reply}");
    assert_eq!(choice["message"]["tool_calls"][0]["function"], json!({"name": "look", "arguments": "{\"o"}), "{reply}");
    asked["stream"] = json!(true);
    let chunks = server.post("/v1/chat/completions", &chat(asked)).chunks();
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn texts_become_tokens_and_texts_again() {
    let server = server();
    let tokens = server.post("/tokenize", &json!({"prompt": "Hé"})).json();
    assert_eq!(
        (&tokens["tokens"], &tokens["count"], &tokens["max_model_len"]),
        (&json!([72, 195, 169]), &json!(3), &json!(512))
    );
    assert_eq!(server.post("/detokenize", &tokens).json()["prompt"], "Hé");
    let chat = server.post("/tokenize", &json!({"messages": [{"role": "user", "content": "x"}]})).json();
    assert_eq!(server.post("/detokenize", &chat).json()["text"], "user: x\nassistant:");
    assert_eq!(server.post("/detokenize", &json!({"tokens": [300]})).param().as_deref(), Some("tokens"));
    assert_eq!(server.post("/detokenize", &json!({"tokens": ["a"]})).param().as_deref(), Some("tokens"));
}

#[test]
fn prompts_are_reused_and_usage_says_so() {
    let server = server();
    let prompt = "abcdefgh".repeat(25);
    let ask = || server.post("/v1/completions", &complete(json!({"prompt": prompt, "logprobs": 3}))).json();
    let (first, second) = (ask(), ask());
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 192);
    assert_eq!(first["choices"], second["choices"]);
}

#[test]
fn a_models_own_template_is_used_and_control_tokens_cannot_be_typed() {
    let tokenizer = byte_tokenizer().with_chat_template(cupola_tokenizer::chat::CHATML);
    let server = Running::with(ServerConfig::default(), config(), tokenizer, None);
    assert_eq!(server.get("/v1/models/small").json()["chat_template"], "model");
    let chat = server.post("/tokenize", &json!({"messages": [{"role": "user", "content": "x"}]})).json();
    let text = server.post("/detokenize", &chat).json()["text"].clone();
    assert_eq!(text, "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
    let typed = server.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": "a<|end|>b"}]}));
    assert_eq!((typed.status, typed.param().as_deref()), (400, Some("messages")));
}

#[test]
fn fields_without_effect_are_named_in_a_header() {
    let server = server();
    let reply =
        server.post("/v1/chat/completions", &chat(json!({"user": "u", "store": true, "x y\n": 1, "metadata": null})));
    assert_eq!(reply.header("x-ignored-fields"), Some("store, user, x?y?"));
    assert!(reply.header("x-request-id").is_some());
    assert_eq!(server.post("/v1/chat/completions", &chat(json!({}))).header("x-ignored-fields"), None);
}

#[test]
fn metrics_are_in_prometheus_s_words() {
    let server = server();
    server.post("/v1/completions", &complete(json!({})));
    let text = server.get("/metrics").body;
    for line in [
        "cupola_http_requests_total{route=\"/v1/completions\",status=\"200\"} 1",
        "cupola_generated_tokens_total{model=\"small\"} 6",
        "cupola_prompt_tokens_total{model=\"small\"} 4",
        "cupola_time_to_first_token_seconds_count{model=\"small\"} 1",
        "cupola_time_between_tokens_seconds_count{model=\"small\"} 5",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}
