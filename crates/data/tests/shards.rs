//! Shards: what is written is read, damage is found, and an interrupted tokenisation goes on.

mod common;

use std::fs;
use std::path::Path;

use common::{bpe, extents, letters, text};
use cupola_core::pool::with_threads;
use cupola_data::loader::windows;
use cupola_data::read::OnBad;
use cupola_data::shard::Vocabulary;
use cupola_data::tokenize::{MANIFEST, separator_of};
use cupola_data::{Dataset, Shard, ShardWriter, TokenizeOptions, tokenize};

fn write(path: &Path, size: u64, marked: bool) -> Shard {
    let vocabulary = Vocabulary { size, separator: Some(9), tokenizer: [7; 32] };
    let mut writer = ShardWriter::create(path, vocabulary).expect("the folder is ours");
    writer.begin(true).expect("writable");
    writer.push(&[1, 2, 3], marked.then_some(&[false, true, false]), 11).expect("writable");
    writer.begin(true).expect("writable");
    writer.push(&[4, 5], None, 5).expect("writable");
    writer.finish().expect("writable")
}

#[test]
fn what_is_written_is_read_in_either_width() {
    let dir = tempfile::tempdir().expect("a folder");
    for (size, marked) in [(10, false), (70_000, true)] {
        let shard = write(&dir.path().join("x.shard"), size, marked);
        shard.verify().expect("it was just written");
        let mut tokens = Vec::new();
        shard.read(0..shard.len(), &mut tokens).expect("all are in the vocabulary");
        assert_eq!(tokens, [9, 1, 2, 3, 9, 4, 5]);
        assert_eq!((shard.documents(), shard.document(0), shard.document(1)), (2, 0..4, 4..7));
        assert_eq!((shard.document_of(3), shard.document_of(4)), (0, 1));
        assert_eq!((shard.text_bytes(), shard.separator(), shard.vocab_size()), (16, Some(9), size));
        let learnt: Vec<bool> = (0..7).map(|at| shard.learns(at)).collect();
        assert_eq!(learnt, if marked { [true, false, true, false, true, true, true] } else { [true; 7] });
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.shard");
    write(&path, 10, true);
    let whole = fs::read(&path).expect("it was just written");
    let opens = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("the folder is ours");
        Shard::open(&path).and_then(|shard| shard.verify())
    };
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = opens(&damaged).expect_err("a bit was flipped");
        assert!(error.to_string().contains("x.shard"), "bit {bit}: {error}");
    }
    for length in 0..whole.len() {
        opens(&whole[..length]).expect_err("the file was cut");
    }
    opens(&whole).expect("it is whole again");
}

#[test]
fn an_id_outside_the_vocabulary_is_never_handed_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.shard");
    let shard = write(&path, 10, false);
    drop(shard);
    let mut bytes = fs::read(&path).expect("it was just written");
    bytes[160 + 2 * 2] = 200;
    fs::write(&path, bytes).expect("the folder is ours");
    let shard = Shard::open(&path).expect("the header is whole");
    let error = shard.read(1..4, &mut Vec::new()).expect_err("200 is not below 10");
    assert!(error.to_string().contains("token 2: found the id 200, expected an id below 10"), "{error}");
}

#[test]
fn a_shard_that_is_removed_while_mapped_can_still_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.shard");
    let shard = write(&path, 10, false);
    fs::remove_file(&path).expect("it was just written");
    shard.verify().expect("the mapping keeps it");
}

#[test]
fn shards_have_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("x.txt"), text(20_000)).expect("ours");
    let tokenizer = bpe();
    let options = TokenizeOptions { separator: separator_of(&tokenizer), ..TokenizeOptions::default() };
    assert!(options.separator.is_some());
    let made = [1, 3].map(|threads| {
        let out = dir.path().join(threads.to_string());
        let found = extents(dir.path(), "x.txt");
        let (set, _) =
            with_threads(threads, || tokenize(&out, &found, &tokenizer, &options, &mut |_| {})).expect("text");
        assert_eq!(set.text_bytes(), Some(text(20_000).len() as u64));
        fs::read(out.join("00000.shard")).expect("one shard")
    });
    assert!(made[0] == made[1]);
}

