//! Convolutions of LeNet-5 (batch 64, 28 x 28) and ResNet-18 (batch 32, 32 x 32), poolings and norms between them, and
//! recurrent layers (batch 16, 64 steps, 128 wide): milliseconds and, for products, operations per second. A square matrix
//! product stands first, for comparison.
//!
//! `cargo bench -p cupola-cpu --bench vision_rnn [-- WORD...]` runs the lines that contain one of the words (all without). One
//! thread is timed by its processor time where the system tells it, which other programs disturb little; `CUPOLA_THREADS`
//! sets the number, and several are timed by the clock. Figures are those of the best of several samples.

use std::hint::black_box;
use std::time::Instant;

use cupola_core::Rng;
use cupola_core::pool::threads;
use cupola_cpu::conv::{Conv, forward, input_gradient, weight_gradient};
use cupola_cpu::gemm::{Epilogue, F32, MatMut, MatRef, Product};
use cupola_cpu::image_norm::{Images, batch};
use cupola_cpu::pooling::{Pooling, max};
use cupola_cpu::rnn::cell::Cell;
use cupola_cpu::rnn::{self, Gradients, Results, Sequences, States, Upstream, Weights};

/// Seconds: of this thread's processor time if it is the only one.
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let spent = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    match if threads() == 1 { spent() } else { None } {
        Some(nanoseconds) => nanoseconds * 1e-9,
        None => START.get_or_init(Instant::now).elapsed().as_secs_f64(),
    }
}

/// The least seconds of a call. A sample lasts long enough for a clock that ticks every few milliseconds.
fn seconds(mut body: impl FnMut()) -> f64 {
    body();
    let start = Instant::now();
    body();
    let repeats = (0.06 / start.elapsed().as_secs_f64()).clamp(1.0, 1e5) as usize;
    let sample = |_| {
        let start = now();
        (0..repeats).for_each(|_| body());
        (now() - start) / repeats as f64
    };
    (0..5).map(sample).fold(f64::INFINITY, f64::min)
}

fn wanted(name: &str) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

fn line(name: &str, operations: f64, body: impl FnMut()) {
    let time = seconds(body);
    let rate = operations / time * 1e-9;
    println!("{name:<44} {:>9.3} ms {rate:>7.1} G/s", time * 1e3);
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let rng = Rng::seed(seed);
    (0..len as u64).map(|i| rng.uniform(i) as f32 - 0.5).collect()
}

