//! The merge loop: from single symbols to tokens.
//!
//! At every step the pair with the smallest rank becomes one symbol, the leftmost one among equals, until no pair has
//! a merge. Up to [`SHORT`] symbols a scan over an array does it. Longer pieces are merged in windows, which takes
//! linear time on everything that is not made to defeat it; windows that do not settle grow until a heap over a linked
//! list, in `O(n log n)`, does the whole piece.
//!
//! Why windows give the same tokens: a sequence of tokens is the result of the merge loop exactly when each two
//! neighbours, merged from their symbols alone, stay those two. Suppose the loop over the whole joined two of them, and
//! look at the first merge that crosses the border of two tokens. Until then only merges inside tokens have happened,
//! and inside these two tokens in the same order as over the two alone, because the order depends only on rank and
//! position; so the same merge would have been the first choice there too. (The observation is that of the `bpe` crate
//! of GitHub's rust-gems.)

use super::rules::{Merge, Rules};
use crate::rng::Rng;
use crate::vocab::NONE;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this number of symbols the quadratic scan is faster than the heap.
const SHORT: usize = 96;
/// Symbols of the first windows: the scan takes quadratic time, a window has to hold a few tokens.
const WINDOW: usize = 64;

/// A symbol of the piece being merged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    /// Where it starts in the piece; it ends where the next one starts.
    pub start: u32,
    /// Its token, [`NONE`] for text that is no token by itself.
    pub id: u32,
    /// The merge with its right neighbour.
    merge: Merge,
}

impl Symbol {
    pub(crate) fn new(start: usize, id: u32) -> Self {
        Self { start: start as u32, id, merge: Merge::NONE }
    }
}

/// Buffers of the merge loop, kept between pieces.
#[derive(Debug, Default)]
pub(crate) struct MergeBuffers {
    /// The symbols, without the end mark: the caller fills them, [`run`] leaves the tokens in them.
    pub symbols: Vec<Symbol>,
    heap: HeapBuffers,
    /// The window at work, the tokens that are settled, the last window's result and two neighbours under test.
    window: Vec<Symbol>,
    settled: Vec<Symbol>,
    last: Vec<Symbol>,
    pair: Vec<Symbol>,
}

#[derive(Debug, Default)]
struct HeapBuffers {
    links: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<u64>>,
    skipped: Vec<u64>,
}

/// Merges `buffers.symbols`, which cover `text`, in place.
#[inline]
pub(crate) fn run<R: Rules>(rules: &R, text: &[u8], buffers: &mut MergeBuffers) {
    if buffers.symbols.len() <= SHORT {
        scan(rules, text, &mut buffers.symbols);
    } else {
        windows(rules, text, buffers);
    }
}

/// [`run`] with BPE dropout (Provilkov et al. 2020, <https://arxiv.org/abs/1910.13267>): at every step each candidate
/// merge is left out with probability `dropout`.
pub(crate) fn run_dropout<R: Rules>(rules: &R, text: &[u8], buffers: &mut MergeBuffers, dropout: f32, rng: &mut Rng) {
    heap(rules, text, &mut buffers.symbols, &mut buffers.heap, Some((dropout, rng)));
}

fn any_length<R: Rules>(rules: &R, text: &[u8], symbols: &mut Vec<Symbol>, buffers: &mut HeapBuffers) {
    if symbols.len() <= SHORT {
        scan(rules, text, symbols);
    } else {
        heap(rules, text, symbols, buffers, None);
    }
}

