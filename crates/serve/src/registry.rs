//! The models of a server: loaded when first asked for, unloaded when nobody asks any more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cupola_io::run::RunDir;
use serde_json::{Value, json};

use crate::engine::Stats;
use crate::error::{ApiError, ApiResult, StartError};
use crate::served::{LoadOptions, Served, now};

/// Where a model comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The model directory.
    pub dir: PathBuf,
    /// Its name on the wire.
    pub name: String,
}

impl Source {
    /// A directory under its own name; of the folder of a training run, its best checkpoint, or else its last.
    ///
    /// # Errors
    /// When the directory does not exist, or is a run that has saved nothing yet.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self, StartError> {
        let dir = dir.into();
        let whole = dir.canonicalize().map_err(|source| StartError::File { path: dir.clone(), source })?;
        let name = whole.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        if !RunDir::is_run(&dir) {
            return Ok(Self { dir, name });
        }
        let problem = |error: cupola_io::Error| StartError::Model { path: dir.clone(), what: error.to_string() };
        let run = RunDir::open(&dir).map_err(problem)?;
        let checkpoint = run.checkpoint("best").or_else(|_| run.checkpoint("last")).map_err(problem)?;
        Ok(Self { dir: checkpoint, name })
    }
}

struct Entry {
    source: Option<Source>,
    name: String,
    stats: Arc<Stats>,
    added: u64,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    served: Option<Arc<Served>>,
    used: Option<Instant>,
}

/// All models of a server.
pub struct Registry {
    entries: Vec<Entry>,
    options: LoadOptions,
}

impl Registry {
    /// Knows these directories; nothing is loaded yet.
    ///
    /// # Errors
    /// When two have the same name, or there is none.
    pub fn new(sources: Vec<Source>, options: LoadOptions) -> Result<Self, StartError> {
        let mut entries: Vec<Entry> = Vec::new();
        for source in sources {
            if entries.iter().any(|entry| entry.name == source.name) {
                return Err(StartError::Setting(format!(
                    "two models are called {:?}; --name gives another name",
                    source.name
                )));
            }
            entries.push(Entry::new(source.name.clone(), Some(source), Arc::default(), Slot::default()));
        }
        if entries.is_empty() {
            return Err(StartError::Setting("there is no model to serve".into()));
        }
        Ok(Self { entries, options })
    }

    /// Serves a model that is in memory.
    pub fn of(served: Served, stats: Arc<Stats>) -> Self {
        let name = served.id.clone();
        let slot = Slot { served: Some(Arc::new(served)), used: None };
        Self { entries: vec![Entry::new(name, None, stats, slot)], options: LoadOptions::default() }
    }

    /// Loads the first model, so that what is wrong with it shows at the start.
    ///
    /// # Errors
    /// When it cannot be served.
    pub fn load_first(&self) -> Result<(), StartError> {
        self.entries[0].get(&self.options).map(|_| ())
    }

    /// The names of all models.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// The numbers of all models.
    pub fn stats(&self) -> Vec<(String, Arc<Stats>)> {
        self.entries.iter().map(|entry| (entry.name.clone(), Arc::clone(&entry.stats))).collect()
    }

    /// The entry of `/v1/models` for a name.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn card(&self, name: &str) -> ApiResult<Value> {
        let entry = self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| ApiError::no_model(name))?;
        let slot = entry.slot.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match &slot.served {
            Some(served) => served.card(),
            None => json!({"id": entry.name, "object": "model", "created": entry.added, "owned_by": "cupola"}),
        })
    }

    /// The model of this name, or the only one; loads it if need be, which may take a while.
    ///
    /// # Errors
    /// When there is no such model, or it cannot be loaded.
    pub fn get(&self, name: Option<&str>) -> ApiResult<Arc<Served>> {
        let entry = match name {
            Some(name) => {
                self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| ApiError::no_model(name))?
            }
            None if self.entries.len() == 1 => &self.entries[0],
            None => {
                let message = "`model` is missing; GET /v1/models lists the models";
                return Err(ApiError { code: Some("missing_required_parameter"), ..ApiError::field("model", message) });
            }
        };
        entry.get(&self.options).map_err(|error| ApiError::server(format!("the model cannot be loaded: {error}")))
    }

    /// A model that is loaded already, without waiting for another one that is being loaded.
    pub fn loaded(&self, name: Option<&str>) -> Option<Arc<Served>> {
        let entry = match name {
            Some(name) => self.entries.iter().find(|entry| entry.name == name)?,
            None if self.entries.len() == 1 => &self.entries[0],
            None => return None,
        };
        let mut slot = entry.slot.try_lock().ok()?;
        slot.used = Some(Instant::now());
        slot.served.clone()
    }

    /// Unloads models that nobody has asked for this long. The first one stays.
    pub fn unload(&self, idle: Duration) {
        for entry in self.entries.iter().skip(1).filter(|entry| entry.source.is_some()) {
            let mut slot = entry.slot.lock().unwrap_or_else(PoisonError::into_inner);
            let rests = slot.used.is_some_and(|used| used.elapsed() >= idle);
            // Somebody who still reads an answer holds the model.
            if rests && slot.served.as_ref().is_some_and(|served| Arc::strong_count(served) == 1) {
                slot.served = None;
            }
        }
    }
}

