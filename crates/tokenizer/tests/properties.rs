//! What holds for every text.

mod common;

use common::path;
use cupola_tokenizer::{DecodeOptions, EncodeOptions, Input, Tokenizer};
use proptest::prelude::*;
use std::sync::LazyLock;

static TOKENIZERS: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    let names = ["hf_bpe.json", "spm_bpe.model", "spm_unigram.model", "hf_unigram.json", "hf_wordpiece.json"];
    names.map(|name| (name, Tokenizer::from_path(path(name)).unwrap())).to_vec()
});

fn byte_level() -> &'static Tokenizer {
    &TOKENIZERS[0].1
}

/// Text with much of what goes wrong: words of the vocabularies, spaces, marks, emoji, controls, any character.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-z]{1,8}",
        3 => "[ \t\r\n]{1,4}",
        2 => "[0-9]{1,5}",
        2 => prop::sample::select(vec!["the ", "furnace", "'s", "é", "e\u{301}", "中文", "🔥", "👩\u{200d}👩", "<sep>", "▁", "<|endoftext|>", "\u{0}", "ﬁ"])
            .prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_back_the_text(text in text()) {
        let ids = byte_level().encode(&text).unwrap();
        prop_assert_eq!(byte_level().decode(&ids).unwrap(), text);
    }

    #[test]
    fn decoding_gives_back_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let ids = byte_level().encode_bytes(&bytes).unwrap();
        prop_assert_eq!(byte_level().decode_bytes(&ids).unwrap(), bytes);
    }

    #[test]
    fn a_stream_joined_is_the_whole(seed in prop::collection::vec(any::<u32>(), 0..40)) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let bound = tokenizer.vocab_size() as u32;
            let ids: Vec<u32> = seed.iter().map(|n| n % bound).collect();
            let mut stream = tokenizer.stream_decoder();
            let mut joined = String::new();
            for &id in &ids {
                joined.push_str(&stream.push(id).unwrap());
            }
            joined.push_str(&stream.finish());
            prop_assert_eq!(joined, tokenizer.decode_lossy(&ids).unwrap(), "{}", name);
        }
    }

    #[test]
    fn counting_batches_and_offsets_agree_with_encoding(text in text()) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.count(&text).unwrap(), ids.len());
            let options = EncodeOptions::default();
            let encoding = tokenizer.encoding(&text, &options).unwrap();
            prop_assert_eq!(&encoding.ids, &ids, "{}", name);
            let mut last = 0;
            for &(start, end) in &encoding.offsets {
                prop_assert!(last <= start && start <= end && end <= text.len(), "{}: {:?}", name, encoding.offsets);
                last = start;
            }
            let batch = tokenizer.encoding_batch(&[Input::Single(&text), Input::Single("x")], &options).unwrap();
            prop_assert_eq!(&batch[0], &encoding);
        }
    }

    #[test]
    fn a_cut_is_a_prefix_that_stands_for_its_bytes(text in text(), limit in 0usize..12) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            let cut = tokenizer.cut(&text, limit).unwrap();
            prop_assert!(cut.ids.len() <= limit && text.is_char_boundary(cut.bytes));
            prop_assert_eq!(&ids[..cut.ids.len()], &cut.ids[..], "{}", name);
            prop_assert_eq!(cut.complete, ids.len() <= limit);
        }
        let cut = byte_level().cut(&text, limit).unwrap();
        prop_assert_eq!(byte_level().decode(&cut.ids).unwrap(), &text[..cut.bytes]);
    }

    #[test]
    fn dropout_and_sampling_keep_the_text(text in text(), seed in any::<u64>()) {
        let options = EncodeOptions { dropout: 0.3, sample_alpha: Some(0.2), seed, ..EncodeOptions::default() };
        let ids = byte_level().encode_with(&text, &options).unwrap();
        prop_assert_eq!(byte_level().decode(&ids).unwrap(), text.clone());
        prop_assert_eq!(byte_level().encode_with(&text, &options).unwrap(), ids);
        let (_, unigram) = &TOKENIZERS[2];
        let plain = unigram.encode(&text).unwrap();
        let sampled = unigram.encode_with(&text, &options).unwrap();
        let unknown = unigram.token_to_id("<unk>").unwrap();
        if !plain.contains(&unknown) && !sampled.contains(&unknown) {
            prop_assert_eq!(unigram.decode(&sampled).unwrap(), unigram.decode(&plain).unwrap());
        }
    }
}

