//! What was read before, in a tree over pages of tokens.

use std::collections::{BTreeSet, HashMap};

use super::BLOCK;

/// A tree whose edges are blocks of [`BLOCK`] tokens. A node holds what a sequence keeps of its block; behind some of them a sequence
/// can be resumed.
pub(super) struct Prefixes<S> {
    nodes: Vec<Node<S>>,
    free: Vec<usize>,
    /// Nodes without children, by when they were last asked for.
    leaves: BTreeSet<(u64, usize)>,
    clock: u64,
    bytes: usize,
}

struct Node<S> {
    parent: usize,
    block: Box<[u32]>,
    children: HashMap<Box<[u32]>, usize>,
    /// None at the root and in nodes that wait for their next use.
    kept: Option<Kept<S>>,
    used: u64,
}

/// What a node holds.
pub(super) struct Kept<S> {
    pub(super) value: S,
    pub(super) bytes: usize,
    /// Whether a sequence can go on behind it.
    pub(super) resumable: bool,
}

const ROOT: usize = 0;

impl<S: Clone> Prefixes<S> {
    pub(super) fn new() -> Self {
        let root = Node { parent: ROOT, block: Box::default(), children: HashMap::new(), kept: None, used: 0 };
        Self { nodes: vec![root], free: Vec::new(), leaves: BTreeSet::new(), clock: 0, bytes: 0 }
    }

    /// Bytes of everything in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The nodes of a beginning of `tokens` behind which a sequence can be resumed, the longest that leaves a token to be read.
    fn path(&mut self, tokens: &[u32]) -> Vec<usize> {
        self.clock += 1;
        let (mut path, mut whole) = (Vec::new(), 0);
        for block in tokens.chunks_exact(BLOCK).take(tokens.len().saturating_sub(1) / BLOCK) {
            let at = path.last().copied().unwrap_or(ROOT);
            let Some(&next) = self.nodes[at].children.get(block) else { break };
            path.push(next);
            if self.nodes[next].kept.as_ref().is_some_and(|kept| kept.resumable) {
                whole = path.len();
            }
        }
        path.truncate(whole);
        path.iter().for_each(|&index| self.touch(index));
        path
    }

    /// What is held of the longest beginning of `tokens` behind which a sequence can be resumed and that leaves a token to be read, from
    /// the block `skip` on.
    pub(super) fn find(&mut self, tokens: &[u32], skip: usize) -> Vec<S> {
        let path = self.path(tokens);
        let value = |&index: &usize| self.nodes[index].kept.as_ref().map(|kept| kept.value.clone());
        path.get(skip..).unwrap_or_default().iter().filter_map(value).collect()
    }

    /// How many blocks [`Prefixes::find`] gives.
    pub(super) fn depth(&mut self, tokens: &[u32]) -> usize {
        self.path(tokens).len()
    }

    /// Holds what `of` makes of each block of `tokens`, a multiple of [`BLOCK`] of them, where there is nothing yet or, behind the last
    /// one, nothing that can be resumed from. `of` is asked by the number of tokens up to the block's end.
    pub(super) fn insert(&mut self, tokens: &[u32], mut of: impl FnMut(usize) -> Option<Kept<S>>) {
        debug_assert!(tokens.len().is_multiple_of(BLOCK));
        self.clock += 1;
        let mut at = ROOT;
        for (index, block) in tokens.chunks_exact(BLOCK).enumerate() {
            let end = (index + 1) * BLOCK;
            let known = self.nodes[at].children.get(block).copied();
            let wanted = match known {
                None => true,
                Some(next) => end == tokens.len() && self.nodes[next].kept.as_ref().is_some_and(|kept| !kept.resumable),
            };
            let kept = if wanted { of(end) } else { None };
            at = match (known, kept) {
                (Some(next), None) => next,
                (Some(next), Some(kept)) => {
                    self.bytes += kept.bytes;
                    let old = self.nodes[next].kept.replace(kept);
                    self.bytes -= old.map_or(0, |old| old.bytes);
                    next
                }
                (None, Some(kept)) => self.add(at, block, kept),
                (None, None) => return,
            };
            self.touch(at);
        }
    }

    fn touch(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if self.leaves.remove(&(node.used, index)) {
            self.leaves.insert((self.clock, index));
        }
        node.used = self.clock;
    }

    fn add(&mut self, parent: usize, block: &[u32], kept: Kept<S>) -> usize {
        self.bytes += kept.bytes;
        let block: Box<[u32]> = block.into();
        let used = self.clock;
        let node = Node { parent, block: block.clone(), children: HashMap::new(), kept: Some(kept), used };
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
        let above = &mut self.nodes[parent];
        above.children.insert(block, index);
        self.leaves.remove(&(above.used, parent));
        self.leaves.insert((used, index));
        index
    }

