//! Rows and batches: nothing lost, nothing padded, documents apart, and the same from any place on.

mod common;

use std::collections::BTreeMap;

use common::{bpe, documents, extents};
use cupola_data::loader::windows;
use cupola_data::{Batch, Dataset, IGNORE, Loader, LoaderConfig, Packing, Position, Source, TokenizeOptions, tokenize};
use proptest::prelude::*;

fn config(window: usize, rows: usize, packing: Packing) -> LoaderConfig {
    LoaderConfig { window, rows, seed: 5, packing, shuffle: true, workers: 0 }
}

/// Documents whose tokens say where they are: no two neighbours are alike.
fn texts(lengths: &[usize]) -> Vec<String> {
    let letter = |document: usize, at: usize| char::from(b'a' + ((document * 5 + at * 3) % 26) as u8);
    lengths.iter().enumerate().map(|(d, &n)| (0..n).map(|at| letter(d, at)).collect()).collect()
}

fn one(dataset: &Dataset) -> Vec<Source> {
    vec![Source { dataset: dataset.clone(), weight: 1.0 }]
}

/// How often each pair of a token and its target occurs.
fn pairs<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> BTreeMap<(i64, i64), usize> {
    let mut pairs = BTreeMap::new();
    for batch in batches {
        for pair in batch.tokens.iter().copied().zip(batch.targets.iter().copied()) {
            *pairs.entry(pair).or_default() += 1;
        }
    }
    pairs
}

/// The rows of one epoch.
fn epoch(dataset: &Dataset, window: usize, packing: Packing) -> Vec<Batch> {
    let mut loader = Loader::new(one(dataset), config(window, 1, packing), Position::default()).expect("it fits");
    (0..loader.rows_per_epoch()).map(|_| loader.next_batch().expect("the ids are known")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn best_fit_packs_every_token_once_and_never_pads(lengths in prop::collection::vec(0usize..60, 2..40), window in 2usize..20) {
        prop_assume!(lengths.iter().sum::<usize>() > window);
        let dir = tempfile::tempdir().expect("a folder");
        let dataset = documents(dir.path(), &texts(&lengths));
        let rows = epoch(&dataset, window, Packing::BestFit);
        let whole: Vec<Batch> = windows(&dataset, dataset.len(), 1).map(|batch| batch.expect("known ids")).collect();
        prop_assert_eq!(pairs(&rows), pairs(&whole));
        prop_assert_eq!(rows.iter().map(|row| row.tokens.len()).sum::<usize>(), dataset.len());
        let short = rows.iter().filter(|row| row.tokens.len() < window).count();
        prop_assert!(short <= 1 && rows.iter().all(|row| row.tokens.len() <= window));
        for row in &rows {
            // A document begins where a separator stands, and only there does a segment hold one.
            let mut at = 0;
            for &length in &row.lengths {
                prop_assert!(row.tokens[at + 1..at + length].iter().all(|&token| token != 26));
                at += length;
            }
            prop_assert_eq!(at, row.tokens.len());
        }
    }

    #[test]
    fn contiguous_rows_are_full_and_hold_every_token(lengths in prop::collection::vec(0usize..60, 2..40), window in 2usize..20) {
        prop_assume!(lengths.iter().sum::<usize>() > window);
        let dir = tempfile::tempdir().expect("a folder");
        let dataset = documents(dir.path(), &texts(&lengths));
        let rows = epoch(&dataset, window, Packing::Contiguous);
        let whole: Vec<Batch> = windows(&dataset, dataset.len(), 1).map(|batch| batch.expect("known ids")).collect();
        let (found, expected) = (pairs(&rows), pairs(&whole));
        prop_assert!(rows.iter().all(|row| row.tokens.len() == window));
        prop_assert_eq!(rows.len(), dataset.len().div_ceil(window));
        for (pair, count) in expected {
            prop_assert!(found.get(&pair).copied().unwrap_or(0) >= count, "{pair:?} is missing");
        }
    }
}

#[test]
fn behind_a_document_comes_the_separator_and_behind_the_last_nobody_knows() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &["ab".to_string(), "c".to_string()]);
    let batch = windows(&dataset, 10, 1).next().expect("one").expect("known ids");
    assert_eq!(batch.tokens, [26, 0, 1, 26, 2]);
    assert_eq!(batch.targets, [0, 1, 26, 2, IGNORE]);
    assert_eq!((batch.lengths.as_slice(), batch.learnt()), (&[3, 2][..], 4));
}

