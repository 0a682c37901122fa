//! Runs the transducer over blocks of text and hands out the ends of matches.
//!
//! A step of the machine depends on the one before it, and a look into its table takes five cycles. A block is therefore
//! cut into lanes that run side by side.

use super::actions::{self, Bits, CHUNK, has};
use super::classify::Classifier;
use super::machine::{COMMIT, GAP, HERE, LOST, Machine, PREVIOUS, SET};
use super::run::run;
use crate::alphabet::Alphabet;

/// Bytes of text in one block; its kinds stay in the first-level cache. Half of it and the like are no multiples of 4096, so
/// that lanes do not get into each other's way in the cache.
const BLOCK: usize = 16128;

/// The first block is smaller, so that looking at only a few matches costs little.
const FIRST_BLOCK: usize = 1 << 10;

/// An end handed out.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The position in the text.
    pub at: usize,
    /// What ends here is no match.
    pub gap: bool,
}

/// Marks the end of a gap among the ends of a block.
const GAP_BIT: u32 = 1 << 31;

/// The pass over one text.
#[derive(Debug, Default, Clone)]
pub struct Splitter {
    /// Kinds of the block, then actions. It never shrinks; `len` bytes of it are in use.
    buffer: Vec<u8>,
    len: usize,
    /// Ends of matches in the block, relative to `base`: room for them, how many there are, how many have been handed
    /// out.
    ends: Vec<u32>,
    count: usize,
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
    /// Matches that ended in the block.
    found: usize,
    /// Borders where there are gaps: distances, from where, and the end of a gap that more gaps may follow.
    joined: Vec<u32>,
    joined_from: Option<usize>,
    waiting: Option<usize>,
}

impl Splitter {
    /// Begins at `at`, where a match begins; `before` is the group of the symbol before it.
    pub fn begin(&mut self, machine: &Machine, at: usize, before: u16) {
        self.count = 0;
        self.handed = 0;
        self.base = at;
        self.started = at;
        self.next = at;
        self.register = at;
        self.waiting = None;
        self.state = machine.start(before);
        self.active = true;
        self.found = usize::MAX;
    }

    /// Stops; [`Splitter::next_end`] gives nothing more.
    pub fn stop(&mut self) {
        self.active = false;
        self.count = 0;
        self.handed = 0;
    }

    /// Whether a whole block had at most one match in `every` bytes.
    pub fn found_few(&self, every: usize) -> bool {
        self.active && self.len >= BLOCK / 2 && self.found <= self.len / every
    }

    /// The end of the next match, or of the gap before it, if it is already known.
    #[inline]
    pub fn next_known(&mut self) -> Option<End> {
        if self.handed == self.count {
            return None;
        }
        let end = self.ends[self.handed];
        self.handed += 1;
        Some(End { at: self.base + (end & !GAP_BIT) as usize, gap: end & GAP_BIT != 0 })
    }

    /// The end of the next match. `None` when the machine has stopped: at the end of the text, where the last match or
    /// two are not decided yet, and where it got lost.
    pub fn next_end(
        &mut self,
        machine: &Machine,
        classifier: &Classifier,
        alphabet: &Alphabet,
        text: &[u8],
    ) -> Option<End> {
        loop {
            if let Some(end) = self.next_known() {
                return Some(end);
            }
            if !self.active {
                return None;
            }
            if self.next < text.len() {
                self.block(machine, classifier, alphabet, text);
            } else {
                self.active = false;
                (self.base, self.shift) = (text.len(), 0);
                (self.count, self.handed) = (0, 0);
                self.finish(machine, alphabet, text);
            }
        }
    }

    /// All borders of the next block, gaps and matches alike: a position and the distances from it. `None` as with
    /// [`Splitter::next_end`].
    pub fn next_borders(
        &mut self,
        machine: &Machine,
        classifier: &Classifier,
        alphabet: &Alphabet,
        text: &[u8],
    ) -> Option<(usize, &[u32])> {
        while self.active {
            self.block(machine, classifier, alphabet, text);
            if self.active && self.next == text.len() {
                self.active = false;
                self.finish(machine, alphabet, text);
            }
            if self.count > 0 {
                let count = std::mem::take(&mut self.count);
                if !machine.gaps {
                    return Some((self.base, &self.ends[..count]));
                }
                self.join_gaps(count);
                if let Some(&base) = self.joined_from.as_ref() {
                    return Some((base, &self.joined));
                }
            }
        }
        None
    }

