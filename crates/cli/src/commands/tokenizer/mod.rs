//! `cupola tokenizer`: training, encoding, decoding and looking at tokenizers.
//!
//! - `choice`: the option that says which tokenizer
//! - the other files: one command each

mod choice;
mod convert;
mod count;
mod decode;
mod encode;
mod inspect;
mod train;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Command {
    /// Learn a vocabulary from text
    Train(train::Train),
    /// Turn text into token ids
    Encode(encode::Encode),
    /// Turn token ids back into text
    Decode(decode::Decode),
    /// Count the tokens of files
    Count(count::Count),
    /// Say what a tokenizer is made of
    Inspect(inspect::Inspect),
    /// Write a tokenizer as `tokenizer.json` or as a model directory
    Convert(convert::Convert),
}

impl Command {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Train(command) => command.run(),
            Self::Encode(command) => command.run(),
            Self::Decode(command) => command.run(),
            Self::Count(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Convert(command) => command.run(),
        }
    }
}
