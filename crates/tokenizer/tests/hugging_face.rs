//! Against Hugging Face's `tokenizers`: ids, offsets, decoding, pairs with truncation and padding, training.

mod common;

use common::{ids, json, path, texts};
use cupola_tokenizer::model::Model;
use cupola_tokenizer::train::BpeTrainer;
use cupola_tokenizer::{EncodeOptions, Input, PreTokenizer, Tokenizer, split::patterns};
use serde_json::{Value, json};

/// The golden tokenizer with parts of its file replaced, without special tokens.
fn variant(base: &str, patch: &Value) -> Value {
    let mut file = json(&format!("{base}.json"));
    for (key, part) in patch.as_object().unwrap() {
        if key == "model" {
            for (key, value) in part.as_object().unwrap() {
                file["model"][key] = value.clone();
            }
        } else {
            file[key] = part.clone();
        }
    }
    file["added_tokens"] = json!([]);
    file["post_processor"] = Value::Null;
    file
}

fn load(file: &Value) -> Tokenizer {
    Tokenizer::from_json(file.to_string()).unwrap()
}

#[test]
fn ids_equal_for_every_normaliser_pre_tokeniser_and_model() {
    let all = texts(&json("texts.json"));
    let short: Vec<String> = all.iter().filter(|t| t.chars().count() <= 120).cloned().collect();
    let mut variants = 0;
    for part in 0..7 {
        for row in json(&format!("hf_ids_{part}.json")).as_array().unwrap() {
            let file = variant(row["base"].as_str().unwrap(), &row["patch"]);
            let tokenizer = load(&file);
            // What is written and read again behaves in the same way.
            let again = Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap();
            let expected = row["ids"].as_array().unwrap();
            let texts = if expected.len() == all.len() { &all } else { &short };
            assert_eq!(expected.len(), texts.len());
            for (text, want) in texts.iter().zip(expected) {
                let context = || format!("{} with {}: {text:?}", row["base"], row["patch"]);
                assert_eq!(tokenizer.encode(text).unwrap(), ids(want), "{}", context());
                assert_eq!(again.encode(text).unwrap(), ids(want), "saved and loaded: {}", context());
                assert_eq!(tokenizer.count(text).unwrap(), ids(want).len(), "{}", context());
            }
            variants += 1;
        }
    }
    assert_eq!(variants, 33);
}

#[test]
fn decoding_and_offsets_equal() {
    let all = texts(&json("texts.json"));
    for row in json("hf_decoded.json").as_array().unwrap() {
        let base = row["base"].as_str().unwrap();
        let tokenizer = load(&variant(base, &json!({})));
        for (i, text) in all.iter().enumerate() {
            let encoding = tokenizer.encoding(text, &EncodeOptions::default()).unwrap();
            let decoded = tokenizer.decode_lossy(&encoding.ids).unwrap();
            assert_eq!(decoded, row["decoded"][i].as_str().unwrap(), "{base}: {text:?}");
            let Some(expected) = row["offsets"].as_array() else {
                continue;
            };
            let expected = expected[i].as_array().unwrap();
            assert_eq!(expected.len(), encoding.len());
            // The reference counts characters.
            let chars: Vec<(usize, char)> = text.char_indices().chain([(text.len(), ' ')]).collect();
            let number = |byte: usize| chars.iter().position(|c| c.0 == byte).unwrap();
            for (&(start, end), want) in encoding.offsets.iter().zip(expected) {
                let want = ids(want);
                assert_eq!(number(start), want[0] as usize, "{base}: {text:?}");
                // Its ranges leave out the marks that a normal form has taken into a letter; ours hold them.
                let more = &chars[want[1] as usize..number(end).max(want[1] as usize)];
                let marks = |c: char| ('\u{300}'..='\u{36f}').contains(&c) || ('\u{1161}'..='\u{11ff}').contains(&c);
                assert!(number(end) >= want[1] as usize && more.iter().all(|c| marks(c.1)), "{base}: {text:?}");
            }
        }
    }
}

#[test]
fn byte_level_offsets_cover_the_text() {
    let tokenizer = load(&variant("hf_bpe", &json!({})));
    for text in texts(&json("texts.json")) {
        let encoding = tokenizer.encoding(&text, &EncodeOptions::default()).unwrap();
        let mut at = 0;
        for (id, &(start, end)) in encoding.ids.iter().zip(&encoding.offsets) {
            assert_eq!(start, at);
            assert_eq!(&text.as_bytes()[start..end], tokenizer.token_bytes(*id).unwrap());
            at = end;
        }
        assert_eq!(at, text.len());
    }
}

