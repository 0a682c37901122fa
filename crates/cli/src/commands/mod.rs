//! The commands. Each is one variant here and one file or folder beside this one.

mod regex;
mod serve;
mod tokenizer;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Train tokenizers, turn text into ids and ids into text
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Look at regular expressions: what they match and how they run
    #[command(subcommand)]
    Regex(regex::Command),
    /// Answer requests over HTTP, as OpenAI's API does, with a chat page in the browser
    Serve(serve::Serve),
}

impl Command {
    /// Runs the command to its end.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Tokenizer(command) => command.run(),
            Self::Regex(command) => command.run(),
            Self::Serve(command) => command.run(),
        }
    }
}
