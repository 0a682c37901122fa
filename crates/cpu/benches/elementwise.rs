//! Bandwidth of element-wise kernels, norms, losses and optimiser steps on 9766 x 1024 f32 (40 MB a tensor).
//!
//! Each line gives the median of several runs: milliseconds, GB/s of the least traffic that the kernel needs (every operand
//! read or written once), and that as a part of what a plain copy reaches. One thread is timed by its processor time, which other
//! programs disturb little; several threads by the clock. `cargo bench -p cupola-cpu --bench elementwise`;
//! `CUPOLA_THREADS` sets the number of threads, an argument chooses lines whose name contains it.

use std::hint::black_box;
use std::time::Instant;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Rng, bf16, pool};
use cupola_cpu::optim::{Adam, Slices};
use cupola_cpu::unary::{Exp, Gelu, GeluTanh, Silu, Tanh};
use cupola_cpu::{copy, cross_entropy, dropout, glu, isa, norm, optim, reduce, softmax, unary};

const ROWS: usize = 9766;
const WIDTH: usize = 1024;
const ALL: usize = ROWS * WIDTH;

fn buffer(seed: u64) -> Buffer {
    let mut buffer = Buffer::uninit(DType::F32, ALL, Placement::Passing);
    let rng = Rng::seed(seed);
    let sample: Vec<f32> = (0..4096).map(|i| rng.normal(i) as f32).collect();
    for (k, x) in buffer.as_mut_slice::<f32>().iter_mut().enumerate() {
        *x = sample[(k * 7 + k / 4096) % 4096];
    }
    buffer
}

/// The processor time of this thread.
#[cfg(target_os = "linux")]
fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the address is that of a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn thread_seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

struct Bench {
    filter: String,
    copy: f64,
}

