//! `cupola demo`.

use clap::Args;
use std::path::PathBuf;

use super::train::{Train, with_threads};

/// What two minutes are without what stands around them.
const SECONDS: f64 = 110.0;

#[derive(Args)]
pub struct Demo {
    /// The run's folder [default: runs/demo-DATE]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Steps, instead of about two minutes
    #[arg(long)]
    steps: Option<u64>,
    /// Threads to compute with
    #[arg(long)]
    threads: Option<usize>,
    /// End with one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Trains on the text that the program carries.
    ///
    /// # Errors
    /// As `cupola train`.
    pub fn run(self) -> anyhow::Result<()> {
        eprintln!("training a small model on the text that this program carries: its own documents and sources");
        let train = Train {
            out: self.out,
            steps: self.steps,
            time: if self.steps.is_none() { Some(SECONDS) } else { None },
            json: self.json,
            ..Train::default()
        };
        with_threads(self.threads, || train.start(train.configuration()?))
    }
}
