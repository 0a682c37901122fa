//! `cupola demo`.

use clap::Args;
use std::path::{Path, PathBuf};

use super::train::{Train, choose_folder, with_threads};

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
    /// The port of the dashboard, and then of the chat; 0 picks one that is free for both
    #[arg(long, default_value_t = 7860)]
    port: u16,
    /// End when training does, without a chat
    #[arg(long)]
    no_serve: bool,
    /// End with one JSON object on standard output, without a chat
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Trains on the text that the program carries, watched in the browser; then the same address answers with a chat.
    ///
    /// # Errors
    /// As `cupola train` and `cupola serve`.
    pub fn run(self) -> anyhow::Result<()> {
        crate::output::note(
            "training a small model on the text that this program carries: its own documents and sources",
        );
        let out = self.out.map_or_else(|| choose_folder(Path::new("runs"), "demo", false), Ok)?;
        let page = super::dash::beside(&out, self.port)?;
        let port = page.port();
        let train = Train {
            out: Some(out.clone()),
            steps: self.steps,
            time: if self.steps.is_none() { Some(SECONDS) } else { None },
            json: self.json,
            ..Train::default()
        };
        with_threads(self.threads, || train.start(train.configuration()?))?;
        if self.no_serve || self.json {
            return Ok(());
        }
        // The server shows the same page at the same place.
        drop(page);
        super::serve::trained(&out, port)
    }
}
