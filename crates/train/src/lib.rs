//! The trainer: from a corpus to a trained model.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what a run is to do |
//! | [`automatic`] | what is decided when nothing is said |
//! | [`setup`] | tokenizer, tokens and model of a run |
//! | [`trainer`] | the loop |
//! | [`optimizer`] | the optimisers behind one face |
//! | [`evaluate`] | the loss of a text |
//! | [`guard`] | numbers that go wrong |
//! | [`checkpoint`] | what is kept, so that a run goes on with the bits that it would have had |
//! | [`lock`] | one trainer for a run's folder |
//! | [`lora`] | fine-tuning by low-rank additions |
//! | [`memory`] | how much a run will take |
//! | [`carried`] | the text that the program carries |
//! | [`text_tokenizer`] | tokenizers made from the text itself |
//! | [`tensorboard`] | event files |
//! | [`error`] | why a run could not begin or go on |

pub mod automatic;
pub mod carried;
pub mod checkpoint;
pub mod config;
pub mod error;
pub mod evaluate;
pub mod guard;
pub mod lock;
pub mod lora;
pub mod memory;
pub mod optimizer;
pub mod setup;
pub mod tensorboard;
pub mod text_tokenizer;
pub mod trainer;

pub use config::Config;
pub use error::{Error, Result};
pub use setup::Setup;
pub use trainer::{Outcome, Stop, Trainer, Watch};
