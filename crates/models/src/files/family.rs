//! The public families.

use serde_json::Value;

use super::names::Names;
use super::settings::Settings;
use super::{deepseek, gpt2, llama, mamba, mixtral, phi};
use crate::decoder::Decoder;
use crate::spec::{ModelFields, ModelSpec, RopeScaling};

/// A family of public models: how its configuration and its tensors say what ours say.
#[derive(Clone, Copy)]
pub struct Family {
    /// Its `model_type`.
    pub name: &'static str,
    /// From its configuration to ours.
    pub read: fn(&Settings<'_>) -> Result<ModelFields, String>,
    /// From ours to its configuration; need only be right where reading it back gives the same specification, but for
    /// how first values are made.
    pub write: fn(&ModelSpec) -> Value,
    /// From its tensors to ours and back.
    pub names: Names,
}

/// All families, in the order in which one is looked for when a model is saved.
const ALL: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    llama::QWEN2,
    gpt2::GPT2,
    phi::PHI,
    mixtral::MIXTRAL,
    deepseek::DEEPSEEK_V2,
    mamba::MAMBA,
    mamba::MAMBA2,
];

impl Family {
    /// The family of this `model_type`.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|family| family.name == name).copied()
    }

    /// The names of all families.
    pub fn all_names() -> Vec<&'static str> {
        ALL.iter().map(|family| family.name).collect()
    }

    /// The family that can say all of this specification: the first whose configuration is read back as the same.
    pub fn of(spec: &ModelSpec) -> Option<Self> {
        ALL.iter().find(|family| family.says(spec)).copied()
    }

    /// The family of this model: the one whose directory it was read from, where that can still say what it is; two families can
    /// say the same.
    pub fn of_model(model: &Decoder) -> Option<Self> {
        let read = model.family().and_then(Self::named).filter(|family| family.says(model.spec()));
        read.or_else(|| Self::of(model.spec()))
    }

    /// Whether its configuration can say all of this specification, in words that transformers knows.
    fn says(&self, spec: &ModelSpec) -> bool {
        // We read our own word for this stretching, and nobody else does.
        let own_word = matches!(spec.rope_scaling, Some(RopeScaling::Ntk { .. }));
        // Theirs refuses heads of a width of their own that do not divide the model's.
        let heads = spec.attention.as_ref().map_or(1, |attention| attention.num_attention_heads);
        let refused = self.name == "llama" && !spec.hidden_size.is_multiple_of(heads);
        // How first values are made need not be said of a model that has its values.
        let filled = |fields| ModelFields { scale_residual_init: spec.scale_residual_init, ..fields };
        !own_word && !refused && self.fields(&(self.write)(spec)).map(filled).and_then(rule).as_ref() == Ok(spec)
    }

    /// What a configuration of this family says.
    ///
    /// # Errors
    /// When a key is missing, of the wrong type, or changes results in a way that is not modelled.
    pub fn fields(&self, config: &Value) -> Result<ModelFields, String> {
        let settings = Settings::new(config)?;
        let fields = (self.read)(&settings)?;
        settings.finish()?;
        Ok(fields)
    }
}

fn rule(fields: ModelFields) -> Result<ModelSpec, String> {
    ModelSpec::new(fields).map_err(|error| error.to_string())
}
