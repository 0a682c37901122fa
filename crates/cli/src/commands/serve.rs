//! `cupola serve`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use cupola_monitor::Hub;
use cupola_serve::{EngineConfig, Keys, Limits, LoadOptions, Registry, Server, ServerConfig, Source, StartError};

use super::train::interrupt;
use crate::exit::{Failure, INTERRUPTED};

/// The variable that may hold a key. A key on the command line would be seen by everybody on the machine.
const KEY: &str = "CUPOLA_API_KEY";

/// `cupola serve DIR...`
#[derive(Args)]
pub struct Serve {
    /// Model directories. The first is loaded at once, the others when they are asked for
    #[arg(required = true, value_name = "DIR")]
    models: Vec<PathBuf>,
    /// The name of a model on the wire, in the order of the directories; a directory's own name otherwise
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The host to listen on. One that others can reach needs a key
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 picks one that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A file with keys, one on each line, of which a request must bring one. CUPOLA_API_KEY may hold one as well
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The longest sequence, prompt and answer together; what the model was made for otherwise
    #[arg(long, value_name = "TOKENS")]
    ctx: Option<usize>,
    /// The most sequences that are worked on at once; more requests wait, and one for more answers than these is refused
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_concurrent: usize,
    /// The most requests that wait; more are refused with 429, and with 0 all that cannot begin at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_waiting: usize,
    /// Memory for the states of sequences and of prompts read before, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = size)]
    cache_size: usize,
    /// The largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = size)]
    max_body: usize,
    /// Threads of the kernels; all cores otherwise
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Certificates in PEM, the server's own first: speak HTTPS
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Unload models other than the first when nobody has asked for them for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    idle: u64,
    /// Show the training runs of this folder under /runs/
    #[arg(long, value_name = "FOLDER")]
    runs: Option<PathBuf>,
    /// Seconds that answers may go on after the signal to stop; a second signal ends at once
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
}

/// A number of bytes: `1024`, `64K`, `512M`, `2G`.
fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("{text:?} is no size; write a number and K, M or G")),
    };
    let number: usize = digits.parse().map_err(|_| format!("{text:?} is no size; write a number and K, M or G"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is more than this machine can count"))
}

/// An ending with the exit code that fits.
pub(super) fn failure(error: StartError) -> anyhow::Error {
    match error {
        StartError::Model { .. } => Failure::Refused(error.to_string()).into(),
        StartError::Setting(_) | StartError::OpenWithoutKey { .. } => Failure::Usage(error.to_string()).into(),
        _ => error.into(),
    }
}

impl Serve {
    /// Serves until a signal comes.
    pub fn run(self) -> anyhow::Result<()> {
        if self.name.len() > self.models.len() {
            let (names, models) = (self.name.len(), self.models.len());
            return Err(Failure::Usage(format!("--name is given {names} times for {models} directories")).into());
        }
        if self.max_concurrent == 0 || self.threads == Some(0) {
            return Err(Failure::Usage("--max-concurrent and --threads must be at least 1".into()).into());
        }
        let mut keys = match &self.api_key_file {
            Some(path) => Keys::from_file(path).map_err(failure)?,
            None => Keys::default(),
        };
        if let Ok(key) = std::env::var(KEY)
            && !key.is_empty()
        {
            keys = keys.and(Keys::new([key]).map_err(failure)?);
        }
        let mut sources = self.models.iter().map(Source::new).collect::<Result<Vec<_>, _>>().map_err(failure)?;
        sources.iter().try_for_each(|source| cupola_train::checkpoint::verify_model(&source.dir))?;
        sources.iter_mut().zip(&self.name).for_each(|(source, name)| source.name.clone_from(name));
        let engine = EngineConfig {
            max_concurrent: self.max_concurrent,
            max_waiting: self.max_waiting,
            cache_bytes: self.cache_size,
            threads: self.threads,
            ..EngineConfig::default()
        };
        let limits = Limits {
            body_bytes: self.max_body,
            drain: Duration::from_secs(self.drain),
            idle_model: Duration::from_secs(self.idle),
            ..Limits::default()
        };
        let models = Registry::new(sources, LoadOptions { context: self.ctx, engine }).map_err(failure)?;
        #[cfg(feature = "tls")]
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some(cupola_serve::Tls::from_files(chain, key).map_err(failure)?),
            _ => None,
        };
        #[cfg(feature = "tls")]
        let scheme = if tls.is_some() { "https" } else { "http" };
        #[cfg(not(feature = "tls"))]
        let scheme = "http";
        let config = ServerConfig {
            host: self.host,
            port: self.port,
            keys,
            limits,
            #[cfg(feature = "tls")]
            tls,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async move {
            // First the port, so that a second server on it fails at once, then the model.
            let server = Server::bind(config, models).await.map_err(failure)?;
            server.load().map_err(failure)?;
            println!("listening on {scheme}://{}", server.address());
            std::io::stdout().flush()?;
            with_runs(server, self.runs.as_deref()).run(Signals::new()?.first()).await;
            Ok(())
        })
    }
}

/// The dashboard of a folder of runs beside the chat page.
fn with_runs(server: Server, runs: Option<&Path>) -> Server {
    match runs {
        Some(runs) => {
            let hub = Hub::folder(runs).link("../", "Chat with the model");
            server.nest("/runs/", "Training", cupola_monitor::router(hub))
        }
        None => server,
    }
}

/// Serves a run that was just trained, on this machine alone, until a signal comes.
///
/// # Errors
/// When the port is taken or the run has saved no model.
pub fn trained(run: &Path, port: u16) -> anyhow::Result<()> {
    let models = Registry::new(vec![Source::new(run).map_err(failure)?], LoadOptions::default()).map_err(failure)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let server = Server::bind(ServerConfig { port, ..ServerConfig::default() }, models).await.map_err(failure)?;
        server.load().map_err(failure)?;
        let address = server.address();
        println!("chat with it: http://{address}   its training: http://{address}/runs/   API: http://{address}/v1");
        std::io::stdout().flush()?;
        with_runs(server, run.parent()).run(Signals::new()?.first()).await;
        Ok(())
    })
}

/// What asks the program to end: Ctrl-C, and the system's request.
struct Signals {
    #[cfg(unix)]
    all: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    /// From now on they do not end the program by themselves.
    fn new() -> std::io::Result<Self> {
        interrupt::hand_over();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { all: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.all;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }

    /// Ready when the program is asked to end. Asked once more, it ends at once.
    async fn first(mut self) {
        self.next().await;
        crate::output::note("\nending: what is being answered is finished; once more ends at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(i32::from(INTERRUPTED));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64k"), Ok(64 << 10));
        assert_eq!(size("2G"), Ok(2 << 30));
        for wrong in ["", "G", "2T", "-1", "1.5G", "99999999999999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
