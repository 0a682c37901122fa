//! Sockets: time-outs, limits and a quiet end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use cupola_monitor::stall::Stall;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::App;

/// Takes connections until `stop` is ready; then tells those that rest to close, and waits for the others.
pub(super) async fn serve(listener: TcpListener, router: Router, app: Arc<App>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(app.limits.connections));
    let (ending, end) = watch::channel(false);
    let mut stop = pin!(stop);
    let mut idle = tokio::time::interval(app.limits.idle_model.max(Duration::from_secs(1)) / 4);
    loop {
        let next = async {
            // Connections beyond the limit wait in the system's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            _ = idle.tick() => {
                let app = Arc::clone(&app);
                tokio::task::spawn_blocking(move || app.models.unload(app.limits.idle_model));
            }
            (place, accepted) = next => match (place, accepted) {
                (Ok(place), Ok((stream, _))) => {
                    let crowded = places.available_permits() < app.limits.connections / 2;
                    tokio::spawn(converse(stream, router.clone(), Arc::clone(&app), crowded, end.clone(), place));
                }
                // Out of files, or the client is gone already: neither is a reason to stop.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
    drop(listener);
    app.draining.store(true, Ordering::Relaxed);
    let _ = ending.send(true);
    let all = u32::try_from(app.limits.connections).unwrap_or(u32::MAX);
    // When the time is over, what is left is cut.
    let _ = tokio::time::timeout(app.limits.drain, places.acquire_many(all)).await;
}

async fn converse(
    stream: TcpStream,
    router: Router,
    app: Arc<App>,
    crowded: bool,
    end: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    // Tokens are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let head = if crowded { app.limits.head_crowded } else { app.limits.head };
    #[cfg(feature = "tls")]
    if let Some(tls) = &app.tls {
        // Who does not finish the handshake in the time of a head is let go.
        if let Ok(Ok(stream)) = tokio::time::timeout(head, tls.acceptor().accept(stream)).await {
            talk(stream, router, &app, head, end).await;
        }
        return;
    }
    talk(stream, router, &app, head, end).await;
    drop(place);
}

async fn talk<S>(stream: S, router: Router, app: &App, head: Duration, mut end: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = TokioIo::new(Stall::new(stream, app.limits.write));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(app.limits.head_bytes.max(8192));
    let mut connection = pin!(builder.serve_connection(socket, TowerToHyperService::new(router)));
    // How a connection ends is the client's affair.
    let told = async {
        let _ = end.wait_for(|&end| end).await;
    };
    let finished = tokio::select! {
        _ = connection.as_mut() => true,
        () = told => false,
    };
    if !finished {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
