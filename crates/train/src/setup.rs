//! From a configuration to everything that a run needs: tokenizer, tokens, model, and all choices made.

use std::path::{Path, PathBuf};

use cupola_core::pool;
use cupola_data::input::{self, Extent, Format};
use cupola_data::read::ReadOptions;
use cupola_data::tokenize::{Progress, separator_of};
use cupola_data::{Dataset, Source, TokenizeOptions, tokenize};
use cupola_io::run::{CodeInfo, DataInfo, ModelInfo, RunDir, RunInfo, Status};
use cupola_models::spec::FAMILIES;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tokenizer::Tokenizer;

use crate::automatic::{self, Facts};
use crate::config::{Compute, Config, ModelConfig};
use crate::error::{Error, Result};
use crate::{memory, text_tokenizer, trainer};

/// What is going on before the first step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Preparing {
    /// A tokenizer is being trained: tokens so far, and wanted.
    Tokenizer {
        /// Tokens so far.
        tokens: usize,
        /// Tokens wanted.
        of: usize,
    },
    /// Text is being turned into tokens.
    Tokens(Progress),
}

/// Everything that a run needs.
pub struct Setup {
    /// The configuration with every choice made.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The model's specification.
    pub spec: ModelSpec,
    /// What is trained on.
    pub sources: Vec<Source>,
    /// What is held out of each source.
    pub held_out: Vec<Dataset>,
    /// The memory it will take.
    pub memory: memory::Estimate,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of those that are trained.
    pub trainable: usize,
    /// Files that were left out because they are no text.
    pub skipped: Vec<PathBuf>,
    /// Bad lines and files that `data.on_bad = "skip"` left out.
    pub left_out: u64,
    /// Characters of the held-out text for which the training text gave no token; one token stands for all of them.
    pub unknown: u64,
}

/// The folder inside a run that holds its tokens.
pub fn data_folder(run: &Path) -> PathBuf {
    run.join("data")
}

/// The file that standard input becomes.
fn standard_input(run: &Path) -> PathBuf {
    data_folder(run).join("standard-input.txt")
}

fn part(run: &Path, name: &str, index: usize) -> PathBuf {
    data_folder(run).join(format!("{name}-{index}"))
}

/// What was found for one source.
struct Found {
    weight: f64,
    train: Vec<Extent>,
    held: Vec<Extent>,
    /// Shards that are used as they are.
    ready: Option<Dataset>,
}

impl Found {
    /// Bytes of the text to train on; of shards that do not say, four for each token.
    fn bytes(&self, held_out: f64) -> u64 {
        match &self.ready {
            None => self.train.iter().map(Extent::len).sum(),
            Some(ready) => {
                let all = ready.text_bytes().unwrap_or(4 * ready.len() as u64);
                (all as f64 * (1.0 - held_out)) as u64
            }
        }
    }
}

impl Setup {
    /// Prepares a run in the folder `run`, which is made: reads the text, makes a tokenizer if there is none, turns all text into
    /// tokens, and makes the choices that were left open. What an interrupted call has done is not done again.
    ///
    /// # Errors
    /// When the text, the tokenizer or the configuration cannot be used, or memory will not do.
    pub fn prepare(config: Config, run: &Path, progress: &mut dyn FnMut(Preparing)) -> Result<Self> {
        let mut config = config;
        config.check()?;
        config.make_paths_absolute();
        if let Some(from) = &config.model.from {
            sound_folder(from, None)?;
        }
        if config.lora.is_some() {
            crate::lora::base(&config)?;
        }
        std::fs::create_dir_all(data_folder(run)).map_err(Error::io(run, "create"))?;
        let (found, skipped) = find(&config, run)?;
        let bytes = found.iter().map(|source| source.bytes(config.data.held_out)).sum();
        let mut unknown = 0;
        let tokenizer = tokenizer(&mut config, &found, bytes, run, &mut unknown, progress)?;
        let Tokens { sources, held_out, left_out } = tokens(&config, &found, &tokenizer, run, progress)?;
        let facts = Facts {
            bytes,
            tokens: sources.iter().map(|source| source.dataset.len() as u64).sum(),
            documents: sources.iter().map(|source| source.dataset.documents() as u64).sum(),
            conversations: sources.iter().any(|s| s.dataset.shards().any(|(shard, _)| shard.is_marked())),
            vocab_size: tokenizer.vocab_size(),
            memory: automatic::machine_memory(),
        };
        let family = match &config.model {
            ModelConfig { preset: Some(name), .. } => FAMILIES.iter().find(|family| **family == name.as_str()).copied(),
            ModelConfig { spec: None, from: None, .. } => Some(automatic::FAMILY),
            _ => None,
        };
        if let Some(family) = family {
            let name = automatic::preset(family, &facts).map_err(|error| Error::Usage(error.to_string()))?;
            config.model.preset = Some(name);
        }
        let spec = spec(&config, tokenizer.vocab_size())?;
        let parameters = Decoder::new(&spec).parameter_count();
        automatic::complete(&mut config, &facts, &spec, parameters);
        let memory = memory::Estimate::default();
        let (parameters, trainable) = (0, 0);
        Self { config, tokenizer, spec, sources, held_out, memory, parameters, trainable, skipped, left_out, unknown }
            .checked(facts.memory)
    }

