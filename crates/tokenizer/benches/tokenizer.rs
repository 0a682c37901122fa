//! Megabytes per second of CPU time of one thread: `cargo bench -p cupola-tokenizer --features vocabularies`.
//!
//! Texts: the files named on the command line after `--`, or the files of the folder in `CUPOLA_TEST_DATA`; always the
//! crate's own sources and inputs made on the spot. Cold is the first pass of a fresh tokenizer, warm the best of
//! several later ones.

use cupola_tokenizer::train::{BpeTrainer, UnigramTrainer};
use cupola_tokenizer::{EncodeOptions, Tokenizer};
use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of CPU time of this thread, where the system tells; else of wall time.
fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let cpu = cpu.and_then(|s| s.split(' ').next()?.parse().ok());
    cpu.unwrap_or_else(|| START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

fn time<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = now();
    let result = work();
    (result, (now() - start).max(1))
}

/// Time of one run: the best of five averages, each over enough runs for the clock of the system (some milliseconds).
fn best(mut work: impl FnMut()) -> u64 {
    let average = |work: &mut dyn FnMut()| {
        let (start, mut runs) = (now(), 0);
        loop {
            work();
            runs += 1;
            let passed = now() - start;
            if passed > 60_000_000 {
                return passed / runs;
            }
        }
    };
    (0..5).map(|_| average(&mut work)).min().unwrap_or(1).max(1)
}

fn rate(bytes: usize, ns: u64) -> f64 {
    bytes as f64 * 1e3 / ns as f64
}

fn sources(folder: &std::path::Path, text: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
    }
}

fn corpora() -> Vec<(String, String)> {
    let mut corpora = Vec::new();
    let mut files: Vec<std::path::PathBuf> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(Into::into).collect();
    if files.is_empty()
        && let Some(folder) = std::env::var_os("CUPOLA_TEST_DATA")
    {
        let names = ["tinyshakespeare.txt", "wikitext2-test.txt"];
        files = names.iter().map(|n| std::path::Path::new(&folder).join(n)).collect();
    }
    for file in files {
        if let Ok(text) = std::fs::read_to_string(&file) {
            corpora.push((file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text));
        }
    }
    let mut code = String::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(".."), &mut code);
    corpora.push(("code".into(), code));
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut mixed = String::new();
    while mixed.len() < 1_000_000 {
        let (low, count, end) =
            [(0x4E00, 0x800, "。"), (0x3041, 80, "、"), (0x430, 32, " "), (0xAC00, 0x800, " ")][random(4)];
        for _ in 0..1 + random(9) {
            mixed.extend(char::from_u32(low + random(count) as u32));
        }
        mixed.push_str(end);
    }
    corpora.push(("mixed scripts".into(), mixed));
    let mut emoji = String::new();
    while emoji.len() < 500_000 {
        for _ in 0..1 + random(8) {
            emoji.extend(char::from_u32(0x1F600 + random(80) as u32));
        }
        emoji.push_str(["\u{200d}", " ", " ok ", "\u{fe0f}", "\n"][random(5)]);
    }
    corpora.push(("emoji".into(), emoji));
    corpora.push(("random letters".into(), (0..1_000_000).map(|_| char::from(b'a' + random(26) as u8)).collect()));
    corpora.push(("one letter".into(), "a".repeat(1_000_000)));
    corpora.push(("spaces".into(), " ".repeat(1_000_000)));
    corpora.push(("digits".into(), "7".repeat(1_000_000)));
    corpora.push(("punctuation".into(), "!?.,;:-".repeat(1_000_000 / 7)));
    corpora
}

