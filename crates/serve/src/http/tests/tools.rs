//! Calls that a model makes of its own accord.

use std::sync::Arc;

use cupola_tokenizer::chat::CHATML;
use serde_json::{Map, Value, json};

use crate::api::fields::Fields;
use crate::api::tools::Tools;
use crate::http::ServerConfig;
use crate::served::Served;
use crate::testing::{Running, byte_tokenizer, config, model};

fn look() -> Value {
    json!({"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}})
}

/// A model whose answer is, of its own accord as far as tools go, a text of this form.
fn answer(server: &Running, regex: &str, extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "x"}], "tools": [look()], "max_tokens": 200,
        "response_format": {"type": "regex", "regex": regex}});
    extra.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["choices"][0].clone()
}

#[test]
fn a_call_in_a_free_answer_is_found_beside_its_text() {
    let server = Running::new(ServerConfig::default());
    let call = r#"<tool_call>\{"name": "look", "arguments": \{"ok": (true|false)\}\}</tool_call>"#;
    let alone = answer(&server, call, json!({"tool_choice": "auto"}));
    let made = &alone["message"]["tool_calls"][0];
    assert_eq!((&made["type"], &made["function"]["name"]), (&json!("function"), &json!("look")));
    let arguments: Value = serde_json::from_str(made["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["ok"].is_boolean());
    assert_eq!((&alone["message"]["content"], &alone["finish_reason"]), (&Value::Null, &json!("tool_calls")));
    let both = answer(&server, &format!("I look: {call}{call}"), json!({}));
    assert_eq!(both["message"]["content"], "I look: ");
    assert_eq!(both["message"]["tool_calls"].as_array().unwrap().len(), 2);
    let one = answer(&server, &format!("I look: {call}{call}"), json!({"parallel_tool_calls": false}));
    assert_eq!(one["message"]["tool_calls"].as_array().unwrap().len(), 1);
    let none = answer(&server, "No\\.", json!({}));
    assert_eq!((&none["message"]["content"], &none["finish_reason"]), (&json!("No."), &json!("stop")));
    assert!(none["message"]["tool_calls"].is_null());
    let off = answer(&server, call, json!({"tool_choice": "none"}));
    assert!(off["message"]["content"].as_str().unwrap().starts_with("<tool_call>"), "no call where none may be");
}

#[test]
fn a_template_that_knows_tools_gets_them_and_any_other_a_message_about_them() {
    let prompt = |template: Option<&str>, messages: Value| {
        let tokenizer = match template {
            Some(template) => byte_tokenizer().with_chat_template(template),
            None => byte_tokenizer(),
        };
        let served = Served::new(model(""), tokenizer, vec![256], "small", config(), Arc::default()).unwrap();
        let asked = Fields::new(json!({"tools": [look()]}), String::new());
        let tools = Tools::take(&mut asked.unwrap(), false).unwrap();
        let ids = served.chat(messages.as_array().unwrap(), &tools, Map::new()).unwrap().ids;
        served.tokenizer.decode_lossy(&ids).unwrap()
    };
    let hello = json!([{"role": "user", "content": "x"}]);
    let native = "{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}{{ messages[0].content }}";
    assert_eq!(prompt(Some(native), hello.clone()), "[look]x");
    let described = "You may call functions. They are, one on each line:\n{\"name\":\"look\"";
    let told = prompt(Some(CHATML), hello.clone());
    assert!(told.starts_with(&format!("<|im_start|>system\n{described}")), "{told}");
    assert!(told.ends_with("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"), "{told}");
    let system = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]);
    let told = prompt(Some(CHATML), system);
    assert!(told.starts_with(&format!("<|im_start|>system\nBe brief.\n\n{described}")), "{told}");
    assert!(prompt(None, hello).starts_with(&format!("system: {described}")), "the plain form");
}
