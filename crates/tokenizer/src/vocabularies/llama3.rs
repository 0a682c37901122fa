//! Llama 3, with the special tokens of 3.1.

use super::packed::packed;
use crate::error::Result;
use crate::split::{PreTokenizer, patterns};
use crate::template::Template;
use crate::tokenizer::{Tokenizer, TokenizerParts};

const FIRST_SPECIAL: u32 = 128_000;

pub(super) fn load() -> Result<Tokenizer> {
    let ranks = packed(splintr_vocab_llama3::LLAMA3_VOCAB_PACKED)?;
    let names: Vec<String> = (0..256).map(name).collect();
    let special = names.iter().zip(FIRST_SPECIAL..).map(|(name, id)| (&name[..], id));
    let tokenizer = Tokenizer::from_ranks(ranks, PreTokenizer::pattern(patterns::LLAMA3)?, special)?;
    let (bos, eos) = (FIRST_SPECIAL, FIRST_SPECIAL + 1);
    Tokenizer::new(TokenizerParts {
        template: Template::around(&[bos], &[]),
        bos: Some(bos),
        eos: Some(eos),
        ..tokenizer.parts().clone()
    })
}

/// The special token at a place of the 256: a dozen have a role, the others are numbered.
fn name(place: u32) -> String {
    let role = match place {
        0 => "begin_of_text",
        1 => "end_of_text",
        4 => "finetune_right_pad_id",
        6 => "start_header_id",
        7 => "end_header_id",
        8 => "eom_id",
        9 => "eot_id",
        10 => "python_tag",
        2 | 3 => return format!("<|reserved_special_token_{}|>", place - 2),
        5 => return "<|reserved_special_token_2|>".into(),
        _ => return format!("<|reserved_special_token_{}|>", place - 8),
    };
    format!("<|{role}|>")
}
