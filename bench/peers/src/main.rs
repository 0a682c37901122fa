//! Cupola beside other Rust crates, on one thread, in one run.
//!
//! `cargo run --release -- [regex|scan|encode|decode|short|load] [--only WORD] FILE...`: texts are the named files, this
//! workspace's Rust files, messages in Chinese, Japanese and Russian out of this machine's catalogues (Debian packages bring
//! them), emoji, and adversarial texts made on the spot.

mod compiled;
mod corpora;
mod patterns;
mod splitting;
mod tokens;

use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of CPU time of this thread; of wall time where the system does not tell.
fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let cpu = cpu.and_then(|s| s.split(' ').next()?.parse().ok());
    cpu.unwrap_or_else(|| START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// Nanoseconds of one run and what it returns.
fn once<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = now();
    let result = black_box(work());
    (result, (now() - start).max(1))
}

/// Nanoseconds of one run: the least of several averages, each over enough runs for the system's clock.
fn best<T>(mut work: impl FnMut() -> T) -> u64 {
    let rounds = if quick() { 2 } else { 4 };
    let average = |work: &mut dyn FnMut() -> T| {
        let (start, mut runs) = (now(), 0);
        loop {
            black_box(work());
            runs += 1;
            let passed = now() - start;
            if passed > 40_000_000 {
                return passed / runs;
            }
        }
    };
    (0..rounds).map(|_| average(&mut work)).min().unwrap_or(1).max(1)
}

fn quick() -> bool {
    std::env::var_os("QUICK").is_some()
}

fn rate(bytes: usize, ns: u64) -> f64 {
    bytes as f64 * 1e3 / ns as f64
}

/// A table: a head, then a row for each text.
fn head(title: &str, columns: &[&str]) {
    println!("\n{title}");
    print!("{:34}", "");
    columns.iter().for_each(|c| print!("{c:>18}"));
    println!();
}

fn row(name: &str, cells: &[String]) {
    print!("{name:34}");
    cells.iter().for_each(|c| print!("{c:>18}"));
    println!();
}

fn main() {
    let (mut files, mut only, mut parts) = (Vec::new(), String::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &argument[..] {
            "--only" => only = arguments.next().unwrap_or_default(),
            "regex" | "scan" | "encode" | "decode" | "short" | "load" => parts.push(argument),
            _ => files.push(argument),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let corpora = corpora::all(&files);
    for (name, text) in &corpora {
        println!("{name}: {} bytes", text.len());
    }
    if wanted("scan") {
        splitting::run(&corpora, &only);
    }
    if wanted("regex") {
        patterns::run(&corpora, &only);
    }
    tokens::run(&corpora, &only, &wanted);
}
