//! Optimisers.
//!
//! [`Optimizer`] walks the model and keeps the state; a [`Rule`] is the formula, and its fields are the options:
//!
//! | rule | optimiser | source |
//! |---|---|---|
//! | [`SgdConfig`] | [`Sgd`] | `torch.optim.SGD` |
//! | [`AdamConfig`] | [`Adam`] | `torch.optim.Adam`; Kingma and Ba 2015 |
//! | [`AdamWConfig`] | [`AdamW`] | `torch.optim.AdamW`; Loshchilov and Hutter 2019 |
//! | [`RmsPropConfig`] | [`RmsProp`] | `torch.optim.RMSprop` |
//! | [`LionConfig`] | [`Lion`] | Chen et al. 2023 |
//! | [`LambConfig`] | [`Lamb`] | You et al. 2020 |
//! | [`MuonConfig`] | [`Muon`] | `torch.optim.Muon`; Jordan 2024 |
//!
//! ```
//! use cupola_nn::optim::{AdamW, AdamWConfig};
//! use cupola_nn::{Module, Param, init::Init};
//! use cupola_tensor::Tensor;
//!
//! #[derive(Module)]
//! struct Model { weight: Param, bias: Param }
//!
//! let mut model = Model { weight: Param::new([4, 3], Init::LINEAR), bias: Param::new([4], Init::Zeros) }.init(7);
//! let config = AdamWConfig { lr: 1e-3, weight_decay: 0.1, ..AdamWConfig::default() };
//! let mut optimizer = AdamW::new(config.clone()).group("*bias", AdamWConfig { weight_decay: 0.0, ..config });
//! let loss = (&Tensor::ones([4, 3]) * &model.weight).sum([1]) + &model.bias;
//! let mut grads = loss.sum([]).backward();
//! grads.clip_norm(1.0);
//! optimizer.step(&mut model, &grads);
//! ```

mod adam;
mod ema;
mod lamb;
mod lion;
mod muon;
mod optimizer;
mod pattern;
mod rmsprop;
mod rule;
mod sgd;
mod state;

pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use ema::Ema;
pub use lamb::{Lamb, LambConfig};
pub use lion::{Lion, LionConfig};
pub use muon::{LrAdjustment, Muon, MuonConfig, Precision};
pub use optimizer::{Optimizer, OptimizerError};
pub use pattern::matches;
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use rule::{Job, Master, Rule};
pub use sgd::{Sgd, SgdConfig};
pub use state::{OptimizerState, StateError};