    /// Makes one border of the ends of gaps in a row. The last one waits for what follows it; at the end of the text it is
    /// left to whoever goes on from the last border.
    fn join_gaps(&mut self, count: usize) {
        self.joined.clear();
        self.joined_from = None;
        for &end in &self.ends[..count] {
            let (at, gap) = (self.base + (end & !GAP_BIT) as usize, end & GAP_BIT != 0);
            let before = self.waiting.take().filter(|_| !gap);
            if gap {
                self.waiting = Some(at);
            }
            for border in before.into_iter().chain((!gap).then_some(at)) {
                let base = *self.joined_from.get_or_insert(border);
                self.joined.push((border - base) as u32);
            }
        }
    }

    fn block(&mut self, machine: &Machine, classifier: &Classifier, alphabet: &Alphabet, text: &[u8]) {
        let size = if self.next == self.started { FIRST_BLOCK } else { BLOCK };
        self.base = self.next;
        self.shift = 0;
        let mut end = (self.base + size).min(text.len());
        // Blocks end between symbols; an unfinished one is left for the next block.
        if end < text.len() && text[end] & 0xC0 == 0x80 {
            let lead = (1..=3.min(end)).find(|back| text[end - back] & 0xC0 != 0x80);
            if let Some(back) = lead
                && alphabet.next(text, end - back).is_some_and(|(_, len)| len > back)
            {
                end -= back;
            }
        }
        let block = &text[self.base..end];
        self.next = end;
        self.len = block.len();
        let room = self.len.next_multiple_of(CHUNK);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let (kinds, beyond) = self.buffer[..room].split_at_mut(self.len);
        beyond.fill(0);
        classifier.classify(alphabet, block, kinds);
        self.state = run(machine, kinds, self.state);
        self.count = 0;
        self.handed = 0;
        self.found = 0;
        self.collect(machine.gaps, alphabet, text);
    }

    /// Turns the actions of the block into ends.
    fn collect(&mut self, gaps_possible: bool, alphabet: &Alphabet, text: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the instructions were found just now.
            unsafe { self.collect_by_vectors(gaps_possible, alphabet, text) };
            return;
        }
        // SAFETY: this is for any machine.
        unsafe { self.collect_in_any_way::<actions::Plain>(gaps_possible, alphabet, text) };
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    fn collect_by_vectors(&mut self, gaps_possible: bool, alphabet: &Alphabet, text: &[u8]) {
        // SAFETY: whoever calls this has found AVX2.
        unsafe { self.collect_in_any_way::<actions::Avx2>(gaps_possible, alphabet, text) };
    }

    /// # Safety
    /// The machine has the instructions of `B`.
    #[inline(always)]
    unsafe fn collect_in_any_way<B: Bits>(&mut self, gaps_possible: bool, alphabet: &Alphabet, text: &[u8]) {
        let whole = std::mem::take(&mut self.buffer);
        let buffer = &whole[..self.len.next_multiple_of(CHUNK)];
        // A match has a byte at least; what is written beyond the last end is overwritten by the next ones.
        let room = self.len + 3 * CHUNK;
        if self.ends.len() < room {
            self.ends.resize(room, 0);
        }
        let (chunks, _) = buffer.as_chunks::<CHUNK>();
        for (number, chunk) in chunks.iter().enumerate() {
            // SAFETY: the caller promises that there are the instructions; here and below.
            let mut ends = unsafe { B::of::<HERE>(chunk) };
            if has(chunk, PREVIOUS | COMMIT | LOST) {
                // SAFETY: as above.
                let told = unsafe {
                    let (set, commit) = (B::of::<SET>(chunk), B::of::<COMMIT>(chunk));
                    Told { set, commit, previous: B::of::<PREVIOUS>(chunk), lost: B::of::<LOST>(chunk) }
                };
                if !told.ends_nearby(&mut ends, self.base + self.shift + number * CHUNK, text) {
                    self.active = self.unusual(told, &mut ends, buffer, number * CHUNK, alphabet, text);
                }
            }
            let mut gaps = 0;
            if gaps_possible {
                // SAFETY: as above.
                gaps = unsafe { B::of::<GAP>(chunk) } & ends;
                // Of gaps in a row only the last end is of interest.
                let inner = gaps & gaps >> 1;
                ends &= !inner;
                gaps &= !inner;
            }
            let at = (self.shift + number * CHUNK) as u32;
            let out = self.ends[self.count..].first_chunk_mut::<CHUNK>().expect("there is room for a chunk more");
            // SAFETY: as above.
            unsafe { B::places(ends, at, out) };
            let count = ends.count_ones() as usize;
            self.count += count;
            self.found += count;
            if gaps != 0 {
                self.found -= gaps.count_ones() as usize;
                for slot in &mut out[..count] {
                    *slot |= ((gaps >> (*slot - at)) as u32 & 1) << 31;
                }
            }
            if !self.active {
                break;
            }
        }
        // The register as the next block finds it.
        if let Some(set) = buffer.iter().rposition(|actions| actions & SET != 0) {
            self.register = self.base + self.shift + set;
        }
        self.buffer = whole;
    }