/// `PROFILE=corpus` encodes that text again and again for a few seconds, for a profiler to look at.
fn profile(corpora: &[(String, String)], wanted: &str) {
    let tokenizer = Tokenizer::named("cl100k_base").expect("the feature is on");
    let text = corpora.iter().find(|(name, _)| name == wanted).map(|(_, text)| text).expect("a corpus of that name");
    let ns = best(|| drop(black_box(tokenizer.encode(text))));
    println!("{wanted}: {:.0} MB/s warm", rate(text.len(), ns));
    for _ in 0..20 {
        let fresh = Tokenizer::named("cl100k_base").expect("it was loaded before");
        let (_, ns) = time(|| fresh.encode(text).map(|ids| ids.len()));
        print!("{:.0} ", rate(text.len(), ns));
    }
    println!("MB/s cold");
}

fn main() {
    let corpora = corpora();
    if let Ok(wanted) = std::env::var("PROFILE") {
        return profile(&corpora, &wanted);
    }
    for name in ["cl100k_base", "o200k_base"] {
        let Ok(tokenizer) = Tokenizer::named(name) else {
            println!("{name}: build with --features vocabularies");
            continue;
        };
        let (first, load) =
            time(|| Tokenizer::named(name).and_then(|t| t.encode("Hello, world! It's lit.").map(|_| t)));
        drop(first);
        println!("{name}: load and first encoding {:.1} ms", load as f64 / 1e6);
        let short = "The quick brown fox jumps over the lazy dog, said the cat.";
        let ns = best(|| (0..1000).for_each(|_| drop(black_box(tokenizer.encode(short)))));
        println!("  {} bytes: {:.3} µs", short.len(), ns as f64 / 1e6);
        println!("  {:16} {:>8} {:>8} {:>8} {:>8} {:>8}", "MB/s", "split", "cold", "warm", "count", "decode");
        for (corpus, text) in &corpora {
            let fresh = Tokenizer::named(name).expect("it was loaded before");
            let (ids, cold) = time(|| fresh.encode(text).expect("byte-level models encode every text"));
            let warm = best(|| drop(black_box(fresh.encode(text))));
            let count = best(|| drop(black_box(fresh.count(text))));
            let decode = best(|| drop(black_box(fresh.decode(&ids))));
            let split = best(|| drop(black_box(fresh.count_pieces(text))));
            let n = text.len();
            println!(
                "  {corpus:16} {:8.0} {:8.0} {:8.0} {:8.0} {:8.0}",
                rate(n, split),
                rate(n, cold),
                rate(n, warm),
                rate(n, count),
                rate(n, decode)
            );
        }
        let documents: Vec<String> = corpora
            .iter()
            .take(2)
            .flat_map(|(_, t)| t.as_bytes().chunks(4096).map(|c| String::from_utf8_lossy(c).into_owned()))
            .collect();
        let bytes: usize = documents.iter().map(String::len).sum();
        let options = EncodeOptions::default();
        let wall = |work: &dyn Fn()| {
            let times = (0..7).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_nanos() as u64
            });
            times.min().unwrap_or(1)
        };
        let batch = wall(&|| drop(black_box(tokenizer.encode_batch(&documents, &options))));
        let serial = wall(&|| documents.iter().for_each(|d| drop(black_box(tokenizer.encode(d)))));
        println!(
            "  batch of 4 KiB texts: {:.2} times one thread, {:.0} MB/s of wall time",
            serial as f64 / batch as f64,
            rate(bytes, batch)
        );
    }
    for (corpus, text) in corpora.iter().take(2) {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let trainer = BpeTrainer::byte_level(8192).expect("the pattern compiles");
        let start = Instant::now();
        let size = trainer.train(&lines).map(|t| t.vocab_size());
        println!(
            "BPE training on {corpus} to 8192: {:?} in {:.2} s of wall time",
            size.ok(),
            start.elapsed().as_secs_f64()
        );
        let start = Instant::now();
        let size = UnigramTrainer::new(8192).train(text.lines()).map(|t| t.vocab_size());
        println!(
            "Unigram training on {corpus} to 8192: {:?} in {:.2} s of wall time",
            size.ok(),
            start.elapsed().as_secs_f64()
        );
    }
}
