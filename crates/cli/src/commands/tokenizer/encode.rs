//! `cupola tokenizer encode`.

use super::choice::Choice;
use crate::input::{self, Source};
use crate::output::{Output, answer_lines};
use crate::terminal::Style;
use anyhow::Context;
use clap::Args;
use cupola_tokenizer::{AllowedSpecial, EncodeOptions, Encoding, Tokenizer};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Without --ids or --json, each token is a line: its id, its byte range in the text and its text.

With --jsonl, each line of standard input is an object with `text`, or with `bytes_hex` for bytes that may not be UTF-8,
and optionally with `allowed_special` (\"all\" or a list). It is answered by one line: {\"ids\": [...]} or {\"error\": ...}.
Other keys are left alone.

Text never turns into a special token unless --allowed-special says so.")]
pub struct Encode {
    #[command(flatten)]
    choice: Choice,
    /// Files to encode; standard input without any or for `-`
    files: Vec<PathBuf>,
    /// Encode this text
    #[arg(long, conflicts_with = "files")]
    text: Option<String>,
    /// Print ids only, with spaces between them
    #[arg(long, conflicts_with = "json")]
    ids: bool,
    /// Take each line as a text of its own, without its line feed
    #[arg(long)]
    lines: bool,
    /// Print one JSON object for each text
    #[arg(long)]
    json: bool,
    /// Answer JSON objects, one a line
    #[arg(long, conflicts_with_all = ["files", "text", "ids", "lines", "json", "allowed_special", "template"])]
    jsonl: bool,
    /// A special token that the text may contain, or `all`; may be given several times
    #[arg(long, value_name = "TOKEN")]
    allowed_special: Vec<String>,
    /// Put the tokens around each text that the model expects there
    #[arg(long)]
    template: bool,
}

impl Encode {
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = self.choice.load()?;
        if self.jsonl {
            return answer_lines(|object| answer(object, &tokenizer));
        }
        let allowed_special = match &self.allowed_special[..] {
            [] => AllowedSpecial::None,
            list if list.iter().any(|token| token == "all") => AllowedSpecial::All,
            some => AllowedSpecial::only(some),
        };
        let options = EncodeOptions { allowed_special, template: self.template, ..EncodeOptions::default() };
        let mut out = Output::new();
        if let Some(text) = &self.text {
            let source = Source { name: "--text".into(), bytes: text.clone().into_bytes() };
            self.source(&source, &tokenizer, &options, &mut out)?;
        }
        let paths = if self.text.is_some() { Vec::new() } else { input::or_stdin(&self.files) };
        for path in paths {
            self.source(&input::read(&path)?, &tokenizer, &options, &mut out)?;
        }
        out.finish()
    }

    fn source(
        &self,
        source: &Source,
        tokenizer: &Tokenizer,
        options: &EncodeOptions,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let text = source.text()?;
        if !self.lines {
            return self.print(source, None, text, tokenizer, options, out);
        }
        for (number, line) in (1..).zip(input::lines(text)) {
            self.print(source, Some(number), line, tokenizer, options, out)?;
        }
        Ok(())
    }

    fn print(
        &self,
        source: &Source,
        line: Option<usize>,
        text: &str,
        tokenizer: &Tokenizer,
        options: &EncodeOptions,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let place = || match line {
            Some(line) => format!("{}:{line}", source.shown()),
            None => source.shown().to_owned(),
        };
        if self.ids {
            let ids = tokenizer.encode_with(text, options).with_context(place)?;
            return out.numbers(&ids).context("standard output");
        }
        let encoding = tokenizer.encoding(text, options).with_context(place)?;
        if self.json {
            let mut object = json!({ "source": source.name });
            if let Some(line) = line {
                object["line"] = line.into();
            }
            let tokens: Vec<_> = encoding.ids.iter().map(|&id| tokenizer.id_to_token(id)).collect();
            object["ids"] = json!(encoding.ids);
            object["tokens"] = json!(tokens);
            object["offsets"] = json!(encoding.offsets);
            return out.json(&object).context("standard output");
        }
        table(tokenizer, &encoding, out).context("standard output")
    }
}

/// One token a line.
fn table(tokenizer: &Tokenizer, encoding: &Encoding, out: &mut Output) -> std::io::Result<()> {
    let (dim, cyan) = (Style::DIM.on_stdout(), Style::CYAN.on_stdout());
    let end = encoding.offsets.iter().map(|offset| offset.1).max().unwrap_or(0);
    let wide = end.to_string().len();
    for (&id, &(start, end)) in encoding.ids.iter().zip(&encoding.offsets) {
        let token = tokenizer.id_to_token(id).unwrap_or_default();
        let colour = if tokenizer.is_special(id) { cyan } else { Style::BOLD.on_stdout() };
        writeln!(out, "{id:>7}  {dim}{start:>wide$}..{end:<wide$}{dim:#}  {colour}{token:?}{colour:#}")?;
    }
    Ok(())
}

fn answer(object: &Value, tokenizer: &Tokenizer) -> anyhow::Result<Value> {
    let allowed = allowed(object.get("allowed_special"))?;
    let ids = match (object.get("text"), object.get("bytes_hex")) {
        (Some(text), None) => {
            let text = text.as_str().context("`text` is not a string")?;
            tokenizer.encode_with(text, &EncodeOptions::default().allow(allowed))?
        }
        (None, Some(hex)) => {
            let bytes = hex.as_str().and_then(bytes_of).context("`bytes_hex` is not pairs of hexadecimal digits")?;
            anyhow::ensure!(allowed == AllowedSpecial::None, "`bytes_hex` takes no `allowed_special`");
            tokenizer.encode_bytes(&bytes)?
        }
        (Some(_), Some(_)) => anyhow::bail!("the object has both `text` and `bytes_hex`"),
        (None, None) => anyhow::bail!("the object has neither `text` nor `bytes_hex`"),
    };
    Ok(json!({ "ids": ids }))
}

fn allowed(value: Option<&Value>) -> anyhow::Result<AllowedSpecial> {
    let wrong = "`allowed_special` is neither \"all\" nor a list of tokens";
    match value {
        None | Some(Value::Null) => Ok(AllowedSpecial::None),
        Some(Value::String(all)) if all == "all" => Ok(AllowedSpecial::All),
        Some(Value::Array(list)) if list.is_empty() => Ok(AllowedSpecial::None),
        Some(Value::Array(list)) => {
            let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            Ok(AllowedSpecial::only(names.context(wrong)?))
        }
        Some(_) => anyhow::bail!(wrong),
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(bytes_of("00fFa1"), Some(vec![0, 255, 161]));
        assert_eq!(bytes_of(""), Some(vec![]));
        for wrong in ["0", "0g", "+1", "é"] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }
}