impl Bench {
    /// Times `body`, which moves `bytes` bytes for each of the elements.
    fn line(&mut self, name: &str, bytes: usize, mut body: impl FnMut()) {
        if !name.contains(&self.filter) && name != "copy" {
            return;
        }
        body();
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < 11 || times.len() < 200 && begin.elapsed().as_secs_f64() < 0.6 {
            let start = (thread_seconds(), Instant::now());
            body();
            let used = thread_seconds() - start.0;
            times.push(if pool::threads() == 1 { used } else { start.1.elapsed().as_secs_f64() });
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let speed = (bytes * ALL) as f64 / median / 1e9;
        if name == "copy" {
            self.copy = speed;
        }
        println!("{name:28} {:8.2} ms {speed:7.1} GB/s {:5.0} %", median * 1e3, 100.0 * speed / self.copy);
    }
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut bench = Bench { filter, copy: f64::NAN };
    println!("{} threads, {}, {ROWS} x {WIDTH} f32", pool::threads(), isa().name());
    let (x, dy) = (buffer(1), buffer(2));
    let (x, dy) = (x.as_slice::<f32>(), dy.as_slice::<f32>());
    let mut out = buffer(3);
    let out = out.as_mut_slice::<f32>();
    bench.line("copy", 8, || copy::plain(black_box(x), out));
    element_wise(&mut bench, x, dy, out);
    rows(&mut bench, x, dy, out);
    training(&mut bench, x, dy, out);
    halves(&mut bench, x);
}

fn element_wise(bench: &mut Bench, x: &[f32], dy: &[f32], out: &mut [f32]) {
    bench.line("exp", 8, || unary::forward(Exp, x, out));
    bench.line("tanh", 8, || unary::forward(Tanh, x, out));
    bench.line("gelu", 8, || unary::forward(Gelu, x, out));
    bench.line("gelu backward", 12, || unary::backward(Gelu, x, dy, out));
    bench.line("gelu_tanh", 8, || unary::forward(GeluTanh, x, out));
    bench.line("gelu_tanh backward", 12, || unary::backward(GeluTanh, x, dy, out));
    bench.line("silu", 8, || unary::forward(Silu, x, out));
    bench.line("silu backward", 12, || unary::backward(Silu, x, dy, out));
    bench.line("dropout", 8, || dropout::dropout(x, 0.1, Rng::seed(1), 0, out));
    let half = ALL / 2;
    let (a, b) = x.split_at(half);
    // Three tensors of half the size.
    bench.line("swiglu", 6, || glu::forward(glu::Gate::Silu, (a, WIDTH), (b, WIDTH), WIDTH, &mut out[..half]));
    let layout = cupola_core::Layout::contiguous([ALL].into());
    let add = cupola_cpu::binary::Binary::Add;
    bench.line("add", 12, || cupola_cpu::binary::forward(add, layout.shape, (x, &layout), (dy, &layout), out));
    let turned = cupola_core::Layout::strided([WIDTH, ROWS].into(), &[1, WIDTH as isize], 0);
    bench.line("transpose", 8, || copy::contiguous(turned.shape, (x, &turned), out));
    let heads = cupola_core::Layout::strided([38, 16, 256, 64].into(), &[256 * 1024, 64, 1024, 1], 0);
    let part = heads.shape.numel();
    bench.line("heads [B,T,H,D]->[B,H,T,D]", 8 * part / ALL, || {
        copy::contiguous(heads.shape, (x, &heads), &mut out[..part])
    });
}

fn rows(bench: &mut Bench, x: &[f32], dy: &[f32], out: &mut [f32]) {
    bench.line("softmax", 8, || softmax::softmax(x, WIDTH, out));
    bench.line("softmax backward", 12, || softmax::softmax_backward(x, dy, WIDTH, out));
    let (weight, bias) = (vec![1.0; WIDTH], vec![0.5; WIDTH]);
    let (mut mean, mut rstd) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    let input =
        norm::Input { x, residual: None, weight: Some(&weight[..]), bias: Some(&bias[..]), eps: 1e-5, width: WIDTH };
    bench.line("layer_norm", 8, || {
        norm::layer_norm(input, norm::Output { y: out, sum: None, mean: &mut mean, rstd: &mut rstd });
    });
    let (mut dw, mut db) = (vec![0.0; WIDTH], vec![0.0; WIDTH]);
    bench.line("layer_norm backward", 12, || {
        let saved = norm::Saved { h: x, weight: Some(&weight), mean: &mean, rstd: &rstd, dh: None, width: WIDTH };
        let gradient = norm::Gradient { dx: out, dweight: Some(&mut dw), dbias: Some(&mut db) };
        norm::layer_norm_backward(saved, dy, gradient);
    });
    let input = norm::Input { x, residual: None, weight: Some(&weight[..]), bias: None, eps: 1e-5, width: WIDTH };
    bench.line("rms_norm", 8, || {
        norm::rms_norm(input, norm::Output { y: out, sum: None, mean: &mut [], rstd: &mut rstd });
    });
    bench.line("rms_norm backward", 12, || {
        let saved = norm::Saved { h: x, weight: Some(&weight), mean: &[], rstd: &rstd, dh: None, width: WIDTH };
        let gradient = norm::Gradient { dx: out, dweight: Some(&mut dw), dbias: None };
        norm::rms_norm_backward(saved, dy, gradient);
    });
    let mut sum = [0.0];
    bench.line("sum", 4, || reduce::reduce(reduce::Reduction::Sum, x, reduce::Dims::rows(1, ALL), &mut sum));
    let columns = reduce::Dims { outer: 1, n: ROWS, inner: WIDTH };
    bench.line("sum of columns", 4, || reduce::reduce(reduce::Reduction::Sum, x, columns, &mut dw));
}

fn training(bench: &mut Bench, x: &[f32], dy: &[f32], out: &mut [f32]) {
    let targets: Vec<i64> = (0..ROWS as i64).map(|k| k * 37 % WIDTH as i64).collect();
    let (mut loss, mut logs) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    let options = cross_entropy::Options::default();
    bench.line("cross_entropy", 4, || cross_entropy::forward(x, &targets, WIDTH, &options, &mut loss, &mut logs));
    let scale = [1.0 / ROWS as f32];
    bench.line("cross_entropy backward", 8, || {
        cross_entropy::backward(x, &targets, WIDTH, &options, &logs, &scale, out);
    });
    let (mut m, mut v) = (buffer(4), buffer(5));
    let (m, v) = (m.as_mut_slice::<f32>(), v.as_mut_slice::<f32>());
    v.iter_mut().for_each(|v| *v = v.abs());
    let mut step = 0;
    bench.line("adamw with clipping", 32, || {
        step += 1;
        let clip = 1.0 / optim::sum_squares(dy).sqrt().max(1.0);
        let settings = Adam {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            decoupled: true,
            amsgrad: false,
            step,
            grad_scale: clip,
        };
        optim::adam(vec![(settings, Slices { param: out, grad: dy, state: [m, v, &mut []] })]);
    });
}

fn halves(bench: &mut Bench, x: &[f32]) {
    let half: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    let mut out = vec![bf16::ZERO; ALL];
    bench.line("gelu bf16", 4, || unary::forward(Gelu, &half, &mut out));
    bench.line("softmax bf16", 4, || softmax::softmax(&half, WIDTH, &mut out));
    let mut wide = vec![0.0f32; ALL];
    bench.line("bf16 to f32", 6, || cupola_cpu::cast::cast(&half, &mut wide));
    bench.line("f32 to bf16", 6, || cupola_cpu::cast::cast(x, &mut out));
}
