//! What several tests need.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::Path;

use cupola_data::input::{Extent, find};
use cupola_data::{Dataset, TokenizeOptions, tokenize};
use cupola_tokenizer::train::BpeTrainer;
use cupola_tokenizer::{AddedToken, Tokenizer};

/// A small byte-level tokenizer with an end of text and ChatML's tokens.
pub fn bpe() -> Tokenizer {
    let mut trainer = BpeTrainer::byte_level(330).expect("the pattern is known");
    trainer.special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from).to_vec();
    trainer.train([text(40)]).expect("there is room for the alphabet")
}

/// Words in lines and paragraphs, the same each time.
pub fn text(lines: usize) -> String {
    let words = ["furnace", "metal", "slag", "the", "is", "lit;", "(twice)", "über", "1234", "  ", "don't"];
    let word = |line: usize, at: usize| words[(line * 7 + at * at * 3 + line * at) % words.len()];
    (0..lines)
        .map(|line| {
            let words: Vec<&str> = (0..3 + line % 7).map(|at| word(line, at)).collect();
            words.join(" ") + if line % 5 == 4 { "\n\n" } else { "\n" }
        })
        .collect()
}

/// One character each for `a` to `z`, with the end of text last.
pub fn letters() -> Tokenizer {
    use cupola_tokenizer::model::bpe::Unknown;
    use cupola_tokenizer::model::units::Chars;
    let model = Chars::new('a'..='z', Unknown::Refuse).expect("no letter is repeated");
    let parts = cupola_tokenizer::TokenizerParts {
        added_tokens: vec![AddedToken::special(26, "<|endoftext|>")],
        ..cupola_tokenizer::TokenizerParts::new(cupola_tokenizer::Model::Chars(model))
    };
    Tokenizer::new(parts).expect("the ids fit")
}

/// A dataset of these documents, a letter a token, 26 before each.
pub fn documents(dir: &Path, texts: &[String]) -> Dataset {
    let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::Value::from(text.as_str()))).collect();
    fs::write(dir.join("documents.jsonl"), lines).expect("the folder is ours");
    let extents = extents(dir, "documents.jsonl");
    let options = TokenizeOptions { separator: Some(26), ..TokenizeOptions::default() };
    tokenize(&dir.join("tokens"), &extents, &letters(), &options, &mut |_| {}).expect("letters alone").0
}

/// The files behind a name in a folder.
pub fn extents(dir: &Path, name: &str) -> Vec<Extent> {
    find(&[dir.join(name).to_str().expect("the path is UTF-8")], None).expect("the file is there").extents
}
