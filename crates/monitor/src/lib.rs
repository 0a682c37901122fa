//! Runs of training watched: series of any length in bounded memory, plots, the dashboard's pages and their live data.
//!
//! | module | what it holds |
//! |---|---|
//! | [`plot`] | charts as SVG, for pages, reports and documents |
//! | [`series`] | measured numbers in bounded memory, and as few of them as a picture can show |
//! | [`alerts`] | notices a loss that is no number, jumps, or has stopped falling |
//! | [`state`] | a run's records put together, and the snapshot that readers get |
//! | [`run`] | one run: from its folder, or fed by a program |
//! | [`panels`], [`draw`] | which charts show a run, and how they are drawn |
//! | [`fragments`] | the texts of the page |
//! | [`compare`], [`export`] | what differs between runs; everything as CSV |
//! | [`hub`] | all runs of a page, and the live messages about them |
//! | [`mod@router`] | the pages and their data over HTTP |
//! | [`guard`], [`stall`], [`listen`] | who may ask, and how much one connection may hold |
//! | [`source`] | a run to look at from a program, here or behind an address |
//! | [`background`] | the dashboard on a thread of its own |
//! | [`monitor`] | [`TrainingMonitor`], the same page for anyone's own loop |

#![warn(missing_docs)]

pub mod alerts;
pub mod background;
pub mod compare;
pub mod draw;
pub mod export;
pub mod fragments;
pub mod guard;
pub mod hub;
pub mod listen;
pub mod monitor;
pub mod panels;
pub mod plot;
pub mod router;
pub mod run;
pub mod series;
pub mod source;
pub mod stall;
pub mod state;

pub use background::{Background, ServeError};
pub use hub::Hub;
pub use monitor::{MonitorBuilder, MonitorError, TrainingMonitor};
pub use router::router;
pub use source::{Source, SourceError};
pub use state::Snapshot;
