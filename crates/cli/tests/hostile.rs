//! Model directories that somebody else made: each is refused with a reason in one line, soon, and without taking the machine's memory.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tokenizer::{Tokenizer, train::BpeTrainer};

/// A small model with random weights.
fn model_in(dir: &Path) {
    let tokenizer: Tokenizer = BpeTrainer::byte_level(256).and_then(|t| t.train(["a b"])).expect("bytes alone");
    let spec = ModelSpec::from_toml(&format!(
        "vocab_size = {}\nhidden_size = 16\nmax_position_embeddings = 64\nattention = {{ num_attention_heads = 2 }}",
        tokenizer.vocab_size()
    ));
    let model = Decoder::new(&spec.expect("it is valid")).init(3);
    cupola_models::save(dir, &model).expect("it is writable");
    tokenizer.save_dir(dir).expect("it is writable");
}

/// A file of safetensors with this header and so many bytes behind it.
fn with_header(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

/// How a start ended: the code, what was said, and the most memory that was seen in use, in bytes.
fn start(dir: &Path) -> (Option<i32>, String, u64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(["serve", dir.to_str().expect("a path in UTF-8"), "--port", "0"])
        .env_remove("CUPOLA_API_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let code = loop {
        // The highest there ever was, so that looking now and then is enough.
        let seen = fs::read_to_string(&status).unwrap_or_default();
        let peak =
            seen.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(peak.unwrap_or(0) << 10);
        if let Some(ended) = child.try_wait().expect("it is our child") {
            break ended.code();
        }
        if begun.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{}: it is still at work after 20 s", dir.display());
        }
        std::thread::yield_now();
    };
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("UTF-8");
    (code, said, most)
}

#[track_caller]
fn refused(dir: &Path, what: &str) {
    let (code, said, memory) = start(dir);
    assert!(code.is_some_and(|code| (1..=125).contains(&code)), "{what}: {code:?} {said}");
    assert!((1..=2).contains(&said.trim_end().lines().count()) && said.len() < 2000, "{what}: {said}");
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{what}: {said}");
    assert!(memory < 1 << 30, "{what}: {memory} bytes");
}

