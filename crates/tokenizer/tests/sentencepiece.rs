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

#[test]
fn a_model_with_a_character_map_is_written_as_hugging_face_reads_it() {
    // Their ids for a file of the same sections.
    let golden = json("spm_as_json.json");
    let tokenizer = Tokenizer::from_path(path("spm_unigram.model")).unwrap();
    let written = tokenizer.to_json().unwrap();
    let file: serde_json::Value = serde_json::from_str(&written).unwrap();
    for section in ["normalizer", "pre_tokenizer", "post_processor"] {
        assert_eq!(file[section], golden["file"][section], "{section}");
    }
    assert_eq!(file["model"], golden["file"]["model"]);
    let again = Tokenizer::from_json(&written).unwrap();
    let mut same = 0;
    for (i, text) in texts(&golden["texts"]).iter().enumerate() {
        let (found, original) = (again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        assert_eq!(found, ids(&golden["ids"][i]), "{text:?}");
        same += usize::from(found == original);
        // Hugging Face looks a letter with its marks up as a whole, SentencePiece takes the longest key.
        assert!(
            found == original || text.contains(['\u{300}', '\u{301}', '\u{302}', '\u{303}', '\u{200d}']),
            "{text:?}"
        );
        if found == original {
            assert_eq!(again.decode_lossy(&found).unwrap(), tokenizer.decode_lossy(&original).unwrap(), "{text:?}");
        }
    }
    assert!(same >= 50, "{same}");
}

#[test]
fn what_a_tokenizer_json_cannot_say_of_a_model_is_refused_by_name() {
    for (name, words) in [("spm_bpe", "user-defined"), ("spm_suffix", "white space as suffix")] {
        let error = Tokenizer::from_path(path(&format!("{name}.model"))).unwrap().to_json().unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}
