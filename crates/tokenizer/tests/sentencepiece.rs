//! Against SentencePiece: ids and decoding of its own model files.

mod common;

use common::{ids, json, path, texts};
use cupola_tokenizer::Tokenizer;

fn check(name: &str) {
    let golden = json("spm_ids.json");
    let tokenizer = Tokenizer::from_path(path(&format!("{name}.model"))).unwrap();
    for (i, text) in texts(&golden["texts"]).iter().enumerate() {
        // SentencePiece's own bindings stop at a NUL.
        if text.contains('\0') {
            continue;
        }
        let found = tokenizer.encode(text).unwrap();
        assert_eq!(found, ids(&golden[name]["ids"][i]), "{name}: {text:?}");
    }
}

#[test]
fn unigram_with_its_own_character_map() {
    check("spm_unigram");
}

#[test]
fn bpe_with_byte_fallback() {
    check("spm_bpe");
}

#[test]
fn bpe_with_white_space_as_suffix() {
    check("spm_suffix");
}

#[test]
fn decoding_equals_where_it_is_text() {
    let golden = json("spm_ids.json");
    for name in ["spm_unigram", "spm_bpe"] {
        let tokenizer = Tokenizer::from_path(path(&format!("{name}.model"))).unwrap();
        let unknown = tokenizer.token_to_id("<unk>").unwrap();
        for (i, text) in texts(&golden["texts"]).iter().enumerate() {
            let found = ids(&golden[name]["ids"][i]);
            // SentencePiece writes an unknown token as U+2047 between spaces; here it keeps its text.
            if text.contains('\0') || found.contains(&unknown) {
                continue;
            }
            assert_eq!(
                tokenizer.decode_lossy(&found).unwrap(),
                golden[name]["decoded"][i].as_str().unwrap(),
                "{text:?}"
            );
        }
    }
}
