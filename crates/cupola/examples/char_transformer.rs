//! Trains a character-level Transformer on a text file, saves it, loads it again, and lets it write.
//!
//!     cargo run --release --example char_transformer -- FILE [STEPS] [FOLDER]
//!
//! Text becomes tokens, tokens batches, batches a model, the model a file, and the file text: the whole path in one page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cupola::prelude::*;
use cupola::tensor::Segments;
use cupola::tensor::ops::attention::{AttentionConfig, attention};
use cupola::tokenizer::model::Chars;
use cupola::tokenizer::model::bpe::Unknown;
use cupola::tokenizer::{Model, Tokenizer, TokenizerParts};

const LAYERS: usize = 4;
const HEADS: usize = 4;
const WIDTH: usize = 128;
const WINDOW: usize = 64;
const BATCH: usize = 12;
const LR: f64 = 3e-3;
const SEED: u64 = 1337;

/// Pre-norm attention and a multi-layer perceptron, each added to the stream it reads.
#[derive(Module)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new() -> Self {
        Self {
            norm1: LayerNorm::new(WIDTH),
            qkv: Linear::new(WIDTH, 3 * WIDTH),
            proj: Linear::new(WIDTH, WIDTH),
            norm2: LayerNorm::new(WIDTH),
            up: Linear::new(WIDTH, 4 * WIDTH),
            down: Linear::new(4 * WIDTH, WIDTH),
        }
    }

    /// `x: [N, D]` -> `[N, D]`.
    fn forward(&self, x: &Tensor, segments: &Segments) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x)).reshape([x.dim(0), 3 * HEADS, WIDTH / HEADS]);
        let parts = qkv.chunk(1, 3);
        let config = AttentionConfig { causal: true, ..AttentionConfig::of(segments) };
        let heads = attention(&parts[0], &parts[1], &parts[2], &config).reshape([x.dim(0), WIDTH]);
        let x = x + self.proj.forward(&heads);
        &x + self.down.forward(&self.up.forward(&self.norm2.forward(&x)).gelu())
    }
}

#[derive(Module)]
struct Transformer {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    fn new(vocabulary: usize) -> Self {
        Self {
            tokens: Embedding::new(vocabulary, WIDTH),
            positions: Embedding::new(WINDOW, WIDTH),
            blocks: (0..LAYERS).map(|_| Block::new()).collect(),
            norm: LayerNorm::new(WIDTH),
            head: Linear::new(WIDTH, vocabulary),
        }
    }

    /// Packed tokens `[N]` -> logits `[N, V]`; a token sees those before it in its own segment.
    fn forward(&self, tokens: &Tensor, segments: &Segments) -> Tensor {
        let positions: Vec<i64> = segments.iter().flat_map(|range| 0..range.len() as i64).collect();
        let positions = Tensor::from_vec(positions, [tokens.numel()]);
        let mut x = self.tokens.forward(tokens) + self.positions.forward(&positions);
        for block in &self.blocks {
            x = block.forward(&x, segments);
        }
        self.head.forward(&self.norm.forward(&x))
    }
}

/// Windows of `WINDOW` tokens that start at the given places, and the tokens that follow each: two tensors `[windows * WINDOW]`.
fn windows(ids: &[u32], starts: &[usize]) -> (Tensor, Tensor) {
    let gather = |shift: usize| -> Vec<i64> {
        let window = |&start: &usize| ids[start + shift..start + shift + WINDOW].iter().map(|&id| i64::from(id));
        starts.iter().flat_map(window).collect()
    };
    let count = starts.len() * WINDOW;
    (Tensor::from_vec(gather(0), [count]), Tensor::from_vec(gather(1), [count]))
}

/// The mean loss, in nats a character, over up to 100 windows that do not overlap.
fn evaluate_on(model: &Transformer, ids: &[u32]) -> f64 {
    let starts: Vec<usize> = (0..ids.len() - WINDOW).step_by(WINDOW).take(100).collect();
    evaluate(|| {
        let (x, y) = windows(ids, &starts);
        cross_entropy(&model.forward(&x, &Segments::uniform(starts.len(), WINDOW)), &y).item()
    })
}

