//! The server over plain sockets, with a small real model.

mod bombs;
mod connections;
mod faults;
mod floods;
mod pages;
mod presets;
#[cfg(feature = "tls")]
mod tls;
mod tools;
mod wire;