    /// Drops the end of the tree that nobody asked for longest, and what then leads nowhere. False when there is nothing.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some((_, mut at)) = self.leaves.pop_first() else { return false };
        loop {
            let node = &mut self.nodes[at];
            let (parent, block) = (node.parent, std::mem::take(&mut node.block));
            self.bytes -= node.kept.take().map_or(0, |kept| kept.bytes);
            self.nodes[parent].children.remove(&block);
            self.free.push(at);
            let above = &self.nodes[parent];
            if parent == ROOT || !above.children.is_empty() {
                return true;
            }
            if above.kept.as_ref().is_some_and(|kept| kept.resumable) {
                self.leaves.insert((above.used, parent));
                return true;
            }
            at = parent;
        }
    }

    /// The sum of a number over everything held.
    pub(super) fn sum(&self, of: impl Fn(&S) -> usize) -> usize {
        self.nodes.iter().filter_map(|node| node.kept.as_ref()).map(|kept| of(&kept.value)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(blocks: &[u32]) -> Vec<u32> {
        blocks.iter().flat_map(|&b| std::iter::repeat_n(b, BLOCK)).collect()
    }

    /// Holds the number of each block, ten bytes each.
    fn insert(all: &mut Prefixes<u32>, blocks: &[u32]) {
        all.insert(&tokens(blocks), |end| Some(Kept { value: blocks[end / BLOCK - 1], bytes: 10, resumable: true }));
    }

    #[test]
    fn the_longest_beginning_that_leaves_a_token_is_found() {
        let mut all = Prefixes::new();
        insert(&mut all, &[1, 2, 3]);
        assert_eq!(all.find(&tokens(&[1, 2, 3, 4]), 0), [1, 2, 3]);
        assert_eq!(all.find(&tokens(&[1, 2, 3, 4]), 2), [3]);
        assert_eq!(all.find(&tokens(&[1, 2, 3, 4]), 7), [0; 0]);
        assert_eq!(all.find(&tokens(&[1, 2, 3]), 0), [1, 2], "the last token has to be read");
        let mut longer = tokens(&[1, 2, 3]);
        longer.push(9);
        assert_eq!(all.depth(&longer), 3);
        assert_eq!(all.find(&tokens(&[1, 5]), 0), [1]);
        assert_eq!(all.find(&tokens(&[2, 1]), 0), [0; 0]);
        assert_eq!(all.depth(&[]), 0);
    }

    #[test]
    fn branches_share_their_beginning_and_blocks_are_made_once() {
        let mut all = Prefixes::new();
        insert(&mut all, &[1, 2]);
        assert_eq!(all.bytes(), 20);
        let mut asked = Vec::new();
        all.insert(&tokens(&[1, 2, 3]), |end| {
            asked.push(end / BLOCK);
            Some(Kept { value: 3, bytes: 10, resumable: true })
        });
        assert_eq!((asked, all.bytes()), (vec![3], 30));
        insert(&mut all, &[1, 4]);
        assert_eq!((all.bytes(), all.sum(|&value| value as usize)), (40, 10));
        all.insert(&tokens(&[7, 8]), |end| (end > BLOCK).then_some(Kept { value: 8, bytes: 10, resumable: true }));
        assert_eq!(all.bytes(), 40, "a block without the one before it leads nowhere");
    }

    #[test]
    fn only_what_can_be_resumed_from_is_an_end() {
        let mut all = Prefixes::new();
        let kept = |resumable: bool| move |end: usize| Some(Kept { value: end / BLOCK, bytes: 10, resumable });
        all.insert(&tokens(&[1]), kept(true));
        all.insert(&tokens(&[1, 2, 3]), kept(false));
        assert_eq!(all.find(&tokens(&[1, 2, 3, 4]), 0), [1]);
        all.insert(&tokens(&[1, 2, 3]), kept(true));
        assert_eq!((all.find(&tokens(&[1, 2, 3, 4]), 0), all.bytes()), (vec![1, 2, 3], 30));
        assert!(all.drop_oldest());
        assert_eq!(all.bytes(), 10, "what led to the end alone goes with it");
    }

    #[test]
    fn what_nobody_asks_for_goes_first() {
        let mut all = Prefixes::new();
        for first in 0..4 {
            insert(&mut all, &[first, 7]);
        }
        assert_eq!(all.bytes(), 80);
        all.depth(&tokens(&[0, 7, 7]));
        (0..4).for_each(|_| assert!(all.drop_oldest()));
        assert_eq!(all.bytes(), 40);
        assert_eq!([0, 1, 2, 3].map(|first| all.depth(&tokens(&[first, 7, 7]))), [2, 0, 0, 2]);
        while all.drop_oldest() {}
        assert_eq!((all.bytes(), all.depth(&tokens(&[0, 7, 7]))), (0, 0));
        insert(&mut all, &[5]);
        assert_eq!(all.find(&tokens(&[5, 5]), 0), [5]);
        assert!(all.nodes.len() <= 9, "nodes are used again");
    }
}
