//! Modules, layers, losses, initialisers, optimisers and schedules.
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`module`] | the walk over a model's fields that gives every parameter its name |
//! | [`param`], [`buffer`] | what a walk finds: parameters, and tensors kept beside them |
//! | [`init`](mod@init) | where first values come from |
//! | [`state_dict`], [`files`] | values by name, strict loading, safetensors |
//! | [`training`](mod@training) | the scope that a training step runs in |
//! | [`layers`] | layers, one file each |
//! | [`losses`] | what is minimised |
//! | [`optim`], [`schedule`] | optimisers, averages of weights, learning rates |
//! | [`lora`] | low-rank additions to linear layers |
//! | [`layer`], [`explicit`] | layers of one tensor; forward and backward by hand |

// The derive names this crate as its users do.
extern crate self as cupola_nn;

pub mod buffer;
mod checkpointed;
pub mod explicit;
mod fields;
pub mod files;
mod gradcheck;
pub mod init;
pub mod layer;
pub mod layers;
pub mod lora;
pub mod losses;
pub mod module;
pub mod optim;
pub mod param;
pub mod schedule;
pub mod state_dict;
mod summary;
pub mod training;

pub use buffer::ModuleBuffer;
pub use checkpointed::checkpointed;
pub use cupola_derive::Module;
pub use explicit::{Cache, Explicit};
pub use files::{FileError, Files};
pub use gradcheck::gradcheck_module;
pub use layer::Layer;
pub use module::Module;
pub use param::{Param, alias, copied_parameter_bytes};
pub use state_dict::{LoadError, StateDict};
pub use summary::{Summary, summary};
pub use training::{TrainingScope, evaluate, observe, training};

/// What a model and its training loop need.
///
/// ```
/// use cupola_nn::prelude::*;
/// use cupola_tensor::{Rng, Tensor};
///
/// #[derive(Module)]
/// struct Classifier {
///     hidden: Linear,
///     out: Linear,
/// }
///
/// impl Classifier {
///     fn new() -> Self {
///         Self { hidden: Linear::new(8, 16), out: Linear::new(16, 3) }
///     }
///
///     /// `x: [B, 8]` -> logits `[B, 3]`.
///     fn forward(&self, x: &Tensor) -> Tensor {
///         self.out.forward(&self.hidden.forward(x).relu())
///     }
/// }
///
/// let mut model = Classifier::new().init(7);
/// let mut optimizer = AdamW::new(AdamWConfig { lr: 1e-2, ..AdamWConfig::default() });
/// let (x, labels) = (Tensor::randn([12, 8], Rng::seed(0)), Tensor::randint(0, 3, [12], Rng::seed(1)));
/// let mut losses = Vec::new();
/// for step in 0..50 {
///     let scope = training(7, step);
///     let loss = cross_entropy(&model.forward(&x), &labels);
///     losses.push(loss.item());
///     let mut grads = loss.backward();
///     scope.finish(&mut model);
///     grads.clip_norm(1.0);
///     optimizer.step(&mut model, &grads);
/// }
/// assert!(losses[49] < 0.5 * losses[0]);
/// assert_eq!(cupola_nn::copied_parameter_bytes(), 0);
/// ```
pub mod prelude {
    pub use crate::init::Init;
    pub use crate::layers::*;
    pub use crate::losses::*;
    pub use crate::optim::{
        Adam, AdamConfig, AdamW, AdamWConfig, Ema, Lamb, LambConfig, Lion, LionConfig, LrAdjustment, Muon, MuonConfig,
        Optimizer, Precision, RmsProp, RmsPropConfig, Sgd, SgdConfig,
    };
    pub use crate::schedule::{Anneal, Decay, OnPlateau, Schedule};
    pub use crate::{
        Cache, Explicit, FileError, Files, Layer, LoadError, Module, ModuleBuffer, Param, StateDict, TrainingScope,
        checkpointed, evaluate, summary, training,
    };
}
