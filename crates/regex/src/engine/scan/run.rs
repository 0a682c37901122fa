//! Runs the transducer over the kinds of a block, in several lanes where the text allows it.
//!
//! A lane begins behind a pair of symbols after which the machine's state is the same whatever came before, of which
//! ordinary text has one every few bytes. Where there is none, as in a long run of one kind, the states come round again
//! soon, and so do the actions. Small machines read two symbols at a time.

use super::machine::{Machine, NO_SYNC};
#[cfg(target_arch = "x86_64")]
use crate::byteset::has_simd;

/// Lanes of a short block.
const LANES: usize = 4;

/// A lane would be at least this long; shorter blocks are not worth the search for where lanes can begin.
const LANE_MIN: usize = 12;

/// Lanes of a long block, all of one length so that few registers tell where they are.
const MANY: usize = 6;

/// A block of this length is long.
const LONG: usize = 1 << 10;

/// Kinds that are compared at once to find long runs.
const CHUNK: usize = 64;

/// States within which they come round again in a run of one kind, if they do so soon.
const AROUND: usize = 16;

/// Replaces kinds by actions; returns the state behind the block.
pub fn run(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    if buffer.len() >= LONG {
        let stride = buffer.len() / MANY / 2 * 2;
        let Some(states) = states_at(machine, buffer, stride, state) else {
            return single(machine, buffer, state);
        };
        let state = match &machine.pairs {
            Some(pairs) if number_pairs(machine.columns, &mut buffer[..MANY * stride]) => {
                by_pairs(machine, pairs, buffer, stride, states)
            }
            _ => many(machine, buffer, stride, states),
        };
        return single(machine, &mut buffer[MANY * stride..], state);
    }
    let Some(cuts) = cut(machine, buffer) else {
        return single(machine, buffer, state);
    };
    let states = [state, u32::from(cuts[0].1), u32::from(cuts[1].1), u32::from(cuts[2].1)];
    let (a, rest) = buffer.split_at_mut(cuts[0].0);
    let (b, rest) = rest.split_at_mut(cuts[1].0 - cuts[0].0);
    let (c, d) = rest.split_at_mut(cuts[2].0 - cuts[1].0);
    lanes(machine, [a, b, c, d], states)
}

/// The state at `at`, if the two symbols before it, of which the second begins directly before it, tell.
fn known(machine: &Machine, kinds: &[u8], at: usize) -> Option<u16> {
    let count = machine.columns - 1;
    let second = usize::from(kinds[at - 1]);
    let first = usize::from(*kinds[..at - 1].iter().rev().take(4).find(|&&kind| usize::from(kind) < count)?);
    if second >= count {
        return None;
    }
    Some(machine.sync[first * count + second]).filter(|&state| state != NO_SYNC)
}

/// The states at each multiple of `stride`, walked to from the last place where the state is known.
fn states_at(machine: &Machine, kinds: &[u8], stride: usize, state: u32) -> Option<[u32; MANY]> {
    let mut states = [state; MANY];
    for (lane, state) in states.iter_mut().enumerate().skip(1) {
        let to = lane * stride;
        let (from, known) = (to - stride / 2..=to).rev().find_map(|at| Some((at, known(machine, kinds, at)?)))?;
        *state = kinds[from..to].iter().fold(u32::from(known), |state, &kind| {
            // SAFETY: see `lanes`.
            unsafe { transition(machine.table.as_ptr(), state as usize, kind) >> 16 }
        });
    }
    Some(states)
}

/// Where the second to fourth lane begin, and in which states.
fn cut(machine: &Machine, kinds: &[u8]) -> Option<[(usize, u16); LANES - 1]> {
    let stride = kinds.len() / LANES;
    if stride < LANE_MIN {
        return None;
    }
    let mut cuts = [(0, NO_SYNC); LANES - 1];
    for (lane, cut) in cuts.iter_mut().enumerate() {
        let from = (lane + 1) * stride;
        // In long blocks the lanes are to be of about the same length, in short ones there may be few places to choose from.
        let window = if stride < 256 { stride } else { stride / 2 };
        *cut = (from..from + window).find_map(|at| Some((at, known(machine, kinds, at)?)))?;
    }
    Some(cuts)
}