/// Merges a long piece window by window: the tokens of a window but for its last quarter are settled, the next window
/// begins after them, and where the two meet the neighbours are tested. If they do not stay apart, the token before is
/// taken back and the window begins there, twice as long.
#[cold]
fn windows<R: Rules>(rules: &R, text: &[u8], buffers: &mut MergeBuffers) {
    let MergeBuffers { symbols, heap, window, settled, last, pair } = buffers;
    let n = symbols.len();
    let byte = |i: usize| symbols.get(i).map_or(text.len(), |s| s.start as usize);
    let index = |start: u32| symbols.partition_point(|s| s.start < start);
    // Merges the symbols `from..to`; the results start at 0, not at their place in the text.
    let merge = |from: usize, to: usize, out: &mut Vec<Symbol>, heap: &mut HeapBuffers| {
        let base = symbols[from].start;
        out.clear();
        out.extend(symbols[from..to].iter().map(|s| Symbol::new((s.start - base) as usize, s.id)));
        any_length(rules, &text[base as usize..byte(to)], out, heap);
    };
    settled.clear();
    let (mut at, mut size) = (0, WINDOW);
    // Text that repeats itself is merged once: the last window by its place and length.
    let mut known: Option<(usize, usize)> = None;
    // So are two neighbours: where they began, where the second did and where it ended, and whether they stay apart.
    let mut tested: Option<([usize; 3], bool)> = None;
    while at < n {
        let end = (at + size).min(n);
        let (start, bytes) = (byte(at), byte(end) - byte(at));
        let same = known.is_some_and(|(s, len)| len == bytes && text[s..s + len] == text[start..start + bytes]);
        if !same {
            merge(at, end, last, heap);
        }
        known = Some((start, bytes));
        window.clear();
        window.extend(last.iter().map(|s| Symbol::new(s.start as usize + start, s.id)));
        let first_end = window.get(1).map_or(byte(end), |s| s.start as usize);
        if let Some(before) = settled.last() {
            let now = [before.start as usize, start, first_end];
            let again = tested.filter(|([a, b, c], _)| {
                (b - a, c - b) == (now[1] - now[0], now[2] - now[1]) && text[*a..*c] == text[now[0]..now[2]]
            });
            let apart = match again {
                Some((_, apart)) => apart,
                None => {
                    merge(index(before.start), index(first_end as u32), pair, heap);
                    matches!(pair[..], [a, b] if a.id == before.id && b.id == window[0].id
                        && (b.start + before.start) as usize == start)
                }
            };
            tested = Some((now, apart));
            if !apart {
                at = index(before.start);
                settled.pop();
                size *= 2;
                if size >= n {
                    // It does not settle: the whole piece at once.
                    settled.clear();
                    at = 0;
                }
                continue;
            }
        }
        if end == n {
            settled.extend_from_slice(window);
            break;
        }
        let keep = window.iter().skip(1).take_while(|s| s.start as usize <= start + bytes / 4 * 3).count();
        if keep == 0 {
            size *= 2;
            continue;
        }
        at = index(window[keep].start);
        settled.extend_from_slice(&window[..keep]);
    }
    std::mem::swap(symbols, settled);
}

/// The ranks lie in an array of their own: the smallest of a few dozen neighbours is found by a loop that the compiler
/// turns into vector instructions.
fn scan<R: Rules>(rules: &R, text: &[u8], symbols: &mut Vec<Symbol>) {
    let mut ranks = [NONE; SHORT];
    let end_of = |symbols: &[Symbol], i: usize| symbols.get(i).map_or(text.len(), |s| s.start as usize);
    let pair = |symbols: &[Symbol], i: usize| match symbols.get(i + 1) {
        Some(right) => {
            let left = symbols[i];
            rules.merge(left.id, right.id, &text[left.start as usize..end_of(symbols, i + 2)])
        }
        None => Merge::NONE,
    };
    for i in 0..symbols.len().saturating_sub(1) {
        symbols[i].merge = pair(symbols, i);
        ranks[i] = symbols[i].merge.rank;
    }
    loop {
        let n = symbols.len();
        let ranks_here = &ranks[..n.next_multiple_of(8).min(SHORT)];
        let rank = ranks_here.iter().fold(NONE, |least, &rank| least.min(rank));
        if rank == NONE {
            return;
        }
        let best = ranks_here.iter().position(|&r| r == rank).unwrap_or(0);
        symbols[best].id = symbols[best].merge.id;
        symbols.remove(best + 1);
        ranks.copy_within(best + 2..n, best + 1);
        ranks[n - 1] = NONE;
        for i in best.saturating_sub(1)..=best {
            symbols[i].merge = pair(symbols, i);
            ranks[i] = symbols[i].merge.rank;
        }
    }
}

