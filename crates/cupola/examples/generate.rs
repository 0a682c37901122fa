//! Lets a model in a Hugging Face directory write.
//!
//!     cargo run --release --example generate -- DIR "The furnace " [TOKENS] [TEMPERATURE] [SEED]
//!
//! The directory holds `config.json`, `model.safetensors` (or several with an index) and a tokenizer's file. The families that are
//! read are listed when another one is met.

use std::error::Error;
use std::io::Write;

use cupola::models::{Generator, SamplerConfig, load};
use cupola::prelude::*;
use cupola::tokenizer::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, prompt, rest @ ..] = &arguments[..] else {
        return Err("usage: generate DIR PROMPT [TOKENS] [TEMPERATURE] [SEED]".into());
    };
    let number = |index: usize, default: &str| rest.get(index).map_or(default.to_string(), String::clone);
    let tokens: usize = number(0, "100").parse()?;
    let config = SamplerConfig {
        temperature: number(1, "0.8").parse()?,
        seed: number(2, "0").parse()?,
        ..SamplerConfig::default()
    };
    if let Some(problem) = config.problem() {
        return Err(problem.into());
    }

    let model = load(dir)?;
    let tokenizer = Tokenizer::from_dir(dir)?;
    eprintln!("{} parameters, {} tokens of context", model.parameter_count(), model.spec().max_position_embeddings);

    let prompt = tokenizer.encode_with(prompt, &EncodeOptions::default().with_template())?;
    let end: Vec<u32> = tokenizer.eos().into_iter().collect();
    let mut text = tokenizer.stream_decoder();
    for token in Generator::new(&model, &prompt, config).limit(tokens).stop_at(&end) {
        print!("{}", text.push(token)?);
        std::io::stdout().flush()?;
    }
    println!("{}", text.finish());
    Ok(())
}
