//! Fuzz targets as ordinary functions: whatever the bytes are, they return. A test on stable Rust drives them over
//! mutated files; cargo-fuzz can wrap them as they are.

use crate::chat::{ChatOptions, ChatTemplate, Message};
use crate::split::patterns;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Texts that meet most branches of normalisers, pre-tokenisers and models.
const TEXTS: [&str; 6] =
    ["", " Hello,  wörld!\r\n", "a\u{301}\u{200d}\u{1f525}中文 123", "<s></s>[CLS]", "▁▁x\0", "aaaaaaaaaaaaaaaa"];

/// A loaded tokenizer must not panic on any text or id; errors are fine.
fn exercise(tokenizer: &Tokenizer) {
    for text in TEXTS {
        if let Ok(ids) = tokenizer.encode(text) {
            let whole = tokenizer.decode_lossy(&ids);
            let mut stream = tokenizer.stream_decoder();
            let pieces: Result<String, _> = ids.iter().map(|&id| stream.push(id)).collect();
            let pieces = pieces.map(|p| p + &stream.finish());
            assert_eq!(whole.ok(), pieces.ok(), "a stream gives what the whole gives");
            assert_eq!(tokenizer.count(text).ok(), Some(ids.len()));
        }
        let options = EncodeOptions::default().with_template().allow(crate::AllowedSpecial::All);
        let _ = tokenizer.encoding((text, TEXTS[1]), &options);
        let _ = tokenizer.encoding(text, &tokenizer.options());
    }
    let bound = tokenizer.vocab_size() as u32;
    for id in [0, 1, bound / 2, bound.wrapping_sub(1), bound, u32::MAX] {
        let _ = tokenizer.decode(&[id, id]);
    }
}

/// Any file that [`Tokenizer::from_bytes`] tells by its content.
pub fn from_bytes(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_bytes(data) {
        exercise(&tokenizer);
        if let Ok(json) = tokenizer.to_json() {
            let _ = Tokenizer::from_json(json).map(|t| exercise(&t));
        }
    }
}

/// A `.tiktoken` file.
pub fn tiktoken(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_tiktoken(data, patterns::GPT2, [("<s>", 1 << 20)]) {
        exercise(&tokenizer);
    }
}

/// A SentencePiece model.
pub fn sentencepiece(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_sentencepiece(data) {
        exercise(&tokenizer);
    }
}

/// A `.spm` file.
pub fn spm(data: &[u8]) {
    for add_dummy_prefix in [false, true] {
        if let Ok(tokenizer) = Tokenizer::from_spm(data, add_dummy_prefix) {
            exercise(&tokenizer);
        }
    }
}

/// A GGUF file.
pub fn gguf(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_gguf(data) {
        exercise(&tokenizer);
    }
}

/// A chat template.
pub fn chat_template(data: &[u8]) {
    if let Ok(source) = std::str::from_utf8(data)
        && let Ok(template) = ChatTemplate::new(source, "<s>", "</s>")
    {
        let _ = template.render(&[Message::new("user", "Hello")], &ChatOptions::default());
    }
}
