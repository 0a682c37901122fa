//! `cupola tokenizer`, run as a user runs it.

mod common;

use common::{arg, cupola};
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TEXT: &str = "The furnace is lit before dawn.\nIt isn't out before dusk, naïve 🔥!\n\nThe end\n";

/// A folder with a text, and a tokenizer trained on it by the program.
fn folder() -> (TempDir, PathBuf, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let (text, tokenizer) = (folder.path().join("text.txt"), folder.path().join("tokenizer.json"));
    std::fs::write(&text, TEXT).expect("it is writable");
    let arguments = ["tokenizer", "train", arg(&text), "--output", arg(&tokenizer), "--vocab-size", "280"];
    let said = cupola(&arguments, b"").ok();
    assert!(said.text().contains("280 ids"), "{}", said.text());
    (folder, text, tokenizer)
}

fn ids(tokenizer: &Path, text: &str) -> String {
    let run = cupola(&["tokenizer", "encode", "-t", arg(tokenizer), "--ids", "--text", text], b"").ok();
    run.text().trim_end().to_owned()
}

#[test]
fn a_file_encoded_and_decoded_is_the_file() {
    let (_folder, text, tokenizer) = folder();
    let encoded = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--ids", arg(&text)], b"").ok();
    assert_eq!(encoded.text().lines().count(), 1);
    let decoded = cupola(&["tokenizer", "decode", "-t", arg(&tokenizer)], &encoded.out).ok();
    assert_eq!(decoded.text(), TEXT);
    let piped = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--ids"], TEXT.as_bytes()).ok();
    assert_eq!(piped.out, encoded.out, "standard input is read like a file");
    let dash = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--ids", "-"], TEXT.as_bytes()).ok();
    assert_eq!(dash.out, encoded.out);
}

#[test]
fn with_lines_every_line_is_a_text_of_its_own() {
    let (_folder, text, tokenizer) = folder();
    let encoded = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--ids", "--lines", arg(&text)], b"").ok();
    let expected: Vec<String> = TEXT.lines().map(|line| ids(&tokenizer, line)).collect();
    assert_eq!(encoded.text().lines().collect::<Vec<_>>(), expected);
    assert_eq!(expected[2], "", "an empty line has no ids and keeps its line");
    let decoded = cupola(&["tokenizer", "decode", "-t", arg(&tokenizer), "--lines"], &encoded.out).ok();
    assert_eq!(decoded.text(), TEXT);
}

#[test]
fn json_has_ids_tokens_and_byte_ranges() {
    let (_folder, _, tokenizer) = folder();
    let run = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--json", "--lines"], "né\nz\n".as_bytes()).ok();
    let all = run.json();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["source"], "-");
    assert_eq!((&all[0]["line"], &all[1]["line"]), (&json!(1), &json!(2)));
    let offsets = all[0]["offsets"].as_array().expect("a list");
    assert_eq!(offsets.last().expect("tokens")[1], 3);
    assert_eq!(all[0]["ids"].as_array().map(Vec::len), Some(offsets.len()));
    assert_eq!(all[1], json!({"source": "-", "line": 2, "ids": [122], "tokens": ["z"], "offsets": [[0, 1]]}));
}

#[test]
fn without_a_format_each_token_is_a_line_for_people() {
    let (_folder, _, tokenizer) = folder();
    let run = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--text", "z\n"], b"").ok();
    let lines: Vec<&str> = run.text().lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["122", "0..1", "\"z\""]);
    assert!(!run.text().contains('\x1b'), "no colours outside of a terminal");
}

#[test]
fn text_becomes_a_special_token_only_when_it_is_allowed() {
    let (_folder, _, tokenizer) = folder();
    let text = "a<|endoftext|>";
    let plain = ids(&tokenizer, text);
    assert!(!plain.split(' ').any(|id| id == "279"), "{plain}");
    for allowed in ["all", "<|endoftext|>"] {
        let arguments =
            ["tokenizer", "encode", "-t", arg(&tokenizer), "--ids", "--text", text, "--allowed-special", allowed];
        assert_eq!(cupola(&arguments, b"").ok().text(), "97 279\n");
    }
    let arguments = ["tokenizer", "encode", "-t", arg(&tokenizer), "--text", text, "--allowed-special", "<|end|>"];
    cupola(&arguments, b"").fails(2, "\"<|end|>\" is not a special token of this tokenizer");
    let skipped = cupola(&["tokenizer", "decode", "-t", arg(&tokenizer), "--skip-special"], b"97 279 98").ok();
    assert_eq!(skipped.text(), "ab");
}

