//! llama.cpp's test files: five vocabularies, their texts and the ids that llama.cpp gives.
//!
//! Runs when `CUPOLA_TEST_DATA` names a folder with `vocab/*.gguf`, `.gguf.inp` and `.gguf.out`.

use cupola_tokenizer::Tokenizer;
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
