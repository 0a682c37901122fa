//! The golden files are whole and hold what the scripts that make them promise (`tools/golden/common.py`).

use std::collections::BTreeSet;
use std::fs;

use cupola_io::safetensors::SafeTensors;
use cupola_workspace_tests::{files, root};
use serde_json::Value;

const KINDS: [&str; 6] = ["in", "out", "dout", "din", "param", "dparam"];
/// Bytes of a file, of a model's file, and of all files.
const MOST: [u64; 3] = [64 << 10, 1 << 20, 20 << 20];
const MODELS: [&str; 1] = ["gpt_"];

fn golden_files() -> Vec<String> {
    let golden = |file: &String| file.contains("/tests/golden/") && file.ends_with(".safetensors");
    files().into_iter().filter(golden).collect()
}

/// What is wrong with one file.
fn problems(file: &SafeTensors) -> Vec<String> {
    let story: Value = match file.metadata_value("golden").map(serde_json::from_str) {
        Some(Ok(story)) => story,
        other => return vec![format!("its story is {other:?}")],
    };
    let Some(cases) = story["cases"].as_object() else {
        return vec!["its story has no cases".to_owned()];
    };
    let mut problems = Vec::new();
    let mut with_results = BTreeSet::new();
    for tensor in file.iter() {
        let parts: Vec<&str> = tensor.name().splitn(3, '.').collect();
        let [case, kind, name] = parts[..] else {
            problems.push(format!("{} is not CASE.KIND.NAME", tensor.name()));
            continue;
        };
        if !cases.contains_key(case) || !KINDS.contains(&kind) {
            problems.push(format!("{}: unknown case or kind", tensor.name()));
        }
        if kind == "out" {
            with_results.insert(case);
        }
        // A gradient has the shape of what it is the gradient of.
        let of = match kind {
            "dout" => "out",
            "din" => "in",
            "dparam" => "param",
            _ => continue,
        };
        let shape = file.get(&format!("{case}.{of}.{name}")).map(|of| of.shape());
        if shape != Some(tensor.shape()) {
            problems.push(format!("{} has another shape than the {of}", tensor.name()));
        }
    }
    problems.extend(
        cases.keys().filter(|case| !with_results.contains(case.as_str())).map(|case| format!("{case} has no results")),
    );
    problems
}

#[test]
fn every_golden_file_is_readable_and_complete() {
    let mut total = 0;
    let files = golden_files();
    assert!(files.len() > 50, "{} golden files", files.len());
    for name in &files {
        let path = root().join(name);
        let bytes = fs::metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}")).len();
        let model = MODELS.iter().any(|prefix| name.rsplit('/').next().is_some_and(|file| file.starts_with(prefix)));
        assert!(bytes <= MOST[usize::from(model)], "{name}: {bytes} bytes");
        total += bytes;
        let file = SafeTensors::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(problems(&file), [""; 0], "{name}");
    }
    assert!(total <= MOST[2], "{total} bytes of golden files");
}

#[test]
fn problems_are_found() {
    use cupola_io::safetensors::{TensorBytes, to_bytes};
    let tensor = |name, length: usize| TensorBytes {
        name,
        dtype: cupola_core::DType::U8,
        shape: [length].into(),
        bytes: vec![0; length].into(),
    };
    let check = |names: &[(&'static str, usize)], story: &str| {
        let tensors: Vec<_> = names.iter().map(|&(name, length)| tensor(name, length)).collect();
        let metadata = [("golden".to_owned(), story.to_owned())].into();
        let bytes = to_bytes(&tensors, &metadata).expect("valid tensors");
        problems(&SafeTensors::from_bytes("test", bytes).expect("own file"))
    };
    let story = r#"{"cases": {"a": {}}}"#;
    assert_eq!(check(&[("a.in.x", 2), ("a.din.x", 2), ("a.out.y", 1)], story), [""; 0]);
    assert_eq!(
        check(&[("a.in.x", 2), ("a.din.x", 3), ("a.out.y", 1)], story),
        ["a.din.x has another shape than the in"]
    );
    assert_eq!(check(&[("a.dparam.x.y", 2), ("a.out.y", 1)], story), ["a.dparam.x.y has another shape than the param"]);
    assert_eq!(check(&[("b.in.x", 2), ("a.out.y", 1)], story), ["b.in.x: unknown case or kind"]);
    assert_eq!(check(&[("x", 2), ("a.out.y", 1)], story), ["x is not CASE.KIND.NAME"]);
    assert_eq!(check(&[("a.in.x", 2)], story), ["a has no results"]);
    assert_eq!(check(&[], "{}"), ["its story has no cases"]);
    assert_eq!(check(&[], "nonsense").len(), 1);
}
