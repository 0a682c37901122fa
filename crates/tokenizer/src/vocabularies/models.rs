//! Vocabularies of models that put special tokens of their own on the ranks of another vocabulary.

use std::ops::RangeInclusive;

use super::packed::packed;
use crate::added::AddedToken;
use crate::error::Result;
use crate::normalize::{Form, Normalizer};
use crate::split::{PreTokenizer, patterns};
use crate::tokenizer::{Tokenizer, TokenizerParts};

pub(super) fn load(name: &str) -> Result<Tokenizer> {
    match name {
        "gpt-oss" => gpt_oss(),
        "o200k_harmony" => o200k_harmony(),
        "phi4" => phi4(),
        "olmo2" => olmo2(),
        _ => qwen3(),
    }
}

/// The parts of a tokenizer of ranks, with the added tokens of a model.
fn parts(data: &[u8], pattern: &str, added_tokens: Vec<AddedToken>, eos: u32) -> Result<TokenizerParts> {
    let tokenizer = Tokenizer::from_ranks(packed(data)?, PreTokenizer::pattern(pattern)?, [])?;
    Ok(TokenizerParts { added_tokens, eos: Some(eos), ..tokenizer.parts().clone() })
}

/// Special tokens with these names from an id on.
fn special(first: u32, names: &[&str]) -> impl Iterator<Item = AddedToken> {
    names.iter().zip(first..).map(|(name, id)| AddedToken::special(id, *name))
}

/// `<|reserved_ID|>`.
fn reserved(ids: RangeInclusive<u32>) -> impl Iterator<Item = AddedToken> {
    ids.map(|id| AddedToken::special(id, format!("<|reserved_{id}|>")))
}

/// What gpt-oss and o200k_harmony have in common: the markers of the harmony format.
fn harmony() -> Vec<AddedToken> {
    special(199_998, &["<|startoftext|>", "<|endoftext|>"])
        .chain(reserved(200_000..=200_001))
        .chain(special(200_002, &["<|return|>", "<|constrain|>"]))
        .chain(reserved(200_004..=200_004))
        .chain(special(200_005, &["<|channel|>", "<|start|>", "<|end|>", "<|message|>"]))
        .chain(reserved(200_009..=200_011))
        .chain(special(200_012, &["<|call|>"]))
        .chain(reserved(200_013..=200_017))
        .chain(special(200_018, &["<|endofprompt|>"]))
        .collect()
}

/// The vocabulary of OpenAI's gpt-oss, as its `tokenizer.json` has it.
fn gpt_oss() -> Result<Tokenizer> {
    Tokenizer::new(parts(splintr_vocab_o200k::O200K_BASE_VOCAB_PACKED, patterns::O200K, harmony(), 200_002)?)
}

/// The same as tiktoken has it, with reserved tokens behind. Where tiktoken names 200018 twice, this is `<|endofprompt|>`.
fn o200k_harmony() -> Result<Tokenizer> {
    let tokens = harmony().into_iter().chain(reserved(200_019..=201_087)).collect();
    Tokenizer::new(parts(splintr_vocab_o200k::O200K_BASE_VOCAB_PACKED, patterns::O200K, tokens, 200_002)?)
}

/// Microsoft's Phi-4. Its special tokens take the white space on both sides; ids without a use are dummies, numbered in order.
fn phi4() -> Result<Tokenizer> {
    let named: Vec<AddedToken> =
        special(100_257, &["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"])
            .chain(special(100_264, &["<|im_start|>", "<|im_end|>", "<|im_sep|>"]))
            .chain(special(100_276, &["<|endofprompt|>"]))
            .collect();
    let dummies: Vec<AddedToken> = (100_256..100_352)
        .filter(|id| named.iter().all(|token| token.id != *id))
        .enumerate()
        .map(|(k, id)| AddedToken::special(id, format!("<|dummy_{k}|>")))
        .collect();
    let wide = |token| AddedToken { lstrip: true, rstrip: true, ..token };
    let tokens = named.into_iter().chain(dummies).map(wide).collect();
    Tokenizer::new(parts(splintr_vocab_cl100k::CL100K_BASE_VOCAB_PACKED, patterns::LLAMA3, tokens, 100_257)?)
}

/// AI2's OLMo 2. What stands for personal data that was taken out is ordinary text.
fn olmo2() -> Result<Tokenizer> {
    let ordinary = ["|||PHONE_NUMBER|||", "|||EMAIL_ADDRESS|||", "|||IP_ADDRESS|||"];
    let ordinary = ordinary.iter().zip(100_261..).map(|(name, id)| AddedToken::ordinary(id, *name));
    let extra = |(k, id): (u32, u32)| AddedToken::ordinary(id, format!("<|extra_id_{k}|>"));
    let tokens = special(100_257, &["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"])
        .chain(ordinary)
        .chain(special(100_264, &["<|im_start|>", "<|im_end|>"]))
        .chain(std::iter::once((0, 100_256)).chain((1..).zip(100_266..=100_275)).map(extra))
        .chain(special(100_276, &["<|endofprompt|>", "<|pad|>"]))
        .collect();
    Tokenizer::new(parts(splintr_vocab_cl100k::CL100K_BASE_VOCAB_PACKED, patterns::LLAMA3, tokens, 100_257)?)
}

/// Qwen 3 (and 2.5, which lacks the last four). Marks of tools, thoughts and files are ordinary text, as its templates use them.
fn qwen3() -> Result<Tokenizer> {
    const SPECIAL: [&str; 14] = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "<|quad_start|>",
        "<|quad_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ];
    const ORDINARY: [&str; 12] = [
        "<tool_call>",
        "</tool_call>",
        "<|fim_prefix|>",
        "<|fim_middle|>",
        "<|fim_suffix|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
    ];
    let ordinary = ORDINARY.iter().zip(151_657..).map(|(name, id)| AddedToken::ordinary(id, *name));
    let tokens = special(151_643, &SPECIAL).chain(ordinary).collect();
    let parts = parts(splintr_vocab_qwen::QWEN3_VOCAB_PACKED, patterns::QWEN2, tokens, 151_645)?;
    Tokenizer::new(TokenizerParts { normalizers: vec![Normalizer::Unicode(Form::Nfc)], ..parts })
}
