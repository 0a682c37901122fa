//! Which tokenizer: a name, or a file of any format that the library reads.

use crate::exit::Failure;
use anyhow::Context;
use clap::Args;
use cupola_tokenizer::split::patterns;
use cupola_tokenizer::{Tokenizer, agent, vocabularies};
use std::path::Path;

#[derive(Args)]
pub struct Choice {
    /// A vocabulary by name (cl100k_base, o200k_base, ...) or a path: tokenizer.json, a model directory, SentencePiece .model,
    /// tekken.json, GGUF, .tiktoken
    #[arg(short, long, value_name = "NAME|PATH")]
    tokenizer: String,
    #[command(flatten)]
    details: Details,
}

/// What the name or the file leaves open.
#[derive(Args)]
pub struct Details {
    /// How text is cut before merging, for a .tiktoken file: the name of a vocabulary, or a regular expression
    #[arg(long, value_name = "NAME|REGEX")]
    pattern: Option<String>,
    /// Add the 54 agent tokens, from the place that the vocabulary has for them or from this id on
    #[arg(long, value_name = "ID", num_args = 0..=1, require_equals = true)]
    agent_tokens: Option<Option<u32>>,
}

impl Choice {
    /// Loads it.
    ///
    /// # Errors
    /// When there is no such vocabulary or file, or the file is refused.
    pub fn load(&self) -> anyhow::Result<Tokenizer> {
        self.details.load(&self.tokenizer)
    }
}

impl Details {
    /// Loads the tokenizer of that name or path.
    ///
    /// # Errors
    /// As [`Choice::load`].
    pub fn load(&self, name: &str) -> anyhow::Result<Tokenizer> {
        let path = Path::new(name);
        let tokenizer = if !path.exists() && !name.contains(['/', '\\', '.']) {
            self.refuse_pattern(name)?;
            Tokenizer::named(name)
                .map_err(|error| Failure::Usage(format!("{error}; there is no file {name} either")))?
        } else if path.extension().is_some_and(|extension| extension == "tiktoken") {
            self.tiktoken(path)?
        } else {
            self.refuse_pattern(name)?;
            Tokenizer::from_path(path).map_err(|error| match error {
                // These name the file themselves.
                error @ (cupola_tokenizer::Error::File { .. } | cupola_tokenizer::Error::Config(_)) => error.into(),
                error => anyhow::Error::new(error).context(name.to_owned()),
            })?
        };
        match self.agent_tokens {
            None => Ok(tokenizer),
            Some(base) => {
                let base = base.or_else(|| agent::base(name)).unwrap_or(tokenizer.vocab_size() as u32);
                tokenizer.with_agent_tokens(base).context("--agent-tokens")
            }
        }
    }

    fn refuse_pattern(&self, name: &str) -> Result<(), Failure> {
        match self.pattern {
            None => Ok(()),
            Some(_) => Err(Failure::Usage(format!("--pattern is for .tiktoken files; {name} has its own"))),
        }
    }

    /// The file does not say how text is cut. Without `--pattern`, the file's name may.
    fn tiktoken(&self, path: &Path) -> anyhow::Result<Tokenizer> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let pattern = self.pattern.as_deref().or_else(|| patterns::by_name(stem).map(|_| stem));
        let pattern = pattern.ok_or_else(|| {
            Failure::Usage(format!(
                "{}: a .tiktoken file does not say how text is cut; give --pattern with one of {} or a regular expression",
                path.display(),
                patterns::NAMED.map(|(name, _)| name).join(", ")
            ))
        })?;
        let special = if self.pattern.is_none() { vocabularies::special_tokens(stem) } else { &[] };
        let tokenizer = Tokenizer::from_tiktoken_file(path, pattern, special.iter().copied());
        tokenizer.with_context(|| path.display().to_string())
    }
}
