//! `cupola tokenizer inspect`.

use super::choice::Details;
use crate::exit::Failure;
use crate::output::Output;
use crate::terminal::{Style, grouped};
use clap::Args;
use cupola_tokenizer::model::bpe::Alphabet;
use cupola_tokenizer::split::Step;
use cupola_tokenizer::template::Part;
use cupola_tokenizer::{Model, Tokenizer};
use serde_json::{Value, json};
use std::io::Write;

#[derive(Args)]
pub struct Inspect {
    /// A vocabulary by name, or a path of any format that is read
    #[arg(value_name = "NAME|PATH")]
    tokenizer: String,
    #[command(flatten)]
    details: Details,
    /// Print the token with this id instead; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<u32>,
    /// Print the id of this token instead; may be given several times
    #[arg(long, value_name = "TEXT")]
    token: Vec<String>,
    /// Print all tokens in order of their ids instead
    #[arg(long, conflicts_with_all = ["id", "token"])]
    vocabulary: bool,
    /// Print JSON: one object, or one object for each token
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = self.details.load(&self.tokenizer)?;
        let mut out = Output::new();
        let mut ids = self.id.clone();
        for token in &self.token {
            let id = tokenizer.token_to_id(token);
            ids.push(id.ok_or_else(|| Failure::Refused(format!("{token:?} is not a token of {}", self.tokenizer)))?);
        }
        if self.vocabulary {
            ids = (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.token_bytes(id).is_some()).collect();
        }
        if self.vocabulary || !ids.is_empty() {
            for id in ids {
                self.token(&tokenizer, id, &mut out)?;
            }
        } else if self.json {
            out.json(&summary(&tokenizer))?;
        } else {
            page(&summary(&tokenizer), &mut out)?;
        }
        out.finish()
    }

    fn token(&self, tokenizer: &Tokenizer, id: u32, out: &mut Output) -> anyhow::Result<()> {
        let size = tokenizer.vocab_size();
        let Some(bytes) = tokenizer.token_bytes(id) else {
            return Err(Failure::Refused(format!("id {id} is not in the vocabulary ({size} ids)")).into());
        };
        let text = std::str::from_utf8(bytes);
        let special = tokenizer.is_special(id);
        if self.json {
            out.json(&json!({ "id": id, "text": text.ok(), "bytes": bytes, "special": special }))?;
            return Ok(());
        }
        let mark = if special { "  special" } else { "" };
        match text {
            Ok(text) => writeln!(out, "{id:>7}  {text:?}{mark}")?,
            Err(_) => writeln!(out, "{id:>7}  b\"{}\"{mark}", bytes.escape_ascii())?,
        }
        Ok(())
    }
}

/// Everything that the page shows.
fn summary(tokenizer: &Tokenizer) -> Value {
    let parts = tokenizer.parts();
    let name = |id: Option<u32>| id.map(|id| json!({ "id": id, "token": tokenizer.id_to_token(id) }));
    let special = tokenizer.added_tokens().filter(|t| t.special);
    let special: Vec<Value> = special.map(|t| json!({ "id": t.id, "token": t.content })).collect();
    let added: Vec<Value> = tokenizer
        .added_tokens()
        .filter(|token| !token.special)
        .map(|token| json!({ "id": token.id, "token": token.content }))
        .collect();
    let template: Vec<Value> = parts
        .template
        .single()
        .iter()
        .map(|part| match part {
            Part::Token { id, .. } => json!(tokenizer.id_to_token(*id)),
            _ => json!({ "text": true }),
        })
        .collect();
    json!({
        "model": model(&parts.model),
        "ids": tokenizer.vocab_size(),
        "tokens": parts.model.vocab().len(),
        "longest_token_bytes": parts.model.vocab().longest(),
        "normalizers": parts.normalizers.iter().map(|step| first_word(&format!("{step:?}"))).collect::<Vec<_>>(),
        "pre_tokenizer": parts.pre_tokenizer.steps().iter().map(step).collect::<Vec<_>>(),
        "decoder": parts.decoder.steps().iter().map(|step| first_word(&format!("{step:?}"))).collect::<Vec<_>>(),
        "special_tokens": special,
        "added_tokens": added,
        "template": template,
        "bos": name(parts.bos),
        "eos": name(parts.eos),
        "chat_template": parts.chat_template.is_some(),
    })
}

fn model(model: &Model) -> &'static str {
    match model {
        Model::Bpe(bpe) if bpe.alphabet() == Alphabet::Bytes => "byte-level BPE",
        Model::Bpe(_) => "BPE over characters",
        Model::Unigram(_) => "Unigram",
        Model::WordPiece(_) => "WordPiece",
        Model::Chars(_) => "characters",
        Model::Bytes(_) => "bytes",
        _ => "another model",
    }
}

fn step(step: &Step) -> Value {
    match step {
        Step::Pattern { pattern, .. } => json!({ "step": "Pattern", "pattern": pattern.as_str() }),
        other => json!({ "step": first_word(&format!("{other:?}")) }),
    }
}

/// The name of a variant.
fn first_word(debug: &str) -> String {
    debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// The summary for people.
fn page(summary: &Value, out: &mut Output) -> std::io::Result<()> {
    let bold = Style::BOLD.on_stdout();
    let mut line = |name: &str, value: String| writeln!(out, "{bold}{name:<15}{bold:#} {value}");
    let number = |key: &str| grouped(summary[key].as_u64().unwrap_or(0) as usize);
    let list = |key: &str| summary[key].as_array().cloned().unwrap_or_default();
    let words = |key: &str| {
        let words: Vec<String> = list(key).iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let token = |value: &Value| format!("{} {}", value["id"], value["token"].as_str().unwrap_or_default());
    line("model", summary["model"].as_str().unwrap_or_default().to_owned())?;
    line("ids", number("ids"))?;
    line(
        "tokens",
        format!("{} in the model, the longest of {} bytes", number("tokens"), number("longest_token_bytes")),
    )?;
    line("normalizers", words("normalizers"))?;
    let steps = list("pre_tokenizer");
    if steps.is_empty() {
        line("pre-tokenizer", "none".to_owned())?;
    }
    for (i, step) in steps.iter().enumerate() {
        let text = step["pattern"].as_str().or(step["step"].as_str()).unwrap_or_default();
        line(if i == 0 { "pre-tokenizer" } else { "" }, text.to_owned())?;
    }
    line("decoder", words("decoder"))?;
    for (title, key) in [("special tokens", "special_tokens"), ("added tokens", "added_tokens")] {
        let tokens = list(key);
        let shown: Vec<String> = tokens.iter().take(8).map(token).collect();
        let more = tokens.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        line(title, if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) })?;
    }
    let template: Vec<String> =
        list("template").iter().map(|part| part.as_str().unwrap_or("TEXT").to_owned()).collect();
    line("template", template.join(" "))?;
    for key in ["bos", "eos"] {
        line(key, if summary[key].is_null() { "none".to_owned() } else { token(&summary[key]) })?;
    }
    line("chat template", if summary["chat_template"] == true { "yes" } else { "none" }.to_owned())
}
