//! The vocabularies whose data is under MIT or Apache-2.0.

use super::packed::{Ranks, damaged, packed};
use crate::error::Result;
use crate::format::{byte_chars, tekken};
use crate::normalize::{Form, Normalizer};
use crate::split::{PreTokenizer, patterns};
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::TokenizerParts;

const R50K: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/r50k_base.ranks"));
const P50K: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/p50k_base.ranks"));

pub(super) fn load(name: &str) -> Result<Tokenizer> {
    let open_ai = |ranks: Ranks<'_>, pattern: &str| {
        Tokenizer::from_ranks(ranks, PreTokenizer::pattern(pattern)?, super::special_tokens(name).iter().copied())
    };
    match name {
        "cl100k_base" => open_ai(packed(splintr_vocab_cl100k::CL100K_BASE_VOCAB_PACKED)?, patterns::CL100K),
        "o200k_base" => open_ai(packed(splintr_vocab_o200k::O200K_BASE_VOCAB_PACKED)?, patterns::O200K),
        "r50k_base" => open_ai(recovered(R50K)?, patterns::R50K),
        "p50k_base" => open_ai(recovered(P50K)?, patterns::R50K),
        "qwen2" => qwen2(),
        "deepseek_v3" => deepseek_v3(),
        "mistral_tekken" => mistral_tekken(),
        _ => super::models::load(name),
    }
}

/// What the build script writes.
fn recovered(mut data: &[u8]) -> Result<Ranks<'_>> {
    let mut ranks = Vec::with_capacity(1 << 16);
    while !data.is_empty() {
        let (rank, rest) = data.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (token, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        ranks.push((token, u32::from_le_bytes(*rank)));
        data = rest;
    }
    Ok(ranks)
}

/// Some data crates hold the byte-character form of the tokens; a token that is not in that form is kept as it is.
fn raw(token: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(token).ok();
    text.and_then(byte_chars::decode).unwrap_or_else(|| token.to_vec())
}

fn qwen2() -> Result<Tokenizer> {
    let ranks = packed(splintr_vocab_qwen::QWEN3_VOCAB_PACKED)?;
    let special = [("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)];
    let tokenizer = Tokenizer::from_ranks(ranks, PreTokenizer::pattern(patterns::QWEN2)?, special)?;
    Tokenizer::new(TokenizerParts {
        normalizers: vec![Normalizer::Unicode(Form::Nfc)],
        eos: Some(151_645),
        ..tokenizer.parts().clone()
    })
}

/// Special tokens of DeepSeek V3 and R1 from 128798 on.
const DEEPSEEK: [&str; 17] = [
    "<think>",
    "</think>",
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<|EOT|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
];

fn deepseek_v3() -> Result<Tokenizer> {
    let ranks = packed(splintr_vocab_deepseek::DEEPSEEK_V3_VOCAB_PACKED)?;
    let ordinary = ranks.iter().filter(|(_, rank)| *rank > 2).map(|(token, rank)| (raw(token), *rank));
    let special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"];
    let special = special.iter().zip(0..).chain(DEEPSEEK.iter().zip(128_798..)).map(|(s, id)| (*s, id));
    let pre_tokenizer = PreTokenizer::chain(&patterns::DEEPSEEK_V3)?;
    let tokenizer = Tokenizer::from_ranks(ordinary, pre_tokenizer, special)?;
    Tokenizer::new(TokenizerParts {
        template: Template::around(&[0], &[]),
        bos: Some(0),
        eos: Some(1),
        ..tokenizer.parts().clone()
    })
}

fn mistral_tekken() -> Result<Tokenizer> {
    const SPECIAL: u32 = 1000;
    let ranks = packed(splintr_vocab_mistral::MISTRAL_V3_VOCAB_PACKED)?;
    let mut names: Vec<String> = tekken::default_special(SPECIAL as usize).collect();
    for (token, rank) in ranks.iter().filter(|(_, rank)| *rank < SPECIAL) {
        names[*rank as usize] = String::from_utf8_lossy(token).into_owned();
    }
    let ordinary = ranks.iter().filter(|(_, rank)| *rank >= SPECIAL);
    tekken::build(ordinary.map(|(token, rank)| (raw(token), rank - SPECIAL)), patterns::TEKKEN, names)
}
