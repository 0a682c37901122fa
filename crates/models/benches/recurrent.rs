//! Training steps of recurrent models beside a transformer of about as many parameters.
//!
//!     cargo bench -p cupola-models --bench recurrent -- [THREADS] [SECONDS] [NAME ...]
//!
//! `mamba-512` is the model of the comparison with PyTorch: 6 layers, 512 wide, 16 states, 8 sequences of 64 tokens, vocabulary 256.
//! The others are presets of baby size with a vocabulary of 65, 4 sequences of 256 tokens. A step is forward, backward, clipping and AdamW in
//! f32; medians of whole steps; one JSON object a line.

use std::time::Instant;

use cupola_core::pool;
use cupola_models::{Decoder, ModelFields, ModelSpec};
use cupola_nn::optim::{AdamW, AdamWConfig};
use cupola_nn::{Module, training};
use cupola_tensor::{Rng, Segments, Tensor};

const PRESETS: &[&str] = &["gpt2-baby", "llama-baby", "mamba-baby", "mamba2-baby", "mamba3-baby", "gdn-baby"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_string());
    let threads: usize = text(0, "2").parse().expect("THREADS is a number");
    let seconds: f64 = text(1, "5").parse().expect("SECONDS is a number");
    let wanted = |name: &str| arguments.len() < 3 || arguments[2..].iter().any(|a| a == name);
    pool::with_threads(threads, || {
        if wanted("mamba-512") {
            let preset = ModelSpec::preset("mamba-nano", 256).expect("a preset");
            let fields = ModelFields { num_hidden_layers: 6, hidden_size: 512, mamba: None, ..preset.fields().clone() };
            let fields = ModelFields { intermediate_size: None, ..fields };
            measure("mamba-512", &ModelSpec::new(fields).expect("a valid specification"), [8, 64], threads, seconds);
        }
        for name in PRESETS.iter().filter(|name| wanted(name)) {
            measure(name, &ModelSpec::preset(name, 65).expect("a preset"), [4, 256], threads, seconds);
        }
    });
}

fn measure(name: &str, spec: &ModelSpec, [batch, length]: [usize; 2], threads: usize, seconds: f64) {
    let mut model = Decoder::new(spec).init(0);
    let mut optimizer = AdamW::new(AdamWConfig::default());
    let count = batch * length;
    let tokens = |seed| Tensor::randint(0, spec.vocab_size as i64, [count], Rng::seed(seed));
    let (x, y, segments) = (tokens(1), tokens(2), Segments::uniform(batch, length));
    let mut step = |number: u64| {
        let scope = training(0, number);
        let loss = model.loss_sum(&x, &y, &segments) / count as f64;
        let mut grads = loss.backward();
        scope.finish(&mut model);
        grads.clip_norm(1.0);
        optimizer.step(&mut model, &grads);
    };
    step(0);
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let start = Instant::now();
        step(times.len() as u64 + 1);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{{\"bench\": \"train\", \"config\": \"{name}\", \"parameters\": {}, \"threads\": {threads}, \"ms\": {:.1}, \
         \"tokens_per_s\": {:.0}}}",
        model.parameter_count(),
        median * 1e3,
        count as f64 / median
    );
}
