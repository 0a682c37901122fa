//! What becomes of the text before the first step: alphabets, conversations, what bytes and bits are counted of.

mod common;

use std::fs;
use std::path::Path;

use common::{Listener, begin, micro, text, train};
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
