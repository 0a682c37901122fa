//! Bad input: every parser answers damaged files with an error or a tokenizer that works, never with a panic, and never
//! asks for memory that the file does not justify.

mod common;

use common::{Gguf, path};
use cupola_tokenizer::chat::{CHATML, LLAMA3};
use cupola_tokenizer::{Error, Tokenizer, fuzz};

/// A small generator, so that the tests are the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = original.to_vec();
    for _ in 0..=random.below(4) {
        if data.is_empty() {
            break;
        }
        let at = random.below(data.len());
        match random.below(7) {
            0 => data.truncate(at),
            1 => data[at] ^= 1 << random.below(8),
            2 => data[at] = [0, 0xff, 0x7f, 0x80, b'"', b'{', b'9'][random.below(7)],
            3 => {
                let end = (at + random.below(64)).min(data.len());
                data.drain(at..end);
            }
            4 => {
                let from = random.below(data.len());
                let part = data[from..(from + random.below(32)).min(data.len())].to_vec();
                data.splice(at..at, part);
            }
            5 => {
                let end = (at + 8).min(data.len());
                data[at..end].fill(0xff);
            }
            _ => {
                data.splice(at..at, *b"4294967295");
            }
        }
    }
    data
}

fn drive(name: &str, seeds: &[Vec<u8>], rounds: usize, target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let mut random = Random(0x9e37_79b9_97f4_a7c1);
    for seed in seeds {
        target(seed);
        for round in 0..rounds {
            let data = mutate(seed, &mut random);
            let result = std::panic::catch_unwind(|| target(&data));
            assert!(result.is_ok(), "{name}: round {round} panicked on {:?}", String::from_utf8_lossy(&data));
        }
    }
}

/// 256 bytes and a few merges.
fn ranks() -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut file = Vec::new();
    for b in 0..=255usize {
        let quad = [LETTERS[b >> 2], LETTERS[(b & 3) << 4], b'=', b'='];
        file.extend_from_slice(&quad);
        file.extend_from_slice(format!(" {b}\n").as_bytes());
    }
    file.extend_from_slice(b"aGU= 256\nbGw= 257\naGVsbA== 258\n");
    file
}

