//! Against tiktoken: ids of texts and of bytes that are not UTF-8, for the four vocabularies of OpenAI. Against Hugging Face's
//! tokenizers: ids of texts for the other open ones.
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
            if !name.starts_with("qwen") {
                assert_eq!(decoded, *text, "{name}");
            }
        }
    }
}

/// The same data, read and followed by another program: Hugging Face's.
#[test]
fn other_vocabularies_give_the_ids_of_hugging_face() {
    let golden = json("named_ids.json");
    for name in ["deepseek_v3", "qwen2", "mistral_tekken"] {
        let tokenizer = Tokenizer::named(name).unwrap();
        for (i, text) in texts(&golden["texts"]).iter().enumerate() {
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&golden[name][i]), "{name}: {text:?}");
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

/// Ids that splintr 0.22 gives with the same names, which follows the models' `tokenizer.json`.
#[test]
fn models_put_their_own_tokens_on_shared_ranks() {
    let text = "Hello world, it's 12345 \u{dc}berm\u{e4}\u{df}ig don't";
    let phi4 = vec![9906, 1917, 11, 433, 596, 220, 4513, 1774, 50471, 76, 70047, 343, 1541, 956];
    let expected = [
        ("gpt-oss", vec![13225, 2375, 11, 4275, 220, 7633, 2548, 22360, 64618, 4128], vec![87, 220, 199_999, 342]),
        (
            "o200k_harmony",
            vec![13225, 2375, 11, 4275, 220, 7633, 2548, 22360, 64618, 4128],
            vec![87, 220, 199_999, 342],
        ),
        // The marker takes the white space beside it.
        ("phi4", phi4.clone(), vec![87, 100_257, 88]),
        ("olmo2", phi4, vec![87, 220, 100_257, 379]),
        (
            "qwen3",
            vec![9707, 1879, 11, 432, 594, 220, 16, 17, 18, 19, 20, 49371, 140_448, 1513, 944],
            vec![87, 220, 151_643, 379],
        ),
    ];
    let all = EncodeOptions::default().allow(AllowedSpecial::All);
    for (name, ids, marked) in expected {
        let tokenizer = Tokenizer::named(name).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}");
        assert_eq!(tokenizer.encode_with("x <|endoftext|> y", &all).unwrap(), marked, "{name}");
    }
    let id = |name: &str, token: &str| Tokenizer::named(name).unwrap().token_to_id(token);
    assert_eq!(id("gpt-oss", "<|call|>"), Some(200_012));
    assert_eq!(id("gpt-oss", "<|reserved_200019|>"), None);
    assert_eq!(id("o200k_harmony", "<|reserved_201087|>"), Some(201_087));
    assert_eq!(id("phi4", "<|dummy_5|>"), Some(100_268));
    assert_eq!(id("olmo2", "|||IP_ADDRESS|||"), Some(100_263));
    assert_eq!(id("olmo2", "<|extra_id_10|>"), Some(100_275));
    assert_eq!(id("qwen3", "</think>"), Some(151_668));
    // Text never becomes a marker, but for those that are ordinary text.
    assert!(Tokenizer::named("gpt-oss").unwrap().encode("<|start|>").unwrap().len() > 1);
    assert_eq!(Tokenizer::named("qwen3").unwrap().encode("<think>").unwrap(), [151_667]);
}

/// Eight times the letters in one piece take about eight times as long: a quadratic encoder would need sixty-four times.
#[test]
fn the_time_for_one_piece_of_letters_grows_as_the_piece_does() {
    let tokenizer = Tokenizer::named("cl100k_base").unwrap();
    let mut random = 7u64;
    let mut letters = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (random >> 40) as u8 % 26)
    };
    let random: String = (0..1 << 20).map(|_| letters()).collect();
    for text in [random, "a".repeat(1 << 20), "ab".repeat(1 << 19)] {
        // The shortest of three, since others use the machine too.
        let time = |text: &str| {
            let once = || {
                let begun = std::time::Instant::now();
                assert!(tokenizer.count(text).unwrap() > 1000);
                begun.elapsed()
            };
            (0..3).map(|_| once()).min().unwrap_or_default()
        };
        let (small, large) = (time(&text[..1 << 17]), time(&text));
        assert!(large < small * 32, "{small:?} and then {large:?}");
    }
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
