//! Training, where no reference implementation is at hand: ties, files and reports.

mod common;

use common::path;
use cupola_tokenizer::model::Model;
use cupola_tokenizer::train::{BpeTrainer, Progress, TieBreak, UnigramTrainer, WordPieceTrainer};
use cupola_tokenizer::{PreTokenizer, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};

const PATTERN: &str = r"\s?\S+|\s+";

fn corpus() -> String {
    std::fs::read_to_string(path("corpus.txt")).unwrap()
}

fn trainer(vocab_size: usize, tie_break: TieBreak) -> BpeTrainer {
    let pre_tokenizer = PreTokenizer::pattern(PATTERN).unwrap();
    BpeTrainer { tie_break, pre_tokenizer, ..BpeTrainer::byte_level(vocab_size).unwrap() }
}

fn merges(tokenizer: &Tokenizer) -> Vec<(u32, u32)> {
    let Model::Bpe(bpe) = tokenizer.model() else { panic!("not BPE") };
    bpe.merges().iter().map(|merge| (merge.left, merge.right)).collect()
}

/// As trainers for `.tiktoken` files do it, in the plainest way: the most frequent pair, of equally frequent ones the one
/// with the smaller ids, again and again.
fn plain_merges(text: &str, count: usize) -> Vec<(u32, u32)> {
    let pieces = PreTokenizer::pattern(PATTERN).unwrap().split(text).unwrap();
    let mut words: Vec<Vec<u32>> = pieces.iter().map(|p| p.bytes().map(u32::from).collect()).collect();
    let mut merges = Vec::new();
    for id in 256..256 + count as u32 {
        let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        // The first of the greatest.
        let best = counts.iter().rev().max_by_key(|(_, count)| **count).map(|(pair, _)| *pair).unwrap();
        merges.push(best);
        for word in &mut words {
            let mut i = 0;
            while i + 1 < word.len() {
                if (word[i], word[i + 1]) == best {
                    word.splice(i..i + 2, [id]);
                }
                i += 1;
            }
        }
    }
    merges
}

#[test]
fn ties_by_the_value_of_bytes_give_the_merges_of_a_plain_trainer() {
    // Few texts, so that many pairs are equally frequent.
    let text: String = corpus().split_inclusive('\n').take(40).collect();
    let trained = trainer(256 + 150, TieBreak::ByteValue).train([&text]).unwrap();
    assert_eq!(merges(&trained), plain_merges(&text, 150));
}

#[test]
fn the_two_orders_of_ties_differ_where_a_space_is_one_of_the_bytes() {
    // " a" and "bc" are equally frequent; GPT-2 writes the space as a character behind the letters.
    let first = |tie_break| merges(&trainer(257, tie_break).train(["bc a"]).unwrap())[0];
    assert_eq!(first(TieBreak::ByteValue), (u32::from(b' '), u32::from(b'a')));
    assert_eq!(first(TieBreak::HuggingFace), (u32::from(b'b'), u32::from(b'c')));
}

#[test]
fn files_are_trained_on_line_by_line() {
    let text = corpus();
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.txt"), folder.path().join("two.txt"));
    let half = text[..text.len() / 2].rfind('\n').unwrap() + 1;
    std::fs::write(&one, &text[..half]).unwrap();
    std::fs::write(&two, &text[half..]).unwrap();
    let files = [one, two];
    let lines = || text.split_inclusive('\n');

    let bpe = trainer(400, TieBreak::HuggingFace);
    assert_eq!(bpe.train_files(&files).unwrap().to_json().unwrap(), bpe.train(lines()).unwrap().to_json().unwrap());
    let unigram = UnigramTrainer::new(200);
    let (a, b) = (unigram.train_files(&files).unwrap(), unigram.train(text.lines()).unwrap());
    assert_eq!(a.to_json().unwrap(), b.to_json().unwrap());
    let wordpiece = WordPieceTrainer::bert(300);
    let (a, b) = (wordpiece.train_files(&files).unwrap(), wordpiece.train(lines()).unwrap());
    assert_eq!(a.to_json().unwrap(), b.to_json().unwrap());

    std::fs::write(&files[0], b"\xff").unwrap();
    let error = bpe.train_files(&files).unwrap_err().to_string();
    assert!(error.contains("one.txt"), "{error}");
    assert!(bpe.train_files(&[folder.path().join("missing.txt")]).unwrap_err().to_string().contains("missing.txt"));
}

#[test]
fn reports_go_from_the_first_byte_to_the_last_token() {
    let text = corpus();
    let mut reports = Vec::new();
    let trained = trainer(700, TieBreak::HuggingFace)
        .train_with(text.split_inclusive('\n'), &mut |report| reports.push(report))
        .unwrap();
    let bytes: Vec<u64> =
        reports.iter().filter_map(|r| if let Progress::Reading { bytes } = r { Some(*bytes) } else { None }).collect();
    assert_eq!(bytes.last(), Some(&(text.len() as u64)));
    assert!(bytes.is_sorted());
    let tokens: Vec<(usize, usize)> = reports
        .iter()
        .filter_map(|r| if let Progress::Learning { tokens, of } = r { Some((*tokens, *of)) } else { None })
        .collect();
    assert_eq!(tokens.last(), Some(&(trained.vocab_size(), 700)));
    assert!(tokens.len() > 1 && tokens.is_sorted());
    let learning = reports.iter().position(|r| matches!(r, Progress::Learning { .. })).unwrap();
    assert_eq!(learning, bytes.len(), "reading comes first");
}

#[test]
fn unigram_pieces_are_for_the_most_part_those_of_sentencepiece() {
    // Trained on the same text, with two symbols of its own and rules for some characters.
    let theirs = Tokenizer::from_path(path("spm_unigram.model")).unwrap();
    let pieces = |tokenizer: &Tokenizer| -> BTreeSet<String> {
        let all = (0..tokenizer.vocab_size() as u32).filter(|&id| !tokenizer.is_special(id));
        all.filter_map(|id| tokenizer.id_to_token(id)).map(|piece| piece.into_owned()).collect()
    };
    let theirs = pieces(&theirs);
    let text = corpus();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let ours = pieces(&UnigramTrainer::new(theirs.len() + 3).train(lines).unwrap());
    let common = ours.intersection(&theirs).count();
    assert!(common * 100 >= theirs.len() * 80, "{common} of {}: theirs {theirs:?}, ours {ours:?}", theirs.len());
}
