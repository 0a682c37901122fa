//! `cupola demo`.

use clap::Args;
use std::path::PathBuf;

use super::dash::folder_of;
use super::serve::Serve;
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
    /// The port of the dashboard and, when the model is trained, of the chat; 0 picks one that is free
    #[arg(long, default_value_t = 7860)]
    port: u16,
    /// End when the model is trained, without dashboard and chat
    #[arg(long)]
    no_serve: bool,
    /// End the training with one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Trains on the text that the program carries, with the dashboard open, then serves the model on the same port.
    ///
    /// # Errors
    /// As `cupola train` and `cupola serve`.
    pub fn run(self) -> anyhow::Result<()> {
        eprintln!("training a small model on the text that this program carries: its own documents and sources");
        let train = Train {
            out: self.out,
            steps: self.steps,
            time: if self.steps.is_none() { Some(SECONDS) } else { None },
            json: self.json,
            dash: (!self.no_serve).then_some(self.port),
            ..Train::default()
        };
        let config = train.configuration()?;
        let run = train.folder(&config)?;
        with_threads(self.threads, || train.start_in(run.clone(), config))?;
        if self.no_serve {
            return Ok(());
        }
        eprintln!(
            "now talk to it: open the address below; the dashboard is under /runs/, the OpenAI API under /v1; Ctrl-C ends"
        );
        Serve::of(&run, self.port)?.run_beside(folder_of(&run))
    }
}
