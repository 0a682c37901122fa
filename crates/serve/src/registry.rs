//! The models of a server: loaded when first asked for, unloaded when nobody asks any more.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
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
    /// Held for moments alone: threads that answer sockets look at it.
    slot: Mutex<Slot>,
    /// Held by who loads or unloads the model, which takes a while.
    moving: Mutex<()>,
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

    /// Whether the first model answers. After its engine has ended it does not until somebody asks for it or calls
    /// [`Registry::revive`].
    pub fn is_ready(&self) -> bool {
        self.entries[0].alive().is_some()
    }

    /// Loads the first model if it is not there, unless somebody does already.
    pub fn revive(&self) {
        let entry = &self.entries[0];
        let moving = match entry.moving.try_lock() {
            Ok(moving) => moving,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // What is wrong is told to whoever asks for the model.
        let _ = entry.load(&self.options, moving);
    }

    /// The entry of `/v1/models` for a name. Of a model that is not loaded its files are read, though not its weights.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn card(&self, name: &str) -> ApiResult<Value> {
        let entry = self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| ApiError::no_model(name))?;
        let served = entry.slot().served.clone();
        Ok(served.map_or_else(|| entry.sketch(&self.options), |served| served.card()))
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
        entry.alive()
    }

    /// Unloads models that nobody has asked for this long. The first one stays.
    pub fn unload(&self, idle: Duration) {
        for entry in self.entries.iter().skip(1).filter(|entry| entry.source.is_some()) {
            let Ok(_moving) = entry.moving.try_lock() else { continue };
            let mut slot = entry.slot();
            let rests = slot.used.is_some_and(|used| used.elapsed() >= idle);
            // Somebody who still reads an answer holds the model.
            if rests && slot.served.as_ref().is_some_and(|served| Arc::strong_count(served) == 1) {
                let served = slot.served.take();
                // Its engine ends now, which takes a step's time.
                drop(slot);
                drop(served);
            }
        }
    }
}

