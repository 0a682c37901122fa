//! Against tiktoken: ids of texts and of bytes that are not UTF-8, for the four vocabularies of OpenAI.
#![cfg(feature = "vocabularies")]

mod common;

use common::{ids, json, texts};
use cupola_tokenizer::{AllowedSpecial, EncodeOptions, Tokenizer, vocabularies, vocabularies::NAMES};

fn check(name: &str) {
    let golden = json("tiktoken_ids.json");
    let tokenizer = Tokenizer::named(name).unwrap();
    for (i, text) in texts(&golden["texts"]).iter().enumerate() {
        let found = tokenizer.encode(text).unwrap();
        assert_eq!(found, ids(&golden[name]["ids"][i]), "{name}: {text:?}");
        assert_eq!(tokenizer.decode(&found).unwrap(), *text);
    }
    for (i, hex) in texts(&golden["bytes"]).iter().enumerate() {
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|k| u8::from_str_radix(&hex[2 * k..2 * k + 2], 16).unwrap()).collect();
        let found = tokenizer.encode_bytes(&bytes).unwrap();
        assert_eq!(found, ids(&golden[name]["bytes_ids"][i]), "{name}: {hex}");
        assert_eq!(tokenizer.decode_bytes(&found).unwrap(), bytes);
    }
}

#[test]
fn cl100k_base() {
    check("cl100k_base");
}

#[test]
fn o200k_base() {
    check("o200k_base");
}

#[test]
fn r50k_base() {
    check("r50k_base");
}

#[test]
fn p50k_base() {
    check("p50k_base");
}

#[test]
fn every_named_vocabulary_gives_texts_back() {
    let all = texts(&json("texts.json"));
    for name in NAMES.into_iter().filter(|name| vocabularies::feature(name) == Some(("vocabularies", true))) {
        let tokenizer = Tokenizer::named(name).unwrap();
        for text in &all {
            let decoded = tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap();
            // Qwen's vocabulary composes characters first.
            if name != "qwen2" {
                assert_eq!(decoded, *text, "{name}");
            }
        }
    }
}

#[test]
fn published_ids_of_other_vocabularies() {
    let encode = |name: &str, text: &str| Tokenizer::named(name).unwrap().encode(text).unwrap();
    // "Hello world" in the model cards and test files of the vocabularies.
    assert_eq!(encode("qwen2", "Hello world"), [9707, 1879]);
    assert_eq!(encode("mistral_tekken", "Hello world"), [22177, 4304]);
    assert_eq!(encode("deepseek_v3", "Hello world"), [19923, 2058]);
}

#[test]
fn control_tokens_need_permission() {
    let tokenizer = Tokenizer::named("cl100k_base").unwrap();
    let text = "a<|endoftext|>";
    assert!(!tokenizer.encode(text).unwrap().contains(&100_257));
    let allow = EncodeOptions::default().allow(AllowedSpecial::only(["<|endoftext|>"]));
    assert_eq!(tokenizer.encode_with(text, &allow).unwrap(), [64, 100_257]);
    assert_eq!(tokenizer.vocab_size(), 100_277);
}
