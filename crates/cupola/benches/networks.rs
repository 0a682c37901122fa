//! Training steps of small networks: LeNet-5 (batch 64, 28x28), ResNet-18 for CIFAR (batch 32, 32x32, stem of 3x3 without
//! pooling), and a character LSTM (batch 16, 64 steps, 128 wide).
//!
//!     cargo bench -p cupola --bench networks -- [lenet|resnet|lstm] [THREADS] [SECONDS]
//!
//! LeNet and ResNet step by SGD with momentum 0.9 and weight decay 5e-4, the LSTM by AdamW. Prints one JSON object a line.

mod common;

use common::Times;
use cupola::core::{alloc, pool};
use cupola::nn::losses::cross_entropy;
use cupola::prelude::*;
use cupola::tensor::ops::linear::Activation;
use cupola::tensor::ops::{ConvConfig, Window};

#[derive(Module)]
struct LeNet {
    convs: [Conv2d; 2],
    linears: [Linear; 3],
}

impl LeNet {
    fn new() -> Self {
        let padded = ConvConfig { padding: [2, 2], ..ConvConfig::default() };
        Self {
            convs: [Conv2d::with(1, 6, [5, 5], padded), Conv2d::new(6, 16, [5, 5])],
            linears: [Linear::new(400, 120), Linear::new(120, 84), Linear::new(84, 10)],
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let pool = Window::new([2, 2]);
        let x = self.convs[0].forward(x).relu().max_pool2d(pool);
        let x = self.convs[1].forward(&x).relu().max_pool2d(pool).flatten_dims(1, 3);
        let x = self.linears[0].forward_activated(&x, Activation::Relu);
        self.linears[2].forward(&self.linears[1].forward_activated(&x, Activation::Relu))
    }
}

/// Two convolutions around which the input goes.
#[derive(Module)]
struct Block {
    conv1: Conv2d,
    norm1: BatchNorm2d,
    conv2: Conv2d,
    norm2: BatchNorm2d,
    shortcut: Option<(Conv2d, BatchNorm2d)>,
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Conv2d {
    let config = ConvConfig { stride: [stride; 2], padding: [kernel / 2; 2], ..ConvConfig::default() };
    Conv2d::with(inputs, outputs, [kernel; 2], config).without_bias()
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize) -> Self {
        let other = stride != 1 || inputs != outputs;
        Self {
            conv1: conv(inputs, outputs, 3, stride),
            norm1: BatchNorm2d::new(outputs),
            conv2: conv(outputs, outputs, 3, 1),
            norm2: BatchNorm2d::new(outputs),
            shortcut: other.then(|| (conv(inputs, outputs, 1, stride), BatchNorm2d::new(outputs))),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.norm1.forward(&self.conv1.forward(x)).relu();
        let y = self.norm2.forward(&self.conv2.forward(&y));
        let around = self.shortcut.as_ref().map(|(conv, norm)| norm.forward(&conv.forward(x)));
        (y + around.as_ref().unwrap_or(x)).relu()
    }
}

#[derive(Module)]
struct ResNet {
    stem: Conv2d,
    norm: BatchNorm2d,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    fn new() -> Self {
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (outputs, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(Block::new(inputs, outputs, stride));
            blocks.push(Block::new(outputs, outputs, 1));
            inputs = outputs;
        }
        Self { stem: conv(3, 64, 3, 1), norm: BatchNorm2d::new(64), blocks, head: Linear::new(512, 10) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let stem = self.norm.forward(&self.stem.forward(x)).relu();
        let x = self.blocks.iter().fold(stem, |x, block| block.forward(&x));
        self.head.forward(&x.mean([2, 3]))
    }
}

#[derive(Module)]
struct Characters {
    embedding: Embedding,
    lstm: Lstm,
    head: Linear,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_string());
    let threads: usize = text(1, "2").parse().expect("THREADS is a number");
    let seconds: f64 = text(2, "3").parse().expect("SECONDS is a number");
    let wanted = |name: &str| arguments.first().is_none_or(|first| first == name);
    let report = |name: &str, parameters: usize, times: Times| {
        println!(
            "{{\"bench\": \"{name}\", \"threads\": {threads}, \"parameters\": {parameters}, {}, \"arena_mb\": {:.0}}}",
            times.fields(),
            alloc::stats().reserved as f64 / 1e6
        );
    };
    pool::with_threads(threads, || {
        if wanted("lenet") {
            let mut model = LeNet::new().init(0);
            let times = images(&mut model, LeNet::forward, [64, 1, 28, 28], seconds);
            report("lenet", model.parameter_count(), times);
        }
        if wanted("resnet") {
            let mut model = ResNet::new().init(0);
            let times = images(&mut model, ResNet::forward, [32, 3, 32, 32], seconds);
            report("resnet18", model.parameter_count(), times);
        }
        if wanted("lstm") {
            let mut model = Characters {
                embedding: Embedding::new(65, 128),
                lstm: Lstm::new(128, 128),
                head: Linear::new(128, 65),
            }
            .init(0);
            let times = characters(&mut model, seconds);
            report("lstm", model.parameter_count(), times);
        }
    });
}

fn images<M: Module>(model: &mut M, forward: impl Fn(&M, &Tensor) -> Tensor, shape: [usize; 4], seconds: f64) -> Times {
    let config = SgdConfig { lr: 0.01, momentum: 0.9, weight_decay: 5e-4, ..SgdConfig::default() };
    let mut optimizer = Sgd::new(config);
    let x = Tensor::randn(shape, Rng::seed(1));
    let labels = Tensor::randint(0, 10, [shape[0]], Rng::seed(2));
    let mut step = 0;
    Times::of(seconds, || {
        let scope = training(0, step);
        let loss = cross_entropy(&forward(model, &x), &labels);
        let grads = loss.backward();
        scope.finish(model);
        optimizer.step(model, &grads);
        assert!(loss.item().is_finite());
        step += 1;
    })
}

fn characters(model: &mut Characters, seconds: f64) -> Times {
    let mut optimizer = AdamW::new(AdamWConfig { lr: 1e-3, ..AdamWConfig::default() });
    let x = Tensor::randint(0, 65, [16, 64], Rng::seed(1));
    let targets = Tensor::randint(0, 65, [16 * 64], Rng::seed(2));
    let mut step = 0;
    Times::of(seconds, || {
        let scope = training(0, step);
        let (y, _) = model.lstm.forward(&model.embedding.forward(&x), None, None);
        let loss = cross_entropy(&model.head.forward(&y).reshape([16 * 64, 65]), &targets);
        let grads = loss.backward();
        scope.finish(model);
        optimizer.step(model, &grads);
        assert!(loss.item().is_finite());
        step += 1;
    })
}
