//! Sockets: time-outs, limits and a quiet end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cupola_monitor::stall::Stall;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{App, Phase};

/// How long streams that are cut at the end may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a client that is still sending may take to read why it is not listened to.
const LINGER: Duration = Duration::from_secs(1);

/// Takes connections until `stop` is ready; then tells those that rest to close, and waits for the others.
pub(super) async fn serve(listener: TcpListener, router: Router, app: Arc<App>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(app.limits.connections));
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
                    tokio::spawn(converse(stream, router.clone(), Arc::clone(&app), crowded, place));
                }
                // Out of files, or the client is gone already: neither is a reason to stop.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
    drop(listener);
    app.phase.send_replace(Phase::Draining);
    let all = u32::try_from(app.limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(app.limits.drain, places.acquire_many(all)).await.is_err() {
        // What is left ends with an error, and is cut where nobody reads it.
        app.phase.send_replace(Phase::Over);
        let _ = tokio::time::timeout(LAST_WORDS, places.acquire_many(all)).await;
    }
}

async fn converse(stream: TcpStream, router: Router, app: Arc<App>, crowded: bool, place: OwnedSemaphorePermit) {
    // Tokens are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let head = if crowded { app.limits.head_crowded } else { app.limits.head };
    #[cfg(feature = "tls")]
    if let Some(tls) = &app.tls {
        // Who does not finish the handshake in the time of a head is let go.
        if let Ok(Ok(stream)) = tokio::time::timeout(head, tls.acceptor().accept(stream)).await {
            talk(stream, router, &app, head).await;
        }
        return;
    }
    talk(stream, router, &app, head).await;
    drop(place);
}

async fn talk<S>(stream: S, router: Router, app: &App, head: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut socket = Stall::new(stream, app.limits.write);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(app.limits.head_bytes.max(8192));
    let mut connection =
        Box::pin(builder.serve_connection(TokioIo::new(&mut socket), TowerToHyperService::new(router)));
    // How a connection ends is the client's affair.
    let told = app.until(Phase::Draining);
    let finished = tokio::select! {
        _ = connection.as_mut() => true,
        () = told => false,
    };
    if !finished {
        connection.as_mut().graceful_shutdown();
        let _ = connection.as_mut().await;
    }
    drop(connection);
    // A socket that is closed while there is something unread resets, and what was said last may be lost: a refusal, of a head that
    // is too large for instance, would look like a failure of the network.
    let rest = async {
        let _ = poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await;
        let mut rest = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut rest);
            let done = poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut read)).await.is_err();
            if done || read.filled().is_empty() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}
