//! What moves information between tokens: one mixer a file.
//!
//! A mixer takes the packed tokens of all sequences of a call, `x [N, D]`, and returns as many. With states it goes on where each
//! sequence stopped; whole sequences, chunks and single tokens are the same call and agree.

pub mod attention;
pub mod differential;
pub mod mla;

use cupola_nn::Module;
use cupola_tensor::{Segments, Tensor};

pub use attention::Attention;
pub use differential::Differential;
pub use mla::Mla;

use crate::positions::RotaryTables;
use crate::spec::{MixerKind, ModelSpec};
use crate::state::MixerState;

/// What a call of the model tells every layer.
#[derive(Clone)]
pub struct Context {
    /// Where sequences begin and end in the call's tokens.
    pub segments: Segments,
    /// The position of each token in its sequence, `[N]` of i64.
    pub positions: Tensor,
    /// Rotary tables, where the model turns queries and keys.
    pub rotary: Option<RotaryTables>,
    /// The same for latent attention.
    pub latent_rotary: Option<RotaryTables>,
    /// Whether a token sees those before it alone.
    pub causal: bool,
}

/// The mixer of a layer.
///
/// Attention is called `self_attn` in names, as LLaMA calls it; every other mixer `mixer`, as Mamba does.
#[derive(Module, Clone)]
pub enum Mixer {
    /// Softmax attention.
    Attention {
        /// The layer.
        self_attn: Attention,
    },
    /// Softmax attention with latent keys and values.
    Mla {
        /// The layer.
        self_attn: Mla,
    },
}

impl Mixer {
    /// The mixer of layer `layer`, which is of this kind.
    pub fn new(kind: MixerKind, spec: &ModelSpec, layer: usize) -> Self {
        match kind {
            MixerKind::Attention => Mixer::Attention { self_attn: Attention::new(spec, layer) },
            MixerKind::Mla => Mixer::Mla { self_attn: Mla::new(spec) },
        }
    }

    /// `x [N, D]` -> `[N, D]`; with states, one for each segment, each sequence goes on and its state is advanced.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, context: &Context, states: Option<Vec<&mut MixerState>>) -> Tensor {
        match self {
            Mixer::Attention { self_attn } => self_attn.forward(x, context, states),
            Mixer::Mla { self_attn } => self_attn.forward(x, context, states),
        }
    }

    /// What is kept of a sequence that has not begun.
    pub fn state(&self) -> MixerState {
        match self {
            Mixer::Attention { .. } | Mixer::Mla { .. } => MixerState::key_value(),
        }
    }

    /// Bytes that the state of a sequence grows by with each token.
    pub fn bytes_per_token(&self) -> usize {
        match self {
            Mixer::Attention { self_attn } => self_attn.bytes_per_token(),
            Mixer::Mla { self_attn } => self_attn.bytes_per_token(),
        }
    }
}
