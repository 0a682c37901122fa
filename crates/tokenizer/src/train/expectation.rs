//! How often each piece is expected to occur: forward-backward sums and best paths over counted words.

use super::lattice::{Group, Lattice, Word};
use crate::error::Result;

/// Pieces with their scores (log probabilities), and where they lie in the words.
pub(super) struct Pieces<'a> {
    pub scores: &'a [f64],
    lattice: &'a Lattice,
    /// `exp(score + scale * bytes)`: the factor is the same for every segmentation of a word and keeps products near 1.
    factors: Vec<f64>,
}

/// A way to a position: its score, where its last piece begins, and that piece.
pub(super) type Step = (f64, u32, u32);

impl<'a> Pieces<'a> {
    pub(super) fn new(texts: &[&str], scores: &'a [f64], lattice: &'a Lattice) -> Self {
        let bytes: usize = texts.iter().map(|t| t.len()).sum();
        let scale = -scores.iter().sum::<f64>() / bytes.max(1) as f64;
        let factors = texts.iter().zip(scores).map(|(t, s)| (s + scale * t.len() as f64).exp()).collect();
        Self { scores, lattice, factors }
    }

    /// The best segmentation of a part of a word, without the piece `except`: its score and its pieces from the last to
    /// the first.
    fn best(
        &self,
        group: &Group,
        word: &Word,
        (from, to): (u8, u8),
        except: Option<u32>,
        buffer: &mut Vec<Step>,
    ) -> Option<(f64, Vec<u32>)> {
        buffer.clear();
        buffer.resize(usize::from(word.len) + 1, (f64::NEG_INFINITY, 0, 0));
        buffer[usize::from(from)].0 = 0.0;
        for edge in group.edges(word).iter().filter(|edge| edge.from >= from && edge.to <= to) {
            let here = buffer[usize::from(edge.from)].0;
            let score = here + self.scores[edge.piece as usize];
            if except != Some(edge.piece) && score > buffer[usize::from(edge.to)].0 {
                buffer[usize::from(edge.to)] = (score, u32::from(edge.from), edge.piece);
            }
        }
        let total = buffer[usize::from(to)].0;
        if total == f64::NEG_INFINITY {
            return None;
        }
        let mut path = Vec::new();
        let mut at = u32::from(to);
        while at > u32::from(from) {
            path.push(buffer[at as usize].2);
            at = buffer[at as usize].1;
        }
        Some((total, path))
    }

    /// The best way to make a piece of others; `None` when there is none.
    pub(super) fn instead(&self, id: u32, buffer: &mut Vec<Step>) -> Option<(f64, Vec<u32>)> {
        let (group, word, part) = self.lattice.place(id)?;
        self.best(group, word, part, Some(id), buffer)
    }

    /// The expected number of occurrences of each piece in the words.
    pub(super) fn expected(&self) -> Result<Vec<f64>> {
        let sums = self.lattice.each_group(|group| {
            let mut counts = vec![0.0; self.scores.len()];
            let (mut forward, mut backward) = (Vec::new(), Vec::new());
            for word in group.words() {
                self.add_expected(group, word, &mut counts, &mut forward, &mut backward);
            }
            counts
        })?;
        Ok(add_up(sums, self.scores.len()))
    }

    fn add_expected(
        &self,
        group: &Group,
        word: &Word,
        counts: &mut [f64],
        forward: &mut Vec<f64>,
        backward: &mut Vec<f64>,
    ) {
        let len = usize::from(word.len);
        for sums in [&mut *forward, &mut *backward] {
            sums.clear();
            sums.resize(len + 1, 0.0);
        }
        let edges = group.edges(word);
        forward[0] = 1.0;
        for edge in edges {
            forward[usize::from(edge.to)] += forward[usize::from(edge.from)] * self.factors[edge.piece as usize];
        }
        let total = forward[len];
        // Zero when a character is no piece any more; such a word says nothing about the others.
        if total <= 0.0 || !total.is_finite() {
            return;
        }
        let n = word.count as f64;
        backward[len] = 1.0;
        for edge in edges.iter().rev() {
            let weight = self.factors[edge.piece as usize] * backward[usize::from(edge.to)];
            backward[usize::from(edge.from)] += weight;
            counts[edge.piece as usize] += n * forward[usize::from(edge.from)] * weight / total;
        }
    }

    /// How often each piece is in the best segmentation of the words.
    pub(super) fn best_counts(&self) -> Result<Vec<f64>> {
        let pieces = self.scores.len();
        let sums = self.lattice.each_group(|group| {
            let mut counts = vec![0.0; pieces];
            let mut buffer = Vec::new();
            for word in group.words() {
                let Some((_, path)) = self.best(group, word, (0, word.len), None, &mut buffer) else {
                    continue;
                };
                for id in path {
                    counts[id as usize] += word.count as f64;
                }
            }
            counts
        })?;
        Ok(add_up(sums, pieces))
    }
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
        let lattice = Lattice::new(&[("abab", 3)], &texts, 16).unwrap();
        let pieces = Pieces::new(&texts, &scores, &lattice);
        // Segmentations of "abab".
        let all: [&[usize]; 6] = [&[0, 1, 0, 1], &[2, 0, 1], &[0, 3, 1], &[0, 1, 2], &[2, 2], &[4, 1]];
        let weight = |s: &[usize]| s.iter().map(|&i| scores[i]).sum::<f64>().exp();
        let total: f64 = all.iter().map(|s| weight(s)).sum();
        let found = pieces.expected().unwrap();
        for (i, count) in found.iter().enumerate() {
            let each = |s: &&[usize]| weight(s) * s.iter().filter(|&&k| k == i).count() as f64;
            let want = 3.0 * all.iter().map(each).sum::<f64>() / total;
            assert!((count - want).abs() < 1e-12, "{i}: {count} {want}");
        }
        assert_eq!(pieces.instead(2, &mut Vec::new()), Some((-2.5, vec![1, 0])));
        assert_eq!(pieces.instead(4, &mut Vec::new()), Some((-3.0, vec![0, 2])));
        assert_eq!(pieces.instead(0, &mut Vec::new()), None);
        // "ab" twice is the best; "abc" cannot be made.
        assert_eq!(pieces.best_counts().unwrap(), [0.0, 0.0, 6.0, 0.0, 0.0]);
        let lattice = Lattice::new(&[("abc", 3)], &texts, 16).unwrap();
        assert_eq!(Pieces::new(&texts, &scores, &lattice).expected().unwrap(), [0.0; 5]);
    }
}
