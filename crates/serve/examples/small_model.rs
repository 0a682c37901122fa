//! Writes a small model with random weights into a directory, for trying the server and its clients without training anything:
//!
//! ```text
//! cargo run -p cupola-serve --example small_model -- DIR
//! cargo run -p cupola-cli -- serve DIR
//! ```

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
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: small_model DIR")?);
    let plain = BpeTrainer::byte_level(320)?.train([TEXT])?;
    let first = u32::try_from(plain.vocab_size())?;
    let mut parts = TokenizerParts::clone(plain.parts());
    let names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    parts.added_tokens.extend((first..).zip(names).map(|(id, name)| AddedToken::special(id, name)));
    parts.eos = Some(first + 2);
    parts.chat_template = Some(CHATML.to_owned());
    let tokenizer = Tokenizer::new(parts)?;
    let spec = ModelSpec::from_toml(&format!(
        "vocab_size = {}\nhidden_size = 64\nnum_hidden_layers = 3\nmax_position_embeddings = 1024\ninitializer_range = 0.3\n\
         attention = {{ num_attention_heads = 4, num_key_value_heads = 2 }}",
        tokenizer.vocab_size()
    ))?;
    cupola_models::save(&dir, &Decoder::new(&spec).init(1))?;
    tokenizer.save_dir(&dir)?;
    Ok(())
}
