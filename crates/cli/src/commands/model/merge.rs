//! `cupola model merge`.

use crate::exit::Failure;
use clap::Args;
use cupola_models::{fingerprint, is_adapter, load_adapter, save};
use cupola_nn::lora;
use cupola_train::setup::{load_tokenizer, sound_folder};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Merge {
    /// A run that trained low-rank additions (`train --lora`), or a directory with an adapter_config.json
    model: PathBuf,
    /// The directory for the whole model
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Which checkpoint of a run
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Where the model is that the additions are for, if not where they say
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Files that go along where they are there.
const ALONG: [&str; 1] = ["generation_config.json"];

impl Merge {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = sound_folder(&self.model, self.checkpoint.as_deref())?;
        if !is_adapter(&folder) {
            let text = format!("{}: a whole model, expected low-rank additions to one", folder.display());
            return Err(Failure::Usage(text).into());
        }
        if self.out.join("config.json").exists() {
            return Err(Failure::Usage(format!("{}: there is a model already", self.out.display())).into());
        }
        let base = self.base.as_deref().map(|base| sound_folder(base, None)).transpose()?;
        let (mut model, info) = load_adapter(&folder, base.as_deref())?;
        let merged = lora::merge(&mut model);
        // The tokenizer of a public directory of additions is often beside the model alone.
        let tokenizer = load_tokenizer(&folder).or_else(|_| load_tokenizer(&info.base))?;
        save(&self.out, &model)?;
        tokenizer.save_dir(&self.out)?;
        for name in ALONG {
            if let Some(found) = [&folder, &info.base].map(|place| place.join(name)).iter().find(|path| path.is_file())
            {
                cupola_io::atomic::write_bytes(self.out.join(name), &std::fs::read(found)?)?;
            }
        }
        self.say(merged, &info.base)
    }

    fn say(&self, merged: usize, base: &Path) -> anyhow::Result<()> {
        let out = &self.out;
        if self.json {
            crate::output::line(json!({ "out": out, "base": base, "merged": merged, "sha256": fingerprint(out)? }))?;
        } else {
            crate::output::line(format_args!(
                "{}: {merged} low-rank additions merged into the weights of {}",
                out.display(),
                base.display()
            ))?;
        }
        Ok(())
    }
}