#[test]
fn count_adds_up_over_files() {
    let (_folder, text, tokenizer) = folder();
    let n = ids(&tokenizer, TEXT).split(' ').count();
    let run = cupola(&["tokenizer", "count", "-t", arg(&tokenizer), arg(&text), arg(&text)], b"").ok();
    let counts: Vec<usize> =
        run.text().lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(counts, [n, n, 2 * n]);
    let run = cupola(&["tokenizer", "count", "-t", arg(&tokenizer), "--json"], TEXT.as_bytes()).ok();
    let expected = json!({"source": "-", "tokens": n, "bytes": TEXT.len(), "characters": TEXT.chars().count()});
    assert_eq!(run.json(), [expected]);
}

#[test]
fn inspect_names_what_a_tokenizer_is_made_of() {
    let (_folder, _, tokenizer) = folder();
    let page = cupola(&["tokenizer", "inspect", arg(&tokenizer)], b"").ok();
    for part in ["byte-level BPE", "280", "279 <|endoftext|>", r"\p{N}{1,3}"] {
        assert!(page.text().contains(part), "{part} is not in\n{}", page.text());
    }
    let all = cupola(&["tokenizer", "inspect", arg(&tokenizer), "--vocabulary", "--json"], b"").ok().json();
    assert_eq!(all.len(), 280);
    assert_eq!(all[255], json!({"id": 255, "text": null, "bytes": [255], "special": false}));
    assert_eq!(all[279]["special"], true);
    let one = cupola(&["tokenizer", "inspect", arg(&tokenizer), "--token", "z", "--id", "279"], b"").ok();
    let words: Vec<&str> = one.text().split_whitespace().collect();
    assert_eq!(words, ["279", "\"<|endoftext|>\"", "special", "122", "\"z\""]);
    cupola(&["tokenizer", "inspect", arg(&tokenizer), "--id", "280"], b"").fails(3, "id 280 is not in the vocabulary");
    let summary = cupola(&["tokenizer", "inspect", arg(&tokenizer), "--json"], b"").ok().json();
    assert_eq!(summary[0]["ids"], 280);
}

#[test]
fn a_converted_tokenizer_gives_the_same_ids() {
    let (folder, _, tokenizer) = folder();
    let model = folder.path().join("model");
    cupola(&["tokenizer", "convert", arg(&tokenizer), arg(&model)], b"").ok();
    assert!(model.join("tokenizer_config.json").is_file());
    assert_eq!(ids(&model, TEXT), ids(&tokenizer, TEXT));
    let again = ["tokenizer", "convert", arg(&model), arg(&tokenizer)];
    cupola(&again, b"").fails(2, "is already there; --force writes over it");
    let said = cupola(&[&again[..], &["--force", "--json"]].concat(), b"").ok();
    assert_eq!(said.json(), [json!({"output": arg(&tokenizer), "ids": 280})]);
    assert_eq!(ids(&tokenizer, TEXT), ids(&model, TEXT));
}

#[test]
fn a_rank_file_needs_its_pattern() {
    let folder = TempDir::new().expect("a folder");
    // All bytes, and one merge: base64 of one byte has two letters and two signs of padding.
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |n: usize| char::from(digits[n]);
    let mut ranks: String = (0..256).map(|b| format!("{}{}== {b}\n", letter(b >> 2), letter(b << 4 & 63))).collect();
    ranks.push_str("YWI= 256\n");
    let path = folder.path().join("own.tiktoken");
    std::fs::write(&path, &ranks).expect("it is writable");
    let encode = ["tokenizer", "encode", "-t", arg(&path), "--ids", "--text", "ab 7"];
    cupola(&encode, b"").fails(2, "give --pattern with one of gpt2");
    let named = cupola(&[&encode[..], &["--pattern", "gpt2"]].concat(), b"").ok();
    assert_eq!(named.text(), "256 32 55\n");
    let own = cupola(&[&encode[..], &["--pattern", "a|."]].concat(), b"").ok();
    assert_eq!(own.text(), "97 98 32 55\n");
    // The name of a published file says its pattern and its special tokens.
    let known = folder.path().join("cl100k_base.tiktoken");
    std::fs::write(&known, &ranks).expect("it is writable");
    let special =
        ["tokenizer", "encode", "-t", arg(&known), "--ids", "--text", "ab<|endoftext|>", "--allowed-special", "all"];
    assert_eq!(cupola(&special, b"").ok().text(), "256 100257\n");
    let agent = ["tokenizer", "inspect", arg(&known), "--agent-tokens=200000", "--token", "<|user|>", "--json"];
    assert_eq!(cupola(&agent, b"").ok().json()[0]["id"], 200_001);
}

