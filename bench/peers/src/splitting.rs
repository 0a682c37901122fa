//! Patterns of tokenizers: the machine that Cupola makes of a pattern, code written by hand for one pattern, and code
//! generated from the pattern's automaton.

use bitcannon::Span;
use bitcannon::classify::classify;

use crate::patterns::{CL100K, GPT2, O200K};
use crate::{best, compiled, head, rate, row};

type Hand = fn(&[u8], &[u8], &mut [u64], &mut [u64], &mut [u64], &mut [Span]) -> usize;

pub fn run(corpora: &[(String, String)], only: &str) {
    let kinds: [(&str, &str, Hand); 3] = [
        ("gpt2", GPT2, |t, g, s, f, _, o| bitcannon::bitcannon_byte_level(t, g, s, f, o)),
        ("cl100k", CL100K, |t, g, s, f, _, o| bitcannon::bitcannon_cl100k(t, g, s, f, o)),
        ("o200k", O200K, bitcannon::bitcannon_o200k),
    ];
    head("Splitting, MB/s", &["try_borders", "find_iter", "bitcannon", "code from automaton"]);
    for (name, pattern, hand) in kinds {
        let ours = cupola_regex::Regex::new(pattern).expect("the patterns of this file compile");
        for (corpus, text) in corpora {
            let title = format!("{name} / {corpus}");
            if !title.contains(only) {
                continue;
            }
            let n = text.len();
            let bytes = text.as_bytes();
            let blocks = n.div_ceil(64);
            let (mut tags, mut spans) = (vec![0; n], vec![Span::default(); n + 1]);
            let (mut starts, mut flags, mut later) = (vec![0; blocks], vec![0; blocks], vec![0; 2 * blocks]);
            let ends: Vec<usize> = ours.find_iter(text).map(|m| m.end()).collect();
            let us = best(|| ours.find_iter(text).map(|m| m.end()).fold(0, usize::wrapping_add));
            let mut memory = cupola_regex::BorderMemory::default();
            let mut borders = |found: &mut dyn FnMut(usize, &[u32]) -> bool| {
                ours.try_borders(text, &mut memory, found).expect("the pattern has no backreferences");
            };
            let mut all = Vec::new();
            borders(&mut |base, ends| {
                all.extend(ends.iter().map(|&end| base + end as usize));
                true
            });
            let equal = all == ends;
            let blocks_of_us = best(|| {
                let mut count = 0;
                borders(&mut |_, ends| {
                    count += std::hint::black_box(ends).len();
                    true
                });
                count
            });
            let mut split = || {
                classify(bytes, &mut tags);
                hand(bytes, &tags, &mut starts, &mut flags, &mut later, &mut spans)
            };
            let count = split();
            let them = best(&mut split);
            let same = spans[..count].iter().map(|s| s.end as usize).eq(ends.iter().copied());
            let mark = |same: bool| if same { "" } else { "!" };
            let mut cells = vec![
                format!("{:.0}{}", rate(n, blocks_of_us), mark(equal)),
                format!("{:.0}", rate(n, us)),
                format!("{:.0}{}", rate(n, them), mark(same)),
            ];
            if name == "cl100k" && text.is_ascii() {
                let mut out = vec![0; n + 1];
                let count = compiled::split(bytes, &mut out);
                let same = out[..count].iter().map(|&e| e as usize).eq(ends.iter().copied());
                let ns = best(|| compiled::split(bytes, &mut out));
                cells.push(format!("{:.0}{}", rate(n, ns), mark(same)));
            }
            row(&title, &cells);
        }
    }
}