#[test]
fn windows_cover_the_text_once_and_know_what_comes_behind_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &texts(&[10]));
    let batches: Vec<Batch> = windows(&dataset, 4, 2).map(|batch| batch.expect("known ids")).collect();
    let tokens: Vec<i64> = batches.iter().flat_map(|batch| batch.tokens.clone()).collect();
    let targets: Vec<i64> = batches.iter().flat_map(|batch| batch.targets.clone()).collect();
    assert_eq!(tokens.len(), 11);
    assert_eq!(tokens[1..], targets[..10]);
    assert_eq!(batches[0].lengths, [4, 4]);
    assert_eq!(batches[1].lengths, [3]);
    assert_eq!((batches[0].micro(1..2).tokens, batches[0].micro(0..1).lengths), (&tokens[4..8], &[4usize][..]));
}

#[test]
fn batches_are_the_same_with_any_workers_and_from_any_position_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &texts(&[31, 7, 90, 12, 3, 55, 20]));
    for packing in [Packing::Contiguous, Packing::BestFit] {
        let plain = config(8, 3, packing);
        let mut reference = Loader::new(one(&dataset), plain.clone(), Position::default()).expect("it fits");
        let mut expected = Vec::new();
        // More than two epochs, so that their borders are inside.
        for _ in 0..30 {
            let position = reference.position().clone();
            expected.push((position, reference.next_batch().expect("known ids")));
        }
        assert!(reference.epochs() > 2.0);
        for workers in [1, 3] {
            for start in [0, 7, 13] {
                let config = LoaderConfig { workers, ..plain.clone() };
                let position = serde_json::to_string(&expected[start].0).expect("plain data");
                let position = serde_json::from_str(&position).expect("it was just written");
                let mut loader = Loader::new(one(&dataset), config, position).expect("it fits");
                for (position, batch) in &expected[start..] {
                    assert_eq!(loader.position(), position);
                    assert_eq!(&loader.next_batch().expect("known ids"), batch, "{packing:?}, {workers} workers");
                }
            }
        }
    }
}

#[test]
fn epochs_differ_and_without_shuffling_rows_come_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &texts(&[200]));
    let mut loader =
        Loader::new(one(&dataset), config(8, 26, Packing::Contiguous), Position::default()).expect("it fits");
    assert_eq!(loader.rows_per_epoch(), 26);
    let (first, second) = (loader.next_batch().expect("known ids"), loader.next_batch().expect("known ids"));
    assert_ne!(first, second);
    let in_order = LoaderConfig { shuffle: false, ..config(8, 1, Packing::Contiguous) };
    let mut loader = Loader::new(one(&dataset), in_order, Position::default()).expect("it fits");
    let tokens = |loader: &mut Loader| loader.next_batch().expect("known ids").tokens;
    let whole = windows(&dataset, 8, 1).map(|batch| batch.expect("known ids").tokens);
    for expected in whole.take(25) {
        assert_eq!(tokens(&mut loader), expected);
    }
}

#[test]
fn a_mixture_keeps_its_shares_at_every_moment() {
    let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let source = |dir: &tempfile::TempDir, text: &str, weight| Source {
        dataset: documents(dir.path(), &[text.repeat(100)]),
        weight,
    };
    let sources = vec![source(&a, "a", 3.0), source(&b, "b", 1.0)];
    let mut loader =
        Loader::new(sources.clone(), config(8, 1, Packing::Contiguous), Position::default()).expect("fits");
    let mut drawn = [0.0; 2];
    for row in 1..200 {
        let batch = loader.next_batch().expect("known ids");
        drawn[usize::from(batch.tokens.contains(&1))] += 1.0;
        assert!((drawn[0] - 0.75 * f64::from(row)).abs() <= 1.0, "{drawn:?} of {row}");
    }
    let wrong = vec![Source { weight: 0.0, ..sources[0].clone() }];
    let error = Loader::new(wrong, config(8, 1, Packing::Contiguous), Position::default()).err().expect("no weight");
    assert!(error.to_string().contains("weight of a source is 0"), "{error}");
}

#[test]
fn a_window_longer_than_the_text_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &texts(&[9]));
    let error = Loader::new(one(&dataset), config(10, 1, Packing::Contiguous), Position::default()).err().expect("10");
    assert_eq!(error.to_string(), "a window of 10 tokens does not fit into a text of 10 tokens: it needs at least 11");
}

#[test]
fn a_dataset_can_be_cut_in_two() {
    let dir = tempfile::tempdir().expect("a folder");
    let dataset = documents(dir.path(), &texts(&[50, 49]));
    let (first, second) = dataset.split(0.9).expect("both sides hold something");
    assert_eq!((first.len(), second.len()), (90, 11));
    assert_eq!((first.documents(), second.documents()), (2, 1));
    let last = |set: &Dataset| windows(set, 200, 1).next().expect("one").expect("known ids").targets.pop();
    // The first token that is held out is no target of what is trained on.
    assert_eq!((last(&first), last(&second)), (Some(IGNORE), Some(IGNORE)));
}

