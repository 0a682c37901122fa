//! What moves information between tokens: one mixer a file.
//!
//! A mixer takes the packed tokens of all sequences of a call, `x [N, D]`, and returns as many. With states it goes on where each
//! sequence stopped; whole sequences, chunks and single tokens are the same call and agree.

pub mod attention;
pub mod deltanet;
pub mod differential;
pub mod gated_deltanet;
pub mod gla;
pub mod linear_attention;
pub mod mamba;
pub mod mamba2;
pub mod mamba3;
pub mod mla;
mod past;
mod scan;

use cupola_nn::Module;
use cupola_tensor::{Segments, Tensor};

pub use attention::Attention;
pub use deltanet::DeltaNet;
pub use differential::Differential;
pub use gated_deltanet::GatedDeltaNet;
pub use gla::Gla;
pub use linear_attention::LinearAttention;
pub use mamba::Mamba;
pub use mamba2::Mamba2;
pub use mamba3::Mamba3;
pub use mla::Mla;
pub use scan::ShortConv;

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
// A model has a few dozen: room is not worth a box.
#[allow(clippy::large_enum_variant)]
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
    /// A selective scan.
    Mamba {
        /// The layer.
        mixer: Mamba,
    },
    /// State-space duality.
    Mamba2 {
        /// The layer.
        mixer: Mamba2,
    },
    /// The same by the trapezoidal rule, with states that turn.
    Mamba3 {
        /// The layer.
        mixer: Mamba3,
    },
    /// Attention by products of features.
    LinearAttention {
        /// The layer.
        mixer: LinearAttention,
    },
    /// The same with a decay for each key channel.
    Gla {
        /// The layer.
        mixer: Gla,
    },
    /// The delta rule.
    DeltaNet {
        /// The layer.
        mixer: DeltaNet,
    },
    /// The delta rule with a decay.
    GatedDeltaNet {
        /// The layer.
        mixer: GatedDeltaNet,
    },
}

impl Mixer {
    /// The mixer of layer `layer`, which is of this kind.
    pub fn new(kind: MixerKind, spec: &ModelSpec, layer: usize) -> Self {
        match kind {
            MixerKind::Attention => Mixer::Attention { self_attn: Attention::new(spec, layer) },
            MixerKind::Mla => Mixer::Mla { self_attn: Mla::new(spec) },
            MixerKind::Mamba => Mixer::Mamba { mixer: Mamba::new(spec) },
            MixerKind::Mamba2 => Mixer::Mamba2 { mixer: Mamba2::new(spec) },
            MixerKind::Mamba3 => Mixer::Mamba3 { mixer: Mamba3::new(spec) },
            MixerKind::LinearAttention => Mixer::LinearAttention { mixer: LinearAttention::new(spec) },
            MixerKind::Gla => Mixer::Gla { mixer: Gla::new(spec) },
            MixerKind::DeltaNet => Mixer::DeltaNet { mixer: DeltaNet::new(spec) },
            MixerKind::GatedDeltaNet => Mixer::GatedDeltaNet { mixer: GatedDeltaNet::new(spec) },
        }
    }

    /// `x [N, D]` -> `[N, D]`; with states, one for each segment, each sequence goes on and its state is advanced.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, context: &Context, states: Option<Vec<&mut MixerState>>) -> Tensor {
        match self {
            Mixer::Attention { self_attn } => self_attn.forward(x, context, states),
            Mixer::Mla { self_attn } => self_attn.forward(x, context, states),
            Mixer::Mamba { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::Mamba2 { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::Mamba3 { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::LinearAttention { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::Gla { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::DeltaNet { mixer } => mixer.forward(x, &context.segments, states),
            Mixer::GatedDeltaNet { mixer } => mixer.forward(x, &context.segments, states),
        }
    }

    /// What is kept of a sequence that has not begun.
    pub fn state(&self) -> MixerState {
        match self {
            Mixer::Attention { self_attn } => MixerState::key_value(self_attn.layout()),
            Mixer::Mla { self_attn } => MixerState::key_value(self_attn.layout()),
            Mixer::Mamba { mixer } => mixer.state(),
            Mixer::Mamba2 { mixer } => mixer.state(),
            Mixer::Mamba3 { mixer } => mixer.state(),
            Mixer::LinearAttention { mixer } => mixer.state(),
            Mixer::Gla { mixer } => mixer.state(),
            Mixer::DeltaNet { mixer } => mixer.state(),
            Mixer::GatedDeltaNet { mixer } => mixer.state(),
        }
    }

    /// Bytes that the state of a sequence grows by with each token.
    pub fn bytes_per_token(&self) -> usize {
        match self {
            Mixer::Attention { self_attn } => self_attn.bytes_per_token(),
            Mixer::Mla { self_attn } => self_attn.bytes_per_token(),
            // The others keep as much of a long sequence as of a short one.
            _ => 0,
        }
    }
}
