//! llama.cpp's test files: five vocabularies, their texts and the ids that llama.cpp gives.
//!
//! These run when `CUPOLA_TEST_DATA` names a folder with `vocab/*.gguf`, `.gguf.inp` and `.gguf.out`; the others make their files.

mod common;

use common::Gguf;
use cupola_tokenizer::{AllowedSpecial, EncodeOptions, Tokenizer};
use std::path::PathBuf;

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CUPOLA_TEST_DATA").map(|d| PathBuf::from(d).join("vocab"));
    if folder.is_none() {
        eprintln!("skipped: CUPOLA_TEST_DATA is not set");
    }
    folder
}

fn check(name: &str) {
    let Some(folder) = folder() else { return };
    let tokenizer = Tokenizer::from_path(folder.join(format!("{name}.gguf"))).unwrap();
    let read = |end: &str| std::fs::read_to_string(folder.join(format!("{name}.gguf.{end}"))).unwrap();
    let (texts, expected) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let expected: Vec<&str> = expected.lines().collect();
    assert!(texts.len() >= 40 && texts.len() >= expected.len(), "{} texts, {} lines", texts.len(), expected.len());
    for (text, line) in texts.iter().zip(&expected) {
        let want: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, want, "{name}: {text:?}");
        // Counting, cutting and batches give the same.
        assert_eq!(tokenizer.count(text).unwrap(), want.len());
        let cut = tokenizer.cut(text, want.len() / 2).unwrap();
        assert_eq!(cut.ids[..], want[..cut.ids.len()], "{name}: {text:?}");
    }
}

#[test]
fn bert_bge() {
    check("bert-bge");
}

#[test]
fn deepseek_llm() {
    check("deepseek-llm");
}

#[test]
fn gpt_2() {
    check("gpt-2");
}

#[test]
fn llama_spm() {
    check("llama-spm");
}

#[test]
fn phi_3() {
    check("phi-3");
}

#[test]
fn user_defined_control_tokens_need_permission() {
    let kinds = [1u32, 1, 1, 1, 1, 1, 4, 4, 1].map(u32::to_le_bytes);
    let scores = [0f32; 9].map(f32::to_le_bytes);
    let tokens = ["a", "_", "<", ">", "e", "n", "<a_e>", "<n>", "▁"];
    let spm = Gguf::default().string("model", "llama").strings("tokens", &tokens).numbers("scores", 6, &scores);
    let byte_level = Gguf::default()
        .string("model", "gpt2")
        .string("pre", "gpt-2")
        .strings("tokens", &tokens)
        .strings("merges", &[]);
    for file in [spm, byte_level] {
        let tokenizer = Tokenizer::from_gguf(&file.numbers("token_type", 5, &kinds).build()).unwrap();
        let typed = tokenizer.encode("a<a_e><n>").unwrap();
        assert!(!typed.contains(&6) && typed.ends_with(&[2, 0, 1, 4, 3, 7]), "{typed:?}");
        let allowed = EncodeOptions::default().allow(AllowedSpecial::All);
        assert!(tokenizer.encode_with("a<a_e><n>", &allowed).unwrap().ends_with(&[0, 6, 7]));
    }
}

#[test]
fn a_file_that_names_no_pre_tokeniser_is_cut_as_llama_cpp_cuts_it() {
    let file = || Gguf::default().string("model", "gpt2").strings("tokens", &["a"]).strings("merges", &[]);
    for file in [file(), file().string("pre", "default"), file().string("pre", "")] {
        let tokenizer = Tokenizer::from_gguf(&file.build()).unwrap();
        let pieces = tokenizer.pieces("It's $5.00, or 12345!! x=y \u{664}\u{665}").unwrap();
        let expected = [
            "It",
            "'",
            "s",
            " ",
            "$",
            "5",
            ".",
            "00",
            ",",
            " or",
            " ",
            "123",
            "45",
            "!!",
            " x",
            "=",
            "y",
            " ",
            "\u{664}\u{665}",
        ];
        assert_eq!(pieces, expected);
    }
    let error = Tokenizer::from_gguf(&file().string("pre", "unheard-of").build()).unwrap_err().to_string();
    assert!(error.contains("unheard-of"), "{error}");
}