/// `count` characters that follow `prompt`, drawn from the model's distribution.
fn sample(
    model: &Transformer,
    tokenizer: &Tokenizer,
    prompt: &str,
    count: usize,
) -> Result<String, Box<dyn std::error::Error>> {
    let rng = Rng::seed(SEED).named("sample");
    let mut ids = tokenizer.encode(prompt)?;
    for step in 0..count {
        let seen = &ids[ids.len().saturating_sub(WINDOW)..];
        let tokens = Tensor::from_vec(seen.iter().map(|&id| i64::from(id)).collect(), [seen.len()]);
        let logits = evaluate(|| model.forward(&tokens, &Segments::one(seen.len())).select(0, seen.len() - 1));
        let probabilities = (logits * (1.0 / 0.8)).softmax(-1).to_f64_vec();
        let mut left = rng.uniform(step as u64);
        let chosen = probabilities.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        ids.push(chosen.unwrap_or(probabilities.len() - 1) as u32);
    }
    Ok(tokenizer.decode(&ids)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: char_transformer FILE [STEPS] [FOLDER]")?;
    let steps: u64 = arguments.next().map_or(Ok(1500), |text| text.parse()).map_err(|_| "STEPS is not a number")?;
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("cupola-char-transformer"), PathBuf::from);

    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let alphabet: BTreeSet<char> = text.chars().collect();
    let tokenizer = Tokenizer::new(TokenizerParts::new(Model::Chars(Chars::new(alphabet, Unknown::Refuse)?)))?;
    let ids = tokenizer.encode(&text)?;
    let (train_ids, test_ids) = ids.split_at(ids.len() * 9 / 10);
    if test_ids.len() <= WINDOW {
        return Err(
            format!("{path}: {} characters are too few, at least {} are needed", ids.len(), 10 * WINDOW + 10).into()
        );
    }

    let mut model = Transformer::new(tokenizer.vocab_size()).init(SEED);
    println!("{} characters, {} distinct; {} parameters", ids.len(), tokenizer.vocab_size(), model.parameter_count());
    let schedule = Schedule::new(LR, Decay::Cosine { steps, min_lr: LR / 10.0 }).with_warmup(100.min(steps / 10));
    let mut optimizer =
        AdamW::new(AdamWConfig { lr: LR, betas: [0.9, 0.99], weight_decay: 0.1, ..AdamWConfig::default() });
    let places = Rng::seed(SEED).named("batches");
    let segments = Segments::uniform(BATCH, WINDOW);
    let start = Instant::now();
    for step in 0..steps {
        let choose =
            |row: usize| places.below(step * BATCH as u64 + row as u64, (train_ids.len() - WINDOW) as u64) as usize;
        let (x, y) = windows(train_ids, &(0..BATCH).map(choose).collect::<Vec<_>>());
        optimizer.set_lr(schedule.at(step));
        let scope = training(SEED, step);
        let loss = cross_entropy(&model.forward(&x, &segments), &y);
        let mut grads = loss.backward();
        scope.finish(&mut model);
        grads.clip_norm(1.0);
        optimizer.step(&mut model, &grads);
        if step % 250 == 0 || step + 1 == steps {
            let rate = ((step + 1) as usize * BATCH * WINDOW) as f64 / start.elapsed().as_secs_f64();
            let held_out = evaluate_on(&model, test_ids);
            println!("step {step:5}   loss {:.3}   held out {held_out:.3}   {rate:.0} characters/s", loss.item());
        }
    }

    std::fs::create_dir_all(&folder)?;
    model.save(folder.join("model.safetensors"))?;
    tokenizer.save_json(folder.join("tokenizer.json"))?;
    println!("saved to {}", folder.display());
    write(&folder)
}

/// Loads what was saved and lets it write.
fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let tokenizer = Tokenizer::from_path(folder.join("tokenizer.json"))?;
    let mut model = Transformer::new(tokenizer.vocab_size());
    model.load(folder.join("model.safetensors"))?;
    let prompt = tokenizer.decode(&[0])?;
    println!("---\n{}\n---", sample(&model, &tokenizer, &prompt, 400)?.trim());
    Ok(())
}
