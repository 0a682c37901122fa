//! What is trained or run: the definitions that the peers' scripts share.

use clap::ValueEnum;
use cupola_models::ModelSpec;
use cupola_train::config::{OptimizerConfig, OptimizerKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// nanoGPT's preset for CPUs: 4 layers, 4 heads, 128 wide, 12 windows of 64
    Nano,
    /// nanoGPT's character model: 6 layers, 6 heads, 384 wide, 16 windows of 256
    Baby,
    /// GPT-2 with 124M parameters, 2 windows of 256
    Gpt2,
    /// Mamba with 10.3M parameters: 6 layers, 512 wide, 8 windows of 64
    Mamba,
    /// A LLaMA of 110M parameters, for reading and writing
    Infer110m,
}

/// A work: the model, and for training the rows and tokens of a step.
pub struct Definition {
    pub spec: ModelSpec,
    pub rows: usize,
    pub window: usize,
}

impl Work {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The definition.
    pub fn definition(self) -> anyhow::Result<Definition> {
        // All GPTs: pre-norm, learned positions, tied head, no dropout.
        let gpt = |layers: usize, heads: usize, width: usize, window: usize, vocab: usize, bias: bool| {
            let (channel, norm) = if bias { ("mlp_tanh", "layer_norm") } else { ("mlp", "layer_norm_without_bias") };
            ModelSpec::from_toml(&format!(
                "vocab_size = {vocab}\nhidden_size = {width}\nnum_hidden_layers = {layers}\nchannel = \"{channel}\"\n\
                 mlp_bias = {bias}\nnorm = \"{norm}\"\nposition = \"learned\"\nmax_position_embeddings = {window}\n\
                 tie_word_embeddings = true\nscale_residual_init = true\n\
                 attention = {{ num_attention_heads = {heads}, attention_bias = {bias}, output_bias = {bias} }}"
            ))
        };
        let (spec, rows, window) = match self {
            Self::Nano => (gpt(4, 4, 128, 64, 65, false)?, 12, 64),
            Self::Baby => (gpt(6, 6, 384, 256, 65, false)?, 16, 256),
            Self::Gpt2 => {
                let spec = gpt(12, 12, 768, 1024, 50_257, true)?;
                (spec, 2, 256)
            }
            Self::Mamba => {
                let spec = ModelSpec::from_toml(
                    "vocab_size = 256\nhidden_size = 512\nnum_hidden_layers = 6\npattern = [\"mamba+none\"]\n\
                     position = \"none\"\ntie_word_embeddings = true\nmamba = { state_size = 16, time_step_rank = 32 }",
                )?;
                (spec, 8, 64)
            }
            Self::Infer110m => {
                let spec = ModelSpec::from_toml(
                    "vocab_size = 32000\nhidden_size = 768\nnum_hidden_layers = 12\nintermediate_size = 2048\n\
                     tie_word_embeddings = true\nattention = { num_attention_heads = 12 }",
                )?;
                (spec, 2, 256)
            }
        };
        Ok(Definition { spec, rows, window })
    }

    /// The norm that gradients are brought down to; 0 for GPT-2, whose peers do not clip.
    pub fn clip(self) -> f64 {
        if self == Self::Gpt2 { 0.0 } else { 1.0 }
    }
}

/// AdamW as all works have it, without weight decay of vectors.
pub fn adamw() -> OptimizerConfig {
    OptimizerConfig {
        kind: OptimizerKind::Adamw,
        learning_rate: Some(RATE),
        weight_decay: 0.1,
        betas: [0.9, 0.99],
        ..OptimizerConfig::default()
    }
}

/// The learning rate of all works.
pub const RATE: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_models::Decoder;
    use cupola_nn::Module;

    #[test]
    fn works_have_as_many_parameters_as_their_definitions_say() {
        let count = |work: Work| Decoder::new(&work.definition().expect("a specification").spec).parameter_count();
        let works = [Work::Nano, Work::Baby, Work::Gpt2, Work::Mamba];
        assert_eq!(works.map(count), [804_096, 10_745_088, 124_439_808, 10_302_976]);
    }
}
