//! The dashboard of a folder of runs: `cargo run -p cupola-monitor --example dashboard -- runs 127.0.0.1:7860`.

use std::sync::Arc;

use cupola_monitor::guard::{Hosts, guard};
use cupola_monitor::listen::{Limits, serve};
use cupola_monitor::{Hub, router};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "runs".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7860".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await?;
        let bound = listener.local_addr()?;
        println!("listening on http://{bound}/");
        let hosts = Arc::new(Hosts::of(bound));
        let pages = router(Hub::folder(folder)).layer(axum::middleware::from_fn_with_state(hosts, guard));
        serve(listener, pages, Limits::default(), std::future::pending()).await;
        Ok(())
    })
}
