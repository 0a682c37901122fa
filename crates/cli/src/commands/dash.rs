//! `cupola dash`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use cupola_monitor::guard::{Hosts, guard};
use cupola_monitor::{Hub, listen, router};
use tokio::net::TcpListener;

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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let asked = format!("{}:{}", self.host, self.port);
            let listener = TcpListener::bind((self.host.as_str(), self.port)).await;
            let listener = listener.with_context(|| format!("cannot listen on {asked}"))?;
            let address = listener.local_addr()?;
            if !address.ip().is_loopback() {
                let reason =
                    format!("{address} is no loopback address, and the page has no key; use 127.0.0.1 and a tunnel");
                return Err(Failure::Usage(reason).into());
            }
            println!("listening on http://{address}/");
            std::io::stdout().flush()?;
            let hosts = Arc::new(Hosts::of(address));
            let pages = router(Hub::folder(self.runs)).layer(axum::middleware::from_fn_with_state(hosts, guard));
            let end = async {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            listen::serve(listener, pages, listen::Limits::default(), end).await;
            Ok(())
        })
    }
}
