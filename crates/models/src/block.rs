//! One layer of a model.

use cupola_nn::Module;
use cupola_tensor::Tensor;

use crate::channels::Channel;
use crate::mixers::{Context, Mixer};
use crate::norm::{Norm, Stream};
use crate::spec::{ModelSpec, ResidualKind};
use crate::state::MixerState;

/// A mixer and a channel mixer, each with its norm, added to the stream as [`ResidualKind`] says.
#[derive(Module, Clone)]
pub struct Block {
    /// The norm of the mixer.
    pub input_layernorm: Norm,
    /// What moves information between tokens.
    #[module(flatten)]
    pub mixer: Mixer,
    /// The norm of the channel mixer, where it has one of its own.
    pub post_attention_layernorm: Option<Norm>,
    /// What works on each token alone.
    #[module(flatten)]
    pub channel: Option<Channel>,
    #[module(skip)]
    residual: ResidualKind,
    dropout: f64,
}

impl Block {
    /// Layer `index` of the specification.
    pub fn new(spec: &ModelSpec, index: usize) -> Self {
        let (mixer, channel) = spec.layer(index);
        let norm = || Norm::new(spec.norm, spec.hidden_size, spec.norm_eps);
        let channel = Channel::new(channel, spec);
        let separate = channel.is_some() && spec.residual != ResidualKind::Parallel;
        Self {
            input_layernorm: norm(),
            mixer: Mixer::new(mixer, spec, index),
            post_attention_layernorm: separate.then(norm),
            channel,
            residual: spec.residual,
            dropout: spec.dropout,
        }
    }

    fn drop(&self, x: Tensor) -> Tensor {
        if self.dropout > 0.0 { x.dropout(self.dropout) } else { x }
    }

    /// Adds to the stream what the layer makes of it.
    #[track_caller]
    pub(crate) fn forward(&self, stream: &mut Stream, context: &Context, states: Option<Vec<&mut MixerState>>) {
        match (self.residual, &self.channel) {
            (ResidualKind::Pre, channel) => {
                let x = self.input_layernorm.of(stream);
                stream.add(self.drop(self.mixer.forward(&x, context, states)));
                if let (Some(channel), Some(norm)) = (channel, &self.post_attention_layernorm) {
                    let x = norm.of(stream);
                    stream.add(self.drop(channel.forward(&x, &context.segments)));
                }
            }
            (ResidualKind::Parallel, channel) => {
                let x = self.input_layernorm.of(stream);
                stream.add(self.drop(self.mixer.forward(&x, context, states)));
                if let Some(channel) = channel {
                    stream.add(self.drop(channel.forward(&x, &context.segments)));
                }
            }
            (ResidualKind::Post, channel) => {
                let x = stream.value();
                stream.add(self.drop(self.mixer.forward(&x, context, states)));
                let x = self.input_layernorm.of(stream);
                stream.set(x);
                if let (Some(channel), Some(norm)) = (channel, &self.post_attention_layernorm) {
                    let x = stream.value();
                    stream.add(self.drop(channel.forward(&x, &context.segments)));
                    let x = norm.of(stream);
                    stream.set(x);
                }
            }
        }
    }
}
