//! All matches of tokenizer patterns: MB/s of CPU time of one thread. The engines take turns on each text.

use cupola_bench_peers::{best, rate, texts};
use std::hint::black_box;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Text, tags, three bitmaps to work in, and the pieces.
type Splitter = fn(&[u8], &[u8], [&mut [u64]; 3], &mut [bitcannon::Span]) -> usize;

fn main() {
    let patterns: [(&str, &str, Splitter); 3] = [
        ("gpt2", GPT2, |text, tags, [starts, flag, _], out| {
            bitcannon::bitcannon_byte_level(text, tags, starts, flag, out)
        }),
        ("cl100k", bitcannon::regexes::CL100K, |text, tags, [starts, flag, _], out| {
            bitcannon::bitcannon_cl100k(text, tags, starts, flag, out)
        }),
        ("o200k", bitcannon::regexes::O200K, |text, tags, [starts, flag, later], out| {
            bitcannon::bitcannon_o200k(text, tags, starts, flag, later, out)
        }),
    ];
    println!(
        "{:8} {:16} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "MB/s", "", "cupola", "bitcannon", "pcre2-jit", "regexr", "fancy"
    );
    let texts = texts();
    for (name, pattern, splitter) in patterns {
        let ours = cupola_regex::Regex::new(pattern).expect("it compiles");
        let pcre = pcre2::bytes::RegexBuilder::new().utf(true).ucp(true).jit(true).build(pattern).expect("it compiles");
        let regexr = regexr::RegexBuilder::new(pattern).jit(true).build().expect("it compiles");
        let fancy = fancy_regex::Regex::new(pattern).expect("it compiles");
        for (title, text) in &texts {
            let bytes = text.as_bytes();
            let count = ours.find_iter(text).count();
            let speed = |work: &mut dyn FnMut()| rate(text.len(), best(work));
            let a = speed(&mut || {
                drop(black_box(ours.find_iter(black_box(text)).map(|m| m.end()).fold(0, usize::wrapping_add)))
            });
            let mut tags = vec![0; bytes.len()];
            let bitmap = || vec![0u64; bytes.len() / 64 + 2];
            let (mut starts, mut flag, mut later) = (bitmap(), bitmap(), bitmap());
            let mut spans = vec![bitcannon::Span::default(); bytes.len() + 1];
            let mut pieces = 0;
            let b = speed(&mut || {
                bitcannon::classify::classify(bytes, &mut tags);
                pieces = splitter(bytes, &tags, [&mut starts, &mut flag, &mut later], &mut spans);
            });
            let c = speed(&mut || {
                drop(black_box(pcre.find_iter(bytes).map(|m| m.map_or(0, |m| m.end())).fold(0, usize::wrapping_add)))
            });
            let d =
                speed(&mut || drop(black_box(regexr.find_iter(text).map(|m| m.end()).fold(0, usize::wrapping_add))));
            let e = speed(&mut || {
                drop(black_box(fancy.find_iter(text).map(|m| m.map_or(0, |m| m.end())).fold(0, usize::wrapping_add)))
            });
            let wrong = if pieces == count { "" } else { "  (bitcannon finds another number of pieces)" };
            println!("{name:8} {title:16} {a:9.0} {b:9.0} {c:9.0} {d:9.0} {e:9.0}{wrong}");
        }
    }
}
