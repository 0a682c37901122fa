//! Encoding, decoding, loading: MB/s of CPU time of one thread, in Rust. Cold is the first pass of a fresh instance where one can
//! be made; the programs take turns on each text.

use cupola_bench_peers::{best, now, rate, texts};
use cupola_tokenizer::Tokenizer;
use std::hint::black_box;

const SHORT: &str = "The quick brown fox jumps over the lazy dog, said the cat.";

fn cold<T>(make: impl Fn() -> T, encode: impl Fn(&T, &str) -> usize, text: &str) -> f64 {
    let one = || {
        let instance = make();
        let start = now();
        black_box(encode(&instance, text));
        now() - start
    };
    rate(text.len(), (0..3).map(|_| one()).min().unwrap_or(1).max(1))
}

fn main() {
    let texts = texts();
    for name in ["cl100k_base", "o200k_base"] {
        let ours = || Tokenizer::named(name).expect("it is compiled in");
        let splintr = || splintr::from_pretrained(name).expect("it is compiled in");
        let bpe = if name == "cl100k_base" { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() };
        let tiktoken = if name == "cl100k_base" { tiktoken_rs::cl100k_base() } else { tiktoken_rs::o200k_base() };
        let tiktoken = tiktoken.expect("it is compiled in");
        let start = now();
        drop(black_box(ours().encode("Hello, world! It's lit.")));
        let mine = now() - start;
        let start = now();
        drop(black_box(splintr().encode("Hello, world! It's lit.")));
        let theirs = now() - start;
        println!("{name}: load and first encoding {:.1} ms, splintr {:.1} ms", mine as f64 / 1e6, theirs as f64 / 1e6);
        let (one, other) = (ours(), splintr());
        let short = |work: &mut dyn FnMut()| best(&mut || (0..1000).for_each(|_| work())) as f64 / 1e6;
        println!(
            "58 bytes: {:.3} µs, splintr {:.3}, bpe-openai {:.3}, tiktoken-rs {:.3}",
            short(&mut || drop(black_box(one.encode(SHORT)))),
            short(&mut || drop(black_box(other.encode(SHORT)))),
            short(&mut || drop(black_box(bpe.encode(SHORT)))),
            short(&mut || drop(black_box(tiktoken.encode_ordinary(SHORT)))),
        );
        println!(
            "{:16} {:>13} {:>13} {:>10} {:>11} | decoding: ours, splintr, bpe-openai",
            "MB/s cold/warm", "cupola", "splintr", "bpe-openai", "tiktoken-rs"
        );
        for (title, text) in &texts {
            let n = text.len();
            let fresh = cold(ours, |t, text| t.encode(text).map_or(0, |ids| ids.len()), text);
            let warm = rate(n, best(&mut || drop(black_box(one.encode(text)))));
            let fresh_other = cold(splintr, |t, text| t.encode(text).len(), text);
            let warm_other = rate(n, best(&mut || drop(black_box(other.encode(text)))));
            let bpe_rate = rate(n, best(&mut || drop(black_box(bpe.encode(&text[..])))));
            // A megabyte of spaces overflows its regular-expression engine's stack.
            let plain = title != "spaces";
            let tiktoken_rate =
                if plain { rate(n, best(&mut || drop(black_box(tiktoken.encode_ordinary(text))))) } else { f64::NAN };
            let ids = one.encode(text).unwrap_or_default();
            assert_eq!(ids, bpe.encode(&text[..]), "{title}: the ids are the same");
            let decode = rate(n, best(&mut || drop(black_box(one.decode(&ids)))));
            let decode_splintr = rate(n, best(&mut || drop(black_box(other.decode_lossy(&ids)))));
            let decode_bpe = rate(n, best(&mut || drop(black_box(bpe.decode(&ids)))));
            println!(
                "{title:16} {fresh:6.0}/{warm:6.0} {fresh_other:6.0}/{warm_other:6.0} {bpe_rate:10.0} {tiktoken_rate:11.0} | {decode:6.0} {decode_splintr:6.0} {decode_bpe:6.0}"
            );
        }
    }
}
