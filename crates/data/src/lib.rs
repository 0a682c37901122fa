//! From files of text to batches of tokens.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`input`] | which files belong to a corpus, and which part of them is held out |
//! | [`read`] | documents out of text, JSON lines, integers and Parquet (feature `parquet`), a piece at a time |
//! | [`shard`], [`dataset`] | tokens in checksummed files, mapped into memory; folders of them |
//! | [`mod@tokenize`] | from files to a dataset, on all threads, resumable |
//! | [`chat`] | conversations, with loss on the answers alone |
//! | [`permutation`] | an order of `n` things that needs no memory |
//! | [`pack`] | rows of tokens: as the text runs, or documents packed by best fit |
//! | [`loader`] | weighted mixtures, batches, workers that read ahead; a position to resume from |
//! | [`digest`] | checksums |

pub mod chat;
pub mod dataset;
pub mod digest;
pub mod error;
pub mod input;
pub mod loader;
pub mod pack;
#[cfg(feature = "parquet")]
mod parquet;
pub mod permutation;
pub mod read;
pub mod shard;
pub mod tokenize;

pub use dataset::Dataset;
pub use error::{Error, Result};
pub use input::{Extent, Format};
pub use loader::{Batch, IGNORE, Loader, LoaderConfig, Position, Source};
pub use pack::Packing;
pub use shard::{Shard, ShardWriter};
pub use tokenize::{Progress, TokenizeOptions, tokenize};
