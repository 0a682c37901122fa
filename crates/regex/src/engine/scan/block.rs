//! Runs the transducer over blocks of text and hands out the ends of matches.
//!
//! A step of the machine depends on the one before it, and a look into its table takes five cycles. A block is therefore
//! cut into lanes that run side by side. A lane begins behind a pair of symbols after which the machine's state is the
//! same whatever came before, of which ordinary text has one every few bytes.

use super::classify::Classifier;
use super::machine::{COMMIT, HERE, LOST, Machine, NO_SYNC, PREVIOUS, SET};
use crate::alphabet::Alphabet;

/// Bytes of text in one block; its kinds stay in the first-level cache.
const BLOCK: usize = 16 << 10;

/// The first block is smaller, so that looking at only a few matches costs little.
const FIRST_BLOCK: usize = 1 << 10;

/// Lanes of a block.
const LANES: usize = 4;

/// A lane is at least this long, and begins at most this far from where it should.
const LANE_MIN: usize = 256;

/// The pass over one text.
#[derive(Debug, Default, Clone)]
pub struct Splitter {
    /// Kinds of the block, then actions.
    buffer: Vec<u8>,
    /// Ends of matches in the block, relative to `base`, and how many have been handed out.
    ends: Vec<u32>,
    handed: usize,
    /// Where the block began and where the next one begins.
    base: usize,
    next: usize,
    /// Where the pass began.
    started: usize,
    state: u32,
    /// The machine's register.
    register: usize,
    /// How far `base` lies before the block, when an end in the block before was decided in this one.
    shift: usize,
    /// The machine runs.
    active: bool,
}

impl Splitter {
    /// Begins at `at`, where a match begins; `before` is the group of the symbol before it.
    pub fn begin(&mut self, machine: &Machine, at: usize, before: u16) {
        self.ends.clear();
        self.handed = 0;
        self.base = at;
        self.started = at;
        self.next = at;
        self.register = at;
        self.state = machine.start(before);
        self.active = true;
    }

    /// Stops; [`Splitter::next_end`] gives nothing more.
    pub fn stop(&mut self) {
        self.active = false;
        self.ends.clear();
        self.handed = 0;
    }

    /// The end of the next match, if it is already known.
    #[inline]
    pub fn next_known(&mut self) -> Option<usize> {
        let end = *self.ends.get(self.handed)?;
        self.handed += 1;
        Some(self.base + end as usize)
    }

    /// The end of the next match. `None` when the machine has stopped: at the end of the text, where the last match or
    /// two are not decided yet, and where it got lost.
    pub fn next_end(
        &mut self,
        machine: &Machine,
        classifier: &Classifier,
        alphabet: &Alphabet,
        text: &[u8],
    ) -> Option<usize> {
        loop {
            if let Some(end) = self.next_known() {
                return Some(end);
            }
            if !self.active || self.next >= text.len() {
                self.active = false;
                return None;
            }
            self.block(machine, classifier, alphabet, text);
        }
    }

    fn block(&mut self, machine: &Machine, classifier: &Classifier, alphabet: &Alphabet, text: &[u8]) {
        let size = if self.next == self.started { FIRST_BLOCK } else { BLOCK };
        self.base = self.next;
        self.shift = 0;
        let mut end = (self.base + size).min(text.len());
        // Blocks end between symbols; the few bytes of an unfinished one are left for the next block.
        while end < text.len() && end > self.base + size - 4 && text[end] & 0xC0 == 0x80 {
            end -= 1;
        }
        let block = &text[self.base..end];
        self.next = end;
        self.buffer.resize(block.len(), 0);
        classifier.classify(alphabet, block, &mut self.buffer);
        self.state = run(machine, &mut self.buffer, self.state);
        self.ends.clear();
        self.handed = 0;
        self.collect(text);
    }

    /// Turns the actions of the block into ends.
    fn collect(&mut self, text: &[u8]) {
        let mut chunk_at = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        let padded = buffer.len().next_multiple_of(64);
        let len = buffer.len();
        buffer.resize(padded, 0);
        self.ends.reserve(len / 2 + 64);
        for chunk in buffer.chunks_exact(64) {
            let mut words = [0u64; 8];
            for (word, bytes) in words.iter_mut().zip(chunk.chunks_exact(8)) {
                *word = u64::from_le_bytes([
                    bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
                ]);
            }
            let any = words.iter().fold(0, |all, word| all | word);
            if any & spread(PREVIOUS | COMMIT | LOST) == 0 {
                let mut here = 0u64;
                for (index, word) in words.iter().enumerate() {
                    here |= gather(word & spread(HERE)) << (8 * index);
                }
                push_bits(&mut self.ends, here, (self.shift + chunk_at) as u32);
            } else {
                for (offset, &actions) in chunk.iter().enumerate() {
                    if actions & !SET != 0 && !self.unusual(&buffer, text, chunk_at + offset, actions) {
                        self.active = false;
                        buffer.truncate(len);
                        self.buffer = buffer;
                        return;
                    }
                }
            }
            chunk_at += 64;
        }
        // The register as the next block finds it.
        if let Some(set) = buffer.iter().rposition(|actions| actions & SET != 0) {
            self.register = self.base + self.shift + set;
        }
        buffer.truncate(len);
        self.buffer = buffer;
    }

