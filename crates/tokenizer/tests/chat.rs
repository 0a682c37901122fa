//! Against Jinja: what it makes of chat templates, as `tools/golden/chat.py` has written it down.

mod common;

use common::json;
use cupola_tokenizer::chat::{ChatOptions, ChatTemplate};

#[test]
fn templates_give_the_text_that_jinja_gives() {
    let golden = json("chat.json");
    let cases = golden["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let chat = &golden["chats"][case["chat"].as_str().unwrap()];
        let options = ChatOptions {
            add_generation_prompt: chat["add_generation_prompt"].as_bool().unwrap(),
            tools: chat.get("tools").cloned(),
            now: golden["now"].as_i64(),
            ..ChatOptions::default()
        };
        let template = ChatTemplate::new(case["template"].as_str().unwrap(), "<s>", "</s>");
        let found = template.and_then(|template| template.render(chat["messages"].as_array().unwrap(), &options));
        let same = match (&found, case["text"].as_str()) {
            (Ok(found), Some(text)) => found == text,
            (Err(error), None) => error.to_string().contains(case["error"].as_str().unwrap()),
            _ => false,
        };
        if !same {
            wrong.push(format!("{}:\n found    {found:?}\n expected {}", case["name"], case["text"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 60);
}
