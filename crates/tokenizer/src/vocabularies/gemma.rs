//! Gemma 2 and 3.

use crate::error::Result;
use crate::template::Template;
use crate::tokenizer::{Tokenizer, TokenizerParts};

pub(super) fn load(name: &str) -> Result<Tokenizer> {
    let third = name == "gemma3";
    let file = if third { splintr_vocab_gemma3::GEMMA3_SPM_VOCAB } else { splintr_vocab_gemma2::GEMMA2_SPM_VOCAB };
    let tokenizer = Tokenizer::from_spm(file, false)?;
    let control = |text: &str| tokenizer.added_tokens().find(|t| t.content == text).map(|t| t.id);
    let (bos, eos) = (control("<bos>"), control("<eos>"));
    let before: Vec<u32> = bos.into_iter().collect();
    Tokenizer::new(TokenizerParts { template: Template::around(&before, &[]), bos, eos, ..tokenizer.parts().clone() })
}
