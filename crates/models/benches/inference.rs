//! Reading and writing with a LLaMA of 110M parameters (12 layers, 768 wide, 12 heads, feed-forward 2048, vocabulary 32,000, tied).
//!
//!     cargo bench -p cupola-models --bench inference -- [THREADS] [f32|bf16] [SECONDS]
//!
//! `prefill` reads 512 tokens from an empty context and computes the logits of the last; `decode` writes 128 tokens from an empty context,
//! one stream alone and several in one batch. Medians of whole runs; one JSON object a line.

use std::time::Instant;

use cupola_core::pool;
use cupola_models::{Decoder, ModelSpec, State};
use cupola_nn::Module;
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

const PROMPT: usize = 512;
const WRITTEN: usize = 128;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let text = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_string());
    let threads: usize = text(0, "2").parse().expect("THREADS is a number");
    let dtype = text(1, "f32");
    let seconds: f64 = text(2, "5").parse().expect("SECONDS is a number");

    let preset = ModelSpec::preset("llama-124m", 32_000).expect("a preset");
    let spec = ModelSpec::new(cupola_models::ModelFields { intermediate_size: Some(2048), ..preset.fields().clone() });
    let mut model = Decoder::new(&spec.expect("a valid specification")).init(0);
    if dtype == "bf16" {
        model = model.to_dtype(DType::BF16);
    }
    pool::with_threads(threads, || {
        no_grad(|| {
            let rate = PROMPT as f64 / median(seconds, || prefill(&model));
            report("prefill", 1, &dtype, threads, rate);
            for streams in [1, 4, 16, 64] {
                let time = median(seconds, || decode(&model, streams));
                report("decode", streams, &dtype, threads, (streams * WRITTEN) as f64 / time);
            }
        })
    });
}

fn report(bench: &str, streams: usize, dtype: &str, threads: usize, rate: f64) {
    println!(
        "{{\"bench\": \"{bench}\", \"config\": \"infer110m\", \"streams\": {streams}, \"dtype\": \"{dtype}\", \
         \"threads\": {threads}, \"tokens_per_s\": {rate:.1}}}"
    );
}

fn tokens(count: usize) -> Tensor {
    Tensor::randint(0, 32_000, [count], Rng::seed(1))
}

fn prefill(model: &Decoder) {
    let mut state = model.state();
    let hidden = model.hidden(&tokens(PROMPT), &Segments::one(PROMPT), Some(&mut [&mut state]));
    std::hint::black_box(model.logits(&hidden.narrow(0, PROMPT - 1, 1)));
}

fn decode(model: &Decoder, streams: usize) {
    let mut states: Vec<State> = (0..streams).map(|_| model.state()).collect();
    for _ in 0..WRITTEN {
        let mut all: Vec<&mut State> = states.iter_mut().collect();
        std::hint::black_box(model.forward(&tokens(streams), &Segments::uniform(streams, 1), Some(&mut all)));
    }
}

/// Seconds of a run: the median of at least three, after one that is not counted.
fn median(seconds: f64, mut run: impl FnMut()) -> f64 {
    run();
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed().as_secs_f64() < seconds || times.len() < 3 {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
