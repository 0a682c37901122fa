//! Text to tokens.

use cupola_core::parallel_for;
use cupola_tokenizer::train::BpeTrainer;

use super::{Line, Options};
use crate::exit::Failure;

/// Encodes the carried text with a vocabulary trained on it, in as many pieces at a time as there are threads.
pub(super) fn encode(options: &Options) -> anyhow::Result<()> {
    if let Some(work) = options.work {
        return Err(Failure::Usage(format!("--work {} means nothing here", work.name())).into());
    }
    let text = cupola_train::carried::text();
    let tokenizer = BpeTrainer::byte_level(4096)?.train(text.split_inclusive('\n'))?;
    // Pieces of some kilobytes, behind line ends.
    let mut pieces = vec![0];
    while let Some(at) = text[pieces[pieces.len() - 1]..].char_indices().nth(16 << 10) {
        pieces.push(pieces[pieces.len() - 1] + at.0);
    }
    pieces.push(text.len());
    tokenizer.encode(&text)?;
    let seconds = options.median(|| {
        parallel_for(pieces.len() - 1, |index| {
            drop(std::hint::black_box(tokenizer.encode(&text[pieces[index]..pieces[index + 1]])));
        });
    });
    let rate = text.len() as f64 / seconds / 1e6;
    options.print(&Line { bench: "tokenizer", config: "bpe4096".to_string(), rate: ("mb_per_s", rate) })
}