    /// The setup of a run that has begun: nothing is chosen again.
    ///
    /// # Errors
    /// When the run's folder lacks something, its data has changed, or memory will not do.
    pub fn reopen(run: &RunDir) -> Result<Self> {
        Self::look(run)?.checked(automatic::machine_memory())
    }

    /// The setup of a run that has begun, to look at what it has: memory is not estimated.
    ///
    /// # Errors
    /// When the run's folder lacks something, or its data has changed.
    pub fn look(run: &RunDir) -> Result<Self> {
        let info = run.info()?;
        let path = run.path();
        let config: Config = serde_json::from_value(serde_json::Value::Object(info.config.clone()))
            .map_err(|error| Error::Refused(format!("{}: the configuration in run.json: {error}", path.display())))?;
        let place = data_folder(path).join("tokenizer");
        let tokenizer = load_tokenizer(&place)?;
        let (mut sources, mut held_out) = (Vec::new(), Vec::new());
        for (index, (paths, weight)) in groups(&config).into_iter().enumerate() {
            let (train, held) = (part(path, "train", index), part(path, "held-out", index));
            if train.is_dir() {
                sources.push(Source { dataset: Dataset::open(&train)?, weight });
                if held.is_dir() {
                    held_out.push(Dataset::open(&held)?);
                }
            } else {
                let input = |given: &String| match given.as_str() {
                    "-" => standard_input(path).display().to_string(),
                    given => given.to_string(),
                };
                let paths: Vec<String> = paths.iter().map(input).collect();
                let found = input::find(&paths, config.data.format)?;
                let shards = found.extents.iter().map(|extent| cupola_data::Shard::open(&extent.path));
                let (train, held) = cut(&Dataset::new(shards.collect::<Result<_, _>>()?)?, config.data.held_out)?;
                sources.push(Source { dataset: train, weight });
                held_out.extend(held);
            }
        }
        let hash = data_hash(&sources);
        if hash != info.data.hash {
            let (found, expected) = (&hash[..12], info.data.hash.get(..12).unwrap_or_default());
            let place = data_folder(path);
            return Err(Error::Refused(format!("{}: the data is {found}, expected {expected}", place.display())));
        }
        let spec = spec(&config, tokenizer.vocab_size())?;
        Ok(Self {
            config,
            tokenizer,
            spec,
            sources,
            held_out,
            memory: memory::Estimate::default(),
            parameters: 0,
            trainable: 0,
            skipped: Vec::new(),
            left_out: 0,
            unknown: 0,
        })
    }

