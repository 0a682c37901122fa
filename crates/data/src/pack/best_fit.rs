//! Documents in random order, packed so that few are cut.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cupola_core::Rng;

use crate::dataset::{Dataset, Span};
use crate::permutation::Permutation;

/// Documents that are packed together: so many lie open at a time.
const BLOCK: usize = 4096;

/// Rows with what each holds.
type Packed = Arc<Vec<Vec<Span>>>;

/// Blocks of documents, each packed for itself, so that a row can be found without packing all before it. The largest document
/// that fits into what a row has left goes there; when none fits, the largest one is cut. So all rows are full but the last of
/// each block.
pub(crate) struct BestFit {
    window: usize,
    documents: usize,
    order: Option<Permutation>,
    rng: Rng,
    /// Rows before each block, and at last of all.
    first_row: Vec<u64>,
    /// The blocks that were packed last.
    recent: Mutex<Vec<(usize, Packed)>>,
}

impl BestFit {
    pub(super) fn new(dataset: &Dataset, window: usize, rng: Rng, shuffle: bool) -> Self {
        let documents = dataset.documents();
        let order = shuffle.then(|| Permutation::new(rng.stream(&[2]), documents as u64));
        let mut new = Self { window, documents, order, rng, first_row: vec![0], recent: Mutex::default() };
        let mut rows = 0;
        for block in 0..documents.div_ceil(BLOCK) {
            let tokens: usize = new.block(dataset, block).map(|span| span.tokens.len()).sum();
            rows += tokens.div_ceil(window) as u64;
            new.first_row.push(rows);
        }
        new
    }

    fn block<'a>(&'a self, dataset: &'a Dataset, block: usize) -> impl Iterator<Item = Span> + 'a {
        (block * BLOCK..((block + 1) * BLOCK).min(self.documents)).map(|position| {
            let index = self.order.map_or(position as u64, |order| order.at(position as u64));
            dataset.document(index as usize)
        })
    }

    pub(super) fn count(&self) -> u64 {
        *self.first_row.last().expect("the list begins with 0")
    }

    pub(super) fn row(&self, dataset: &Dataset, index: u64) -> Vec<Span> {
        let block = self.first_row.partition_point(|&first| first <= index) - 1;
        let rows = self.packed(dataset, block);
        let within = index - self.first_row[block];
        let place = match self.order {
            Some(_) => Permutation::new(self.rng.stream(&[3, block as u64]), rows.len() as u64).at(within),
            None => within,
        };
        rows[place as usize].clone()
    }

    /// The rows of a block; workers that read ahead meet the same blocks at the same time.
    fn packed(&self, dataset: &Dataset, block: usize) -> Packed {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = recent.iter().find(|(at, _)| *at == block) {
            return rows.clone();
        }
        let rows = Arc::new(pack(self.block(dataset, block).collect(), self.window));
        if recent.len() == 2 {
            recent.remove(0);
        }
        recent.push((block, rows.clone()));
        rows
    }
}

fn pack(mut documents: Vec<Span>, window: usize) -> Vec<Vec<Span>> {
    // By length and then by place, so that equal lengths are taken in order.
    let mut open: BTreeSet<(usize, usize)> =
        documents.iter().map(|span| span.tokens.len()).enumerate().map(|(index, length)| (length, index)).collect();
    open.retain(|&(length, _)| length > 0);
    let mut rows = Vec::new();
    let (mut row, mut left) = (Vec::new(), window);
    while let Some(&largest) = open.last() {
        let fits = open.range(..=(left, usize::MAX)).next_back().copied();
        let (length, index) = fits.unwrap_or(largest);
        open.remove(&(length, index));
        let span = &mut documents[index];
        let cut = span.tokens.start + length.min(left);
        row.push(Span { part: span.part, tokens: span.tokens.start..cut });
        span.tokens.start = cut;
        if !span.tokens.is_empty() {
            open.insert((span.tokens.len(), index));
        }
        left -= length.min(left);
        if left == 0 {
            rows.push(std::mem::take(&mut row));
            left = window;
        }
    }
    if !row.is_empty() {
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_best_is_taken_and_the_largest_is_cut() {
        let span = |length: usize| Span { part: 0, tokens: 0..length };
        let rows = pack([3, 7, 5, 2, 12].map(span).to_vec(), 8);
        let lengths: Vec<Vec<usize>> =
            rows.iter().map(|row| row.iter().map(|span| span.tokens.len()).collect()).collect();
        // 7 and a token of the 12; then 5 and 3; then the 8 of the 12 that fit, and so on.
        assert_eq!(lengths, [vec![7, 1], vec![5, 3], vec![2, 6], vec![5]]);
    }
}