/// What is to be learnt of these lines, as text.
fn learnt(dir: &std::path::Path, lines: &str, tokenizer: &cupola_tokenizer::Tokenizer) -> (String, Dataset) {
    std::fs::write(dir.join("x.jsonl"), lines).expect("ours");
    let options = TokenizeOptions { separator: tokenizer.token_to_id("<|endoftext|>"), ..TokenizeOptions::default() };
    let found = extents(dir, "x.jsonl");
    let (set, _) = tokenize(&dir.join("t"), &found, tokenizer, &options, &mut |_| {}).expect("documents");
    let batch = windows(&set, 1000, 1).next().expect("one").expect("known ids");
    let ids: Vec<u32> = batch.targets.iter().filter(|&&t| t != IGNORE).map(|&t| t as u32).collect();
    (tokenizer.decode(&ids).expect("text").replace("<|endoftext|>", "|"), set)
}

#[test]
fn of_prompts_and_completions_the_completions_alone_are_learnt() {
    let dir = tempfile::tempdir().expect("a folder");
    let line = |n: usize| serde_json::json!({ "prompt": "is the metal lit?", "completion": format!(" {n} times") });
    let (learnt, set) = learnt(dir.path(), &format!("{}\n{}\n", line(1), line(2)), &bpe());
    assert_eq!(learnt, " 1 times| 2 times");
    assert_eq!((set.documents(), set.text_bytes()), (2, Some(16)));
}

#[test]
fn plain_lines_and_conversations_in_one_file_are_learnt_whole_and_in_their_answers() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokenizer = bpe().with_chat_template(cupola_tokenizer::chat::CHATML);
    let chat = serde_json::json!({"messages": [
        {"role": "user", "content": "is the metal lit?"}, {"role": "assistant", "content": "twice"},
    ]});
    // The plain line first: nothing says at the beginning that there will be marks.
    let (learnt, _) = learnt(dir.path(), &format!("\"the furnace\"\n{chat}\n\"slag\"\n"), &tokenizer);
    assert_eq!(learnt, "the furnace|twice<|im_end|>|slag");
}

#[test]
fn of_conversations_the_answers_alone_are_learnt() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokenizer = bpe().with_chat_template(cupola_tokenizer::chat::CHATML);
    let line = serde_json::json!({"messages": [
        {"role": "system", "content": "be the furnace"},
        {"role": "user", "content": "is the metal lit?"},
        {"role": "assistant", "content": "the metal is lit"},
        {"role": "user", "content": "twice?"},
        {"role": "assistant", "content": "1234"},
    ]});
    std::fs::write(dir.path().join("x.jsonl"), format!("{line}\n{line}\n")).expect("ours");
    let options = TokenizeOptions { separator: tokenizer.token_to_id("<|endoftext|>"), ..TokenizeOptions::default() };
    let found = extents(dir.path(), "x.jsonl");
    let (set, _) = tokenize(&dir.path().join("t"), &found, &tokenizer, &options, &mut |_| {}).expect("a conversation");
    let batch = windows(&set, 1000, 1).next().expect("one").expect("known ids");
    let spoken: Vec<u32> = batch.targets.iter().filter(|&&t| t != IGNORE).map(|&t| t as u32).collect();
    let spoken = tokenizer.decode(&spoken).expect("text");
    let separator = "<|endoftext|>";
    let once = "the metal is lit<|im_end|>1234<|im_end|>";
    assert_eq!(spoken.replace(separator, ""), once.repeat(2));
    let prompt: Vec<u32> = batch.tokens[1..].iter().map(|&t| t as u32).collect();
    assert!(
        tokenizer
            .decode(&prompt)
            .expect("text")
            .starts_with("<|im_start|>system\nbe the furnace<|im_end|>\n<|im_start|>")
    );
    for (messages, reason) in [
        (serde_json::json!([{"role": "user", "content": "hm"}]), "nothing to learn"),
        (serde_json::json!([{"role": "assistant", "content": "<|im_end|>"}]), "special token"),
    ] {
        std::fs::write(dir.path().join("x.jsonl"), serde_json::json!({ "messages": messages }).to_string())
            .expect("ours");
        let result =
            tokenize(&dir.path().join("t"), &extents(dir.path(), "x.jsonl"), &tokenizer, &options, &mut |_| {});
        let error = result.expect_err("refused").to_string();
        assert!(error.contains(reason), "{error}");
    }
}
