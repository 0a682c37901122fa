//! Rows of tokens.
//!
//! A row holds at most `window` tokens of one or more documents and is never padded. No token is left out of an epoch.
//!
//! - `contiguous`: the stream as it runs, cut every `window` tokens, at another place in each epoch
//! - `best_fit`: documents in random order, packed so that few are cut

mod best_fit;
mod contiguous;

use cupola_core::Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Span};
use best_fit::BestFit;
use contiguous::Contiguous;

/// How documents come into rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// As the text runs.
    #[default]
    Contiguous,
    /// Whole documents where possible.
    BestFit,
}

/// The rows of one epoch, each a pure function of its number.
pub(crate) enum Rows {
    Contiguous(Contiguous),
    BestFit(BestFit),
}

impl Rows {
    /// The rows of an epoch with this random stream; in the order of the text when it is not to be shuffled.
    pub(crate) fn new(packing: Packing, dataset: &Dataset, window: usize, rng: Rng, shuffle: bool) -> Self {
        match packing {
            Packing::Contiguous => Self::Contiguous(Contiguous::new(dataset, window, rng, shuffle)),
            Packing::BestFit => Self::BestFit(BestFit::new(dataset, window, rng, shuffle)),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Contiguous(rows) => rows.count(),
            Self::BestFit(rows) => rows.count(),
        }
    }

    /// What row `index` holds.
    pub(crate) fn row(&self, dataset: &Dataset, index: u64) -> Vec<Span> {
        match self {
            Self::Contiguous(rows) => rows.row(dataset, index),
            Self::BestFit(rows) => rows.row(dataset, index),
        }
    }
}