#[test]
fn large_batches_on_threads_equal_single_calls() {
    let texts: Vec<String> = (0..400).map(|i| format!("The furnace {i} isn't lit. ").repeat(1 + i % 7)).collect();
    let options = EncodeOptions::default();
    let batch = byte_level().encode_batch(&texts, &options).unwrap();
    for (text, ids) in texts.iter().zip(&batch) {
        assert_eq!(byte_level().encode(text).unwrap(), *ids);
    }
    assert_eq!(byte_level().decode_batch(&batch).unwrap(), texts);
    for threads in [1, 3] {
        let options = EncodeOptions { threads: Some(threads), ..EncodeOptions::default() };
        assert_eq!(byte_level().encode_batch(&texts, &options).unwrap(), batch);
        let bytes = byte_level().decode_bytes_batch(&batch, DecodeOptions::default(), Some(threads)).unwrap();
        assert!(bytes.iter().zip(&texts).all(|(bytes, text)| bytes == text.as_bytes()));
    }
}

/// The ways that a vocabulary of ranks has for short pieces, long ones and those in many scripts, against the loop that a list of
/// merges is followed by.
#[test]
#[cfg(feature = "vocabularies")]
fn ranks_give_what_their_list_of_merges_gives() {
    use cupola_tokenizer::model::bpe::{Bpe, BpeConfig};
    use cupola_tokenizer::{Model, TokenizerParts};

    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let ranges = [(0x61, 26), (0x21, 15), (0x4E00, 0x900), (0x3041, 80), (0x430, 32), (0xAC00, 0x400), (0x1F600, 80)];
    let ranges = [&ranges[..], &[(0xE0, 64), (0x300, 40), (0x0, 2), (0x30, 10), (0xE01, 50), (0x915, 60)]].concat();
    let mut texts = Vec::new();
    for _ in 0..300 {
        let mut text = String::new();
        for _ in 0..1 + random(12) {
            let (low, count) = ranges[random(ranges.len())];
            let most = if random(6) == 0 { 60 } else { 8 };
            for _ in 0..1 + random(most) {
                text.extend(char::from_u32(low + random(count) as u32));
            }
            text.push_str(["", "", " ", "\n", "\u{200d}", "  "][random(6)]);
        }
        texts.push(text);
    }
    texts.push(texts.concat());
    for name in ["cl100k_base", "o200k_base"] {
        let ranks = Tokenizer::named(name).unwrap();
        let Model::Bpe(bpe) = ranks.model() else { panic!("{name} is not BPE") };
        let config = BpeConfig { whole_first: true, ..BpeConfig::default() };
        let list = Bpe::from_merges(bpe.vocab().clone(), bpe.merges(), config);
        let parts = TokenizerParts { model: Model::Bpe(list), ..ranks.parts().clone() };
        let merges = Tokenizer::new(parts).unwrap();
        let options = EncodeOptions::default();
        for text in &texts {
            let ids = ranks.encode(text).unwrap();
            assert_eq!(ids, merges.encode(text).unwrap(), "{name}: {text:?}");
            let [one, other] = [&ranks, &merges].map(|t| t.encoding(Input::Single(text), &options).unwrap());
            assert_eq!((&one.ids, &one.offsets), (&ids, &other.offsets), "{name}: {text:?}");
        }
    }
}
