//! A table from keys to ids, three to a cache line.

use crate::key::Key;
use cupola_regex::hint::prefetch;

const EACH: usize = 3;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line {
    /// Zero where there is none: a key holds the length of its string.
    keys: [Key; EACH],
    /// What is not zero when keys that belong here lie in the lines that follow, and the ids.
    ids: [u32; EACH + 1],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    #[inline(always)]
    fn has_more(&self) -> bool {
        self.ids[0] != 0
    }

    /// Whether a key is here, and its id, found without a branch.
    #[inline(always)]
    fn find(&self, key: Key) -> (bool, u32) {
        let is = |k: &Key| usize::from((k[0] ^ key[0]) | (k[1] ^ key[1]) == 0);
        let [a, b, c] = &self.keys;
        let place = (is(a) + 2 * is(b) + 3 * is(c)) & EACH;
        (place != 0, self.ids[place])
    }
}

/// Keys of strings that are not empty, and their ids. What is put in first lies nearest to its place: a look-up of the tokens
/// of small ids, which are the frequent ones, touches one line of the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Room for a number of keys; a quarter stays empty, so that each search ends.
    pub(crate) fn new(keys: usize) -> Self {
        Self(vec![Line::default(); keys * 4 / (3 * EACH) + 2])
    }

    /// Where a key with this hash belongs.
    #[inline(always)]
    pub(crate) fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.0.len() as u128) >> 64) as usize
    }

    /// Has the processor fetch the place of a hash, for a question that will come soon.
    #[inline(always)]
    pub(crate) fn fetch(&self, home: usize) {
        if let Some(line) = self.0.get(home) {
            prefetch(line);
        }
    }

    /// Of equal keys the first one stays.
    #[inline]
    pub(crate) fn insert(&mut self, key: Key, home: usize, id: u32) {
        let mut at = home;
        loop {
            let line = &mut self.0[at];
            for slot in 0..EACH {
                if line.keys[slot] == key {
                    return;
                }
                if line.keys[slot][1] == 0 {
                    (line.keys[slot], line.ids[slot + 1]) = (key, id);
                    return;
                }
            }
            line.ids[0] = 1;
            at = self.after(at);
        }
    }

    /// The id of a key that is not zero, if the line where it belongs has it.
    #[inline(always)]
    pub(crate) fn at_home(&self, key: Key, home: usize) -> Option<u32> {
        let (there, id) = self.0.get(home)?.find(key);
        there.then_some(id)
    }

    /// The id of a key.
    #[inline(always)]
    pub(crate) fn find(&self, key: Key, home: usize) -> Option<u32> {
        let line = self.0.get(home)?;
        match line.find(key) {
            (true, id) => Some(id),
            _ if line.has_more() => self.find_after(key, home),
            _ => None,
        }
    }

    #[inline(never)]
    fn find_after(&self, key: Key, home: usize) -> Option<u32> {
        let mut at = home;
        loop {
            at = self.after(at);
            let line = &self.0[at];
            if let (true, id) = line.find(key) {
                return Some(id);
            }
            if !line.has_more() {
                return None;
            }
        }
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.0.len() { 0 } else { at + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        for n in [0, 1, 2, 50, 5000u32] {
            let mut lines = Lines::new(n as usize);
            let entry = |lines: &Lines, i: u32| {
                let key = key::of(
                    &[&[b'x'; 8][..if i.is_multiple_of(2) { 0 } else { 8 }], &(i + 1).to_le_bytes()[..3]].concat(),
                );
                (key, lines.home(key::hash_of(key)))
            };
            for i in 0..n {
                let (key, home) = entry(&lines, i);
                lines.insert(key, home, i);
                lines.insert(key, home, i + 1);
            }
            for i in 0..2 * n + 10 {
                let (key, home) = entry(&lines, i);
                assert_eq!(lines.find(key, home), (i < n).then_some(i), "{i} of {n}");
            }
        }
        assert_eq!(Lines::default().find(key::of(b"a"), 7), None);
    }
}