#[test]
fn an_interrupted_tokenisation_goes_on_and_gives_the_same_shards() {
    let dir = tempfile::tempdir().expect("a folder");
    // Larger than what is read at a time, so that there are several shards.
    fs::write(dir.path().join("a.txt"), "abcdefgh".repeat(3 << 20)).expect("ours");
    fs::write(dir.path().join("b.jsonl"), "\"xyz\"\n\"UPPER\"\n".repeat(1000)).expect("ours");
    let mut found = extents(dir.path(), "a.txt");
    found.extend(extents(dir.path(), "b.jsonl"));
    let options = TokenizeOptions {
        separator: Some(26),
        shard_tokens: 1 << 20,
        on_bad: OnBad::Skip,
        ..TokenizeOptions::default()
    };
    let whole = dir.path().join("whole");
    let (expected, manifest) = tokenize(&whole, &found, &letters(), &options, &mut |_| {}).expect("letters");
    assert!(manifest.shards.len() >= 3 && manifest.skipped == 1000, "{manifest:?}");
    let part = dir.path().join("part");
    let stopped = std::panic::catch_unwind(|| {
        let mut seen = 0;
        let stop = &mut |_| {
            seen += 1;
            assert!(seen < 3, "the work is interrupted here");
        };
        tokenize(&part, &found, &letters(), &options, stop)
    });
    assert!(stopped.is_err());
    fs::write(part.join("00007.partial"), "left behind").expect("ours");
    let first = fs::metadata(part.join("00000.shard")).expect("it is complete").modified().expect("a time");
    let mut least = u64::MAX;
    let again = tokenize(&part, &found, &letters(), &options, &mut |p| least = least.min(p.bytes)).expect("letters");
    assert_eq!((again.0.hash(), again.1), (expected.hash(), manifest));
    assert_eq!(fs::metadata(part.join("00000.shard")).expect("as before").modified().expect("a time"), first);
    assert!(least > 1 << 20 && !part.join("00007.partial").exists());
    // With nothing changed nothing is done; with a changed file all is done again.
    tokenize(&part, &found, &letters(), &options, &mut |_| panic!("there is nothing to do")).expect("letters");
    fs::write(dir.path().join("b.jsonl"), "\"xyz\"\n").expect("ours");
    let mut found = extents(dir.path(), "a.txt");
    found.extend(extents(dir.path(), "b.jsonl"));
    let (changed, _) = tokenize(&part, &found, &letters(), &options, &mut |_| {}).expect("letters");
    assert_ne!(changed.hash(), expected.hash());
    fs::write(part.join(MANIFEST), "{").expect("ours");
    let (same, _) = tokenize(&part, &found, &letters(), &options, &mut |_| {}).expect("a broken list is no list");
    assert_eq!(same.hash(), changed.hash());
}

#[test]
fn what_follows_a_beginning_that_was_left_out_does_not_join_on_to_the_document_before() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("a.txt"), "abc").expect("ours");
    // Pieces have up to 256 KiB: the first of this file has a letter that the tokenizer lacks, the second begins behind it.
    fs::write(dir.path().join("b.txt"), format!("A{}", "x".repeat((1 << 18) + 9))).expect("ours");
    let found = extents(dir.path(), "?.txt");
    let options = TokenizeOptions { separator: Some(26), on_bad: OnBad::Skip, ..TokenizeOptions::default() };
    let (set, manifest) = tokenize(&dir.path().join("t"), &found, &letters(), &options, &mut |_| {}).expect("letters");
    assert_eq!((manifest.skipped, set.documents()), (1, 2));
    let batch = windows(&set, 100, 1).next().expect("one").expect("known ids");
    assert_eq!((batch.lengths.as_slice(), &batch.tokens[..5]), (&[4, 12][..], &[26, 0, 1, 2, 26][..]));
}

#[test]
fn an_empty_corpus_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("x.txt"), "").expect("ours");
    let found = extents(dir.path(), "x.txt");
    let result = tokenize(&dir.path().join("t"), &found, &letters(), &TokenizeOptions::default(), &mut |_| {});
    assert!(result.expect_err("there is nothing").to_string().contains("no tokens"));
}

#[test]
fn shards_of_two_tokenizers_are_not_mixed() {
    let dir = tempfile::tempdir().expect("a folder");
    let shards = vec![write(&dir.path().join("a.shard"), 10, false), write(&dir.path().join("b.shard"), 11, false)];
    let error = Dataset::new(shards).expect_err("the vocabularies differ");
    assert!(error.to_string().contains("b.shard: the tokenizer"), "{error}");
}