    /// Checks that the numbers fit the text and a machine with so many bytes of memory, and estimates what the run takes of them.
    ///
    /// # Errors
    /// When they do not fit, with the numbers.
    pub fn checked(mut self, machine: u64) -> Result<Self> {
        let Config { batch, .. } = &self.config;
        let (window, longest) = (batch.window.unwrap_or(1), self.spec.longest().unwrap_or(usize::MAX));
        if window > longest {
            return Err(Error::Refused(format!(
                "batch.window = {window} is longer than max_position_embeddings = {longest} of the model"
            )));
        }
        let tokens = self.sources.iter().map(|source| source.dataset.len()).min().unwrap_or(0);
        if window >= tokens {
            return Err(Error::Refused(format!(
                "batch.window = {window} does not fit into a text of {tokens} tokens to train on: it needs at least {}",
                window + 1
            )));
        }
        let known = self.tokenizer.vocab_size() as u64;
        let data = self.sources[0].dataset.vocab_size();
        if data > known.max(self.spec.vocab_size as u64) {
            return Err(Error::Refused(format!("the data has ids up to {data}, the tokenizer {known} tokens")));
        }
        let model = trainer::shape(&self.config, &self.spec)?;
        (self.parameters, self.trainable) = (model.parameter_count(), model.trainable_count());
        let parts = self.sources.iter().map(|source| &source.dataset).chain(&self.held_out);
        let bytes = |data: &Dataset| data.shards().map(|(shard, tokens)| shard.bytes_of(tokens.len())).sum::<u64>();
        let data = parts.map(bytes).sum();
        self.memory = memory::estimate(&self.config, &model, data, machine);
        let (needed, there) = (self.memory.total(), machine);
        if needed > there {
            let mib = |bytes: u64| bytes >> 20;
            return Err(Error::Refused(format!(
                "the run would take about {} MB of the machine's {} MB (a step {} MB, the rest {} MB): set a smaller \
                 batch.micro_rows (now {}), model.gradient_checkpointing=all, or a smaller preset",
                mib(needed),
                mib(there),
                mib(self.memory.step),
                mib(needed - self.memory.step),
                self.config.batch.micro_rows.unwrap_or(1),
            )));
        }
        Ok(self)
    }

    /// What `run.json` says of this run.
    pub fn info(&self, name: &str) -> RunInfo {
        let config = serde_json::to_value(&self.config).expect("a configuration is plain data");
        let model = match (&self.config.model.preset, &self.config.model.from) {
            (Some(preset), _) => preset.clone(),
            (None, Some(from)) => from.display().to_string(),
            (None, None) => "spec".to_string(),
        };
        RunInfo {
            status: Status::Running,
            seed: self.config.seed,
            threads: pool::threads(),
            isa: cupola_cpu::isa().name().to_string(),
            dtype: if self.config.dtype == Compute::Bf16 { "bf16" } else { "f32" }.to_string(),
            config: config.as_object().cloned().unwrap_or_default(),
            model: ModelInfo { preset: model, parameters: self.parameters as u64 },
            data: DataInfo {
                hash: data_hash(&self.sources),
                tokens: self.sources.iter().map(|source| source.dataset.len() as u64).sum(),
                bytes: self.sources.iter().filter_map(|source| source.dataset.text_bytes()).sum(),
            },
            code: CodeInfo { version: env!("CARGO_PKG_VERSION").to_string(), hash: program_hash() },
            ..RunInfo::new(name)
        }
    }
}

/// The checksum of the file that is running.
fn program_hash() -> String {
    let path = std::env::current_exe().ok();
    path.and_then(|path| cupola_data::digest::of_file(&path).ok()).unwrap_or_default()
}

fn data_hash(sources: &[Source]) -> String {
    let all: Vec<String> = sources.iter().map(|source| source.dataset.hash()).collect();
    cupola_data::digest::hex(&cupola_data::digest::digest(all.join("\n").as_bytes()))
}

/// The specification of a configuration; of a model to go on from, with more tokens if the tokenizer has them.
fn spec(config: &Config, vocab_size: usize) -> Result<ModelSpec> {
    let wrong = |error: cupola_models::SpecError| Error::Usage(error.to_string());
    let Some(from) = &config.model.from else { return automatic::spec(config, vocab_size).map_err(wrong) };
    let found = cupola_models::load_spec(model_folder(from, None)?)?;
    let mut fields = found.fields().clone();
    if config.lora.is_some() {
        let has = fields.vocab_size;
        if vocab_size > has {
            let text = format!(
                "the tokenizer has {vocab_size} tokens and the model {has}, whose table [lora] leaves as it is"
            );
            return Err(Error::Refused(text));
        }
        if config.model.dropout.is_some() {
            let text = "model.dropout means nothing with [lora], which has lora.dropout for its additions";
            return Err(Error::Usage(text.to_string()));
        }
    }
    fields.vocab_size = fields.vocab_size.max(vocab_size);
    if let Some(dropout) = config.model.dropout {
        (fields.dropout, fields.embedding_dropout) = (dropout, None);
    }
    ModelSpec::new(fields).map_err(wrong)
}

