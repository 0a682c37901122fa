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
        with_threads(self.threads, || go_on(&self.run, self.json))
    }
}
