//! Builds a hybrid of one's own from ten lines, trains it on the bytes of a text file, and lets it write.
//!
//!     cargo run --release --example hybrid -- FILE [STEPS]

use std::error::Error;
use std::time::Instant;

use cupola::models::{Decoder, Generator, ModelSpec, SamplerConfig};
use cupola::prelude::*;
use cupola::tensor::Segments;

const SPEC: &str = r#"
vocab_size = 256
hidden_size = 128
num_hidden_layers = 4
pattern = ["mamba2", "mamba2", "mamba2", "attention"]   # repeated over the layers
channel = "swiglu"
tie_word_embeddings = true
attention = { num_attention_heads = 4, num_key_value_heads = 2, sliding_window = 512 }
mamba2 = { state_size = 32, head_dim = 32 }
"#;
const ROWS: usize = 8;
const WINDOW: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("usage: hybrid FILE [STEPS]")?;
    let steps: u64 = arguments.get(1).map_or(Ok(300), |text| text.parse())?;
    let text = std::fs::read(path)?;
    if text.len() < 2 * WINDOW {
        return Err(format!("{path}: {} bytes, expected at least {}", text.len(), 2 * WINDOW).into());
    }

    let mut model = Decoder::new(&ModelSpec::from_toml(SPEC)?).init(0);
    let (fixed, each) = model.state_bytes();
    println!("{} parameters; a sequence keeps {fixed} bytes and {each} a token", model.parameter_count());

    let segments = Segments::uniform(ROWS, WINDOW);
    let mut optimizer = AdamW::new(AdamWConfig { lr: 3e-3, ..AdamWConfig::default() });
    let begin = Instant::now();
    for step in 0..steps {
        let rng = Rng::seed(step);
        let starts: Vec<usize> =
            (0..ROWS as u64).map(|row| rng.below(row, (text.len() - WINDOW) as u64) as usize).collect();
        let bytes = |shift: usize| -> Tensor {
            let row = |&start: &usize| text[start + shift..start + shift + WINDOW].iter().map(|&byte| i64::from(byte));
            Tensor::from_vec(starts.iter().flat_map(row).collect(), [ROWS * WINDOW])
        };
        let scope = training(0, step);
        let loss = model.loss_sum(&bytes(0), &bytes(1), &segments) / (ROWS * WINDOW) as f64;
        let mut grads = loss.backward();
        scope.finish(&mut model);
        grads.clip_norm(1.0);
        optimizer.step(&mut model, &grads);
        if step % 50 == 0 || step + 1 == steps {
            println!("step {step}: loss {:.3}, {:.0} s", loss.item(), begin.elapsed().as_secs_f64());
        }
    }

    let prompt: Vec<u32> = text[..16].iter().map(|&byte| u32::from(byte)).collect();
    let config = SamplerConfig { temperature: 0.8, ..SamplerConfig::default() };
    let written: Vec<u8> = Generator::new(&model, &prompt, config).limit(200).map(|byte| byte as u8).collect();
    println!("{}{}", String::from_utf8_lossy(&text[..16]), String::from_utf8_lossy(&written));
    Ok(())
}
