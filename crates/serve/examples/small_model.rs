//! Writes a model with random weights into a directory, for trying and measuring the server without training anything:
//!
//! ```text
//! cargo run -p cupola-serve --example small_model -- DIR [PRESET [VOCABULARY]]
//! cargo run -p cupola-cli -- serve DIR
//! ```
//!
//! Without a preset it is very small.

use std::error::Error;
use std::path::PathBuf;

use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tokenizer::AddedToken;
use cupola_tokenizer::chat::CHATML;
use cupola_tokenizer::train::BpeTrainer;
use cupola_tokenizer::{Tokenizer, TokenizerParts};

/// What the tokenizer learns from.
const TEXT: &str = "A cupola is the furnace that melts raw metal, and the dome that crowns a house. The furnace is lit in the \
                    morning; the dome is seen from afar. One two three four five six seven eight nine ten.";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: small_model DIR [PRESET [VOCABULARY]]")?);
    let plain = BpeTrainer::byte_level(320)?.train([TEXT])?;
    let first = u32::try_from(plain.vocab_size())?;
    let mut parts = TokenizerParts::clone(plain.parts());
    let names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    parts.added_tokens.extend((first..).zip(names).map(|(id, name)| AddedToken::special(id, name)));
    parts.eos = Some(first + 2);
    parts.chat_template = Some(CHATML.to_owned());
    let tokenizer = Tokenizer::new(parts)?;
    let spec = match arguments.next() {
        Some(preset) => {
            let vocabulary = arguments.next().map_or(Ok(tokenizer.vocab_size()), |size| size.parse())?;
            ModelSpec::preset(&preset, vocabulary)?
        }
        None => ModelSpec::from_toml(&format!(
            "vocab_size = {}\nhidden_size = 64\nnum_hidden_layers = 3\nmax_position_embeddings = 1024\ninitializer_range = 0.3\n\
             attention = {{ num_attention_heads = 4, num_key_value_heads = 2 }}",
            tokenizer.vocab_size()
        ))?,
    };
    cupola_models::save(&dir, &Decoder::new(&spec).init(1))?;
    tokenizer.save_dir(&dir)?;
    Ok(())
}
