//! The stream as it runs.

use cupola_core::Rng;

use crate::dataset::{Dataset, Span};
use crate::permutation::Permutation;

/// Windows of the stream, which is taken as a ring: an epoch's first window begins at a random place, the last one goes on
/// behind the end at the beginning.
pub(crate) struct Contiguous {
    window: usize,
    tokens: usize,
    phase: usize,
    order: Option<Permutation>,
}

impl Contiguous {
    pub(super) fn new(dataset: &Dataset, window: usize, rng: Rng, shuffle: bool) -> Self {
        let tokens = dataset.len();
        let count = tokens.div_ceil(window) as u64;
        let phase = if shuffle { rng.below(0, tokens.min(window) as u64) as usize } else { 0 };
        Self { window, tokens, phase, order: shuffle.then(|| Permutation::new(rng.stream(&[1]), count)) }
    }

    pub(super) fn count(&self) -> u64 {
        self.tokens.div_ceil(self.window) as u64
    }

    pub(super) fn row(&self, dataset: &Dataset, index: u64) -> Vec<Span> {
        let place = self.order.map_or(index, |order| order.at(index)) as usize;
        let begin = (place * self.window + self.phase) % self.tokens;
        let length = self.window.min(self.tokens);
        let mut spans = Vec::new();
        dataset.spans(begin..(begin + length).min(self.tokens), &mut spans);
        if begin + length > self.tokens {
            dataset.spans(0..begin + length - self.tokens, &mut spans);
        }
        spans
    }
}
