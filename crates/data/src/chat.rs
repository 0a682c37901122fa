//! Conversations: token ids, and which of them are answers.

use cupola_tokenizer::chat::ChatOptions;
use cupola_tokenizer::{AllowedSpecial, EncodeOptions, Tokenizer};
use serde_json::Value;

/// A conversation as tokens; `learn` marks the assistant's answers with what ends them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The ids.
    pub ids: Vec<u32>,
    /// For each, whether it is to be learnt.
    pub learn: Vec<bool>,
    /// Bytes of text in the answers.
    pub answer_bytes: u64,
    /// Bytes of text in all messages.
    pub text_bytes: u64,
}

/// Puts the messages through the tokenizer's chat template. An answer is what the template adds between the text that asks for
/// it (`add_generation_prompt`) and the text with it.
///
/// # Errors
/// With what is wrong with the messages, or with the template.
pub fn conversation(tokenizer: &Tokenizer, messages: &Value) -> Result<Conversation, String> {
    let list = messages.as_array().ok_or("`messages` is not a list")?;
    let template = tokenizer.chat_template().map_err(|error| error.to_string())?;
    let options = |asks| ChatOptions { add_generation_prompt: asks, now: Some(0), ..ChatOptions::default() };
    let render = |n: usize, asks| template.render(&list[..n], &options(asks)).map_err(|error| error.to_string());
    let all = EncodeOptions::default().allow(AllowedSpecial::All);
    let mut out = Conversation::default();
    let mut push = |text: &str, learn: bool| {
        let ids = tokenizer.encode_with(text, &all).map_err(|error| error.to_string())?;
        out.learn.resize(out.learn.len() + ids.len(), learn);
        out.ids.extend(ids);
        Ok::<(), String>(())
    };
    let mut done = String::new();
    let mut answers = 0;
    let (mut answer_bytes, mut text_bytes) = (0, 0);
    for (index, message) in list.iter().enumerate() {
        let written = content_bytes(message);
        text_bytes += written;
        let role = message.get("role").and_then(Value::as_str).ok_or("a message without a `role`")?;
        if let Some(token) = special_inside(tokenizer, message) {
            return Err(format!("message {index} contains the text of the special token {token:?}"));
        }
        if role != "assistant" {
            continue;
        }
        answers += 1;
        answer_bytes += written;
        let (asked, answered) = (render(index, true)?, render(index + 1, false)?);
        let question = asked.strip_prefix(&done);
        let answer = answered.strip_prefix(&asked);
        let (Some(question), Some(answer)) = (question, answer) else {
            return Err(format!(
                "the chat template rewrites what came before message {index}, so answers have no place"
            ));
        };
        push(question, false)?;
        // What follows the end of the turn (a line end in ChatML) belongs to the next question.
        let end = answer.trim_end_matches('\n').len();
        push(&answer[..end], true)?;
        done = format!("{asked}{}", &answer[..end]);
    }
    if answers == 0 {
        return Err("no message has the role `assistant`, so there is nothing to learn".to_string());
    }
    let whole = render(list.len(), false)?;
    let rest = whole.strip_prefix(&done).ok_or("the chat template rewrites earlier messages")?;
    push(rest, false)?;
    Ok(Conversation { answer_bytes, text_bytes, ..out })
}

/// Bytes of a message's text: its content, or the texts in the parts of it.
fn content_bytes(message: &Value) -> u64 {
    match message.get("content") {
        Some(Value::String(text)) => text.len() as u64,
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).map(|text| text.len() as u64).sum()
        }
        _ => 0,
    }
}

fn special_inside(tokenizer: &Tokenizer, message: &Value) -> Option<String> {
    let text = message.get("content")?.as_str()?;
    tokenizer.added_tokens().find(|t| t.special && text.contains(&t.content)).map(|t| t.content.clone())
}
