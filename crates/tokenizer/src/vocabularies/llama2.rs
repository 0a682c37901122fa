//! Llama 2, and Code Llama with 16 pieces more.

use crate::error::Result;
use crate::template::Template;
use crate::tokenizer::Tokenizer;

pub(super) fn load(name: &str) -> Result<Tokenizer> {
    let code = name == "codellama";
    let file = if code { splintr_vocab_llama2::CODELLAMA_SPM_VOCAB } else { splintr_vocab_llama2::LLAMA2_SPM_VOCAB };
    let tokenizer = Tokenizer::from_spm(file, true)?;
    let bos: Vec<u32> = tokenizer.bos().into_iter().collect();
    tokenizer.with_template(Template::around(&bos, &[]))
}
