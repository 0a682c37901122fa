//! Runs of a model so small that hundreds of steps take a second.
#![allow(dead_code, reason = "each test file is a program of its own")]

use super::{Run, arg, cupola};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A text and settings for a model so small that hundreds of steps take a second.
pub struct Micro {
    pub folder: tempfile::TempDir,
}

pub const SETS: [&str; 10] = [
    "model.spec={hidden_size=16,num_hidden_layers=1,attention={num_attention_heads=2}}",
    "tokenizer.kind=chars",
    "batch.window=16",
    "batch.rows=4",
    "eval.every=50",
    "checkpoint.every=3",
    "sample.every=0",
    "model.dropout=0.1",
    "data.workers=2",
    "optimizer.ema=0.9",
];

impl Micro {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |n: usize| format!("{} the furnace is lit, {} times.\n", ["before", "after", "while"][n % 3], n % 7);
        let text: String = (0..300).map(line).collect();
        fs::write(folder.path().join("text.txt"), text).expect("the folder is ours");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn arguments(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut all = vec!["train".to_string(), arg(&self.path("text.txt")).to_string()];
        all.extend(["--out".to_string(), arg(&self.path(out)).to_string()]);
        all.extend(SETS.iter().flat_map(|set| ["--set".to_string(), set.to_string()]));
        all.extend(more.iter().map(|more| more.to_string()));
        all
    }

    pub fn train(&self, out: &str, more: &[&str]) -> Run {
        let all = self.arguments(out, more);
        cupola(&all.iter().map(String::as_str).collect::<Vec<_>>(), b"")
    }

    pub fn spawn(&self, out: &str, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.args(self.arguments(out, more)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    }

    /// All files of the last checkpoint, one after the other with their names.
    pub fn last(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let root = self.path(out).join("checkpoints");
        let name = fs::read_to_string(root.join("last")).expect("there is a checkpoint");
        let mut files = Vec::new();
        collect(&root.join(name.trim()), "", &mut files);
        files
    }
}

fn collect(folder: &Path, prefix: &str, out: &mut Vec<(String, Vec<u8>)>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), out)
        } else {
            out.push((name, fs::read(&path).expect("a file")))
        }
    }
}

#[track_caller]
pub fn assert_same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) {
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for ((name, one), (_, other)) in a.iter().zip(b) {
        assert!(one == other, "{name} differs");
    }
}

/// Waits until the metrics have grown by so many bytes, or the program has ended.
pub fn wait_for(child: &mut Child, metrics: &Path, more: u64) -> bool {
    let length = || fs::metadata(metrics).map_or(0, |about| about.len());
    let goal = length() + more;
    while length() < goal {
        if child.try_wait().expect("the child is ours").is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}
