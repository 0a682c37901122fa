//! Attention on one thread: processor cycles as a share of what its products need at the peak of the FMA pipes.
//!
//! `cargo bench -p cupola-cpu --bench attention`. Shapes are (batch, tokens, heads, width) of small language models, causal;
//! q, k and v are views of one projection. The products are counted as the causal half.

use std::hint::black_box;
use std::time::Instant;

use cupola_core::pool::with_threads;
use cupola_core::{Rng, bf16};
use cupola_cpu::attention::{Attend, Attributes, Heads, HeadsMut, Span, backward, forward};
use cupola_cpu::real::Number;

struct Shape {
    name: &'static str,
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

/// Seconds of the fastest of several runs of `body`, each of some tens of milliseconds.
fn fastest(mut body: impl FnMut()) -> f64 {
    body();
    let start = Instant::now();
    body();
    let runs = (0.02 / start.elapsed().as_secs_f64()).ceil().max(1.0) as usize;
    let time = |_| {
        let start = Instant::now();
        (0..runs).for_each(|_| body());
        start.elapsed().as_secs_f64() / runs as f64
    };
    (0..15).map(time).fold(f64::INFINITY, f64::min)
}

fn measure<T: Attend>(shape: &Shape, convert: impl Fn(f32) -> T, dtype: &str) {
    let &Shape {
        name,
        batch,
        tokens,
        heads,
        width,
    } = shape;
    let (rows, inner) = (batch * tokens, heads * width);
    let random = |seed: u64, count: usize| -> Vec<T> {
        let rng = Rng::seed(seed);
        (0..count as u64)
            .map(|i| convert(rng.uniform(i) as f32 * 2.0 - 1.0))
            .collect()
    };
    let qkv = random(1, rows * 3 * inner);
    let dout = random(2, rows * inner);
    let spans: Vec<Span> = (0..batch)
        .map(|b| Span {
            queries: b * tokens..(b + 1) * tokens,
            keys: b * tokens..(b + 1) * tokens,
        })
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
    let part = |i: usize| Heads::new(&qkv, i * inner, size, [3 * inner as isize, width as isize, 1]);
    let mut out = dout.clone();
    let mut lse = vec![<T as Number>::Real::default(); rows * heads];
    let mut run_forward = || {
        let out = HeadsMut::contiguous(&mut out, size);
        forward(part(0), part(1), part(2), &spans, attributes, out, black_box(&mut lse));
    };
    let seconds_forward = fastest(&mut run_forward);
    let mut grads = random(3, rows * 3 * inner);
    let mut run_backward = || {
        let (dq, rest) = grads.split_at_mut(rows * inner);
        let (dk, dv) = rest.split_at_mut(rows * inner);
        let [dq, dk, dv] = [dq, dk, dv].map(|grad| Some(HeadsMut::contiguous(grad, size)));
        let heads = |x| Heads::contiguous(x, size);
        backward(
            heads(&dout),
            part(0),
            part(1),
            part(2),
            heads(&out),
            &lse,
            &spans,
            attributes,
            dq,
            dk,
            dv,
        );
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

fn main() {
    let shape = |name, batch, tokens, heads, width| Shape {
        name,
        batch,
        tokens,
        heads,
        width,
    };
    let shapes = [
        shape("nano", 12, 64, 4, 32),
        shape("baby", 16, 256, 6, 64),
        shape("gpt2", 2, 256, 12, 64),
        shape("long", 1, 2048, 4, 64),
    ];
    with_threads(1, || {
        for shape in &shapes {
            measure(shape, |x| x, "f32");
            measure(shape, bf16::from_f32, "bf16");
        }
    });
}
