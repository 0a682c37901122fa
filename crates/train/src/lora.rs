//! Fine-tuning by low-rank additions: the weights of `model.from` stay as they are, and a checkpoint holds the additions alone.

use std::path::PathBuf;

use cupola_models::{AdapterInfo, Decoder};
use cupola_nn::Module;
use cupola_nn::lora::{LoraConfig as Numbers, LoraError, adapt, candidates};
use cupola_nn::optim::matches;

use crate::config::{Config, ConfigError, LoraConfig};
use crate::error::{Error, Result};
use crate::setup::model_folder;

/// The directory of the model that additions are trained for.
///
/// # Errors
/// When there is none, or it holds additions itself.
pub(crate) fn base(config: &Config) -> Result<PathBuf> {
    let Some(from) = &config.model.from else {
        return Err(Error::Usage("[lora] needs model.from, the model that additions are trained for".to_string()));
    };
    let folder = model_folder(from, None)?;
    if cupola_models::is_adapter(&folder) {
        let folder = folder.display();
        return Err(Error::Usage(format!(
            "{folder}: these are low-rank additions, expected a whole model: `cupola model merge` makes one of them"
        )));
    }
    folder.canonicalize().map_err(Error::io(&folder, "open"))
}

/// What stands beside the additions of this configuration in a checkpoint.
///
/// # Errors
/// When the model that they are for cannot be read.
pub fn info(config: &Config, lora: &LoraConfig) -> Result<AdapterInfo> {
    let base = base(config)?;
    let base_hash = cupola_models::fingerprint(&base)?;
    let LoraConfig { rank, alpha, dropout, .. } = *lora;
    Ok(AdapterInfo { rank, alpha, dropout, base, base_hash })
}

/// Whether a target of the configuration means this projection: its name, the end of it, or a pattern of either.
fn means(target: &str, name: &str) -> bool {
    matches(target, name) || matches(&format!("*.{target}"), name)
}

/// Freezes `model` and gives the configured projections additions without values.
///
/// # Errors
/// When a target means no projection, or one that cannot have an addition.
pub fn shape(model: &mut Decoder, lora: &LoraConfig) -> Result<()> {
    let all: Vec<String> = candidates(model).into_iter().filter(|name| name.starts_with("layers.")).collect();
    for target in &lora.targets {
        if !all.iter().any(|name| means(target, name)) {
            let mut ends: Vec<&str> = all.iter().filter_map(|name| name.rsplit('.').next()).collect();
            ends.sort_unstable();
            ends.dedup();
            let place = "lora.targets".to_string();
            let reason = format!("`{target}` means no projection; the model has {}", ends.join(", "));
            return Err(ConfigError { place, reason }.into());
        }
    }
    let chosen = |name: &str| {
        name.starts_with("layers.")
            && (lora.targets.is_empty() || lora.targets.iter().any(|target| means(target, name)))
    };
    let LoraConfig { rank, alpha, dropout, .. } = *lora;
    let wrong = |error: LoraError| Error::Config(ConfigError { place: "lora".to_string(), reason: error.to_string() });
    adapt(model, &Numbers { rank, alpha, dropout }, chosen).map_err(wrong)?;
    Ok(())
}

/// The model that a run of additions begins with.
///
/// # Errors
/// As [`shape`], and when the model cannot be read.
pub fn begin(config: &Config, lora: &LoraConfig) -> Result<Decoder> {
    let mut model = cupola_models::load(base(config)?)?;
    shape(&mut model, lora)?;
    Ok(model.init_missing(config.seed))
}