/// Looks up a transition.
///
/// # Safety
/// `state` is the offset of a row of the table in bytes, and `kind` is below the length of a row.
#[inline(always)]
unsafe fn transition(table: *const u32, state: usize, kind: impl Into<usize>) -> u32 {
    // SAFETY: the row and the column exist, as the caller promises.
    unsafe { table.add(kind.into()).byte_add(state).read() }
}

fn single(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    let mut state = state;
    let mut at = 0;
    while buffer.len() - at >= CHUNK {
        let rest = &mut buffer[at..];
        let mut same = 0;
        while let Some(chunk) = rest.get(same..same + CHUNK + 1)
            && chunk[1..] == chunk[..CHUNK]
        {
            same += CHUNK;
        }
        let len = same.max(CHUNK);
        state =
            if same > 0 { repeat(machine, &mut rest[..len], state) } else { steps(machine, &mut rest[..len], state) };
        at += len;
    }
    steps(machine, &mut buffer[at..], state)
}

/// Over symbols of one kind: once a state comes again, so do all actions since.
fn repeat(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    let kind = buffer[0];
    let mut path = [state; AROUND + 1];
    for step in 0..AROUND {
        // SAFETY: see `lanes`.
        let entry = unsafe { transition(machine.table.as_ptr(), path[step] as usize, kind) };
        buffer[step] = entry as u8;
        path[step + 1] = entry >> 16;
        let Some(from) = path[..=step].iter().position(|&state| state == path[step + 1]) else {
            continue;
        };
        let around = step + 1 - from;
        let mut done = step + 1;
        while done < buffer.len() {
            // A whole number of times around, as far as there is room.
            let more = ((done - from) / around * around).min(buffer.len() - done);
            buffer.copy_within(from..from + more, done);
            done += more;
        }
        return path[from + (buffer.len() - from) % around];
    }
    steps(machine, &mut buffer[AROUND..], path[AROUND])
}

#[inline(never)]
fn steps(machine: &Machine, buffer: &mut [u8], state: u32) -> u32 {
    let mut state = state as usize;
    for byte in buffer {
        // SAFETY: see `lanes`.
        let entry = unsafe { transition(machine.table.as_ptr(), state, *byte) };
        state = (entry >> 16) as usize;
        *byte = entry as u8;
    }
    state as u32
}

