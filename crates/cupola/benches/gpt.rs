//! A training step of GPT models: tokens per second, and what memory it takes.
//!
//!     cargo bench -p cupola --bench gpt -- [nano|baby|gpt2] [THREADS] [f32|bf16] [SECONDS]
//!
//! One step draws random tokens, computes the mean cross-entropy over all positions and its gradient for every parameter, clips
//! the gradients to norm 1 (not in gpt2), and lets AdamW change every parameter (weight decay 0.1 on matrices). Pre-norm blocks,
//! learned positions, a head tied to the embedding, no dropout. Prints one JSON object a line.

mod common;

use common::Times;
use cupola::core::{alloc, pool};
use cupola::nn::init::Init;
use cupola::prelude::*;
use cupola::tensor::Segments;
use cupola::tensor::ops::attention::{AttentionConfig, attention};
use cupola::tensor::ops::cross_entropy::CrossEntropyConfig;
use cupola::tensor::ops::linear::{Activation, linear};

#[derive(Clone, Copy)]
struct Sizes {
    name: &'static str,
    layers: usize,
    heads: usize,
    width: usize,
    length: usize,
    batch: usize,
    vocabulary: usize,
    positions: usize,
    bias: bool,
}

#[rustfmt::skip]
const WORKS: [Sizes; 3] = [
    Sizes { name: "nano", layers: 4, heads: 4, width: 128, length: 64, batch: 12, vocabulary: 65, positions: 64, bias: false },
    Sizes { name: "baby", layers: 6, heads: 6, width: 384, length: 256, batch: 16, vocabulary: 65, positions: 256, bias: false },
    Sizes { name: "gpt2", layers: 12, heads: 12, width: 768, length: 256, batch: 2, vocabulary: 50257, positions: 1024, bias: true },
];

#[derive(Module)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    #[module(skip)]
    sizes: Sizes,
}

fn map(sizes: &Sizes, inputs: usize, outputs: usize) -> Linear {
    let mut linear = Linear::new(inputs, outputs);
    linear.weight = Param::new([outputs, inputs], Init::normal(0.02));
    if sizes.bias { linear } else { linear.without_bias() }
}

fn norm(sizes: &Sizes) -> LayerNorm {
    let norm = LayerNorm::new(sizes.width);
    if sizes.bias { norm } else { norm.without_bias() }
}

impl Block {
    fn new(sizes: &Sizes) -> Self {
        let width = sizes.width;
        Self {
            norm1: norm(sizes),
            qkv: map(sizes, width, 3 * width),
            proj: map(sizes, width, width),
            norm2: norm(sizes),
            up: map(sizes, width, 4 * width),
            down: map(sizes, 4 * width, width),
            sizes: *sizes,
        }
    }

    /// `x: [N, D]` -> `[N, D]`.
    fn forward(&self, x: &Tensor, segments: &Segments) -> Tensor {
        let Sizes { heads, width, bias, .. } = self.sizes;
        let qkv = self.qkv.forward(&self.norm1.forward(x)).reshape([x.dim(0), 3 * heads, width / heads]).chunk(1, 3);
        let config = AttentionConfig { causal: true, ..AttentionConfig::of(segments) };
        let y = attention(&qkv[0], &qkv[1], &qkv[2], &config).reshape([x.dim(0), width]);
        let (normed, x) = self.norm2.forward_residual(&self.proj.forward(&y), x);
        let activation = if bias { Activation::GeluTanh } else { Activation::Gelu };
        x + self.down.forward(&self.up.forward_activated(&normed, activation))
    }
}

#[derive(Module)]
struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Gpt {
    fn new(sizes: &Sizes) -> Self {
        let table = |rows: usize| Embedding::new(rows, sizes.width).with_init(Init::normal(0.02));
        Self {
            wte: table(sizes.vocabulary),
            wpe: table(sizes.positions),
            blocks: (0..sizes.layers).map(|_| Block::new(sizes)).collect(),
            norm: norm(sizes),
        }
    }

    fn loss(&self, tokens: &Tensor, targets: &Tensor, positions: &Tensor, segments: &Segments) -> Tensor {
        let mut x = self.wte.forward(tokens) + self.wpe.forward(positions);
        for block in &self.blocks {
            x = block.forward(&x, segments);
        }
        let logits = linear(&self.norm.forward(&x), &self.wte.weight, None, Activation::None);
        logits.cross_entropy(targets, &CrossEntropyConfig::default())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_string());
    let wanted = arguments.first();
    let threads: usize = text(1, "2").parse().expect("THREADS is a number");
    let dtype = text(2, "f32");
    let seconds: f64 = text(3, "5").parse().expect("SECONDS is a number");
    for sizes in WORKS.iter().filter(|sizes| wanted.is_none_or(|name| name == sizes.name)) {
        pool::with_threads(threads, || run(sizes, threads, &dtype, seconds));
    }
}

fn run(sizes: &Sizes, threads: usize, dtype: &str, seconds: f64) {
    let mut model = Gpt::new(sizes).init(0);
    let config = AdamWConfig { lr: 1e-3, betas: [0.9, 0.99], weight_decay: 0.1, ..AdamWConfig::default() };
    let plain = AdamWConfig { weight_decay: 0.0, ..config.clone() };
    let mut optimizer = AdamW::new(config).group("*norm*", plain.clone());
    if sizes.bias {
        optimizer = optimizer.group("*.bias", plain);
    }
    let tokens = sizes.batch * sizes.length;
    let segments = Segments::uniform(sizes.batch, sizes.length);
    let positions = Tensor::from_vec((0..tokens as i64).map(|i| i % sizes.length as i64).collect(), [tokens]);
    let draw = |step: u64| Tensor::randint(0, sizes.vocabulary as i64, [tokens], Rng::seed(step));
    let mut step = 0;
    let mut last = 0.0;
    let mut one = |model: &mut Gpt| {
        let (x, y) = (draw(2 * step), draw(2 * step + 1));
        let scope = training(0, step);
        let loss = match dtype {
            "bf16" => autocast(DType::BF16, || model.loss(&x, &y, &positions, &segments)),
            _ => model.loss(&x, &y, &positions, &segments),
        };
        let mut grads = loss.backward();
        scope.finish(model);
        if sizes.name != "gpt2" {
            grads.clip_norm(1.0);
        }
        optimizer.step(model, &grads);
        last = loss.item();
        step += 1;
    };
    let times = Times::of(seconds, || one(&mut model));
    let median = times.wall[times.wall.len() / 2];
    let parameters = model.parameter_count();
    let work = 6 * (parameters - sizes.positions * sizes.width) + 12 * sizes.layers * sizes.width * sizes.length;
    println!(
        "{{\"bench\": \"gpt\", \"config\": \"{}\", \"dtype\": \"{dtype}\", \"threads\": {threads}, \"parameters\": {parameters}, \
         \"tokens_per_s\": {:.0}, {}, \"gflops\": {:.0}, \"arena_mb\": {:.0}, \"loss\": {last:.3}}}",
        sizes.name,
        tokens as f64 / median,
        times.fields(),
        (work * tokens) as f64 / median / 1e9,
        alloc::stats().reserved as f64 / 1e6
    );
}
