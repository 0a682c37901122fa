//! What becomes of the text before the first step: alphabets, conversations, what bytes and bits are counted of.

mod common;

use std::fs;
use std::path::Path;

use common::{Listener, begin, byte_tokenizer, micro, shard, text, train};
use cupola_io::run::{Record, RunDir};
use cupola_train::setup::load_tokenizer;
use cupola_train::{Config, Setup};

/// A configuration for another file.
fn of(folder: &Path, name: &str, contents: &str, sets: &[&str]) -> Config {
    let mut config = micro(folder, sets);
    let file = folder.join(name);
    fs::write(&file, contents).expect("the folder is ours");
    config.data.paths = vec![file.to_str().expect("UTF-8").to_string()];
    config
}

#[test]
fn the_alphabet_is_that_of_the_training_text_and_one_token_stands_for_what_only_the_rest_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let usual = text();
    let whole = of(folder.path(), "usual.txt", &usual, &[]);
    let out = folder.path().join("usual");
    let setup = Setup::prepare(whole, &out, &mut |_| {}).expect("text");
    let characters: std::collections::BTreeSet<char> = usual.chars().collect();
    assert_eq!((setup.unknown, setup.tokenizer.vocab_size()), (0, characters.len() + 1));

    // At the end, where it is held out.
    let strange = format!("{usual}ÆØÅ the Æther");
    let config = of(folder.path(), "strange.txt", &strange, &["steps=3"]);
    let out = folder.path().join("strange");
    let setup = Setup::prepare(config.clone(), &out, &mut |_| {}).expect("text");
    assert_eq!((setup.unknown, setup.tokenizer.vocab_size()), (4, characters.len() + 2));
    let ids = setup.tokenizer.encode("aÆØ").expect("all is read");
    assert!(ids[0] != ids[1] && ids[1] == ids[2]);
    assert_eq!(setup.tokenizer.decode(&ids).expect("it has a text"), "a\u{fffd}\u{fffd}");
    let again = load_tokenizer(&out.join("data/tokenizer")).expect("it was saved");
    assert_eq!(again.encode("aÆØ").expect("as before"), ids);
    let outcome = train(begin(&folder.path().join("run"), config, &mut ()), &mut Listener::default());
    assert!(outcome.expect("it trains").val_loss.is_some_and(f64::is_finite));
}

#[test]
fn a_tokenizer_of_this_text_has_the_bytes_first_and_the_special_tokens_last_and_never_saw_what_is_held_out() {
    let folder = tempfile::tempdir().expect("a folder");
    // The held-out tenth has words of its own, often.
    let whole = format!("{}{}", text().repeat(9), "zyzzyva ".repeat(text().len() / 8));
    let sets = ["tokenizer.kind=bpe", "tokenizer.vocab_size=280"];
    let config = of(folder.path(), "whole.txt", &whole, &sets);
    let setup = Setup::prepare(config, &folder.path().join("run"), &mut |_| {}).expect("text");
    let tokenizer = &setup.tokenizer;
    assert_eq!(tokenizer.vocab_size(), 280);
    let first: Vec<&[u8]> = (0..256).filter_map(|id| tokenizer.token_bytes(id)).collect();
    let bytes: std::collections::BTreeSet<&[u8]> = first.iter().copied().collect();
    assert!(first.len() == 256 && bytes.len() == 256 && first.iter().all(|token| token.len() == 1));
    let last = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|reserved_0|>", "<|reserved_4|>"];
    assert_eq!(last.map(|token| tokenizer.token_to_id(token)), [272, 273, 274, 275, 279].map(Some));
    assert!((272..280).all(|id| tokenizer.is_special(id)) && !tokenizer.is_special(271));
    assert_eq!(tokenizer.eos(), Some(272));
    let learnt: Vec<&[u8]> = (256..272).filter_map(|id| tokenizer.token_bytes(id)).collect();
    assert!(learnt.len() == 16 && learnt.iter().all(|token| token.len() > 1), "{learnt:?}");
    assert!(!learnt.iter().any(|token| token.windows(2).any(|pair| pair == b"zy")));
}

#[test]
fn shards_that_are_ready_choose_the_model_by_the_text_they_stand_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tokenizer");
    let vocabulary = byte_tokenizer(&place);
    let preset = |name: &str, text_bytes: u64| {
        let path = folder.path().join(format!("{name}.shard"));
        shard(&path, &vocabulary, &[7; 4000], text_bytes);
        let mut config = micro(folder.path(), &[&format!("tokenizer.kind={}", place.display())]);
        config.model.spec = None;
        config.data.paths = vec![path.display().to_string()];
        let setup = Setup::prepare(config, &folder.path().join(name), &mut |_| {}).expect("a shard");
        setup.config.model.preset.expect("it was chosen")
    };
    assert_eq!(preset("small", 4_000), "llama-nano");
    assert_eq!(preset("large", 30_000_000), "llama-baby");
    // Nobody knows: four bytes a token.
    assert_eq!(preset("unknown", 0), "llama-nano");
}

#[test]
fn bad_lines_that_are_left_out_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |n: usize| if n % 10 == 3 { "{\"text\": 3}\n".to_string() } else { format!("\"the furnace {n}\"\n") };
    let lines: String = (0..100).map(line).collect();
    let config = of(folder.path(), "lines.jsonl", &lines, &["data.on_bad=skip"]);
    let setup = Setup::prepare(config, &folder.path().join("run"), &mut |_| {}).expect("text");
    assert_eq!(setup.left_out, 10);
}

#[test]
fn bits_a_byte_of_conversations_count_the_answers_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let answer = |n: usize| format!("the furnace is lit {} times", n % 5);
    let line = |n: usize| {
        let question = "what of the furnace, and please answer at length? ".repeat(3);
        serde_json::json!({ "messages": [
            { "role": "user", "content": question }, { "role": "assistant", "content": answer(n) }
        ] })
        .to_string()
            + "\n"
    };
    let lines: String = (0..60).map(line).collect();
    let sets = [
        "tokenizer.kind=bpe",
        "tokenizer.vocab_size=300",
        "batch.window=64",
        "steps=4",
        "eval.every=4",
        "sample.every=0",
    ];
    let config = of(folder.path(), "chats.jsonl", &lines, &sets);
    let out = folder.path().join("run");
    let mut listener = Listener::default();
    let outcome = train(begin(&out, config, &mut ()), &mut listener).expect("it trains");
    let setup = Setup::look(&RunDir::open(&out).expect("a run")).expect("as before");
    let data = &setup.sources[0].dataset;
    let answers: usize = (0..data.documents()).map(|n| answer(n).len()).sum();
    assert_eq!(data.text_bytes(), Some(answers as u64));
    assert!(data.learnt() < data.len() / 2, "{} of {}", data.learnt(), data.len());
    let held = &setup.held_out[0];
    let bytes = held.text_bytes().expect("known") as f64;
    // The tokens that end answers are learnt too, and separators; the very first one is predicted by nobody.
    let nats = outcome.val_loss.expect("a loss") * (held.learnt() - 1) as f64;
    let bits = outcome.val_bits_per_byte.expect("known");
    assert!((bits - nats / std::f64::consts::LN_2 / bytes).abs() < 1e-9, "{bits}");
    for record in &listener.records {
        if let Record::Step(step) = record {
            let each = data.text_bytes().expect("known") as f64 / data.learnt() as f64;
            let expected = step.values["loss"] / std::f64::consts::LN_2 / each;
            assert!((step.values["bits_per_byte"] - expected).abs() < 1e-9);
        }
    }
}