/// Puts the number of each pair of kinds in its place; false where that would not pay.
fn number_pairs(columns: usize, kinds: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_simd() {
        // SAFETY: AVX2 was found.
        unsafe { number_pairs_avx2(columns as u8, kinds) };
        return true;
    }
    let _ = (columns, kinds);
    false
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn number_pairs_avx2(columns: u8, kinds: &mut [u8]) {
    use std::arch::x86_64::*;
    // The first of a pair counts `columns` times.
    let weights = _mm256_set1_epi16(i16::from_le_bytes([columns, 1]));
    let (blocks, rest) = kinds.as_chunks_mut::<32>();
    for block in blocks {
        // SAFETY: the block has 32 bytes; unaligned loads and stores are allowed.
        unsafe {
            let numbers = _mm256_maddubs_epi16(weights, _mm256_loadu_si256(block.as_ptr().cast()));
            _mm256_storeu_si256(block.as_mut_ptr().cast(), numbers);
        }
    }
    for pair in rest.as_chunks_mut::<2>().0 {
        *pair = (u16::from(pair[0]) * u16::from(columns) + u16::from(pair[1])).to_ne_bytes();
    }
}

/// As [`many`], two symbols at a time, whose numbers become two actions.
#[inline(never)]
fn by_pairs(machine: &Machine, pairs: &[u32], buffer: &mut [u8], stride: usize, states: [u32; MANY]) -> u32 {
    assert!(MANY * stride <= buffer.len(), "the lanes lie in the buffer");
    assert!(stride.is_multiple_of(2), "lanes are made of pairs");
    let (table, columns) = (pairs.as_ptr(), machine.columns);
    let [mut s, mut t, mut u, mut v, mut w, mut x] = states.map(|state| state as usize * columns);
    let mut front = buffer.as_mut_ptr();
    for _ in 0..stride / 2 {
        // SAFETY: six places, `stride` apart from each other, lie in the buffer. A state is the offset of a row of the table of
        // pairs, which is as many times as long as there are columns, and numbers are below the length of a row, since kinds are
        // below that of a row of the ordinary table.
        unsafe {
            let back = front.add(3 * stride);
            let pair =
                |place: *mut u8, state: usize| transition(table, state, place.cast::<u16>().read_unaligned()) as usize;
            let set = |place: *mut u8, actions: usize| place.cast::<u16>().write_unaligned(actions as u16);
            let (a, b, c) = (pair(front, s), pair(front.add(stride), t), pair(front.add(2 * stride), u));
            let (d, e, f) = (pair(back, v), pair(back.add(stride), w), pair(back.add(2 * stride), x));
            set(front, a);
            set(front.add(stride), b);
            set(front.add(2 * stride), c);
            set(back, d);
            set(back.add(stride), e);
            set(back.add(2 * stride), f);
            (s, t, u, v, w, x) = (a >> 16, b >> 16, c >> 16, d >> 16, e >> 16, f >> 16);
            front = front.add(2);
        }
    }
    (x / columns) as u32
}

/// Lanes of `stride` bytes each; returns the state behind the last.
#[inline(never)]
fn many(machine: &Machine, buffer: &mut [u8], stride: usize, states: [u32; MANY]) -> u32 {
    assert!(MANY * stride <= buffer.len(), "the lanes lie in the buffer");
    let table = machine.table.as_ptr();
    let [mut s, mut t, mut u, mut v, mut w, mut x] = states.map(|s| s as usize);
    let mut front = buffer.as_mut_ptr();
    for _ in 0..stride {
        // SAFETY: the six places, `stride` apart from each other, lie in the buffer; for the rest see `lanes`.
        unsafe {
            let back = front.add(3 * stride);
            let a = transition(table, s, *front) as usize;
            let b = transition(table, t, *front.add(stride)) as usize;
            let c = transition(table, u, *front.add(2 * stride)) as usize;
            let d = transition(table, v, *back) as usize;
            let e = transition(table, w, *back.add(stride)) as usize;
            let f = transition(table, x, *back.add(2 * stride)) as usize;
            (*front, *front.add(stride), *front.add(2 * stride)) = (a as u8, b as u8, c as u8);
            (*back, *back.add(stride), *back.add(2 * stride)) = (d as u8, e as u8, f as u8);
            (s, t, u, v, w, x) = (a >> 16, b >> 16, c >> 16, d >> 16, e >> 16, f >> 16);
            front = front.add(1);
        }
    }
    x as u32
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Config, Core};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lanes_and_shortcuts_give_the_actions_of_single_steps(
            pattern in prop::sample::select(crate::tests::splitting::PATTERNS.to_vec()),
            runs in prop::collection::vec((any::<u8>(), prop_oneof![4 => 1usize..6, 1 => 1usize..400]), 1..400),
        ) {
            let core = Core::new(pattern, &Config::default(), false).unwrap();
            let machine = core.machine().unwrap();
            let kind = |raw: u8| raw % (machine.columns as u8 - 1);
            let kinds: Vec<u8> = runs.iter().flat_map(|&(raw, count)| std::iter::repeat_n(kind(raw), count)).collect();
            let start = machine.start(0);
            let (mut fast, mut slow) = (kinds.clone(), kinds);
            let ends = (run(machine, &mut fast, start), steps(machine, &mut slow, start));
            prop_assert_eq!(ends.0, ends.1, "{}", pattern);
            prop_assert_eq!(fast, slow, "{}", pattern);
        }
    }
}
