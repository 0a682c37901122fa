//! Serves a router to browsers, with bounds on what any one of them can hold.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::stall::Stall;

/// How much and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait.
    pub connections: usize,
    /// How long the head of a request may take.
    pub header: Duration,
    /// How long an answer may wait for a reader that takes nothing.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 2048, header: Duration::from_secs(20), stall: Duration::from_secs(30) }
    }
}

/// Serves `router` on `listener` until `end`. Open connections then end with the runtime.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, end: impl Future<Output = ()>) {
    let free = Arc::new(Semaphore::new(limits.connections));
    let service = TowerToHyperService::new(router);
    let mut end = pin!(end);
    loop {
        let next = async {
            let place = Arc::clone(&free).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (accepted, place) = {
            let mut next = pin!(next);
            match futures_util::future::select(next.as_mut(), end.as_mut()).await {
                futures_util::future::Either::Left((Some(next), _)) => next,
                _ => return,
            }
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, mostly: it passes when connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Live messages are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(Stall::new(stream, limits.stall));
        let service = service.clone();
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(64 << 10);
            // Whatever ends a connection is the business of its other end.
            let _ = server.serve_connection(io, service).await;
            drop(place);
        });
    }
}