    /// One symbol with any actions; false when the machine is lost.
    fn unusual(&mut self, buffer: &[u8], text: &[u8], at: usize, actions: u8) -> bool {
        if actions & LOST != 0 {
            return false;
        }
        let block = self.base + self.shift;
        if actions & COMMIT != 0 {
            let set = buffer[..at].iter().rposition(|actions| actions & SET != 0);
            self.push(set.map_or(self.register, |set| block + set));
        }
        if actions & PREVIOUS != 0 {
            let mut previous = block + at - 1;
            while text[previous] & 0xC0 == 0x80 {
                previous -= 1;
            }
            self.push(previous);
        }
        if actions & HERE != 0 {
            self.push(block + at);
        }
        true
    }

    /// Notes an end.
    fn push(&mut self, end: usize) {
        if end < self.base {
            // It lies in the block before. Ends ascend, so this is the first one of this block.
            self.shift += self.base - end;
            self.base = end;
        }
        self.ends.push((end - self.base) as u32);
    }
}

/// `actions` in every byte of a word.
const fn spread(actions: u8) -> u64 {
    actions as u64 * 0x0101_0101_0101_0101
}

/// The lowest bits of the bytes of `word`, all other bits being clear, as one byte.
fn gather(word: u64) -> u64 {
    word.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Appends the positions of the bits of `bits`.
#[inline]
fn push_bits(ends: &mut Vec<u32>, mut bits: u64, at: u32) {
    while bits != 0 {
        ends.push(at + bits.trailing_zeros());
        bits &= bits - 1;
    }
}

/// Replaces kinds by actions; returns the state behind the block.
fn run(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    let Some(cuts) = cut(machine, buffer) else {
        return single(machine, buffer, state);
    };
    let states = [state, u32::from(cuts[0].1), u32::from(cuts[1].1), u32::from(cuts[2].1)];
    let (a, rest) = buffer.split_at_mut(cuts[0].0);
    let (b, rest) = rest.split_at_mut(cuts[1].0 - cuts[0].0);
    let (c, d) = rest.split_at_mut(cuts[2].0 - cuts[1].0);
    lanes(machine, [a, b, c, d], states)
}

/// Where the second to fourth lane begin, and in which states.
fn cut(machine: &Machine, kinds: &[u8]) -> Option<[(usize, u16); LANES - 1]> {
    let stride = kinds.len() / LANES;
    if stride < LANE_MIN {
        return None;
    }
    let count = machine.columns - 1;
    let mut cuts = [(0, NO_SYNC); LANES - 1];
    for (lane, cut) in cuts.iter_mut().enumerate() {
        let from = (lane + 1) * stride;
        *cut = (from..from + LANE_MIN / 2).find_map(|at| {
            // The two symbols before `at`, of which the second begins directly before it.
            let second = usize::from(kinds[at - 1]);
            let first = usize::from(
                *kinds[..at - 1]
                    .iter()
                    .rev()
                    .take(4)
                    .find(|&&kind| usize::from(kind) < count)?,
            );
            if second >= count {
                return None;
            }
            let state = machine.sync[first * count + second];
            (state != NO_SYNC).then_some((at, state))
        })?;
    }
    Some(cuts)
}

/// Looks up a transition.
///
/// # Safety
/// `state` is the offset of a row of the table in bytes, and `kind` is below the length of a row.
#[inline(always)]
unsafe fn transition(table: *const u32, state: usize, kind: u8) -> u32 {
    // SAFETY: the row and the column exist, as the caller promises.
    unsafe { table.add(usize::from(kind)).byte_add(state).read() }
}

#[inline(never)]
fn single(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    let mut state = state as usize;
    for byte in buffer {
        // SAFETY: see `lanes`.
        let entry = unsafe { transition(machine.table.as_ptr(), state, *byte) };
        state = (entry >> 16) as usize;
        *byte = entry as u8;
    }
    state as u32
}

#[inline(never)]
fn lanes(machine: &Machine, mut parts: [&mut [u8]; LANES], states: [u32; LANES]) -> u32 {
    let common = parts.iter().map(|p| p.len()).min().unwrap_or(0);
    let table = machine.table.as_ptr();
    let [mut s, mut t, mut u, mut v] = states.map(|s| s as usize);
    let [a, b, c, d] = parts.each_mut().map(|part| part.as_mut_ptr());
    for i in 0..common {
        // SAFETY: `i` is below the length of each of the four separate parts. A state is the offset of a row of the
        // table, as start states, synchronising states and the high halves of all entries are, and the classifier
        // gives only kinds of the machine's alphabet and its continuation kind, the last column.
        unsafe {
            let (e, f) = (transition(table, s, *a.add(i)), transition(table, t, *b.add(i)));
            let (g, h) = (transition(table, u, *c.add(i)), transition(table, v, *d.add(i)));
            (*a.add(i), *b.add(i)) = (e as u8, f as u8);
            (*c.add(i), *d.add(i)) = (g as u8, h as u8);
            (s, t, u, v) = ((e >> 16) as usize, (f >> 16) as usize, (g >> 16) as usize, (h >> 16) as usize);
        }
    }
    let mut last = 0;
    for (part, state) in parts.iter_mut().zip([s, t, u, v]) {
        last = single(machine, &mut part[common..], state as u32);
    }
    last
}
