//! `cupola dash`, and the page beside `cupola train --dash`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use cupola_monitor::{Background, Hub, ServeError};

use crate::exit::Failure;

/// `cupola dash [RUNS]`
#[derive(Args)]
pub struct Dash {
    /// A folder of runs, or one run. A folder that does not exist yet is waited for
    #[arg(default_value = "runs", value_name = "RUNS")]
    runs: PathBuf,
    /// The loopback address to listen on: the page has no key, and is for this machine
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 picks one that is free
    #[arg(long, default_value_t = 7860)]
    port: u16,
}

impl Dash {
    /// Shows the page until the program is ended.
    pub fn run(self) -> anyhow::Result<()> {
        if self.runs.is_file() {
            return Err(Failure::Refused(format!("{}: a file, expected a folder of runs", self.runs.display())).into());
        }
        // An IPv6 address has colons of its own.
        let host =
            if self.host.contains(':') { format!("[{}]", self.host.trim_matches(['[', ']'])) } else { self.host };
        let page = start(&self.runs, &format!("{host}:{}", self.port))?;
        crate::output::line(format_args!("listening on {}", page.url()))?;
        std::io::stdout().flush()?;
        page.wait();
        Ok(())
    }
}

/// The page of the runs beside `run`, while it trains.
///
/// # Errors
/// When the port is taken.
pub fn beside(run: &Path, port: u16) -> anyhow::Result<Background> {
    let folder = run.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where a server that takes over the port afterwards has it too.
    let page = Background::start_under_runs(Hub::folder(folder), &format!("127.0.0.1:{port}")).map_err(failure)?;
    crate::output::note(format_args!("dashboard: {}", page.url()));
    Ok(page)
}

fn start(runs: &Path, address: &str) -> anyhow::Result<Background> {
    Background::start(Hub::folder(runs), address).map_err(failure)
}

fn failure(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::NotLoopback(_) => Failure::Usage(error.to_string()).into(),
        _ => error.into(),
    }
}
