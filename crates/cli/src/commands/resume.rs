//! `cupola resume`.

use clap::Args;
use std::path::PathBuf;

use super::train::{go_on, with_threads};

#[derive(Args)]
pub struct Resume {
    /// The run's folder
    run: PathBuf,
    /// Threads to compute with; results have the same bits for any number [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Show the run in the browser while it trains, on port 7860 or the one given (0 picks one that is free)
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "7860", require_equals = true)]
    dash: Option<u16>,
    /// End with one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Resume {
    /// Goes on with the run.
    ///
    /// # Errors
    /// As `cupola train`.
    pub fn run(self) -> anyhow::Result<()> {
        let _page = self.dash.map(|port| super::dash::beside(&self.run, port)).transpose()?;
        with_threads(self.threads, || go_on(&self.run, self.json))
    }
}