/// The model directory behind a path: itself, or of a run the checkpoint of this name, `best` before `last` without one.
///
/// # Errors
/// When there is none.
pub fn model_folder(path: &Path, checkpoint: Option<&str>) -> Result<PathBuf> {
    if !RunDir::is_run(path) {
        return match checkpoint {
            None => Ok(path.to_owned()),
            Some(name) => Err(Error::Usage(format!("{} is no run, so it has no checkpoint `{name}`", path.display()))),
        };
    }
    let run = RunDir::open(path)?;
    match checkpoint {
        Some(name) => Ok(run.checkpoint(name)?),
        None => Ok(run.checkpoint("best").or_else(|_| run.checkpoint("last"))?),
    }
}

/// [`model_folder`], whose files are as they were written where it carries checksums.
///
/// # Errors
/// When there is none, or a file is damaged, with its name.
pub fn sound_folder(path: &Path, checkpoint: Option<&str>) -> Result<PathBuf> {
    let folder = model_folder(path, checkpoint)?;
    crate::checkpoint::verify_model(&folder)?;
    Ok(folder)
}

/// Whether shards are of this tokenizer.
///
/// # Errors
/// When they are not, with both checksums.
pub fn same_tokenizer(data: &Dataset, tokenizer: &Tokenizer) -> Result<()> {
    let expected = cupola_data::digest::hex(&cupola_data::tokenize::tokenizer_digest(tokenizer)?);
    if data.tokenizer() != expected {
        let (found, expected) = (&data.tokenizer()[..12], &expected[..12]);
        return Err(Error::Refused(format!("the shards are of the tokenizer {found}, not of {expected}")));
    }
    Ok(())
}

/// A tokenizer from a file or model directory.
///
/// # Errors
/// When there is none that can be read.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    let place = path.display().to_string();
    let loaded = if path.is_dir() { Tokenizer::from_dir(path) } else { Tokenizer::from_path(path) };
    loaded.map_err(|source| Error::Tokenizer { place, source })
}

/// The sources of a configuration with their weights. Without any it is the text that the program carries, which has no path.
fn groups(config: &Config) -> Vec<(&[String], f64)> {
    let data = &config.data;
    let own = !data.paths.is_empty() || data.sources.is_empty();
    let first = own.then_some((data.paths.as_slice(), data.weight));
    first.into_iter().chain(data.sources.iter().map(|source| (source.paths.as_slice(), source.weight))).collect()
}

fn find(config: &Config, run: &Path) -> Result<(Vec<Found>, Vec<PathBuf>)> {
    let mut all = Vec::new();
    let mut skipped = Vec::new();
    for (paths, weight) in groups(config) {
        let mut extents = Vec::new();
        if paths.is_empty() {
            let file = data_folder(run).join("carried.txt");
            extents.push(input::spool(crate::carried::text().as_bytes(), &file, Some(Format::Text))?);
        }
        for path in paths {
            if path == "-" {
                extents.push(input::spool(std::io::stdin().lock(), &standard_input(run), config.data.format)?);
            } else {
                let found = input::find(&[path], config.data.format)?;
                skipped.extend(found.skipped);
                extents.extend(found.extents);
            }
        }
        let shards = extents.iter().filter(|extent| extent.format == Format::Shard).count();
        if shards > 0 && shards == extents.len() {
            let shards = extents.iter().map(|extent| cupola_data::Shard::open(&extent.path));
            let ready = Dataset::new(shards.collect::<Result<_, _>>()?)?;
            ready.verify()?;
            all.push(Found { weight, train: Vec::new(), held: Vec::new(), ready: Some(ready) });
        } else {
            let (train, held) = input::split(&extents, 1.0 - config.data.held_out)?;
            all.push(Found { weight, train, held, ready: None });
        }
    }
    Ok((all, skipped))
}

fn cut(ready: &Dataset, held_out: f64) -> Result<(Dataset, Option<Dataset>)> {
    if held_out > 0.0 {
        let (train, held) = ready.split(1.0 - held_out)?;
        Ok((train, Some(held)))
    } else {
        Ok((ready.clone(), None))
    }
}

