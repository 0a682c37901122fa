//! Where in which word each piece can stand. That is looked up once; afterwards pieces only go.

use crate::error::Result;
use crate::hash::FastMap;
use crate::tokenizer::batch::parallel;
use crate::vocab::NONE;

/// Words are held in this fixed number of groups and sums are added in their order, so that any number of threads gives
/// the same bits.
const GROUPS: usize = 8;

/// A place of a piece in a word, as bytes of the word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub piece: u32,
    pub from: u8,
    pub to: u8,
}

/// A word, how often it occurs, and where its edges lie in its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub count: u64,
    /// Bytes; the trainer cuts words at 32 characters.
    pub len: u8,
    edges: (usize, usize),
}

/// Some of the words.
#[derive(Debug, Default)]
pub(super) struct Group {
    words: Vec<Word>,
    /// For each word by beginning, then by end.
    edges: Vec<Edge>,
}

impl Group {
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    pub(super) fn edges(&self, word: &Word) -> &[Edge] {
        &self.edges[word.edges.0..word.edges.1]
    }
}

/// All words with the places of all pieces.
#[derive(Debug)]
pub(super) struct Lattice {
    groups: Vec<Group>,
    /// For each piece one word that it stands in: group, word, beginning and end.
    places: Vec<Option<(u8, u32, u8, u8)>>,
}

impl Lattice {
    /// The places of pieces of at most `longest` characters. A word has at most 255 bytes.
    pub(super) fn new(words: &[(&str, u64)], texts: &[&str], longest: usize) -> Result<Self> {
        let ids: FastMap<&str, u32> = texts.iter().copied().zip(0..).collect();
        let size = words.len().div_ceil(GROUPS).max(1);
        let bytes = words.iter().map(|w| w.0.len()).sum();
        let groups = parallel(words.len().div_ceil(size), bytes, None, |g| {
            let mut group = Group::default();
            for &(word, count) in &words[g * size..((g + 1) * size).min(words.len())] {
                let first = group.edges.len();
                for (from, _) in word.char_indices() {
                    let ends = word[from..].char_indices().map(|(i, c)| from + i + c.len_utf8());
                    for to in ends.take(longest) {
                        if let Some(&piece) = ids.get(&word[from..to]) {
                            group.edges.push(Edge { piece, from: from as u8, to: to as u8 });
                        }
                    }
                }
                group.words.push(Word { count, len: word.len() as u8, edges: (first, group.edges.len()) });
            }
            Ok(group)
        })?;
        let mut places = vec![None; texts.len()];
        for (g, group) in groups.iter().enumerate() {
            for (w, word) in group.words.iter().enumerate() {
                for edge in group.edges(word) {
                    places[edge.piece as usize].get_or_insert((g as u8, w as u32, edge.from, edge.to));
                }
            }
        }
        Ok(Self { groups, places })
    }

    /// A word that the piece stands in, and where.
    pub(super) fn place(&self, piece: u32) -> Option<(&Group, &Word, (u8, u8))> {
        let (group, word, from, to) = self.places[piece as usize]?;
        let group = &self.groups[usize::from(group)];
        Some((group, &group.words[word as usize], (from, to)))
    }

    /// `work` for each group, in order.
    pub(super) fn each_group<T: Send>(&self, work: impl Fn(&Group) -> T + Sync) -> Result<Vec<T>> {
        let bytes = self.groups.iter().map(|group| group.edges.len()).sum();
        parallel(self.groups.len(), bytes, None, |g| Ok(work(&self.groups[g])))
    }

    /// Only the pieces with these numbers, which rise, stay; they are numbered anew in order.
    pub(super) fn keep(&mut self, kept: &[u32]) {
        let mut numbers = vec![NONE; self.places.len()];
        for (new, &old) in (0..).zip(kept) {
            numbers[old as usize] = new;
        }
        self.places = kept.iter().map(|&old| self.places[old as usize]).collect();
        for group in &mut self.groups {
            let mut end = 0;
            for word in &mut group.words {
                let (first, last) = word.edges;
                let start = end;
                for i in first..last {
                    let edge = group.edges[i];
                    let piece = numbers[edge.piece as usize];
                    if piece != NONE {
                        group.edges[end] = Edge { piece, ..edge };
                        end += 1;
                    }
                }
                word.edges = (start, end);
            }
            group.edges.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(lattice: &Lattice) -> Vec<(u32, u8, u8)> {
        let of = |group: &Group| -> Vec<_> {
            group.words.iter().flat_map(|w| group.edges(w)).map(|e| (e.piece, e.from, e.to)).collect()
        };
        lattice.groups.iter().flat_map(of).collect()
    }

    #[test]
    fn every_place_of_every_piece_is_found_and_what_is_kept_stays() {
        let mut lattice = Lattice::new(&[("né", 2), ("ené", 1)], &["n", "é", "né", "e", "x", "ené"], 2).unwrap();
        assert_eq!(edges(&lattice), [(0, 0, 1), (2, 0, 3), (1, 1, 3), (3, 0, 1), (0, 1, 2), (2, 1, 4), (1, 2, 4)]);
        assert!(lattice.place(4).is_none() && lattice.place(5).is_none());
        lattice.keep(&[1, 2]);
        assert_eq!(edges(&lattice), [(1, 0, 3), (0, 1, 3), (1, 1, 4), (0, 2, 4)]);
        let (_, word, part) = lattice.place(1).unwrap();
        assert_eq!((word.len, part), (3, (0, 3)));
    }
}
