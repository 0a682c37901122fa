//! What differs between runs.

use std::collections::BTreeMap;

use cupola_io::run::RunInfo;
use serde::Serialize;
use serde_json::Value;

/// The longest value that a comparison shows, in characters.
const MOST_TEXT: usize = 200;
const MOST_KEYS: usize = 4000;

/// A setting whose value is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The setting, as a path with dots.
    pub key: String,
    /// Its value in each run; `None` where it has none.
    pub values: Vec<Option<String>>,
}

/// The settings of all runs that are not the same in all of them, sorted, and how many are.
pub fn differences(runs: &[RunInfo]) -> (Vec<Difference>, usize) {
    let mut table: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let mut settings = BTreeMap::new();
        for (key, value) in &run.config {
            flatten(key, value, &mut settings);
        }
        for (key, value) in [
            ("seed", run.seed.to_string()),
            ("threads", run.threads.to_string()),
            ("isa", run.isa.clone()),
            ("dtype", run.dtype.clone()),
            ("model.preset", run.model.preset.clone()),
            ("model.parameters", run.model.parameters.to_string()),
            ("data.hash", run.data.hash.clone()),
            ("data.tokens", run.data.tokens.to_string()),
            ("code.version", run.code.version.clone()),
        ] {
            settings.entry(key.to_owned()).or_insert(value);
        }
        for (key, value) in settings {
            table.entry(key).or_insert_with(|| vec![None; runs.len()])[index] = Some(value);
        }
    }
    let count = table.len();
    let different: Vec<Difference> = table
        .into_iter()
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .map(|(key, values)| Difference { key, values })
        .collect();
    let same = count - different.len();
    (different, same)
}

fn flatten(key: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    if settings.len() >= MOST_KEYS {
        return;
    }
    match value {
        // The depth is bounded: whoever read the JSON refuses more than 128 levels.
        Value::Object(table) if !table.is_empty() => {
            for (inner, value) in table {
                flatten(&format!("{key}.{inner}"), value, settings);
            }
        }
        Value::String(text) => {
            settings.insert(key.to_owned(), shortened(text));
        }
        other => {
            settings.insert(key.to_owned(), shortened(&other.to_string()));
        }
    }
}

fn shortened(text: &str) -> String {
    let mut kept: String = text.chars().take(MOST_TEXT).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_listed() {
        let run = |seed: u64, config: Value| RunInfo {
            seed,
            config: config.as_object().expect("a table").clone(),
            ..RunInfo::new("n")
        };
        let a = run(1, serde_json::json!({"optimizer": {"lr": 0.1, "kind": "adamw"}, "batch": 8, "pattern": ["a"]}));
        let b =
            run(2, serde_json::json!({"optimizer": {"lr": 0.2, "kind": "adamw"}, "pattern": ["a", "b"], "late": null}));
        let (different, same) = differences(&[a.clone(), b]);
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            ("batch", vec![some("8"), None]),
            ("late", vec![None, some("null")]),
            ("optimizer.lr", vec![some("0.1"), some("0.2")]),
            ("pattern", vec![some("[\"a\"]"), some("[\"a\",\"b\"]")]),
            ("seed", vec![some("1"), some("2")]),
        ];
        let expected = expected.map(|(key, values)| Difference { key: key.into(), values });
        assert_eq!((different, same), (expected.to_vec(), 9));
        assert_eq!(differences(&[a.clone(), a]).0, []);
        assert_eq!(differences(&[]), (vec![], 0));
    }
}