fn heap<R: Rules>(
    rules: &R,
    text: &[u8],
    symbols: &mut Vec<Symbol>,
    buffers: &mut HeapBuffers,
    mut dropout: Option<(f32, &mut Rng)>,
) {
    let HeapBuffers { links, heap, skipped } = buffers;
    let n = symbols.len();
    if n < 2 {
        return;
    }
    // (previous, next); the end of the list is `n`, and a symbol that was merged away points to itself.
    links.clear();
    links.extend((0..n as u32).map(|i| (i.wrapping_sub(1), i + 1)));
    heap.clear();
    skipped.clear();
    let key = |rank: u32, at: usize| u64::from(rank) << 32 | at as u64;
    let start_of = |symbols: &[Symbol], i: usize| if i < n { symbols[i].start as usize } else { text.len() };
    let pair = |symbols: &[Symbol], links: &[(u32, u32)], i: usize| {
        let right = links[i].1 as usize;
        if right == n {
            return Merge::NONE;
        }
        let end = start_of(symbols, links[right].1 as usize);
        rules.merge(symbols[i].id, symbols[right].id, &text[symbols[i].start as usize..end])
    };
    let mut first: Vec<Reverse<u64>> = std::mem::take(heap).into_vec();
    for i in 0..n {
        let merge = pair(symbols, links, i);
        symbols[i].merge = merge;
        if merge.rank != NONE {
            first.push(Reverse(key(merge.rank, i)));
        }
    }
    *heap = BinaryHeap::from(first);
    while let Some(Reverse(top)) = heap.pop() {
        let at = (top & u64::from(u32::MAX)) as usize;
        // An entry that is out of date: the symbol is gone, or it has another neighbour by now.
        if links[at].1 as usize == at || symbols[at].merge.rank != (top >> 32) as u32 {
            continue;
        }
        if let Some((p, rng)) = &mut dropout {
            if rng.unit() < *p {
                skipped.push(top);
                continue;
            }
            heap.extend(skipped.drain(..).map(Reverse));
        }
        let gone = links[at].1 as usize;
        let after = links[gone].1;
        links[at].1 = after;
        links[gone].1 = gone as u32;
        if (after as usize) < n {
            links[after as usize].0 = at as u32;
        }
        symbols[at].id = symbols[at].merge.id;
        let before = links[at].0;
        for i in [Some(at), (before != u32::MAX).then_some(before as usize)].into_iter().flatten() {
            let merge = pair(symbols, links, i);
            symbols[i].merge = merge;
            if merge.rank != NONE {
                heap.push(Reverse(key(merge.rank, i)));
            }
        }
    }
    let mut kept = 0;
    for i in 0..n {
        if links[i].1 as usize != i {
            symbols[kept] = symbols[i];
            kept += 1;
        }
    }
    symbols.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules over small numbers, with many equal neighbours and ranks that repeat.
    struct Toy;
    impl Rules for Toy {
        fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge {
            let h = (left.wrapping_mul(31) ^ right.wrapping_mul(17)) % 11;
            if h < 6 && text.len() < 9 {
                Merge { rank: h * 100 + text.len() as u32, id: left * 7 + right + 3 }
            } else {
                Merge::NONE
            }
        }
    }

    #[test]
    fn the_heap_gives_what_the_scan_gives() {
        let mut rng = Rng::new(5);
        for round in 0..400 {
            let n = 1 + round % 70;
            let text: Vec<u8> = (0..n).map(|_| (rng.next_u64() % 4) as u8).collect();
            let symbols: Vec<Symbol> = text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))).collect();
            let (mut a, mut b) = (symbols.clone(), symbols);
            scan(&Toy, &text, &mut a);
            heap(&Toy, &text, &mut b, &mut HeapBuffers::default(), None);
            let view = |m: &[Symbol]| m.iter().map(|s| (s.start, s.id)).collect::<Vec<_>>();
            assert_eq!(view(&a), view(&b), "{text:?}");
        }
    }

    /// Any two pieces of text merge when they are equal and short: long runs have tokens longer than a window.
    struct Doubling;
    impl Rules for Doubling {
        fn merge(&self, left: u32, right: u32, text: &[u8]) -> Merge {
            let half = text.len() / 2;
            if left == right && text[..half] == text[half..] && text.len() <= 512 {
                Merge { rank: text.len() as u32, id: left + 1000 }
            } else {
                Merge::NONE
            }
        }
    }

    #[test]
    fn windows_give_what_the_heap_gives() {
        fn check<R: Rules>(rules: &R, text: &[u8]) {
            let symbols: Vec<Symbol> = text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))).collect();
            let mut whole = symbols.clone();
            heap(rules, text, &mut whole, &mut HeapBuffers::default(), None);
            let mut buffers = MergeBuffers { symbols, ..Default::default() };
            windows(rules, text, &mut buffers);
            let view = |m: &[Symbol]| m.iter().map(|s| (s.start, s.id)).collect::<Vec<_>>();
            assert_eq!(view(&buffers.symbols), view(&whole), "{} bytes", text.len());
        }
        let mut rng = Rng::new(11);
        for round in 0..150 {
            let n = 97 + round * 17;
            let letters = 1 + round as u64 % 5;
            let text: Vec<u8> = (0..n).map(|_| (rng.next_u64() % letters) as u8).collect();
            check(&Toy, &text);
            check(&Doubling, &text);
            let runs: Vec<u8> = (0..n).map(|i| (i / (1 + round)) as u8 % 3).collect();
            check(&Toy, &runs);
            check(&Doubling, &runs);
        }
    }

    #[test]
    fn dropout_of_one_merges_nothing_and_of_zero_everything() {
        let text = [0u8, 1, 2, 3, 0, 1, 2, 3];
        let symbols: Vec<Symbol> = text.iter().enumerate().map(|(i, &b)| Symbol::new(i, u32::from(b))).collect();
        let mut none = MergeBuffers { symbols: symbols.clone(), ..Default::default() };
        run_dropout(&Toy, &text, &mut none, 1.0, &mut Rng::new(1));
        assert_eq!(none.symbols.len(), text.len());
        let mut all = MergeBuffers { symbols: symbols.clone(), ..Default::default() };
        run_dropout(&Toy, &text, &mut all, 0.0, &mut Rng::new(1));
        let mut plain = MergeBuffers { symbols, ..Default::default() };
        run(&Toy, &text, &mut plain);
        assert_eq!(all.symbols.len(), plain.symbols.len());
    }
}
