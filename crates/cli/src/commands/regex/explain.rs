//! `cupola regex explain`.

use crate::output::Output;
use crate::terminal::Style;
use clap::Args;
use cupola_regex::{Regex, UNICODE_VERSION};
use serde_json::json;
use std::io::Write;

#[derive(Args)]
pub struct Explain {
    /// The regular expression
    pattern: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn run(self) -> anyhow::Result<()> {
        let regex = Regex::new(&self.pattern)?;
        let groups: Vec<Option<&str>> = regex.capture_names().skip(1).collect();
        let (major, minor, _) = UNICODE_VERSION;
        let mut out = Output::new();
        if self.json {
            out.json(&json!({
                "pattern": self.pattern,
                "plan": regex.plan(),
                "groups": groups,
                "bytes": regex.memory(),
                "unicode": format!("{major}.{minor}"),
            }))?;
            return out.finish();
        }
        let bold = Style::BOLD.on_stdout();
        writeln!(out, "{bold}pattern{bold:#}  {}", self.pattern)?;
        for (number, name) in (1..).zip(&groups) {
            writeln!(out, "{bold}group{bold:#}    {number} {}", name.unwrap_or("(no name)"))?;
        }
        writeln!(out, "{bold}plan{bold:#}     {}", regex.plan().trim_end().replace('\n', "\n         "))?;
        writeln!(
            out,
            "{bold}size{bold:#}     about {} KiB compiled, Unicode {major}.{minor}",
            regex.memory().div_ceil(1024)
        )?;
        out.finish()
    }
}
