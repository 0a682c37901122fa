//! Runs of a model so small that a step takes a millisecond.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cupola_data::ShardWriter;
use cupola_data::shard::Vocabulary;
use cupola_data::tokenize::tokenizer_digest;
use cupola_io::run::{Record, RunDir};
use cupola_train::lock::Lock;
use cupola_train::setup::load_tokenizer;
use cupola_train::{Config, Outcome, Result, Setup, Stop, Trainer, Watch, config, text_tokenizer};

/// Words in lines, the same each time.
pub fn text() -> String {
    let words = ["the furnace", "is lit", "before", "metal", "and slag", "of the yard", "runs"];
    (0..400)
        .map(|line: usize| words[(line * 5 + line * line) % 7].to_string() + if line % 4 == 3 { ".\n" } else { " " })
        .collect()
}

/// A tokenizer of bytes in a folder, and what its shards say of it.
pub fn byte_tokenizer(place: &Path) -> Vocabulary {
    text_tokenizer::bytes().expect("bytes are distinct").save_dir(place).expect("the folder is ours");
    let tokenizer = load_tokenizer(place).expect("it was just saved");
    Vocabulary { size: 257, separator: Some(256), tokenizer: tokenizer_digest(&tokenizer).expect("it has a form") }
}

/// A shard of one document.
pub fn shard(path: &Path, vocabulary: &Vocabulary, ids: &[u32], text_bytes: u64) {
    let mut writer = ShardWriter::create(path, vocabulary.clone()).expect("the folder is ours");
    writer.begin(true).expect("writable");
    writer.push(ids, None, text_bytes).expect("writable");
    writer.finish().expect("writable");
}

/// A configuration for the text in a folder, with settings on top.
pub fn micro(folder: &Path, sets: &[&str]) -> Config {
    let file = folder.join("text.txt");
    if !file.exists() {
        fs::write(&file, text()).expect("the folder is ours");
    }
    let usual = [
        "model.spec={hidden_size=16,num_hidden_layers=2,attention={num_attention_heads=2}}",
        "tokenizer.kind=chars",
        "steps=12",
        "batch.window=16",
        "batch.rows=4",
        "batch.micro_rows=2",
        "eval.every=5",
        "checkpoint.every=4",
        "checkpoint.keep=9",
        "sample.every=6",
        "sample.tokens=5",
        "data.workers=2",
    ];
    // A model to go on from has its own shape.
    let own = usize::from(sets.iter().any(|set| set.starts_with("model.from=")));
    let sets: Vec<String> = usual[own..].iter().chain(sets).map(|set| set.to_string()).collect();
    let mut config = config::read(None, &sets).expect("the settings are right");
    config.data.paths = vec![file.to_str().expect("UTF-8").to_string()];
    config
}

/// Begins a run.
pub fn begin(out: &Path, config: Config, watch: &mut dyn Watch) -> Result<Trainer> {
    let setup = Setup::prepare(config, out, &mut |_| {})?;
    let run = RunDir::create(out, &setup.info("micro"))?;
    Trainer::open(setup, run, Lock::take(out)?, watch)
}

/// Goes on with a run.
pub fn resume(out: &Path, watch: &mut dyn Watch) -> Result<Trainer> {
    let run = RunDir::open(out)?;
    Trainer::open(Setup::reopen(&run)?, run, Lock::take(out)?, watch)
}

/// Asks to stop at a step, and keeps what was told.
#[derive(Default)]
pub struct Listener {
    pub stop: Stop,
    pub at: Option<u64>,
    pub records: Vec<Record>,
}

impl Watch for Listener {
    fn record(&mut self, record: &Record) {
        if matches!(record, Record::Step(step) if Some(step.step) == self.at) {
            self.stop.ask();
        }
        self.records.push(record.clone());
    }
}

impl Listener {
    /// One that stops the run behind this step.
    pub fn until(step: u64) -> Self {
        Self { at: Some(step), ..Self::default() }
    }

    /// The messages of events of this name.
    pub fn events(&self, name: &str) -> Vec<String> {
        events(&self.records, name)
    }
}

/// The messages of events of this name.
pub fn events(records: &[Record], name: &str) -> Vec<String> {
    let one = |record: &Record| match record {
        Record::Event(event) if event.name == name => Some(event.message.clone()),
        _ => None,
    };
    records.iter().filter_map(one).collect()
}

/// Trains to the end, or to where the listener stops.
pub fn train(trainer: Result<Trainer>, listener: &mut Listener) -> Result<Outcome> {
    let stop = listener.stop.clone();
    trainer?.train(&stop, listener)
}

/// A whole run.
pub fn whole(out: &Path, config: Config) -> Result<Outcome> {
    let mut listener = Listener::default();
    train(begin(out, config, &mut ()), &mut listener)
}

/// All files of a folder by their path in it.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("inside").to_owned();
                all.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    all
}

/// The files of the last checkpoint.
pub fn last(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&RunDir::open(out).and_then(|run| run.checkpoint("last")).expect("there is a checkpoint"))
}

/// Two checkpoints must have the same files.
#[track_caller]
pub fn assert_same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(a.len() >= 8, "{:?}", a.keys());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{} differs", name.display());
    }
}
