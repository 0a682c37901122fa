//! What the programs share: texts, and CPU time of one thread.

use std::path::{Path, PathBuf};
use std::time::Instant;

/// Nanoseconds of CPU time of this thread, where the system tells; else of wall time.
pub fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let cpu = cpu.and_then(|s| s.split(' ').next()?.parse().ok());
    cpu.unwrap_or_else(|| START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// Time of one run: the best of three averages over enough runs for the system's clock.
pub fn best(work: &mut dyn FnMut()) -> u64 {
    let mut average = || {
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
    (0..3).map(|_| average()).min().unwrap_or(1).max(1)
}

/// Megabytes a second.
pub fn rate(bytes: usize, ns: u64) -> f64 {
    bytes as f64 * 1e3 / ns as f64
}

fn code(folder: &Path, out: &mut String) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            code(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
    }
}

/// The files named on the command line, this workspace's Rust files, and texts made on the spot.
pub fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in std::env::args().skip(1).map(PathBuf::from) {
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text)),
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    let mut rust = String::new();
    code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates"), &mut rust);
    texts.push(("code".into(), rust));
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut mixed = String::new();
    while mixed.len() < 1_000_000 {
        let scripts = [(0x4E00, 0x800, "。"), (0x3041, 80, "、"), (0x430, 32, " "), (0xAC00, 0x800, " ")];
        let (low, count, end) = scripts[random(4)];
        for _ in 0..1 + random(9) {
            mixed.extend(char::from_u32(low + random(count) as u32));
        }
        mixed.push_str(end);
    }
    texts.push(("mixed scripts".into(), mixed));
    let mut emoji = String::new();
    while emoji.len() < 500_000 {
        for _ in 0..1 + random(8) {
            emoji.extend(char::from_u32(0x1F600 + random(80) as u32));
        }
        emoji.push_str(["\u{200d}", " ", " ok ", "\u{fe0f}", "\n"][random(5)]);
    }
    texts.push(("emoji".into(), emoji));
    let mut of = |letters: &[u8]| (0..1_000_000).map(|_| char::from(letters[random(letters.len())])).collect();
    texts.push(("random letters".into(), of(b"abcdefghijklmnopqrstuvwxyz")));
    texts.push(("one letter".into(), "a".repeat(1_000_000)));
    texts.push(("spaces".into(), " ".repeat(1_000_000)));
    texts.push(("digits".into(), of(b"0123456789")));
    texts.push(("punctuation".into(), of(b"!?.,;:-()[]{}")));
    texts
}