#[test]
fn pairs_truncation_and_padding_equal() {
    let tokenizer = Tokenizer::from_path(path("hf_wordpiece.json")).unwrap();
    let file = json("hf_wordpiece.json");
    assert_eq!(file["truncation"], Value::Null);
    let mut with = file.clone();
    with["truncation"] = json!({"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 2});
    with["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]"});
    let options = load(&with).options();
    for row in json("hf_pairs.json").as_array().unwrap() {
        let first = row["first"].as_str().unwrap();
        let input = row["second"].as_str().map_or(Input::Single(first), |second| Input::Pair(first, second));
        let encoding = tokenizer.encoding_batch(&[input], &options).unwrap().remove(0);
        assert_eq!(encoding.ids, ids(&row["ids"]), "{input:?}");
        assert_eq!(encoding.type_ids, ids(&row["type_ids"]), "{input:?}");
        let wide = |mask: &[u8]| mask.iter().map(|&m| u32::from(m)).collect::<Vec<_>>();
        assert_eq!(wide(&encoding.attention_mask), ids(&row["attention"]), "{input:?}");
        assert_eq!(wide(&encoding.special_tokens_mask), ids(&row["special"]), "{input:?}");
        let overflow: Vec<Vec<u32>> = encoding.overflow.iter().map(|o| o.ids.clone()).collect();
        let expected: Vec<Vec<u32>> = row["overflow"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(overflow, expected, "{input:?}");
    }
}

#[test]
fn every_strategy_and_side_of_truncation_and_padding_equals() {
    let file = json("hf_wordpiece.json");
    let golden = json("hf_padding.json");
    for row in golden.as_array().unwrap() {
        let mut with = file.clone();
        for key in ["truncation", "padding"] {
            with[key] = row[key].clone();
        }
        let tokenizer = load(&with);
        for batch in row["batches"].as_array().unwrap() {
            let pairs: Vec<(&str, Option<&str>)> =
                batch["pairs"].as_array().unwrap().iter().map(|p| (p[0].as_str().unwrap(), p[1].as_str())).collect();
            let inputs: Vec<Input<'_>> =
                pairs.iter().map(|&(a, b)| b.map_or(Input::Single(a), |b| Input::Pair(a, b))).collect();
            let what = || format!("{} and {}: {pairs:?}", row["truncation"], row["padding"]);
            let found = tokenizer.encoding_batch(&inputs, &tokenizer.options());
            let Some(expected) = batch["encodings"].as_array() else {
                assert!(found.is_err(), "{}", what());
                continue;
            };
            for (found, want) in found.unwrap().iter().zip(expected) {
                let wide = |mask: &[u8]| mask.iter().map(|&m| u32::from(m)).collect::<Vec<_>>();
                assert_eq!(found.ids, ids(&want["ids"]), "{}", what());
                assert_eq!(found.type_ids, ids(&want["type_ids"]), "{}", what());
                assert_eq!(wide(&found.attention_mask), ids(&want["attention"]), "{}", what());
                assert_eq!(wide(&found.special_tokens_mask), ids(&want["special"]), "{}", what());
                let overflow: Vec<Vec<u32>> = found.overflow.iter().map(|o| o.ids.clone()).collect();
                let want: Vec<Vec<u32>> = want["overflow"].as_array().unwrap().iter().map(ids).collect();
                assert_eq!(overflow, want, "{}", what());
            }
        }
    }
    assert_eq!(golden.as_array().unwrap().len(), 13);
}

#[test]
fn special_tokens_need_permission() {
    let tokenizer = Tokenizer::from_path(path("hf_bpe.json")).unwrap();
    let end = tokenizer.token_to_id("<|endoftext|>").unwrap();
    let text = "a<|endoftext|>b";
    assert!(!tokenizer.encode(text).unwrap().contains(&end));
    let allowed = EncodeOptions::default().allow(cupola_tokenizer::AllowedSpecial::All);
    assert!(tokenizer.encode_with(text, &allowed).unwrap().contains(&end));
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    assert_eq!(tokenizer.decode(&tokenizer.encode_with(text, &allowed).unwrap()).unwrap(), text);
}

#[test]
fn trained_merges_equal() {
    let corpus = std::fs::read_to_string(path("corpus.txt")).unwrap();
    let mut trainer = BpeTrainer::byte_level(900).unwrap();
    trainer.pre_tokenizer = PreTokenizer::pattern(patterns::GPT2).unwrap();
    trainer.special_tokens = vec!["<|endoftext|>".into()];
    let tokenizer = trainer.train(corpus.split_inclusive('\n')).unwrap();
    let reference = Tokenizer::from_path(path("hf_bpe.json")).unwrap();
    let merges = |t: &Tokenizer| {
        let Model::Bpe(bpe) = t.model() else { panic!("not BPE") };
        let text = |id| String::from_utf8_lossy(bpe.vocab().bytes(id).unwrap()).into_owned();
        bpe.merges().iter().map(|m| (text(m.left), text(m.right))).collect::<Vec<_>>()
    };
    assert!(merges(&reference).len() > 500);
    assert_eq!(merges(&tokenizer), merges(&reference));
    assert_eq!(tokenizer.vocab_size(), 900);
    assert_eq!(tokenizer.token_to_id("<|endoftext|>"), Some(899));
    assert_eq!(tokenizer.token_bytes(65), Some(&b"A"[..]));
    // Training again gives the same file, byte for byte.
    let again = trainer.train(corpus.split_inclusive('\n')).unwrap();
    assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
}
