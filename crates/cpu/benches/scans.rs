//! The recurrent mixers' scans on one thread: time of a token and billions of operations a second.
//!
//! `cargo bench -p cupola-cpu --bench scans`, and behind `--` the names that are wanted, if not all. Operations are those of the
//! recurrence token by token (two for each multiply-add, none for exponentials): what the chunked form computes besides counts as
//! nothing.

use std::hint::black_box;

use cupola_core::Rng;
use cupola_core::pool::with_threads;
use cupola_cpu::{chunked, gla, selective_scan};

/// Processor time of this thread so far, in seconds: what else runs on the machine counts as little as can be.
fn now() -> f64 {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes to the address it is given.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        assert_eq!(status, 0, "the thread has a clock");
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
    #[cfg(not(unix))]
    {
        use std::{sync::OnceLock, time::Instant};
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// Seconds of the fastest of a few runs of `body`.
fn fastest(mut body: impl FnMut()) -> f64 {
    body();
    let time = |_| {
        let start = now();
        body();
        now() - start
    };
    (0..7).map(time).fold(f64::INFINITY, f64::min)
}

fn random(count: usize, seed: u64, low: f64, high: f64) -> Vec<f32> {
    let rng = Rng::seed(seed);
    (0..count as u64).map(|i| (low + (high - low) * rng.uniform(i)) as f32).collect()
}

fn report(name: &str, tokens: usize, operations: f64, forward: f64, backward: f64) {
    let per_token = |seconds: f64| seconds / tokens as f64 * 1e6;
    println!(
        "{name:28} {tokens:6} tokens   forward {:7.2} us a token {:6.1} GFLOP/s   backward {:7.2} us a token",
        per_token(forward),
        operations / forward / 1e9,
        per_token(backward),
    );
}

fn offsets(sequences: usize, length: usize) -> Vec<usize> {
    (0..=sequences).map(|i| i * length).collect()
}

/// Mamba-1: D channels of S states.
fn mamba(name: &str, sequences: usize, length: usize, channels: usize, states: usize) {
    let offsets = offsets(sequences, length);
    let (n, scan) = (sequences * length, selective_scan::Scan { offsets: &offsets, channels, states });
    let (x, dt) = (random(n * channels, 1, -1.0, 1.0), random(n * channels, 2, 0.001, 0.1));
    let (a, skip) = (random(channels * states, 3, -16.0, -1.0), random(channels, 4, -1.0, 1.0));
    let (b, c) = (random(n * states, 5, -1.0, 1.0), random(n * states, 6, -1.0, 1.0));
    let inputs = selective_scan::Inputs { x: &x, dt: &dt, a: &a, b: &b, c: &c, skip: Some(&skip[..]), state: None };
    let (mut y, mut borders) = (vec![0.0; n * channels], vec![0.0; scan.borders_len()]);
    let forward = fastest(|| selective_scan::forward(&scan, &inputs, black_box(&mut y), &mut [], &mut borders));
    let like = |x: &[f32]| vec![0.0f32; x.len()];
    let (mut dx, mut ddt, mut da, mut db, mut dc, mut ds) =
        (like(&x), like(&dt), like(&a), like(&b), like(&c), like(&skip));
    let backward = fastest(|| {
        let gradients = selective_scan::Gradients {
            dx: &mut dx,
            ddt: &mut ddt,
            da: &mut da,
            db: &mut db,
            dc: &mut dc,
            dskip: &mut ds,
            dstate: &mut [],
        };
        selective_scan::backward(&scan, &inputs, &borders, &y, None, gradients);
    });
    report(name, n, (n * channels * states * 6) as f64, forward, backward);
}

/// Heads with a matrix as state: R rows, G groups, H heads, S by P.
fn matrix(name: &str, sequences: usize, length: usize, [rank, groups, heads, keys, values]: [usize; 5], delta: bool) {
    let offsets = offsets(sequences, length);
    let n = sequences * length;
    let sizes = chunked::Chunked { offsets: &offsets, rank, groups, heads, keys, values };
    let of_keys = n * rank * groups * keys;
    let width = 1.0 / (keys as f64).sqrt();
    let (q, k) = (random(of_keys, 1, -width, width), random(of_keys, 2, -width, width));
    let v = random(n * rank * heads * values, 3, -1.0, 1.0);
    let (decay, factor) = (random(n * heads, 4, -0.2, 0.0), random(n * heads, 5, 0.0, 1.0));
    let inputs = chunked::Inputs {
        q: &q,
        k: &k,
        v: &v,
        decay: &decay,
        scale: (!delta).then_some(&factor[..]),
        diagonal: None,
        beta: delta.then_some(&factor[..]),
        state: None,
    };
    let (mut y, mut borders) = (vec![0.0; v.len()], vec![0.0; sizes.borders_len()]);
    let forward = fastest(|| chunked::forward(&sizes, &inputs, black_box(&mut y), &mut [], &mut borders));
    let like = |x: &[f32]| vec![0.0f32; x.len()];
    let (mut dq, mut dk, mut dv, mut dd, mut df) = (like(&q), like(&k), like(&v), like(&decay), like(&factor));
    let backward = fastest(|| {
        let (dscale, dbeta): (&mut [f32], &mut [f32]) = if delta { (&mut [], &mut df) } else { (&mut df, &mut []) };
        let gradients = chunked::Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
            ddecay: &mut dd,
            dscale,
            ddiagonal: &mut [],
            dbeta,
            dstate: &mut [],
        };
        chunked::backward(&sizes, &inputs, &borders, &y, None, gradients);
    });
    // The decay, and for each row a product with the key and one with the query; the delta rule reads the state once more.
    let each = 1 + 4 * rank + if delta { 2 } else { 0 };
    report(name, n, (n * heads * keys * values * each) as f64, forward, backward);
}

fn gated(name: &str, sequences: usize, length: usize, [heads, keys, values]: [usize; 3]) {
    let offsets = offsets(sequences, length);
    let n = sequences * length;
    let sizes = gla::Gla { offsets: &offsets, heads, keys, values };
    let keyed = |seed| random(n * heads * keys, seed, -1.0, 1.0);
    let (q, k, v) = (keyed(1), keyed(2), random(n * heads * values, 3, -1.0, 1.0));
    let decay = random(n * heads * keys, 4, -0.2, 0.0);
    let inputs = gla::Inputs { q: &q, k: &k, v: &v, decay: &decay, state: None };
    let (mut y, mut borders) = (vec![0.0; v.len()], vec![0.0; sizes.borders_len()]);
    let forward = fastest(|| gla::forward(&sizes, &inputs, black_box(&mut y), &mut [], &mut borders));
    let like = |x: &[f32]| vec![0.0f32; x.len()];
    let (mut dq, mut dk, mut dv, mut dd) = (like(&q), like(&k), like(&v), like(&decay));
    let backward = fastest(|| {
        let gradients = gla::Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv, ddecay: &mut dd, dstate: &mut [] };
        gla::backward(&sizes, &inputs, &borders, &y, None, gradients);
    });
    report(name, n, (n * heads * keys * values * 5) as f64, forward, backward);
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let run = |name: &str, body: &dyn Fn()| {
        if is_wanted(name) {
            body();
        }
    };
    with_threads(1, || {
        run("mamba", &|| mamba("mamba D 1024 S 16", 8, 64, 1024, 16));
        run("mamba2", &|| matrix("mamba2 baby", 4, 256, [1, 1, 12, 64, 64], false));
        run("mamba2", &|| matrix("mamba2 124m", 1, 512, [1, 1, 24, 128, 64], false));
        run("mamba3", &|| matrix("mamba3 baby", 4, 256, [1, 12, 12, 64, 64], false));
        run("mimo", &|| matrix("mamba3 baby, rank 4", 2, 256, [4, 12, 12, 64, 64], false));
        run("delta", &|| matrix("gated delta rule baby", 4, 256, [1, 6, 6, 48, 96], true));
        run("gla", &|| gated("gla baby", 4, 256, [6, 32, 64]));
        for length in [1024, 8192, 65_536] {
            run("long", &|| mamba("mamba D 256 S 16, long", 1, length, 256, 16));
            run("long", &|| matrix("ssd S 64 P 64, long", 1, length, [1, 1, 2, 64, 64], false));
            run("long", &|| matrix("delta rule S 64 P 64, long", 1, length, [1, 2, 2, 64, 64], true));
            run("long", &|| gated("gla S 64 P 64, long", 1, length, [2, 64, 64]));
        }
    });
}
