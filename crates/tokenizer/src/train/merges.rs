//! Learning merges from counted pieces.
//!
//! The most frequent pair of neighbours becomes a token, again and again. The counts of pairs are kept up to date
//! piece by piece: every pair knows the pieces it has occurred in, and a heap gives the most frequent one. Entries of
//! the heap may be too high but never too low, so an entry that is out of date is corrected when it comes up. Among
//! equally frequent pairs the one with the smaller ids wins, the left id first, as in Hugging Face's trainer.

use super::Progress;
use crate::hash::FastMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pieces as symbols, with their counts. All symbols lie in one block; a piece shrinks in place.
#[derive(Default)]
pub(super) struct Corpus {
    symbols: Vec<u32>,
    /// Start and length in `symbols`, and the count.
    words: Vec<(u32, u32, u64)>,
}

impl Corpus {
    pub(super) fn push(&mut self, symbols: impl IntoIterator<Item = u32>, count: u64) {
        let start = self.symbols.len();
        self.symbols.extend(symbols);
        self.words.push((start as u32, (self.symbols.len() - start) as u32, count));
    }
}

/// The tokens of a training: texts by id and ids by text.
pub(super) struct Tokens {
    pub texts: Vec<Vec<u8>>,
    ids: FastMap<Vec<u8>, u32>,
    /// Length in characters (or bytes), for the limit on tokens.
    pub lengths: Vec<u32>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self { texts: Vec::new(), ids: FastMap::default(), lengths: Vec::new() }
    }

    /// The id of a text, a new one if it has none.
    pub(super) fn add(&mut self, text: Vec<u8>, length: u32) -> u32 {
        if let Some(&id) = self.ids.get(&text) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.ids.insert(text.clone(), id);
        self.texts.push(text);
        self.lengths.push(length);
        id
    }

    pub(super) fn get(&self, text: &[u8]) -> Option<u32> {
        self.ids.get(text).copied()
    }
}

/// What to learn.
pub(super) struct Goal<'a> {
    /// Stop at this many tokens.
    pub size: usize,
    /// A pair has to occur so often.
    pub min_frequency: u64,
    /// A token has at most this length.
    pub max_length: u32,
    /// Dropped from the right half when two tokens are joined.
    pub prefix: &'a [u8],
}

#[derive(Default)]
struct Pair {
    count: i64,
    /// Pieces it has occurred in, in order; it may be gone from some of them.
    words: Vec<u32>,
}

struct Pairs {
    index: FastMap<u64, u32>,
    list: Vec<Pair>,
}

impl Pairs {
    #[inline]
    fn at(&mut self, left: u32, right: u32) -> u32 {
        let next = self.list.len() as u32;
        let index = *self.index.entry(u64::from(left) << 32 | u64::from(right)).or_insert(next);
        if index == next {
            self.list.push(Pair::default());
        }
        index
    }
}

/// Learns merges until the goal is reached or no pair is frequent enough. Returns `(left, right, id)`.
pub(super) fn learn(
    corpus: &mut Corpus,
    tokens: &mut Tokens,
    goal: &Goal<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Vec<(u32, u32, u32)> {
    let mut pairs = Pairs { index: FastMap::default(), list: Vec::new() };
    for (w, &(start, len, count)) in corpus.words.iter().enumerate() {
        let word = &corpus.symbols[start as usize..(start + len) as usize];
        for two in word.windows(2) {
            let index = pairs.at(two[0], two[1]);
            let pair = &mut pairs.list[index as usize];
            pair.count += count as i64;
            if pair.words.last() != Some(&(w as u32)) {
                pair.words.push(w as u32);
            }
        }
    }
    // (count, smaller ids first, place in the list)
    type Entry = (i64, Reverse<u64>, u32);
    let mut heap: BinaryHeap<Entry> =
        pairs.index.iter().map(|(&key, &at)| (pairs.list[at as usize].count, Reverse(key), at)).collect();
    let mut merges = Vec::new();
    let mut grown: Vec<(u64, u32)> = Vec::new();
    while tokens.texts.len() < goal.size
        && let Some((count, Reverse(key), at)) = heap.pop()
    {
        let now = pairs.list[at as usize].count;
        if count != now {
            if now > 0 {
                heap.push((now, Reverse(key), at));
            }
            continue;
        }
        if count < 1 || (count as u64) < goal.min_frequency {
            break;
        }
        let (left, right) = ((key >> 32) as u32, key as u32);
        let tail = tokens.texts[right as usize].strip_prefix(goal.prefix).unwrap_or(&tokens.texts[right as usize]);
        let text = [&tokens.texts[left as usize][..], tail].concat();
        let length = tokens.lengths[left as usize] + tokens.lengths[right as usize];
        let id = tokens.add(text, length);
        merges.push((left, right, id));
        for w in std::mem::take(&mut pairs.list[at as usize].words) {
            merge_word(corpus, w, (left, right), id, &tokens.lengths, goal.max_length, &mut pairs, &mut grown);
        }
        grown.sort_unstable();
        grown.dedup();
        for (key, at) in grown.drain(..) {
            let count = pairs.list[at as usize].count;
            if count > 0 {
                heap.push((count, Reverse(key), at));
            }
        }
        if merges.len().is_multiple_of(256) {
            progress(Progress::Learning { tokens: tokens.texts.len(), of: goal.size });
        }
    }
    progress(Progress::Learning { tokens: tokens.texts.len(), of: goal.size });
    merges
}

/// Joins every `left right` of a word, and moves the counts of the pairs around it.
#[expect(clippy::too_many_arguments, reason = "the state of one loop, kept apart for the reader and the inliner")]
fn merge_word(
    corpus: &mut Corpus,
    w: u32,
    (left, right): (u32, u32),
    id: u32,
    lengths: &[u32],
    max_length: u32,
    pairs: &mut Pairs,
    grown: &mut Vec<(u64, u32)>,
) {
    let (start, len, count) = corpus.words[w as usize];
    let count = count as i64;
    let word = &mut corpus.symbols[start as usize..(start + len) as usize];
    let fits = |other: u32| lengths[other as usize].saturating_add(lengths[id as usize]) < max_length;
    let mut change = |a: u32, b: u32, by: i64| {
        let at = pairs.at(a, b);
        let pair = &mut pairs.list[at as usize];
        pair.count += by;
        if by > 0 {
            if pair.words.last() != Some(&w) {
                pair.words.push(w);
            }
            let entry = (u64::from(a) << 32 | u64::from(b), at);
            if grown.last() != Some(&entry) {
                grown.push(entry);
            }
        }
    };
    let mut kept = 0;
    let mut i = 0;
    while i < word.len() {
        if i + 1 < word.len() && word[i] == left && word[i + 1] == right {
            if kept > 0 {
                change(word[kept - 1], left, -count);
                if fits(word[kept - 1]) {
                    change(word[kept - 1], id, count);
                }
            }
            if i + 2 < word.len() {
                change(right, word[i + 2], -count);
                if fits(word[i + 2]) {
                    change(id, word[i + 2], count);
                }
            }
            word[kept] = id;
            i += 2;
        } else {
            word[kept] = word[i];
            i += 1;
        }
        kept += 1;
    }
    corpus.words[w as usize].1 = kept as u32;
}
