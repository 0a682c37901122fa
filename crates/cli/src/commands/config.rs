//! `cupola config`.

use crate::terminal::Style;
use anyhow::Context;
use clap::{Args, Subcommand};
use cupola_train::config::{self, Config};
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Print a configuration with every default, as TOML
    Show(Given),
    /// Say whether a file can be used
    Check(Given),
    /// Print the JSON Schema of configuration files, for editors
    Schema,
}

#[derive(Args)]
pub struct Given {
    /// A file with settings
    #[arg(value_name = "FILE.toml")]
    file: Option<PathBuf>,
    /// A setting, such as optimizer.learning_rate=3e-4; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON instead
    #[arg(long)]
    json: bool,
}

impl Given {
    fn read(&self) -> anyhow::Result<Config> {
        Ok(config::read(self.file.as_deref(), &self.set)?)
    }
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When the configuration is wrong, with the place.
    pub fn run(self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Show(given) => {
                let config = given.read()?;
                let text = if given.json {
                    serde_json::to_string_pretty(&config)?
                } else {
                    toml::to_string(&config).context("a configuration as TOML")?
                };
                writeln!(out, "{}", text.trim_end()).context("standard output")
            }
            Self::Check(given) => {
                let config = given.read()?;
                let changed = config::settings(&config);
                if given.json {
                    return writeln!(out, "{}", serde_json::json!({ "valid": true, "settings": changed }))
                        .context("standard output");
                }
                let bold = Style::BOLD.on_stdout();
                writeln!(out, "{bold}valid{bold:#}, {} settings differ from the defaults", changed.len())
                    .context("standard output")?;
                changed.iter().try_for_each(|line| writeln!(out, "  {line}")).context("standard output")
            }
            Self::Schema => {
                let text = serde_json::to_string_pretty(&config::schema())?;
                writeln!(out, "{text}").context("standard output")
            }
        }
    }
}