impl Entry {
    fn new(name: String, source: Option<Source>, stats: Arc<Stats>, slot: Slot) -> Self {
        Self { source, name, stats, added: now(), slot: Mutex::new(slot) }
    }

    fn get(&self, options: &LoadOptions) -> Result<Arc<Served>, StartError> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.used = Some(Instant::now());
        if let Some(served) = &slot.served {
            return Ok(Arc::clone(served));
        }
        let source = self.source.as_ref().ok_or_else(|| StartError::Setting("the model was unloaded".into()))?;
        let served = Arc::new(Served::load(&source.dir, &self.name, options, Arc::clone(&self.stats))?);
        slot.served = Some(Arc::clone(&served));
        Ok(served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{byte_tokenizer, model};
    use cupola_tokenizer::train::BpeTrainer;

    fn save(dir: &std::path::Path) {
        cupola_models::save(dir, &model("")).unwrap();
        BpeTrainer::byte_level(256).unwrap().train(["a"]).unwrap().save_dir(dir).unwrap();
    }

    #[test]
    fn models_are_loaded_when_asked_for_and_unloaded_when_nobody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| folder.path().join(name));
        dirs.iter().for_each(|dir| save(dir));
        let sources = || dirs.iter().map(|dir| Source::new(dir).unwrap()).collect::<Vec<_>>();
        let all = Registry::new(sources(), LoadOptions::default()).unwrap();
        assert_eq!(all.names().collect::<Vec<_>>(), ["one", "two"]);
        assert!(all.loaded(Some("two")).is_none());
        assert_eq!(all.get(None).err().unwrap().param.as_deref(), Some("model"), "which one?");
        assert_eq!(all.get(Some("three")).err().unwrap().status, 404);
        all.load_first().unwrap();
        let two = all.get(Some("two")).unwrap();
        assert_eq!(all.card("two").unwrap()["max_model_len"], 512);
        all.unload(Duration::ZERO);
        assert!(all.loaded(Some("two")).is_some(), "somebody reads");
        drop(two);
        all.unload(Duration::ZERO);
        assert!(all.loaded(Some("two")).is_none() && all.loaded(Some("one")).is_some(), "the first one stays");
        assert!(Registry::new([sources(), sources()].concat(), LoadOptions::default()).is_err(), "equal names");
        assert!(Registry::new(Vec::new(), LoadOptions::default()).is_err());
    }

    #[test]
    fn contexts_beyond_a_table_of_positions_are_refused_and_others_work() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path());
        let load = |context: usize| {
            let options = LoadOptions { context: Some(context), ..LoadOptions::default() };
            Registry::new(vec![Source::new(folder.path()).unwrap()], options).unwrap().get(None)
        };
        assert_eq!(load(100).unwrap().context, 100);
        assert_eq!(load(700).unwrap().context, 700);
        assert!(load(0).is_err());
        cupola_models::save(folder.path(), &model("position = \"learned\"\nnum_hidden_layers = 1\n")).unwrap();
        let error = load(700).err().unwrap().message;
        assert!(error.contains("700") && error.contains("512 positions"), "{error}");
        assert_eq!(load(512).unwrap().context, 512);
    }

    #[test]
    fn a_run_is_served_from_its_best_checkpoint_and_else_from_its_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunDir::create(&path, &cupola_io::run::RunInfo::new("run")).unwrap();
        assert!(Source::new(&path).is_err(), "nothing was saved yet");
        for step in [100, 200] {
            save(&run.checkpoint_path(step));
        }
        run.set_checkpoint("last", 200).unwrap();
        assert!(Source::new(&path).unwrap().dir.ends_with("step-000200"));
        run.set_checkpoint("best", 100).unwrap();
        let source = Source::new(&path).unwrap();
        assert!(source.dir.ends_with("step-000100"));
        assert_eq!(source.name, "run");
        assert!(Registry::new(vec![source], LoadOptions::default()).unwrap().load_first().is_ok());
    }

    #[test]
    fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
        let small = cupola_models::ModelSpec::from_toml(
            "vocab_size = 256\nhidden_size = 8\nattention = { num_attention_heads = 1 }",
        );
        let model = cupola_models::Decoder::new(&small.unwrap());
        let served = Served::new(model, byte_tokenizer(), Vec::new(), "x", Default::default(), Arc::default());
        assert!(served.err().unwrap().contains("257"));
    }
}
