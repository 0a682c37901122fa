//! The dashboard on a thread of its own, beside whatever else the program does.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::guard::{Hosts, guard};
use crate::hub::Hub;
use crate::listen::{self, Limits};
use crate::router::{router, under_runs};

/// Why a dashboard could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is none, or is taken.
    #[error("cannot serve on {address}: {source}")]
    Address {
        /// The address asked for.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// An address that others on the network could reach.
    #[error("cannot serve on {0}: it is no loopback address, and the page has no key; use 127.0.0.1 and a tunnel")]
    NotLoopback(SocketAddr),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A dashboard that is served until this value is dropped.
#[derive(Debug)]
pub struct Background {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Serves the runs of `hub` on `address`: a loopback address, with port 0 for any that is free.
    ///
    /// # Errors
    /// When the address is taken or not a loopback one, or there is no thread to be had.
    pub fn start(hub: Hub, address: &str) -> Result<Self, ServeError> {
        Self::serve(router(hub), address)
    }

    /// The same under `/runs/`, where a server that takes over the address later has the dashboard too; `/` leads there.
    ///
    /// # Errors
    /// As [`Background::start`].
    pub fn start_under_runs(hub: Hub, address: &str) -> Result<Self, ServeError> {
        let to_runs = axum::routing::get(|| async { axum::response::Redirect::temporary("/runs/") });
        Self::serve(under_runs(hub).route("/", to_runs), address)
    }

    fn serve(pages: axum::Router, address: &str) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Address { address: address.to_owned(), source };
        let no_address = || refused(io::Error::new(io::ErrorKind::InvalidInput, "it names no address"));
        let wanted = address.to_socket_addrs().map_err(refused)?.next().ok_or_else(no_address)?;
        if !wanted.ip().is_loopback() {
            return Err(ServeError::NotLoopback(wanted));
        }
        let listener = TcpListener::bind(wanted).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let pages = pages.layer(axum::middleware::from_fn_with_state(Arc::new(Hosts::of(bound)), guard));
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let serve = move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_io().enable_time().max_blocking_threads(2).build();
            let served = runtime.and_then(|runtime| {
                let entered = runtime.enter();
                let listener = tokio::net::TcpListener::from_std(listener)?;
                drop(entered);
                Ok((runtime, listener))
            });
            match served {
                Ok((runtime, listener)) => {
                    // Whoever waits for this is there, or has given up.
                    let _ = ready.send(Ok(()));
                    let end = async { drop(ended.await) };
                    runtime.block_on(listen::serve(listener, pages, Limits::default(), end));
                    runtime.shutdown_background();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        let thread =
            std::thread::Builder::new().name("cupola-monitor".into()).spawn(serve).map_err(ServeError::Thread)?;
        let gone = || io::Error::other("the page's thread ended before it began");
        is_ready.recv().unwrap_or_else(|_| Err(gone())).map_err(refused)?;
        Ok(Self { address: bound, end: Some(end), thread: Some(thread) })
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Keeps the page until the program is ended.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread ends only with the program; a panic in it was printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // It may have ended by itself.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
