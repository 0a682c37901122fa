//! A trie over byte strings for "which tokens start here".

use crate::hash;
use crate::vocab::NONE;

/// Edges live in one open-addressed table keyed by (node, byte): building is linear, memory is 16 bytes a slot, and a
/// step is one probe. The first level is a plain array, because most walks end there.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    roots: Box<[u32; 256]>,
    /// `(node << 8 | byte) + 1`, child; key 0 is empty.
    edges: Vec<(u64, u32)>,
    /// Value of each node.
    values: Vec<u32>,
    used: usize,
}

impl Default for Trie {
    fn default() -> Self {
        Self { roots: Box::new([NONE; 256]), edges: vec![(0, 0); 16], values: Vec::new(), used: 0 }
    }
}

#[inline(always)]
fn slot_of(key: u64, mask: usize) -> usize {
    hash::words(key, 0) as usize & mask
}

impl Trie {
    /// A trie over keys and values; of a repeated key the first value stays.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (&'a [u8], u32)>) -> Self {
        let mut trie = Self::default();
        for (key, value) in entries {
            trie.insert(key, value);
        }
        trie
    }

    fn insert(&mut self, key: &[u8], value: u32) {
        let Some((&first, rest)) = key.split_first() else {
            return;
        };
        let mut node = self.roots[usize::from(first)];
        if node == NONE {
            node = self.values.len() as u32;
            self.values.push(NONE);
            self.roots[usize::from(first)] = node;
        }
        for &byte in rest {
            node = match self.step(node, byte) {
                Some(child) => child,
                None => {
                    let child = self.values.len() as u32;
                    self.values.push(NONE);
                    self.link(node, byte, child);
                    child
                }
            };
        }
        let slot = &mut self.values[node as usize];
        if *slot == NONE {
            *slot = value;
        }
    }

    fn link(&mut self, node: u32, byte: u8, child: u32) {
        if (self.used + 1) * 2 > self.edges.len() {
            let old = std::mem::take(&mut self.edges);
            self.edges = vec![(0, 0); old.len() * 2];
            for (key, child) in old.into_iter().filter(|e| e.0 != 0) {
                self.place(key, child);
            }
        }
        self.used += 1;
        self.place((u64::from(node) << 8 | u64::from(byte)) + 1, child);
    }

    fn place(&mut self, key: u64, child: u32) {
        let mask = self.edges.len() - 1;
        let mut at = slot_of(key, mask);
        while self.edges[at].0 != 0 {
            at = (at + 1) & mask;
        }
        self.edges[at] = (key, child);
    }

    #[inline(always)]
    fn step(&self, node: u32, byte: u8) -> Option<u32> {
        let key = (u64::from(node) << 8 | u64::from(byte)) + 1;
        let mask = self.edges.len() - 1;
        let mut at = slot_of(key, mask);
        loop {
            let (k, child) = self.edges[at];
            if k == key {
                return Some(child);
            }
            if k == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Calls `found(length, value)` for every key that `text` starts with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let Some((&first, rest)) = text.split_first() else {
            return;
        };
        let mut node = self.roots[usize::from(first)];
        if node == NONE {
            return;
        }
        if self.values[node as usize] != NONE {
            found(1, self.values[node as usize]);
        }
        for (i, &byte) in rest.iter().enumerate() {
            match self.step(node, byte) {
                Some(child) => node = child,
                None => return,
            }
            if self.values[node as usize] != NONE {
                found(i + 2, self.values[node as usize]);
            }
        }
    }

    /// Length and value of the longest key that `text` starts with.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut best = None;
        self.prefixes(text, |len, value| best = Some((len, value)));
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_all_prefixes_and_only_those() {
        let keys: Vec<&[u8]> = vec![b"a", b"ab", b"abcd", b"b", "\u{2581}the".as_bytes(), b"ab"];
        let trie = Trie::new(keys.iter().enumerate().map(|(i, k)| (*k, i as u32)));
        let all = |text: &[u8]| {
            let mut found = Vec::new();
            trie.prefixes(text, |len, value| found.push((len, value)));
            found
        };
        assert_eq!(all(b"abcde"), [(1, 0), (2, 1), (4, 2)]);
        assert_eq!(all(b"bab"), [(1, 3)]);
        assert_eq!(all("\u{2581}them".as_bytes()), [(6, 4)]);
        assert_eq!(all(b"c"), []);
        assert_eq!(all(b""), []);
        assert_eq!(trie.longest(b"abcz"), Some((2, 1)));
    }
}
