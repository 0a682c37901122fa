//! `cupola tokenizer convert`.

use super::choice::Details;
use crate::exit::Failure;
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
An output that ends in .json becomes a tokenizer.json; any other becomes a model directory with tokenizer.json and
tokenizer_config.json (special tokens by role, chat template).")]
pub struct Convert {
    /// A vocabulary by name, or a path of any format that is read
    #[arg(value_name = "NAME|PATH")]
    input: String,
    /// Where to write
    output: PathBuf,
    /// Write over what is there
    #[arg(long)]
    force: bool,
    /// Say what was written as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    details: Details,
}

impl Convert {
    pub fn run(self) -> anyhow::Result<()> {
        let tokenizer = self.details.load(&self.input)?;
        let is_file = self.output.extension().is_some_and(|extension| extension == "json");
        let file = if is_file { self.output.clone() } else { self.output.join("tokenizer.json") };
        if file.exists() && !self.force {
            return Err(Failure::Usage(format!("{} is already there; --force writes over it", file.display())).into());
        }
        if is_file {
            tokenizer.save_json(&self.output).context("the tokenizer was not written")?;
        } else {
            tokenizer.save_dir(&self.output).context("the tokenizer was not written")?;
        }
        let (file, ids) = (file.display().to_string(), tokenizer.vocab_size());
        if self.json {
            println!("{}", json!({ "output": file, "ids": ids }));
        } else {
            println!("{file}: {ids} ids");
        }
        Ok(())
    }
}