fn convolution(
    name: &str,
    batch: usize,
    channels: [usize; 2],
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) {
    let name = format!("{name} {}->{} {size}x{size} k{kernel} s{stride}", channels[0], channels[1]);
    if !wanted(&name) {
        return;
    }
    let output = Conv::output_size(size, kernel, stride, padding, 1).expect("the kernel fits");
    let conv = Conv {
        batch,
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [size; 2],
        output: [output; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
    };
    let (x, w, dy) = (random(conv.input_len(), 1), random(conv.weight_len(), 2), random(conv.output_len(), 3));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let operations = 2.0 * (conv.output_len() * channels[0] * kernel * kernel) as f64;
    line(&format!("{name} forward"), operations, || forward(&conv, &x, &w, None, black_box(&mut y)));
    line(&format!("{name} dx"), operations, || input_gradient(&conv, &dy, &w, None, black_box(&mut dx)));
    line(&format!("{name} dw"), operations, || weight_gradient(&conv, &x, &dy, false, black_box(&mut dw)));
}

fn pooling() {
    if wanted("max_pool2d") {
        for (planes, size) in [(64 * 6, 28), (64 * 16, 10)] {
            let pooling = Pooling {
                planes,
                input: [size; 2],
                output: [size / 2; 2],
                kernel: [2; 2],
                stride: [2; 2],
                padding: [0; 2],
                dilation: [1; 2],
            };
            let x = random(planes * size * size, 1);
            let mut dx = x.clone();
            let (mut y, mut index) = (vec![0.0; x.len() / 4], vec![0; x.len() / 4]);
            let name = format!("lenet max_pool2d {planes} planes {size}x{size}");
            line(&format!("{name} forward"), 0.0, || max::forward(&pooling, &x, black_box(&mut y), &mut index));
            line(&format!("{name} backward"), 0.0, || max::backward(&pooling, &y, &index, black_box(&mut dx)));
        }
    }
    if wanted("batch_norm") {
        for (channels, inner) in [(64, 1024), (512, 16)] {
            let images = Images { batch: 32, channels, inner };
            let (x, dy) = (random(images.numel(), 1), random(images.numel(), 2));
            let (mut mean, mut var, mut y) = (vec![0.0; channels], vec![0.0; channels], x.clone());
            let name = format!("resnet batch_norm 32x{channels}x{inner}");
            line(&format!("{name} forward"), 0.0, || {
                batch::statistics(&images, &x, &mut mean, &mut var);
                let rstd = batch::rstd(&var, 1e-5);
                batch::forward(&images, &x, (&mean, &rstd), (None, None), black_box(&mut y));
            });
            let rstd = batch::rstd(&var, 1e-5);
            line(&format!("{name} backward"), 0.0, || {
                let (plain, weighted) = batch::moments(&images, &dy, &x, &mean);
                let sums = (&plain[..], &weighted[..]);
                batch::backward(&images, (&dy, &x), (&mean, &rstd), None, sums, (None, None), black_box(&mut y));
            });
        }
    }
}

fn recurrent<C: Cell>(name: &str, cell: C) {
    if !wanted(name) {
        return;
    }
    let (batch, steps, inputs, hidden) = (16, 64, 128, 128);
    let sequences = Sequences { batch, steps, inputs, hidden, lengths: None, reverse: false };
    let rows = C::GATES * hidden;
    let (x, w_ih, w_hh) = (random(batch * steps * inputs, 1), random(rows * inputs, 2), random(rows * hidden, 3));
    let weights = Weights { input: &w_ih, hidden: &w_hh, input_bias: None, hidden_bias: None };
    let none = States { h: None, c: None };
    let memory = if C::MEMORY { batch * hidden } else { 0 };
    let (mut y, mut saved) = (vec![0.0; batch * steps * hidden], vec![0.0; batch * steps * C::SAVED * hidden]);
    let (mut h, mut c) = (vec![0.0; batch * hidden], vec![0.0; memory]);
    let product = 2.0 * (batch * steps * rows) as f64;
    line(&format!("{name} forward"), product * (inputs + hidden) as f64, || {
        let results = Results { y: &mut y, saved: Some(&mut saved), h: &mut h, c: &mut c };
        rnn::forward(cell, &sequences, &weights, &x, none, results);
    });
    let dy = random(y.len(), 4);
    let (mut dx, mut dw_ih, mut dw_hh) = (x.clone(), w_ih.clone(), w_hh.clone());
    let (mut db_ih, mut db_hh) = (vec![0.0; rows], vec![0.0; rows]);
    line(&format!("{name} backward"), product * 2.0 * (inputs + hidden) as f64, || {
        let gradients = Gradients {
            dx: Some(&mut dx),
            dinput: Some((&mut dw_ih, false)),
            dhidden: Some((&mut dw_hh, false)),
            dinput_bias: &mut db_ih,
            dhidden_bias: &mut db_hh,
            dh: &mut h,
            dc: &mut c,
        };
        let upstream = Upstream { dy: Some(&dy), last: none };
        rnn::backward(cell, &sequences, &weights, &x, none, (&y, &saved), upstream, gradients);
    });
}

fn main() {
    println!("{} threads, {}", threads(), cupola_cpu::isa().name());
    if wanted("product") {
        let (a, b, mut c) = (random(768 * 768, 1), random(768 * 768, 2), random(768 * 768, 3));
        line("product 768x768x768", 2.0 * 768f64.powi(3), || {
            let (a, b) = (MatRef::new(&a, 768, 768), MatRef::new(&b, 768, 768));
            F32::matmul(a, b, MatMut::new(black_box(&mut c), 768, 768), Epilogue::default());
        });
    }
    convolution("lenet", 64, [1, 6], 28, 5, 1, 2);
    convolution("lenet", 64, [6, 16], 14, 5, 1, 0);
    convolution("resnet", 32, [3, 64], 32, 3, 1, 1);
    convolution("resnet", 32, [64, 64], 32, 3, 1, 1);
    convolution("resnet", 32, [64, 128], 32, 3, 2, 1);
    convolution("resnet", 32, [64, 128], 32, 1, 2, 0);
    convolution("resnet", 32, [128, 128], 16, 3, 1, 1);
    convolution("resnet", 32, [128, 256], 16, 3, 2, 1);
    convolution("resnet", 32, [256, 256], 8, 3, 1, 1);
    convolution("resnet", 32, [256, 512], 8, 3, 2, 1);
    convolution("resnet", 32, [512, 512], 4, 3, 1, 1);
    pooling();
    recurrent("lstm", rnn::lstm::Lstm);
    recurrent("gru", rnn::gru::Gru);
    recurrent("rnn", rnn::elman::ElmanTanh);
}
