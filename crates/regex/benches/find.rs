//! All matches of tokenizer patterns and of everyday ones: megabytes for each second of one thread.
//!
//! `cargo bench -p cupola-regex --bench find -- [filter]`. Prose is tinyshakespeare where the folder named by
//! `CUPOLA_TEST_DATA` has it, else it is made up; code is the workspace's own; the rest is made on the spot.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const DEEPSEEK: &str = concat!(
    r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|",
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Patterns of tokenizers first, then everyday ones.
const PATTERNS: [(&str, &str); 10] = [
    ("gpt2", GPT2),
    ("cl100k", CL100K),
    ("o200k", O200K),
    ("deepseek", DEEPSEEK),
    ("words", r"\w+"),
    ("ing", r"[a-z]+ing\b"),
    ("literal", "Romeo"),
    ("names", "Romeo|Juliet|Hamlet|Lear"),
    ("email", r"[\w.]+@[\w.]+\.\w+"),
    ("doubled", r"\b(\w+) \1\b"),
];

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    println!("{:<22} {:>10} {:>10} {:>12}   MB/s", "pattern/corpus", "cupola", "regex", "fancy-regex");
    for (corpus, text) in corpora() {
        for (name, pattern) in PATTERNS {
            let name = format!("{name}/{corpus}");
            if !wanted(&name) {
                continue;
            }
            let ours = cupola_regex::Regex::new(pattern).expect("benchmark patterns compile");
            let mb = text.len() as f64 / 1e6;
            let cupola =
                mb / seconds(|| ours.find_iter(black_box(&text)).map(|m| m.end()).fold(0, usize::wrapping_add));
            let regex = regex::Regex::new(pattern)
                .map(|r| mb / seconds(|| r.find_iter(black_box(&text)).map(|m| m.end()).fold(0, usize::wrapping_add)));
            let fancy = fancy_regex::Regex::new(pattern).map(|r| {
                mb / seconds(|| {
                    r.find_iter(black_box(&text)).map(|m| m.map_or(0, |m| m.end())).fold(0, usize::wrapping_add)
                })
            });
            let cell = |speed: Option<f64>| speed.map_or("-".to_owned(), |s| format!("{s:.0}"));
            println!("{name:<22} {cupola:>10.0} {:>10} {:>12}", cell(regex.ok()), cell(fancy.ok()));
        }
    }
}

/// The least time of many runs, which is what the thread needs when nothing else has the core.
fn seconds(mut work: impl FnMut() -> usize) -> f64 {
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    let mut runs = 0;
    while runs < 3 || begun.elapsed().as_secs_f64() < 0.4 {
        let from = Instant::now();
        black_box(work());
        best = best.min(from.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn corpora() -> Vec<(&'static str, String)> {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let prose = std::env::var("CUPOLA_TEST_DATA")
        .ok()
        .and_then(|folder| std::fs::read_to_string(Path::new(&folder).join("tinyshakespeare.txt")).ok())
        .unwrap_or_else(|| {
            let words =
                ["the", "king", "of", "Romeo", "isn't", "wherefore", "speaking", "a", "night", "come,", "thou."];
            let mut out = String::new();
            while out.len() < 1_000_000 {
                out.push_str(words[next(words.len() as u64) as usize]);
                out.push(if next(9) == 0 { '\n' } else { ' ' });
            }
            out
        });
    let mut code = String::new();
    collect_code(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut code);
    let mut multi = String::new();
    while multi.len() < 1_000_000 {
        let (low, count, space) = match next(4) {
            0 => (0x4E00, 0x2000, ""),
            1 => (0x3041, 80, ""),
            2 => (0x430, 32, " "),
            _ => (0xAC00, 0x2000, " "),
        };
        for _ in 0..4 + next(30) {
            for _ in 0..1 + next(7) {
                multi.extend(char::from_u32(low + next(count) as u32));
            }
            multi.push_str(space);
        }
        multi.push_str(["。", "、", "! ", "\n", ", 12 "][next(5) as usize]);
    }
    let mut emoji = String::new();
    while emoji.len() < 700_000 {
        for _ in 0..1 + next(8) {
            emoji.extend(char::from_u32(0x1F600 + next(80) as u32));
        }
        emoji.push_str(["\u{200d}", " ", " ok ", "\u{fe0f}", "\n"][next(5) as usize]);
    }
    let digits: String = (0..1_000_000).map(|_| char::from(b'0' + next(10) as u8)).collect();
    vec![
        ("prose", prose),
        ("code", code),
        ("multi", multi),
        ("emoji", emoji),
        ("spaces", " ".repeat(1_000_000)),
        ("digits", digits),
    ]
}

fn collect_code(folder: &Path, out: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect_code(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}
