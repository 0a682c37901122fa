//! The commands. Each is one variant here and one file or folder beside this one.

mod bench;
mod chat;
mod config;
mod dash;
mod data;
mod demo;
mod eval;
mod generate;
mod model;
mod regex;
mod resume;
mod serve;
mod tokenizer;
mod train;
mod tui;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Train a small model on the text that the program carries, for about two minutes, then chat with it
    Demo(demo::Demo),
    /// Train a model on text
    Train(Box<train::Train>),
    /// Go on with a run that was stopped
    Resume(resume::Resume),
    /// Measure a model: perplexity, bits a byte, multiple choice
    Eval(eval::Eval),
    /// Turn text into tokens, count, look, check, split
    #[command(subcommand)]
    Data(data::Command),
    /// Look at models
    #[command(subcommand)]
    Model(model::Command),
    /// Measure how fast this machine trains, writes and computes
    #[command(subcommand)]
    Bench(bench::Command),
    /// Show and check configurations
    #[command(subcommand)]
    Config(config::Command),
    /// Have a model write
    Generate(generate::Generate),
    /// Train tokenizers, turn text into ids and ids into text
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Look at regular expressions: what they match and how they run
    #[command(subcommand)]
    Regex(regex::Command),
    /// Talk to a model in the terminal
    Chat(chat::Chat),
    /// Watch runs in the browser
    Dash(dash::Dash),
    /// Watch a run in the terminal
    Tui(tui::Tui),
    /// Answer requests over HTTP, as OpenAI's API does, with a chat page in the browser
    Serve(serve::Serve),
}

impl Command {
    /// Runs the command to its end.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Demo(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Resume(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Model(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Generate(command) => command.run(),
            Self::Tokenizer(command) => command.run(),
            Self::Regex(command) => command.run(),
            Self::Chat(command) => command.run(),
            Self::Dash(command) => command.run(),
            Self::Tui(command) => command.run(),
            Self::Serve(command) => command.run(),
        }
    }
}
