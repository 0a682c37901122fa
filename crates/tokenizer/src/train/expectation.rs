//! How often each piece is expected to occur: forward-backward sums and best paths over counted words.

use crate::error::Result;
use crate::tokenizer::batch::parallel;
use crate::trie::Trie;

/// The sums of the parts are added in this fixed number of groups, so that any number of threads gives the same bits.
const GROUPS: usize = 8;

/// Pieces with their scores (log probabilities), ready to be found in words.
pub(super) struct Pieces<'a> {
    pub texts: &'a [&'a str],
    pub scores: &'a [f64],
    trie: Trie,
    /// `exp(score + scale * bytes)`: the factor is the same for every segmentation of a word and keeps products near 1.
    factors: Vec<f64>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(texts: &'a [&'a str], scores: &'a [f64]) -> Self {
        let trie = Trie::new(texts.iter().enumerate().map(|(i, t)| (t.as_bytes(), i as u32)));
        let bytes: usize = texts.iter().map(|t| t.len()).sum();
        let scale = -scores.iter().sum::<f64>() / bytes.max(1) as f64;
        let factors = texts.iter().zip(scores).map(|(t, s)| (s + scale * t.len() as f64).exp()).collect();
        Self { texts, scores, trie, factors }
    }

    /// The best segmentation of a word, without the piece `except`: its score and its pieces from the last to the first.
    pub(super) fn best(
        &self,
        word: &str,
        except: Option<u32>,
        buffer: &mut Vec<(f64, u32, u32)>,
    ) -> Option<(f64, Vec<u32>)> {
        buffer.clear();
        buffer.resize(word.len() + 1, (f64::NEG_INFINITY, 0, 0));
        buffer[0].0 = 0.0;
        for (at, _) in word.char_indices() {
            let here = buffer[at].0;
            if here == f64::NEG_INFINITY {
                continue;
            }
            self.trie.prefixes(&word.as_bytes()[at..], |len, id| {
                let score = here + self.scores[id as usize];
                if except != Some(id) && score > buffer[at + len].0 {
                    buffer[at + len] = (score, at as u32, id);
                }
            });
        }
        let total = buffer[word.len()].0;
        if total == f64::NEG_INFINITY {
            return None;
        }
        let mut path = Vec::new();
        let mut at = word.len();
        while at > 0 {
            path.push(buffer[at].2);
            at = buffer[at].1 as usize;
        }
        Some((total, path))
    }

    /// The expected number of occurrences of each piece in the words.
    pub(super) fn expected(&self, words: &[(&str, u64)]) -> Result<Vec<f64>> {
        let sums = grouped(words, |group| {
            let mut counts = vec![0.0; self.texts.len()];
            let (mut forward, mut backward, mut edges) = (Vec::new(), Vec::new(), Vec::new());
            for &(word, n) in group {
                self.add_expected(word, n as f64, &mut counts, &mut forward, &mut backward, &mut edges);
            }
            counts
        })?;
        Ok(add_up(sums, self.texts.len()))
    }

    fn add_expected(
        &self,
        word: &str,
        n: f64,
        counts: &mut [f64],
        forward: &mut Vec<f64>,
        backward: &mut Vec<f64>,
        edges: &mut Vec<(u32, u32, u32)>,
    ) {
        for sums in [&mut *forward, &mut *backward] {
            sums.clear();
            sums.resize(word.len() + 1, 0.0);
        }
        edges.clear();
        forward[0] = 1.0;
        for (at, _) in word.char_indices() {
            let here = forward[at];
            self.trie.prefixes(&word.as_bytes()[at..], |len, id| {
                forward[at + len] += here * self.factors[id as usize];
                edges.push((at as u32, (at + len) as u32, id));
            });
        }
        let total = forward[word.len()];
        // Zero when a character is no piece any more; such a word says nothing about the others.
        if total <= 0.0 || !total.is_finite() {
            return;
        }
        backward[word.len()] = 1.0;
        for &(from, to, id) in edges.iter().rev() {
            let weight = self.factors[id as usize] * backward[to as usize];
            backward[from as usize] += weight;
            counts[id as usize] += n * forward[from as usize] * weight / total;
        }
    }

    /// How often each piece is in the best segmentation of the words, and the total count of the words it is in.
    pub(super) fn best_counts(&self, words: &[(&str, u64)]) -> Result<(Vec<f64>, Vec<f64>)> {
        let sums = grouped(words, |group| {
            let mut counts = vec![0.0; 2 * self.texts.len()];
            let mut buffer = Vec::new();
            for &(word, n) in group {
                let Some((_, mut path)) = self.best(word, None, &mut buffer) else {
                    continue;
                };
                for &id in &path {
                    counts[id as usize] += n as f64;
                }
                path.sort_unstable();
                path.dedup();
                for id in path {
                    counts[self.texts.len() + id as usize] += n as f64;
                }
            }
            counts
        })?;
        let mut counts = add_up(sums, 2 * self.texts.len());
        let words = counts.split_off(self.texts.len());
        Ok((counts, words))
    }
}

fn grouped<T: Send>(words: &[(&str, u64)], work: impl Fn(&[(&str, u64)]) -> T + Sync) -> Result<Vec<T>> {
    let size = words.len().div_ceil(GROUPS).max(1);
    let bytes = words.iter().map(|w| w.0.len()).sum();
    parallel(words.len().div_ceil(size), bytes, None, |g| Ok(work(&words[g * size..((g + 1) * size).min(words.len())])))
}

fn add_up(sums: Vec<Vec<f64>>, len: usize) -> Vec<f64> {
    sums.into_iter().fold(vec![0.0; len], |mut total, part| {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        total
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_equal_the_sum_over_all_segmentations() {
        let texts = ["a", "b", "ab", "ba", "aba"];
        let scores = [-1.0, -1.5, -2.0, -2.2, -4.0];
        let pieces = Pieces::new(&texts, &scores);
        // Segmentations of "abab".
        let all: [&[usize]; 6] = [&[0, 1, 0, 1], &[2, 0, 1], &[0, 3, 1], &[0, 1, 2], &[2, 2], &[4, 1]];
        let weight = |s: &[usize]| s.iter().map(|&i| scores[i]).sum::<f64>().exp();
        let total: f64 = all.iter().map(|s| weight(s)).sum();
        let found = pieces.expected(&[("abab", 3)]).unwrap();
        for (i, count) in found.iter().enumerate() {
            let each = |s: &&[usize]| weight(s) * s.iter().filter(|&&k| k == i).count() as f64;
            let want = 3.0 * all.iter().map(each).sum::<f64>() / total;
            assert!((count - want).abs() < 1e-12, "{i}: {count} {want}");
        }
        let (score, path) = pieces.best("abab", None, &mut Vec::new()).unwrap();
        assert_eq!((score, path), (-4.0, vec![2, 2]));
        assert_eq!(pieces.best("ab", Some(2), &mut Vec::new()).unwrap().1, [1, 0]);
        assert!(pieces.best("abc", None, &mut Vec::new()).is_none());
    }
}
