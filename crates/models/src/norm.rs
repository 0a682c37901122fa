//! The normalisation of a model, and the stream that it reads.

use cupola_nn::layers::{LayerNorm, RmsNorm};
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;

use crate::spec::NormKind;

/// The residual stream: its value, and what is still to be added to it.
///
/// Adding waits until the next norm, which does both in one pass over memory.
pub struct Stream {
    x: Tensor,
    pending: Option<Tensor>,
}

impl Stream {
    pub fn new(x: Tensor) -> Self {
        Self { x, pending: None }
    }

    /// Adds `x` to the stream, which keeps its own dtype: under autocast parts are computed in a narrow one and added up in f32.
    pub fn add(&mut self, x: Tensor) {
        let x = if x.dtype() == self.x.dtype() { x } else { x.to_dtype(self.x.dtype()) };
        let waiting = self.pending.take();
        self.pending = Some(match waiting {
            Some(waiting) => waiting + x,
            None => x,
        });
    }

    /// The stream with everything added, which goes on.
    pub fn value(&mut self) -> Tensor {
        if let Some(pending) = self.pending.take() {
            self.x = &self.x + pending;
        }
        self.x.clone()
    }

    /// Lets the stream go on from `x`.
    pub fn set(&mut self, x: Tensor) {
        *self = Self::new(x);
    }

    /// The stream with everything added.
    pub fn into_value(self) -> Tensor {
        match self.pending {
            Some(pending) => self.x + pending,
            None => self.x,
        }
    }
}

/// One of the norms that a specification can ask for.
// A model has a few dozen: room is not worth a box.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Clone, Debug)]
pub enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    pub fn new(kind: NormKind, width: usize, eps: f64) -> Self {
        match kind {
            NormKind::RmsNorm => Norm::Rms(RmsNorm::new(width).with_eps(eps)),
            NormKind::LayerNorm => Norm::Layer(LayerNorm::new(width).with_eps(eps)),
            NormKind::LayerNormWithoutBias => Norm::Layer(LayerNorm::new(width).with_eps(eps).without_bias()),
        }
    }

    /// `[N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Norm::Rms(norm) => norm.forward(x),
            Norm::Layer(norm) => norm.forward(x),
        }
    }

    /// The norm of the stream, with everything added to it.
    #[track_caller]
    pub fn of(&self, stream: &mut Stream) -> Tensor {
        match (self, stream.pending.take()) {
            (Norm::Rms(norm), Some(pending)) => {
                let (y, x) = norm.forward_residual(&pending, &stream.x);
                stream.x = x;
                y
            }
            (Norm::Layer(_), Some(pending)) => {
                stream.x = &stream.x + pending;
                self.forward(&stream.x)
            }
            (_, None) => self.forward(&stream.x),
        }
    }
}
