//! `cupola chat`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use cupola_serve::{Client, Keys, LoadOptions, Registry, Server, ServerConfig, Source};
use serde_json::{Map, Value, json};

use super::serve::failure;
use crate::exit::Failure;

/// `cupola chat DIR|URL`
#[derive(Args)]
pub struct Chat {
    /// A model directory, or the address of a server, such as http://127.0.0.1:8080; https is not spoken
    #[arg(value_name = "DIR|URL")]
    place: String,
    /// The model, where a server has several
    #[arg(long)]
    model: Option<String>,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// 0 takes the likeliest token
    #[arg(long)]
    temperature: Option<f64>,
    /// Only the likeliest tokens that have this probability together
    #[arg(long)]
    top_p: Option<f64>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Equal seeds give equal answers
    #[arg(long)]
    seed: Option<u64>,
}

const HELP: &str = "/new begins again, /retry asks for another answer, /system TEXT tells the model something first, \
                    /set NAME VALUE sets a field such as temperature, /quit ends. Ctrl-C stops an answer.";

/// The conversation and how it is gone on with.
struct Session {
    client: Client,
    model: String,
    system: Option<String>,
    turns: Vec<Value>,
    fields: Map<String, Value>,
}

impl Chat {
    /// Talks until the input ends.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.talk())
    }

    async fn talk(self) -> anyhow::Result<()> {
        let client = if self.place.contains("://") {
            Client::new(&self.place, std::env::var("CUPOLA_API_KEY").ok())?
        } else {
            serve_here(Path::new(&self.place)).await?
        };
        let models = client.models().await?;
        let model = match self.model {
            Some(model) => model,
            None => models.first().cloned().ok_or_else(|| Failure::Refused("the server has no model".into()))?,
        };
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.to_owned(), value));
        set("temperature", self.temperature.map(|x| json!(x)));
        set("top_p", self.top_p.map(|x| json!(x)));
        set("max_tokens", self.max_tokens.map(|x| json!(x)));
        set("seed", self.seed.map(|x| json!(x)));
        let mut session = Session { client, model, system: self.system, turns: Vec::new(), fields };
        let person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if person {
            println!("{}. {HELP}", session.model);
        }
        loop {
            if person {
                print!("> ");
                std::io::stdout().flush()?;
            }
            // Reading waits on a thread of its own, so that the answers' connections live on.
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().lock().read_line(&mut line).map(|read| (read > 0).then_some(line))
            });
            let line = tokio::select! {
                line = line => line??,
                _ = tokio::signal::ctrl_c() => {
                    println!();
                    std::process::exit(130);
                }
            };
            let Some(line) = line else { return Ok(()) };
            let line = line.trim();
            match line.split_once(' ').unwrap_or((line, "")) {
                ("", _) => {}
                ("/quit" | "/exit", _) => return Ok(()),
                ("/help", _) => println!("{HELP}"),
                ("/new", _) => session.turns.clear(),
                ("/system", text) => session.system = (!text.is_empty()).then(|| text.to_owned()),
                ("/set", text) => session.set(text),
                ("/retry", _) => session.retry(person).await?,
                _ => session.say(line, person).await?,
            }
        }
    }
}

/// Serves a model directory on this machine, to whoever knows a key that is never shown.
async fn serve_here(dir: &Path) -> anyhow::Result<Client> {
    use std::hash::{BuildHasher, RandomState};
    let key = format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    let source = Source::new(dir).map_err(failure)?;
    cupola_train::checkpoint::verify_model(&source.dir)?;
    let models = Registry::new(vec![source], LoadOptions::default()).map_err(failure)?;
    let keys = Keys::new([key.clone()]).map_err(failure)?;
    let server =
        Server::bind(ServerConfig { port: 0, keys, ..ServerConfig::default() }, models).await.map_err(failure)?;
    server.load().map_err(failure)?;
    let client = Client::new(&format!("http://{}", server.address()), Some(key))?;
    tokio::spawn(server.run(std::future::pending()));
    Ok(client)
}

impl Session {
    fn set(&mut self, text: &str) {
        let Some((name, value)) = text.trim().split_once(' ') else {
            println!("/set NAME VALUE, for instance /set temperature 0.7");
            return;
        };
        match serde_json::from_str(value) {
            Ok(Value::Null) => self.fields.remove(name),
            Ok(value) => self.fields.insert(name.to_owned(), value),
            Err(_) => self.fields.insert(name.to_owned(), json!(value)),
        };
    }

    /// Says something and prints the answer. What was refused is as if it had not been said.
    async fn say(&mut self, text: &str, person: bool) -> anyhow::Result<()> {
        self.turns.push(json!({"role": "user", "content": text}));
        if !self.answer(person).await? {
            self.turns.pop();
        }
        Ok(())
    }

    /// Prints another answer to what was said last. When it is refused, the one before stays.
    async fn retry(&mut self, person: bool) -> anyhow::Result<()> {
        let before = self.turns.pop_if(|turn| turn["role"] == "assistant");
        if !self.answer(person).await? {
            self.turns.extend(before);
        }
        Ok(())
    }

    /// Prints the answer to what was said last. False when the server refuses, which is shown to a person, who may say something
    /// else; it ends a script.
    async fn answer(&mut self, person: bool) -> anyhow::Result<bool> {
        let mut messages = self.turns.clone();
        if let Some(system) = &self.system {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
        let mut body = Value::Object(self.fields.clone());
        body["model"] = json!(self.model);
        body["messages"] = json!(messages);
        body["stream"] = json!(true);
        let mut text = String::new();
        let mut broken = None;
        let asked = self.client.stream("/v1/chat/completions", &body, |chunk| {
            let part = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            text.push_str(part);
            let shown = if person { harmless(part) } else { part.to_owned() };
            let mut out = std::io::stdout().lock();
            if let Err(error) = out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
                broken = Some(error);
            }
        });
        let outcome = tokio::select! {
            outcome = asked => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        if let Some(error) = broken {
            return Err(error.into());
        }
        if outcome.is_ok() || !text.is_empty() {
            println!();
        }
        match outcome {
            Ok(()) => {
                self.turns.push(json!({"role": "assistant", "content": text}));
                Ok(true)
            }
            Err(error) if person => {
                eprintln!("{error}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Text for a terminal: what a model writes must not move the cursor, or set the window's title.
fn harmless(text: &str) -> String {
    let moves = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if moves(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_retry_keeps_what_was_said_and_a_refused_message_is_not_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // Nobody listens there.
            let client = Client::new("http://127.0.0.1:1", None).expect("an address");
            let turns = vec![json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})];
            let fields = Map::new();
            let mut session = Session { client, model: "m".into(), system: None, turns: turns.clone(), fields };
            session.retry(true).await.expect("it is shown");
            assert_eq!(session.turns, turns);
            session.say("c", true).await.expect("it is shown");
            assert_eq!(session.turns, turns);
            // Stopped before its answer came: there is none to be kept.
            session.turns.pop();
            session.retry(true).await.expect("it is shown");
            assert_eq!(session.turns, turns[..1]);
            assert!(session.retry(false).await.is_err(), "a script ends");
        });
    }

    #[test]
    fn no_text_of_a_model_commands_the_terminal() {
        assert_eq!(harmless("a\n\tb\u{1b}]0;x\u{7}\r\u{9b}2Jé"), "a\n\tb\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}2Jé");
    }
}
