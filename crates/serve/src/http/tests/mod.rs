//! The server over plain sockets, with a small real model.

mod connections;
mod faults;
mod wire;
