//! States of prompts that were read before, in a tree over blocks of tokens.

use std::collections::HashMap;

use super::BLOCK;

/// A tree whose edges are blocks of [`BLOCK`] tokens. A node holds a snapshot behind its block, unless it was given up.
pub(super) struct Prefixes<S> {
    nodes: Vec<Node<S>>,
    free: Vec<usize>,
    clock: u64,
    bytes: usize,
}

struct Node<S> {
    parent: usize,
    block: Box<[u32]>,
    children: HashMap<Box<[u32]>, usize>,
    snapshot: Option<(S, usize)>,
    used: u64,
}

const ROOT: usize = 0;

impl<S: Clone> Prefixes<S> {
    pub(super) fn new() -> Self {
        let root = Node { parent: ROOT, block: Box::default(), children: HashMap::new(), snapshot: None, used: 0 };
        Self { nodes: vec![root], free: Vec::new(), clock: 0, bytes: 0 }
    }

    /// Bytes of all snapshots.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The longest snapshot of a beginning of `tokens` that leaves at least one token to be read, and its length.
    pub(super) fn longest(&mut self, tokens: &[u32]) -> Option<(S, usize)> {
        self.clock += 1;
        let (mut at, mut found) = (ROOT, None);
        let whole = tokens.len().saturating_sub(1) / BLOCK;
        for (index, block) in tokens.chunks_exact(BLOCK).take(whole).enumerate() {
            let Some(&next) = self.nodes[at].children.get(block) else { break };
            at = next;
            self.nodes[at].used = self.clock;
            if let Some((snapshot, _)) = &self.nodes[at].snapshot {
                found = Some((snapshot.clone(), (index + 1) * BLOCK));
            }
        }
        found
    }

    /// A snapshot that begins with the most blocks of `tokens`, leaving at least one token to be read, and how many tokens that are. It
    /// may go on with others: for states that can be cut.
    pub(super) fn deepest(&mut self, tokens: &[u32]) -> Option<(S, usize)> {
        self.clock += 1;
        let (mut at, mut length) = (ROOT, 0);
        for block in tokens.chunks_exact(BLOCK).take(tokens.len().saturating_sub(1) / BLOCK) {
            let Some(&next) = self.nodes[at].children.get(block) else { break };
            at = next;
            length += BLOCK;
            self.nodes[at].used = self.clock;
        }
        if at == ROOT {
            return None;
        }
        // Every end of the tree has a snapshot.
        loop {
            if let Some((snapshot, _)) = &self.nodes[at].snapshot {
                return Some((snapshot.clone(), length));
            }
            at = self.nodes[at].children.values().copied().max_by_key(|&child| (self.nodes[child].used, child))?;
            self.nodes[at].used = self.clock;
        }
    }

    /// Keeps a snapshot that serves for all its beginnings as well: those of its beginnings are given up.
    pub(super) fn insert_for_all(&mut self, tokens: &[u32], snapshot: S, bytes: usize) {
        self.insert(tokens, snapshot, bytes);
        let mut at = ROOT;
        for block in tokens[..tokens.len() - BLOCK].chunks_exact(BLOCK) {
            let Some(&next) = self.nodes[at].children.get(block) else { return };
            at = next;
            if let Some((_, bytes)) = self.nodes[at].snapshot.take() {
                self.bytes -= bytes;
            }
        }
    }

    /// True when there is a snapshot behind exactly these blocks.
    pub(super) fn contains(&self, tokens: &[u32]) -> bool {
        let step = |at: usize, block: &[u32]| self.nodes[at].children.get(block).copied();
        let end = tokens.chunks_exact(BLOCK).try_fold(ROOT, step);
        end.is_some_and(|at| self.nodes[at].snapshot.is_some())
    }

    /// Keeps a snapshot behind `tokens`, a multiple of [`BLOCK`] of them, which costs so many bytes.
    pub(super) fn insert(&mut self, tokens: &[u32], snapshot: S, bytes: usize) {
        debug_assert!(!tokens.is_empty() && tokens.len().is_multiple_of(BLOCK));
        self.clock += 1;
        let mut at = ROOT;
        for block in tokens.chunks_exact(BLOCK) {
            at = match self.nodes[at].children.get(block) {
                Some(&next) => next,
                None => self.add(at, block),
            };
            self.nodes[at].used = self.clock;
        }
        let old = self.nodes[at].snapshot.replace((snapshot, bytes));
        self.bytes = self.bytes + bytes - old.map_or(0, |(_, bytes)| bytes);
    }