#[test]
fn weights_that_are_none_or_lie_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    model_in(&dir);
    let weights = dir.join("model.safetensors");
    let good = fs::read(&weights).expect("it was written");
    let length = u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
    let header = std::str::from_utf8(&good[8..8 + length]).expect("JSON");
    let data = good.len() - 8 - length;
    let tensor = |shape: &str, from: u64, to: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let one = |text: String| with_header(&format!("{{\"x\":{text}}}"), 16);
    let long = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let mut nan = good.clone();
    nan[8..16].copy_from_slice(b"\xff\xfe\xfd\xfc\xff\xff\xff\xff");
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("a header of 2^63 bytes", long(1 << 63)),
        ("a header of 2^64 - 1 bytes", long(u64::MAX)),
        ("a header of a terabyte", long(1 << 40)),
        ("a header that is longer than the file", long(3)),
        ("a header of no bytes", long(0)),
        ("nothing", Vec::new()),
        ("seven bytes", vec![0; 7]),
        ("a header of a hundred thousand brackets", with_header(&"[".repeat(100_000), 0)),
        ("objects in objects", with_header(&"{\"a\":".repeat(100_000), 0)),
        ("a header that is not UTF-8", nan),
        ("no tensors", with_header("{}", 0)),
        (
            "tensors that overlap",
            with_header(&format!("{{\"x\":{},\"y\":{}}}", tensor("[2]", 0, 8), tensor("[2]", 4, 12)), 12),
        ),
        (
            "a gap between tensors",
            with_header(&format!("{{\"x\":{},\"y\":{}}}", tensor("[1]", 0, 4), tensor("[1]", 8, 12)), 12),
        ),
        ("the same name twice", with_header(&format!("{{\"x\":{0},\"x\":{0}}}", tensor("[4]", 0, 16)), 16)),
        ("sizes whose product overflows", one(tensor("[4294967296,4294967296,4294967296]", 0, 16))),
        ("sizes that overflow in bytes", one(tensor("[4611686018427387904,2]", 0, 16))),
        ("a negative size", one("{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,16]}".into())),
        ("an end before its beginning", one(tensor("[4]", 16, 0))),
        ("data beyond the file", one(tensor("[1000000]", 0, 4_000_000))),
        ("offsets near 2^64", one(tensor("[4]", u64::MAX - 15, u64::MAX))),
        ("a shape that does not fit its bytes", one(tensor("[3]", 0, 16))),
        ("a dtype that does not exist", one("{\"dtype\":\"F3\",\"shape\":[4],\"data_offsets\":[0,16]}".into())),
        ("a pointer to a large file", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n".to_vec()),
        ("a page of HTML", b"<!DOCTYPE html><html><head><title>404</title></head></html>".to_vec()),
        ("a zip file", b"PK\x03\x04\x14\x00\x00\x00\x00\x00archive/data.pkl".to_vec()),
        ("a pickle", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.".to_vec()),
        ("a GGUF file", b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00".to_vec()),
        ("half of the file", good[..good.len() / 2].to_vec()),
        ("a byte less", good[..good.len() - 1].to_vec()),
        ("a byte more", [&good[..], b"x"].concat()),
        ("weights that are whole numbers", with_header(&header.replace("\"F32\"", "\"I32\""), data)),
        ("weights of other names", with_header(&header.replace("norm", "morn"), data)),
    ];
    assert!(files.len() >= 25);
    assert!(header.contains("\"F32\"") && header.contains("norm"), "{header}");
    for (what, bytes) in files {
        fs::write(&weights, bytes).expect("it is writable");
        refused(&dir, what);
    }
    fs::remove_file(&weights).expect("it is there");
    refused(&dir, "no weights");
    fs::create_dir(&weights).expect("it is free");
    refused(&dir, "a folder of that name");
}

#[cfg(unix)]
#[test]
fn parts_of_weights_are_only_looked_for_in_their_own_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    model_in(&dir);
    fs::rename(dir.join("model.safetensors"), folder.path().join("outside.safetensors")).expect("it was written");
    let index = dir.join("model.safetensors.index.json");
    for part in
        ["../outside.safetensors", "/etc/passwd", "a/../../outside.safetensors", "missing.safetensors", "", "\\u0000"]
    {
        fs::write(&index, format!("{{\"weight_map\":{{\"norm.weight\":\"{part}\"}}}}")).expect("it is writable");
        refused(&dir, part);
    }
    for text in ["", "[]", "{\"weight_map\":[]}", "{\"weight_map\":{\"x\":3}}"] {
        fs::write(&index, text).expect("it is writable");
        refused(&dir, text);
    }
    fs::remove_file(&index).expect("it is there");
    std::os::unix::fs::symlink("model.safetensors", dir.join("model.safetensors")).expect("it is free");
    refused(&dir, "a link to itself");
    fs::remove_file(dir.join("model.safetensors")).expect("it is there");
    // To open a pipe would wait for ever.
    let pipe = Command::new("mkfifo").arg(dir.join("model.safetensors")).status().expect("there is mkfifo");
    assert!(pipe.success());
    refused(&dir, "a pipe");
}

#[test]
fn descriptions_that_lie_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    model_in(&dir);
    let good = fs::read_to_string(dir.join("config.json")).expect("it was written");
    let tokenizer = fs::read_to_string(dir.join("tokenizer.json")).expect("it was written");
    for (file, text) in [
        ("config.json", "[".repeat(1_000_000)),
        ("config.json", format!("{good}{good}")),
        ("config.json", good.replace("16", "9007199254740993")),
        ("config.json", good.replace("16", "1099511627776")),
        ("config.json", good.replace("16", "-16")),
        ("config.json", good.replace("16", "0")),
        ("config.json", "\u{feff}<html>".to_owned()),
        ("tokenizer.json", String::new()),
        ("tokenizer.json", "{}".to_owned()),
        ("tokenizer.json", tokenizer[..tokenizer.len() / 2].to_owned()),
        ("tokenizer.json", "{\"model\":".repeat(100_000)),
    ] {
        let whole = fs::read(dir.join(file)).expect("it is there");
        assert!(whole != text.as_bytes(), "{file}: nothing was changed");
        fs::write(dir.join(file), &text).expect("it is writable");
        refused(&dir, &format!("{file}: {}", text.chars().take(60).collect::<String>()));
        fs::write(dir.join(file), whole).expect("it is writable");
    }
}