#[test]
fn every_model_can_be_trained_and_used() {
    let folder = TempDir::new().expect("a folder");
    let text = TEXT.repeat(30);
    for (model, size) in [("bpe", "300"), ("bpe-chars", "60"), ("unigram", "60"), ("wordpiece", "80")] {
        let path = folder.path().join(format!("{model}.json"));
        let train = ["tokenizer", "train", "-o", arg(&path), "--model", model, "--vocab-size", size, "--json"];
        let made = cupola(&train, text.as_bytes()).ok().json();
        assert!(made[0]["ids"].as_u64().is_some_and(|n| n > 20), "{model}: {}", made[0]);
        let encoded = cupola(&["tokenizer", "encode", "-t", arg(&path), "--ids"], b"The furnace is lit").ok();
        let decoded = cupola(&["tokenizer", "decode", "-t", arg(&path)], &encoded.out).ok();
        let expected = if model == "wordpiece" { "the furnace is lit" } else { "The furnace is lit" };
        assert_eq!(decoded.text(), expected, "{model}");
    }
}

#[test]
fn training_follows_its_options() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("t.json");
    let text = "well-being well-being ab ab ab 1a2 ".repeat(9);
    let train = |options: &[&str]| {
        let base = ["tokenizer", "train", "-o", arg(&path)];
        cupola(&[&base[..], options].concat(), text.as_bytes()).ok();
        let run = cupola(&["tokenizer", "inspect", arg(&path), "--vocabulary", "--json"], b"").ok();
        run.json().into_iter().filter_map(|token| token["text"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let has = |tokens: &[String], token: &str| tokens.iter().any(|t| t == token);
    let plain = train(&["--vocab-size", "290"]);
    assert!(has(&plain, " ab") && has(&plain, " well") && has(&plain, "<|endoftext|>"), "{plain:?}");
    let rare = train(&["--vocab-size", "290", "--min-frequency", "20"]);
    assert!(has(&rare, " ab") && !has(&rare, "being"), "{rare:?}");
    let special = train(&["--vocab-size", "290", "--special", "<a>", "--special", "<b>"]);
    assert!(has(&special, "<a>") && has(&special, "<b>") && !has(&special, "<|endoftext|>"), "{special:?}");
    let letters = train(&["--vocab-size", "270", "--pattern", "."]);
    assert!(!has(&letters, "ab"), "{letters:?}");
    let whole = train(&["--vocab-size", "300", "--pattern", r" ?\S+"]);
    let cut = train(&["--vocab-size", "300", "--pattern", r" ?\S+", "--syllables"]);
    assert!(has(&whole, " well-being") && !has(&cut, " well-being"), "{cut:?}");
    let chars = ["--model", "bpe-chars", "--vocab-size", "40"];
    assert!(has(&train(&[&chars[..], &["--initial-alphabet", "ж"]].concat()), "ж"));
    let few = train(&[&chars[..], &["--limit-alphabet", "5"]].concat());
    assert!(!has(&few, "2") && has(&few, "e"), "{few:?}");
    let refused = ["tokenizer", "train", "-o", arg(&path), "--model", "unigram", "--tie-break", "byte-value"];
    cupola(&refused, b"x").fails(2, "--tie-break means nothing for --model unigram");
    cupola(&["tokenizer", "train", "-o", arg(&path), "--vocab-size", "9"], b"x").fails(2, "vocab_size = 9");
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let (folder, _, tokenizer) = folder();
    let encode = |input: &[u8]| cupola(&["tokenizer", "encode", "-t", arg(&tokenizer)], input);
    encode(b"ab\xff").fails(3, "standard input: not UTF-8 at byte 2");
    let decode = |input: &[u8]| cupola(&["tokenizer", "decode", "-t", arg(&tokenizer)], input);
    decode(b"97 x").fails(3, "\"x\" is not an id");
    decode(b"97 280").fails(3, "id 280 at position 1 is not in the vocabulary (280 ids)");
    let missing = folder.path().join("missing.txt");
    cupola(&["tokenizer", "count", "-t", arg(&tokenizer), arg(&missing)], b"").fails(1, "missing.txt");
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{\"model\": 1}").expect("it is writable");
    cupola(&["tokenizer", "inspect", arg(&broken)], b"").fails(3, "broken.json");
    cupola(&["tokenizer", "count", "-t", "gpt9"], b"").fails(2, "no vocabulary is named \"gpt9\"");
    cupola(&["tokenizer", "encode", "--ids", "--json", "-t", "x"], b"").fails(2, "cannot be used with");
}

#[test]
fn bytes_of_half_a_character_come_out_as_they_are() {
    let (_folder, _, tokenizer) = folder();
    let decode = |options: &[&str]| {
        cupola(&[&["tokenizer", "decode", "-t", arg(&tokenizer)], options].concat(), b"97 240").ok().out
    };
    assert_eq!(decode(&[]), b"a\xf0");
    assert_eq!(decode(&["--lossy"]), "a\u{fffd}".as_bytes());
    assert_eq!(decode(&["--json"]), "{\"text\":\"a\u{fffd}\",\"bytes_hex\":\"61f0\"}\n".as_bytes());
}

#[test]
fn each_line_of_json_is_answered_on_its_own() {
    let (_folder, _, tokenizer) = folder();
    let input = concat!(
        "{\"text\": \"z<|endoftext|>\"}\n",
        "{\"text\": \"z<|endoftext|>\", \"allowed_special\": \"all\", \"name\": \"other keys are left alone\"}\n",
        "{\"text\": \"z<|endoftext|>\", \"allowed_special\": [\"<|endoftext|>\"]}\n",
        "{\"text\": \"z\", \"allowed_special\": [\"<|no|>\"]}\n",
        "not json\n",
        "[1]\n",
        "\n",
        "{\"bytes_hex\": \"7aff7A\"}\n",
        "{\"bytes_hex\": \"7\"}\n",
        "{\"text\": \"z\", \"bytes_hex\": \"7a\"}\n",
        "{}\n",
        "{\"text\": 7}\n",
        "{\"text\": \"\\ud800\"}\n",
        "{\"text\": \"\"}",
    );
    let answers = cupola(&["tokenizer", "encode", "-t", arg(&tokenizer), "--jsonl"], input.as_bytes()).ok().json();
    assert_eq!(answers.len(), input.lines().count());
    let failed: Vec<usize> = (0..answers.len()).filter(|&i| answers[i]["error"].is_string()).collect();
    assert_eq!(failed, [3, 4, 5, 6, 8, 9, 10, 11, 12]);
    assert!(answers[0]["ids"].as_array().is_some_and(|ids| ids.len() > 2 && !ids.contains(&json!(279))));
    assert_eq!(answers[1], json!({"ids": [122, 279]}));
    assert_eq!(answers[2], answers[1]);
    assert_eq!(answers[7], json!({"ids": [122, 255, 122]}));
    assert_eq!(answers[13], json!({"ids": []}));

    let input = "{\"ids\": [122, 240]}\n{\"ids\": [280]}\n{\"ids\": [-1]}\n{\"ids\": 1}\n{}\n{\"ids\": []}\n";
    let answers = cupola(&["tokenizer", "decode", "-t", arg(&tokenizer), "--jsonl"], input.as_bytes()).ok().json();
    assert_eq!(answers[0], json!({"text": "z\u{fffd}", "bytes_hex": "7af0"}));
    assert!(answers[1..5].iter().all(|answer| answer["error"].is_string()), "{answers:?}");
    assert_eq!(answers[5], json!({"text": "", "bytes_hex": ""}));
}

#[cfg(feature = "vocabularies")]
#[test]
fn named_vocabularies_are_in_the_program() {
    let run = cupola(&["tokenizer", "encode", "-t", "cl100k_base", "--ids", "--text", "hello world"], b"").ok();
    assert_eq!(run.text(), "15339 1917\n");
    let user = ["tokenizer", "inspect", "cl100k_base", "--agent-tokens", "--token", "<|user|>"];
    assert!(cupola(&user, b"").ok().text().contains("100278"));
}

#[test]
fn a_new_user_s_commands_work_on_a_real_text() {
    let Some(data) = std::env::var_os("CUPOLA_TEST_DATA") else {
        eprintln!("skipped: CUPOLA_TEST_DATA does not name a folder with tinyshakespeare.txt");
        return;
    };
    let text = PathBuf::from(data).join("tinyshakespeare.txt");
    let folder = TempDir::new().expect("a folder");
    let model = folder.path().join("model");
    cupola(&["tokenizer", "train", arg(&text), "-o", arg(&model), "--vocab-size", "1000"], b"").ok();
    let encoded = cupola(&["tokenizer", "encode", "-t", arg(&model), "--ids", arg(&text)], b"").ok();
    let decoded = cupola(&["tokenizer", "decode", "-t", arg(&model)], &encoded.out).ok();
    assert_eq!(decoded.out, std::fs::read(&text).expect("it was read before"));
}