fn gguf_files() -> Vec<Vec<u8>> {
    let kinds = |kinds: &[u32]| kinds.iter().map(|k| k.to_le_bytes()).collect::<Vec<_>>();
    let scores = |scores: &[f32]| scores.iter().map(|s| s.to_le_bytes()).collect::<Vec<_>>();
    vec![
        Gguf::default()
            .string("model", "gpt2")
            .string("pre", "gpt-2")
            .strings("tokens", &["a", "b", "Ġ", "ab", "Ġab", "<s>"])
            .numbers("token_type", 5, &kinds(&[1, 1, 1, 1, 1, 3]))
            .strings("merges", &["a b", "Ġ ab"])
            .build(),
        Gguf::default()
            .string("model", "llama")
            .strings("tokens", &["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "▁a", "sep"])
            .numbers("scores", 6, &scores(&[0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -0.5, 0.0]))
            .numbers("token_type", 5, &kinds(&[2, 3, 3, 6, 1, 1, 1, 4]))
            .build(),
        Gguf::default()
            .string("model", "bert")
            .strings("tokens", &["[UNK]", "▁hello", "ing", "▁w"])
            .numbers("token_type", 5, &kinds(&[3, 1, 1, 1]))
            .build(),
        Gguf::default()
            .string("model", "t5")
            .strings("tokens", &["<unk>", "▁", "a", "▁a"])
            .numbers("scores", 6, &scores(&[0.0, -1.0, -2.0, -0.5]))
            .numbers("token_type", 5, &kinds(&[2, 1, 1, 1]))
            .build(),
    ]
}

fn tekken() -> Vec<u8> {
    let mut vocab = Vec::new();
    for (rank, line) in String::from_utf8(ranks()).unwrap().lines().enumerate() {
        let bytes = line.split(' ').next().unwrap();
        vocab.push(format!("{{\"rank\":{rank},\"token_bytes\":\"{bytes}\",\"token_str\":null}}"));
    }
    let config = r#"{"pattern":"\\p{L}+|\\s+|.","num_vocab_tokens":300,"default_vocab_size":262,"default_num_special_tokens":3,"version":"v3"}"#;
    format!("{{\"config\":{config},\"vocab\":[{}]}}", vocab.join(",")).into_bytes()
}

#[test]
fn damaged_json() {
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    let seeds: Vec<_> = ["hf_bpe.json", "hf_bpe_chars.json", "hf_wordpiece.json", "hf_unigram.json"].map(read).to_vec();
    drive("tokenizer.json", &seeds, 60, fuzz::from_bytes);
    // Damage to the settings before the vocabulary.
    let file = br#"{"version":"1.0","truncation":{"direction":"Right","max_length":5,"strategy":"LongestFirst","stride":1},
        "padding":{"strategy":"BatchLongest","direction":"Left","pad_to_multiple_of":8,"pad_id":0,"pad_type_id":0,"pad_token":"a"},
        "added_tokens":[{"id":3,"content":"<s>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Replace","pattern":{"Regex":"a+"},"content":"b"}]},
        "pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithNext","invert":false},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
        "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}},
        "decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
        "model":{"type":"BPE","unk_token":"a","fuse_unk":true,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
    drive("tokenizer.json", &[file.to_vec()], 4000, fuzz::from_bytes);
}

#[test]
fn damaged_tiktoken() {
    drive("tiktoken", &[ranks()], 300, fuzz::tiktoken);
}

#[test]
fn damaged_sentencepiece() {
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    let seeds: Vec<_> = ["spm_unigram.model", "spm_bpe.model", "spm_suffix.model"].map(read).to_vec();
    drive("SentencePiece", &seeds, 250, fuzz::sentencepiece);
}

#[test]
fn damaged_spm() {
    let file = "PHVuaz4= 0.0 2\nPHM+ 0.0 3\n4paB -5 1\nYQ== -6 1\nYg== -7 5\n4paBYQ== -1.5 1\nYWI= -2 4\n";
    drive(".spm", &[file.as_bytes().to_vec()], 3000, fuzz::spm);
}

#[test]
fn damaged_gguf() {
    for file in gguf_files() {
        Tokenizer::from_gguf(&file).unwrap().encode("a ab").unwrap();
    }
    drive("GGUF", &gguf_files(), 1500, fuzz::gguf);
}

#[test]
fn damaged_tekken() {
    let tokenizer = Tokenizer::from_bytes(&tekken()).unwrap();
    assert_eq!(tokenizer.encode("hell o").unwrap(), [261, 32 + 3, u32::from(b'o') + 3]);
    drive("tekken.json", &[tekken()], 150, fuzz::from_bytes);
}

#[test]
fn damaged_chat_templates() {
    let seeds = [CHATML, LLAMA3].map(|s| s.as_bytes().to_vec());
    drive("chat template", &seeds, 400, fuzz::chat_template);
}

#[test]
fn messages_name_what_and_where() {
    let cases: [(&[u8], &[&str]); 9] = [
        (b"{\"model\": 1}", &["tokenizer.json", "line 1"]),
        (br#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#, &["merge 0", "\"b\""]),
        (br#"{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}"#, &["4000000000"]),
        (br#"{"model":{"type":"Magic","vocab":{}}}"#, &["Magic", "not supported"]),
        (br#"{"normalizer":{"type":"Spin"},"model":{"type":"BPE","vocab":{},"merges":[]}}"#, &["normalizer Spin"]),
        (br#"{"normalizer":{"type":"Lowercase"},"shape":1,"model":{"type":"BPE","vocab":{}}}"#, &["shape"]),
        (br#"{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{},"merges":[]}}"#, &["pattern \"(\""]),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f", &["GGUF", "byte 32"]),
        (b"\x0a\xff\xff\xff\x7f", &["SentencePiece model", "longer than its message"]),
    ];
    for (file, words) in cases {
        let message = Tokenizer::from_bytes(file).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} does not contain {word:?}");
        }
    }
    let missing = Tokenizer::from_path("no/such/file.json").unwrap_err();
    assert!(matches!(missing, Error::File { .. }) && missing.to_string().contains("no/such/file.json"));
    let name = Tokenizer::named("cl10k").unwrap_err().to_string();
    assert!(name.contains("cl10k") && name.contains("cl100k_base"), "{name}");
    let tokenizer = Tokenizer::from_path(path("hf_bpe.json")).unwrap();
    let id = tokenizer.decode(&[1, 70_000]).unwrap_err().to_string();
    assert!(id.contains("70000") && id.contains("position 1") && id.contains("900"), "{id}");
}

/// One piece of a million letters, and everything else that has made tokenizers quadratic. A quadratic encoder would
/// need hours here.
#[test]
fn a_megabyte_without_a_gap_is_encoded() {
    let tokenizer = Tokenizer::from_path(path("hf_bpe.json")).unwrap();
    let unigram = Tokenizer::from_path(path("hf_unigram.json")).unwrap();
    let wordpiece = Tokenizer::from_path(path("hf_wordpiece.json")).unwrap();
    let llama = Tokenizer::from_path(path("spm_bpe.model")).unwrap();
    let mut random = Random(7);
    let letters: String = (0..1_000_000).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
    for text in
        ["a".repeat(1_000_000), " ".repeat(1_000_000), "ab".repeat(500_000), letters, "e\u{301}".repeat(300_000)]
    {
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert_eq!(llama.decode(&llama.encode(&text).unwrap()).unwrap(), text);
        assert!(unigram.count(&text).unwrap() > 0);
        wordpiece.count(&text).unwrap();
    }
}
