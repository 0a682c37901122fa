//! Attention on one thread: processor cycles as a share of what its products need at the peak of the FMA pipes.
//!
//! `cargo bench -p cupola-cpu --bench attention`, and behind `--` the shapes and dtypes that are wanted, if not all. Shapes are (batch, tokens, heads, width) of small language models, causal;
//! q, k and v are views of one projection. The products are counted as the causal half.

use std::hint::black_box;

use cupola_core::alloc::Placement;
use cupola_core::pool::with_threads;
use cupola_core::{Buffer, Rng, bf16};
use cupola_cpu::attention::{Attend, Attributes, Heads, HeadsMut, Span, backward, forward};
use cupola_cpu::real::Number;

struct Shape {
    name: &'static str,
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

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

/// Seconds of the fastest of several runs of `body`, each of some tens of milliseconds.
fn fastest(mut body: impl FnMut()) -> f64 {
    body();
    let start = now();
    body();
    let runs = (0.01 / (now() - start)).ceil().max(1.0) as usize;
    let time = |_| {
        let start = now();
        (0..runs).for_each(|_| body());
        (now() - start) / runs as f64
    };
    (0..15).map(time).fold(f64::INFINITY, f64::min)
}

fn measure<T: Attend>(shape: &Shape, convert: impl Fn(f32) -> T, dtype: &str) {
    let &Shape { name, batch, tokens, heads, width } = shape;
    let (rows, inner) = (batch * tokens, heads * width);
    // Memory as a training step has it, in huge pages.
    let random = |seed: u64, count: usize| {
        let rng = Rng::seed(seed);
        let mut buffer = Buffer::uninit(T::DTYPE, count, Placement::Passing);
        for (i, x) in buffer.as_mut_slice::<T>().iter_mut().enumerate() {
            *x = convert((rng.u32(i as u64) >> 8) as f32 / (1 << 23) as f32 - 1.0);
        }
        buffer
    };
    let qkv = random(1, rows * 3 * inner);
    let dout = random(2, rows * inner);
    let spans: Vec<Span> = (0..batch)
        .map(|b| Span { queries: b * tokens..(b + 1) * tokens, keys: b * tokens..(b + 1) * tokens })
        .collect();
    let attributes = Attributes {
        scale: 1.0 / (width as f64).sqrt(),
        causal: true,
        window: None,
        soft_cap: None,
        slopes: None,
        dropout: None,
    };
    let size = [rows, heads, width];
    let part = |i: usize| Heads::new(qkv.as_slice::<T>(), i * inner, size, [3 * inner as isize, width as isize, 1]);
    let mut out = random(3, rows * inner);
    let mut lse = vec![<T as Number>::Real::default(); rows * heads];
    let mut run_forward = || {
        let out = HeadsMut::contiguous(out.as_mut_slice::<T>(), size);
        forward(part(0), part(1), part(2), &spans, attributes, out, black_box(&mut lse));
    };
    let seconds_forward = fastest(&mut run_forward);
    let mut grads = random(4, rows * 3 * inner);
    let mut run_backward = || {
        let (dq, rest) = grads.as_mut_slice::<T>().split_at_mut(rows * inner);
        let (dk, dv) = rest.split_at_mut(rows * inner);
        let [dq, dk, dv] = [dq, dk, dv].map(|grad| Some(HeadsMut::contiguous(grad, size)));
        let heads = |x| Heads::contiguous(Buffer::as_slice::<T>(x), size);
        backward(heads(&dout), part(0), part(1), part(2), heads(&out), &lse, &spans, attributes, dq, dk, dv);
    };
    let seconds_backward = fastest(&mut run_backward);
    black_box(&grads);
    let product = (batch * heads * width) as f64 * (tokens * (tokens + 1)) as f64;
    println!(
        "{name:6} {dtype:4}  forward {:8.1} us {:6.1} GFLOP/s   backward {:8.1} us {:6.1} GFLOP/s   both {:8.1} us",
        seconds_forward * 1e6,
        2.0 * product / seconds_forward / 1e9,
        seconds_backward * 1e6,
        5.0 * product / seconds_backward / 1e9,
        (seconds_forward + seconds_backward) * 1e6,
    );
}

/// Operations per second of multiply-adds on 16 chains of the widest vectors.
fn peak() -> f64 {
    const ROUNDS: usize = 100_000;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn chains(x: f32) -> f32 {
        use std::arch::x86_64::*;
        let factor = _mm512_set1_ps(x);
        let mut sums = [factor; 16];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_ps(sum)).sum()
    }
    #[cfg(target_arch = "x86_64")]
    if cupola_cpu::isa() == cupola_cpu::Isa::Avx512 {
        // SAFETY: the tier says that the instructions are there.
        let seconds = fastest(|| {
            black_box(unsafe { chains(black_box(0.5)) });
        });
        return (ROUNDS * 16 * 16 * 2) as f64 / seconds;
    }
    f64::NAN
}

fn main() {
    let shape = |name, batch, tokens, heads, width| Shape { name, batch, tokens, heads, width };
    let shapes = [
        shape("nano", 12, 64, 4, 32),
        shape("baby", 16, 256, 6, 64),
        shape("gpt2", 2, 256, 12, 64),
        shape("long", 1, 2048, 4, 64),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| {
        let alike = ["f32", "bf16"].contains(&name);
        let same_kind = |a: &&String| ["f32", "bf16"].contains(&a.as_str()) == alike;
        let mut named = arguments.iter().filter(same_kind).peekable();
        named.peek().is_none() || named.any(|a| a == name)
    };
    with_threads(1, || {
        println!("peak of f32 multiply-adds: {:.1} GFLOP/s", peak() / 1e9);
        for shape in shapes.iter().filter(|shape| wanted(shape.name)) {
            if wanted("f32") {
                measure(shape, |x| x, "f32");
            }
            if wanted("bf16") {
                measure(shape, bf16::from_f32, "bf16");
            }
        }
    });
}