impl Entry {
    fn new(name: String, source: Option<Source>, stats: Arc<Stats>, slot: Slot) -> Self {
        Self { source, name, stats, added: now(), slot: Mutex::new(slot), moving: Mutex::new(()) }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model, if it is loaded and its engine works.
    fn alive(&self) -> Option<Arc<Served>> {
        let mut slot = self.slot();
        slot.used = Some(Instant::now());
        slot.served.clone().filter(|served| served.engine.is_alive())
    }

    fn get(&self, options: &LoadOptions) -> Result<Arc<Served>, StartError> {
        match self.alive() {
            Some(served) => Ok(served),
            None => self.load(options, self.moving.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn load(&self, options: &LoadOptions, _moving: MutexGuard<'_, ()>) -> Result<Arc<Served>, StartError> {
        // Somebody else may have loaded it meanwhile.
        if let Some(served) = self.alive() {
            return Ok(served);
        }
        let gone = || StartError::Setting("its engine has ended, and it came from no directory".into());
        let source = self.source.as_ref().ok_or_else(gone)?;
        // One whose engine has ended makes room first.
        let ended = self.slot().served.take();
        drop(ended);
        let served = Arc::new(Served::load(&source.dir, &self.name, options, Arc::clone(&self.stats))?);
        let mut slot = self.slot();
        slot.used = Some(Instant::now());
        slot.served = Some(Arc::clone(&served));
        Ok(served)
    }

    /// The card of a model that is not loaded, as far as its small files tell.
    fn sketch(&self, options: &LoadOptions) -> Value {
        let mut card = json!({"id": self.name, "object": "model", "created": self.added, "owned_by": "cupola"});
        let Some(source) = &self.source else { return card };
        // A directory that is damaged is found out when its model is asked for.
        if let Ok(spec) = cupola_models::load_spec(&source.dir) {
            card["max_model_len"] = json!(options.context.unwrap_or(spec.max_position_embeddings));
        }
        card["chat_template"] = json!(if has_template(&source.dir) { "model" } else { "plain" });
        card
    }
}

/// Whether a directory brings a chat template: a file of its own, or a text or the `default` of named ones in the tokenizer's settings.
fn has_template(dir: &Path) -> bool {
    let read = || serde_json::from_slice::<Value>(&std::fs::read(dir.join("tokenizer_config.json")).ok()?).ok();
    let in_settings = || {
        let template = read()?.get_mut("chat_template")?.take();
        let named = |one: &Value| one["name"] == "default" && one["template"].is_string();
        Some(template.is_string() || template.as_array().is_some_and(|all| all.iter().any(named)))
    };
    dir.join("chat_template.jinja").is_file() || in_settings() == Some(true)
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
        let sketch = all.card("two").unwrap();
        assert_eq!((&sketch["max_model_len"], &sketch["chat_template"]), (&json!(512), &json!("plain")), "not loaded");
        assert_eq!(all.get(None).err().unwrap().param.as_deref(), Some("model"), "which one?");
        assert_eq!(all.get(Some("three")).err().unwrap().status, 404);
        all.load_first().unwrap();
        let two = all.get(Some("two")).unwrap();
        assert_eq!(all.card("two").unwrap()["max_model_len"], 512);
        all.unload(Duration::ZERO);
        assert!(all.loaded(Some("two")).is_some(), "somebody reads");
        let stats = || all.stats().remove(1).1;
        assert!(stats().pages_free.get() > 0);
        drop(two);
        all.unload(Duration::ZERO);
        assert!(all.loaded(Some("two")).is_none() && all.loaded(Some("one")).is_some(), "the first one stays");
        assert!(Registry::new([sources(), sources()].concat(), LoadOptions::default()).is_err(), "equal names");
        assert!(Registry::new(Vec::new(), LoadOptions::default()).is_err());
    }

    #[test]
    fn the_numbers_of_an_unloaded_model_are_those_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| folder.path().join(name));
        dirs.iter().for_each(|dir| save(dir));
        let sources = dirs.iter().map(|dir| Source::new(dir).unwrap()).collect();
        let all = Registry::new(sources, LoadOptions::default()).unwrap();
        let two = all.get(Some("two")).unwrap();
        let stats = all.stats().remove(1).1;
        crate::testing::events(two.engine.submit(crate::testing::job(&[1; 130], 2, 0)).unwrap());
        crate::testing::eventually(|| stats.prefix_bytes.get() > 0 && stats.running.get() == 0);
        drop(two);
        all.unload(Duration::ZERO);
        assert!(all.loaded(Some("two")).is_none());
        let gauges = [&stats.prefix_bytes, &stats.pages_used, &stats.pages_free, &stats.state_bytes];
        assert_eq!(gauges.map(|gauge| gauge.get()), [0; 4]);
        assert!(stats.prompt_tokens.get() >= 130, "what was counted stays");
    }

    #[test]
    fn the_card_of_a_model_that_is_not_loaded_tells_its_context_and_template() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path());
        let card = |context: Option<usize>| {
            let options = LoadOptions { context, ..LoadOptions::default() };
            let all = Registry::new(vec![Source::new(folder.path()).unwrap()], options).unwrap();
            let before = all.card(&all.entries[0].name).unwrap();
            all.load_first().unwrap();
            let after = all.card(&all.entries[0].name).unwrap();
            for key in ["max_model_len", "chat_template"] {
                assert_eq!(before[key], after[key], "{key}");
            }
            (before["max_model_len"].clone(), before["chat_template"].clone())
        };
        assert_eq!(card(None), (json!(512), json!("plain")));
        assert_eq!(card(Some(100)), (json!(100), json!("plain")));
        let settings = folder.path().join("tokenizer_config.json");
        let mut value: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
        value["chat_template"] = json!([{"name": "default", "template": "{{ messages }}"}]);
        std::fs::write(&settings, value.to_string()).unwrap();
        assert_eq!(card(None).1, "model");
        value["chat_template"] = json!([{"name": "tool_use", "template": "x"}]);
        std::fs::write(&settings, value.to_string()).unwrap();
        assert_eq!(card(None).1, "plain");
        std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
        assert_eq!(card(None).1, "model");
    }

    #[test]
    fn a_model_whose_engine_has_ended_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path());
        let all = Registry::new(vec![Source::new(folder.path()).unwrap()], LoadOptions::default()).unwrap();
        assert!(!all.is_ready());
        all.load_first().unwrap();
        assert!(all.is_ready());
        all.get(None).unwrap().engine.end();
        assert!(!all.is_ready() && all.loaded(None).is_none());
        assert!(all.get(None).unwrap().engine.is_alive() && all.is_ready());
        all.get(None).unwrap().engine.end();
        all.revive();
        assert!(all.is_ready());
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