    fn add(&mut self, parent: usize, block: &[u32]) -> usize {
        let block: Box<[u32]> = block.into();
        let node = Node { parent, block: block.clone(), children: HashMap::new(), snapshot: None, used: self.clock };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(block, index);
        index
    }

    /// Gives up snapshots that nobody asked for longest, ends of the tree first, until at most so many bytes are left.
    pub(super) fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let leaves =
                self.nodes.iter().enumerate().skip(1).filter(|(_, n)| n.children.is_empty() && !n.block.is_empty());
            let Some((oldest, _)) = leaves.min_by_key(|(_, node)| node.used) else { return };
            self.remove(oldest);
        }
    }

    /// Removes a leaf, and the nodes above that then lead nowhere.
    fn remove(&mut self, mut at: usize) {
        while at != ROOT {
            let node = &mut self.nodes[at];
            let (parent, block) = (node.parent, std::mem::take(&mut node.block));
            if let Some((_, bytes)) = node.snapshot.take() {
                self.bytes -= bytes;
            }
            self.nodes[parent].children.remove(&block);
            self.free.push(at);
            let above = &self.nodes[parent];
            if !above.children.is_empty() || above.snapshot.is_some() {
                return;
            }
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(blocks: &[u32]) -> Vec<u32> {
        blocks.iter().flat_map(|&b| std::iter::repeat_n(b, BLOCK)).collect()
    }

    #[test]
    fn the_longest_beginning_that_leaves_a_token_is_found() {
        let mut all = Prefixes::new();
        all.insert(&tokens(&[1]), "1", 10);
        all.insert(&tokens(&[1, 2, 3]), "123", 10);
        assert_eq!(all.longest(&tokens(&[1, 2, 3, 4])), Some(("123", 3 * BLOCK)));
        assert_eq!(all.longest(&tokens(&[1, 2, 3])), Some(("1", BLOCK)), "the last token has to be read");
        let mut longer = tokens(&[1, 2, 3]);
        longer.push(9);
        assert_eq!(all.longest(&longer), Some(("123", 3 * BLOCK)));
        assert_eq!(all.longest(&tokens(&[1, 5])), Some(("1", BLOCK)));
        assert_eq!(all.longest(&tokens(&[2, 1])), None);
        assert_eq!(all.longest(&[]), None);
        assert!(all.contains(&tokens(&[1])) && !all.contains(&tokens(&[1, 2])) && !all.contains(&tokens(&[7])));
    }

    #[test]
    fn a_snapshot_that_can_be_cut_serves_for_all_its_beginnings() {
        let mut all = Prefixes::new();
        all.insert_for_all(&tokens(&[1, 2]), "12", 20);
        all.insert_for_all(&tokens(&[1, 2, 3]), "123", 30);
        assert_eq!(all.bytes(), 30, "the shorter one is not needed any more");
        all.insert_for_all(&tokens(&[1, 4]), "14", 20);
        assert_eq!(all.deepest(&tokens(&[1, 2, 9])), Some(("123", 2 * BLOCK)));
        assert_eq!(all.deepest(&tokens(&[1, 4, 9])), Some(("14", 2 * BLOCK)));
        assert_eq!(all.deepest(&tokens(&[1, 4])).unwrap().1, BLOCK, "the last token has to be read");
        assert_eq!(all.deepest(&tokens(&[2, 9])), None);
        all.shrink(20);
        assert_eq!(all.bytes(), 20);
        assert_eq!(all.deepest(&tokens(&[1, 2, 3, 4])), Some(("14", BLOCK)));
    }

    #[test]
    fn what_nobody_asks_for_goes_first() {
        let mut all = Prefixes::new();
        for first in 0..4 {
            all.insert(&tokens(&[first]), first, 10);
            all.insert(&tokens(&[first, 7]), first + 10, 10);
        }
        assert_eq!(all.bytes(), 80);
        all.longest(&tokens(&[0, 7, 7]));
        all.shrink(40);
        assert_eq!(all.bytes(), 40);
        assert!(all.contains(&tokens(&[0, 7])) && all.contains(&tokens(&[3, 7])) && !all.contains(&tokens(&[1])));
        all.insert(&tokens(&[3, 7]), 99, 5);
        assert_eq!(all.bytes(), 35);
        all.shrink(0);
        assert_eq!(all.bytes(), 0);
        assert_eq!(all.longest(&tokens(&[0, 7, 7])), None);
        all.insert(&tokens(&[5]), 5, 1);
        assert_eq!(all.longest(&tokens(&[5, 5])), Some((5, BLOCK)));
    }
}