fn read_options(config: &Config) -> ReadOptions {
    ReadOptions { field: config.data.field.clone(), on_bad: config.data.on_bad, ..ReadOptions::default() }
}

/// Loads or makes the tokenizer, and keeps it in the run's folder.
fn tokenizer(
    config: &mut Config,
    found: &[Found],
    bytes: u64,
    run: &Path,
    unknown: &mut u64,
    progress: &mut dyn FnMut(Preparing),
) -> Result<Tokenizer> {
    let from = config.model.from.as_ref().map(|from| model_folder(from, None)).transpose()?;
    let options = read_options(config);
    let train: Vec<Extent> = found.iter().flat_map(|source| source.train.clone()).collect();
    let place = data_folder(run).join("tokenizer");
    let ready = found.iter().any(|source| source.ready.is_some());
    let tokenizer = match (config.tokenizer.kind.as_deref(), from) {
        (None, Some(from)) => load_tokenizer(&from)?,
        (None, None) if ready => {
            return Err(Error::Usage(
                "token shards need the tokenizer that made them: give --tokenizer PATH".to_string(),
            ));
        }
        (None | Some("bpe"), _) => {
            config.tokenizer.kind = Some("bpe".to_string());
            let size = *config.tokenizer.vocab_size.get_or_insert(automatic::vocab_size(bytes));
            text_tokenizer::bpe(&train, &options, size, &mut |step| {
                if let cupola_tokenizer::train::Progress::Learning { tokens, of } = step {
                    progress(Preparing::Tokenizer { tokens, of });
                }
            })?
        }
        (Some("chars"), _) => {
            let held: Vec<Extent> = found.iter().flat_map(|source| source.held.clone()).collect();
            let (tokenizer, missing) = text_tokenizer::chars(&train, &held, &options)?;
            *unknown = missing;
            tokenizer
        }
        (Some("bytes"), _) => text_tokenizer::bytes()?,
        (Some(path), _) => {
            let path = Path::new(path);
            if !path.exists() {
                return Err(Error::Usage(format!(
                    "tokenizer.kind = {}: expected bpe, chars, bytes or the path of a tokenizer",
                    path.display()
                )));
            }
            load_tokenizer(path)?
        }
    };
    let wrong = |source| Error::Tokenizer { place: place.display().to_string(), source };
    tokenizer.save_dir(&place).map_err(wrong)?;
    // From the file, as a resumed run has it, so that both have the same checksum.
    load_tokenizer(&place)
}

/// The text as tokens.
struct Tokens {
    sources: Vec<Source>,
    held_out: Vec<Dataset>,
    /// Bad lines and files.
    left_out: u64,
}

fn tokens(
    config: &Config,
    found: &[Found],
    tokenizer: &Tokenizer,
    run: &Path,
    progress: &mut dyn FnMut(Preparing),
) -> Result<Tokens> {
    let options = TokenizeOptions {
        separator: separator_of(tokenizer),
        field: config.data.field.clone(),
        on_bad: config.data.on_bad,
        ..TokenizeOptions::default()
    };
    let (mut sources, mut held_out, mut left_out) = (Vec::new(), Vec::new(), 0);
    for (index, source) in found.iter().enumerate() {
        if let Some(ready) = &source.ready {
            same_tokenizer(ready, tokenizer)?;
            let (train, held) = cut(ready, config.data.held_out)?;
            sources.push(Source { dataset: train, weight: source.weight });
            held_out.extend(held);
            continue;
        }
        let mut make = |name: &str, extents: &[Extent]| -> Result<Dataset> {
            let folder = part(run, name, index);
            let show = &mut |p| progress(Preparing::Tokens(p));
            let (made, manifest) = tokenize(&folder, extents, tokenizer, &options, show)?;
            left_out += manifest.skipped;
            Ok(made)
        };
        sources.push(Source { dataset: make("train", &source.train)?, weight: source.weight });
        if source.held.iter().any(|extent| !extent.is_empty()) {
            held_out.push(make("held-out", &source.held)?);
        }
    }
    Ok(Tokens { sources, held_out, left_out })
}
