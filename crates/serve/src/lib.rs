//! The inference engine of Cupola and its HTTP server, with OpenAI's wire format.
//!
//! | module | what is there |
//! |---|---|
//! | [`api`] | requests, read field by field, and the shapes of replies |
//! | [`engine`] | one model and its scheduler: many requests at once, each with the bits it has alone |
//! | [`served`] | a model directory at work |
//! | [`registry`] | the models of a server |
//! | [`reading`] | an engine's answer as text |
//! | [`http`] | the server |
//! | [`client`] | a client for it |
//! | [`error`] | refusals and failures |
//!
//! A request goes `http` -> `api` -> `served` (tokens) -> `engine` (tokens) -> `reading` (text) -> `api` -> `http`.

pub mod api;
pub mod client;
pub mod engine;
pub mod error;
pub mod http;
pub mod reading;
pub mod registry;
pub mod served;
#[cfg(test)]
mod testing;
mod text;

pub use client::{Client, ClientError};
pub use engine::{Engine, EngineConfig};
pub use error::{ApiError, StartError};
#[cfg(feature = "tls")]
pub use http::Tls;
pub use http::{Keys, Limits, Server, ServerConfig};
pub use registry::{Registry, Source};
pub use served::{LoadOptions, Served};
