//! Cupola: from raw text to a trained network, in pure Rust, fast on a CPU.
//!
//! `use cupola::prelude::*;` brings what a model and its training loop need:
//!
//! ```
//! use cupola::prelude::*;
//!
//! let x = Tensor::randn([32, 784], Rng::seed(0));
//! let row_means = (&x * 2.0 + 1.0).relu().mean([1]);
//! println!("{row_means:.3}");
//!
//! let w = Tensor::randn([784, 10], Rng::seed(1)).requires_grad();
//! let loss = x.matmul(&w).logsumexp([-1]).mean([]);
//! let grads = loss.backward();
//! println!("{}", grads[&w].norm());
//! ```
//!
//! | module | what it holds | crate |
//! |---|---|---|
//! | [`tensor`] | tensors, operations, automatic differentiation | `cupola-tensor` |
//! | [`models`] | language models: one specification, every architecture | `cupola-models` |
//! | [`nn`] | modules, layers, losses, optimisers, schedules | `cupola-nn` |
//! | [`io`] | safetensors, NPY, atomic files | `cupola-io` |
//! | [`tokenizer`] | training, encoding and decoding of tokens | `cupola-tokenizer` |
//! | [`regex`] | the regular-expression engine beneath it | `cupola-regex` |
//! | [`data`] | token shards, packing, loaders that resume exactly | `cupola-data` |
//! | [`train`] | the trainer: configuration, loop, checkpoints | `cupola-train` |
//! | `monitor`, `serve` | dashboard and server, behind the feature `serve` | `cupola-monitor`, `cupola-serve` |
//! | [`core`] | threads, memory, random numbers, dtypes | `cupola-core` |

pub use cupola_core as core;
pub use cupola_data as data;
pub use cupola_io as io;
pub use cupola_models as models;
#[cfg(feature = "serve")]
pub use cupola_monitor as monitor;
pub use cupola_nn as nn;
pub use cupola_regex as regex;
#[cfg(feature = "serve")]
pub use cupola_serve as serve;
pub use cupola_tensor as tensor;
pub use cupola_tokenizer as tokenizer;
pub use cupola_train as train;

/// What a model and its training loop need, under one `use`.
pub mod prelude {
    pub use cupola_nn::prelude::*;
    pub use cupola_tensor::{DType, Gradients, Rng, Shape, Tensor, autocast, checkpoint, gradcheck, no_grad};
}
