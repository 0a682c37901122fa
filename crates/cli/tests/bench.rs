//! `cupola bench`: every command prints the lines that it promises, whatever the machine.

mod common;

use common::{arg, cupola};
use serde_json::Value;

fn lines(arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["bench"];
    all.extend(arguments);
    all.extend(["--seconds", "0.01", "--json"]);
    cupola(&all, b"").ok().json()
}

#[test]
fn every_line_has_the_keys_that_it_promises_and_a_rate() {
    for (arguments, unit, configs) in [
        (&["train", "--work", "nano"][..], "tokens_per_s", &["nano"][..]),
        (&["trainer", "--work", "nano"], "tokens_per_s", &["nano", "nano"]),
        (&["decode", "--work", "nano"], "tokens_per_s", &["nano"]),
        (&["prefill", "--work", "nano"], "tokens_per_s", &["nano"]),
        (&["gemm"], "gflops", &["128x128x128", "256x256x256", "512x512x512", "1024x1024x1024"]),
        (&["ops"], "gb_per_s", &["add", "mul", "relu", "exp", "sigmoid", "softmax", "sum"]),
        (&["tokenizer"], "mb_per_s", &["bpe4096"]),
    ] {
        let lines = lines(arguments);
        let found: Vec<&str> = lines.iter().filter_map(|line| line["config"].as_str()).collect();
        assert_eq!(found, configs, "{arguments:?}");
        for line in &lines {
            let keys: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(keys, ["bench", "config", "dtype", "threads", unit, "peak_rss_mb"], "{arguments:?}");
            // The loop's costs are shown beside bare steps.
            assert!(line["bench"] == arguments[0] || (arguments[0] == "trainer" && line["bench"] == "train"), "{line}");
            assert!(line["dtype"] == "f32" && line["threads"].as_u64() > Some(0), "{line}");
            let positive = |key: &str| line[key].as_f64().is_some_and(|value| value > 0.0 && value.is_finite());
            assert!(positive(unit) && (positive("peak_rss_mb") || !cfg!(target_os = "linux")), "{line}");
        }
    }
}

#[test]
fn the_recipe_that_stands_beside_pytorch_is_a_configuration_of_that_model() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/compare/nanogpt.toml");
    cupola(&["config", "check", recipe], b"").ok();
    let folder = tempfile::tempdir().expect("a folder");
    let (text, out) = (folder.path().join("text.txt"), folder.path().join("run"));
    // The 64 characters of which, with the end of text, the work `nano` has 65 tokens.
    let letters: String = (0..64u8).map(|n| char::from(b'0' + n)).collect();
    std::fs::write(&text, letters.repeat(40)).expect("the folder is ours");
    cupola(&["train", arg(&text), "--config", recipe, "--out", arg(&out), "--steps", "1"], b"").ok();
    let info = std::fs::read(out.join("run.json")).expect("a run");
    let info: Value = serde_json::from_slice(&info).expect("JSON");
    assert_eq!(info["model"]["parameters"], 804_096);
}

#[test]
fn options_are_followed_or_refused() {
    let lines = lines(&["train", "--work", "nano", "--dtype", "bf16", "--threads", "1"]);
    assert_eq!((&lines[0]["dtype"], &lines[0]["threads"]), (&Value::from("bf16"), &Value::from(1)));
    cupola(&["bench", "gemm", "--work", "nano"], b"").fails(2, "--work nano means nothing here");
    cupola(&["bench", "train", "--work", "infer110m"], b"").fails(2, "infer110m is not trained");
    cupola(&["bench", "train", "--work", "huge"], b"").fails(2, "invalid value 'huge'");
    cupola(&["bench", "train", "--threads", "0"], b"").fails(2, "--threads 0");
}