    /// Adds to `ends` those that lie before the symbol that told of them; false when the machine is lost.
    fn unusual(
        &mut self,
        told: Told,
        ends: &mut u64,
        buffer: &[u8],
        chunk: usize,
        alphabet: &Alphabet,
        text: &[u8],
    ) -> bool {
        let Told { set, commit, previous, lost } = told;
        let known = if lost == 0 { u64::MAX } else { (1 << lost.trailing_zeros()) - 1 };
        *ends &= known;
        let block = self.base + self.shift;
        let mut bits = (commit | previous) & known;
        while bits != 0 {
            let at = bits.trailing_zeros();
            let bit = bits & bits.wrapping_neg();
            bits ^= bit;
            if commit & bit != 0 {
                let below = set & (bit - 1);
                if below != 0 {
                    *ends |= 1 << (63 - below.leading_zeros());
                } else {
                    // Before this chunk, so before all of its own ends.
                    let set = buffer[..chunk].iter().rposition(|actions| actions & SET != 0);
                    self.push(set.map_or(self.register, |set| block + set));
                }
            }
            if previous & bit != 0 {
                let symbol = block + chunk + at as usize;
                let before = self.start_of_previous(alphabet, text, symbol);
                match (symbol - before).cmp(&(at as usize + 1)) {
                    std::cmp::Ordering::Less => *ends |= 1 << (at as usize - (symbol - before)),
                    _ => self.push(before),
                }
            }
        }
        lost == 0
    }

    /// Where the symbol before `at` begins.
    #[inline]
    fn start_of_previous(&self, alphabet: &Alphabet, text: &[u8], at: usize) -> usize {
        if alphabet.valid {
            return text[..at].iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
        }
        at - alphabet.prev(text, at).map_or(0, |(_, len)| len)
    }

    /// What the end of the text decides.
    fn finish(&mut self, machine: &Machine, alphabet: &Alphabet, text: &[u8]) {
        let actions = machine.finish(self.state);
        if actions & LOST != 0 {
            return;
        }
        if self.ends.len() < self.count + 4 {
            self.ends.resize(self.count + 4, 0);
        }
        if actions & COMMIT != 0 {
            self.push(self.register);
        }
        if actions & PREVIOUS != 0 {
            self.push(self.start_of_previous(alphabet, text, text.len()));
        }
        if actions & HERE != 0 {
            self.push(text.len());
            if actions & GAP != 0 {
                self.ends[self.count - 1] |= GAP_BIT;
            }
        }
    }

    /// Appends an end, which may lie in the block before.
    fn push(&mut self, end: usize) {
        if end < self.base {
            // Ends ascend, so this is the first one of this block.
            self.shift += self.base - end;
            self.base = end;
        }
        self.ends[self.count] = (end - self.base) as u32;
        self.count += 1;
    }
}

/// Actions of a chunk that tell of ends which do not lie before the symbol itself, and of those that set the register.
#[derive(Debug, Clone, Copy)]
struct Told {
    set: u64,
    commit: u64,
    previous: u64,
    lost: u64,
}

impl Told {
    /// Adds the ends that are told of to `ends`, if all of them lie in the chunk, which begins at `chunk`, and among ASCII; false
    /// if not.
    #[inline(always)]
    fn ends_nearby(&self, ends: &mut u64, chunk: usize, text: &[u8]) -> bool {
        let Told { set, commit, previous, lost } = *self;
        let first = commit & commit.wrapping_neg();
        let ascii = || text.get(chunk..chunk + CHUNK).is_some_and(<[u8]>::is_ascii);
        if lost | previous & 1 != 0 || first != 0 && set & (first - 1) == 0 || previous != 0 && !ascii() {
            return false;
        }
        *ends |= previous >> 1;
        let mut rest = commit;
        while rest != 0 {
            let below = set & ((rest & rest.wrapping_neg()) - 1);
            *ends |= 1 << 63 >> below.leading_zeros();
            rest &= rest - 1;
        }
        true
    }
}
