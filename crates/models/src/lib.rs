//! Language models: one specification, every architecture, one code path.
//!
//! A [`ModelSpec`] says what a model is, in Hugging Face's words. [`Decoder`] is that model: the same code trains it, reads a
//! prompt, writes one token after the other, and is saved and loaded.
//!
//! ```
//! use cupola_models::{Decoder, ModelSpec};
//! use cupola_nn::Module;
//! use cupola_tensor::{Segments, Tensor, no_grad};
//!
//! let spec = ModelSpec::preset("llama-nano", 65)?;
//! let model = Decoder::new(&spec).init(0);
//!
//! // Training: two sequences of four tokens, all at once.
//! let tokens = Tensor::from_vec(vec![1i64, 2, 3, 4, 5, 6, 7, 8], [8]);
//! let logits = model.forward(&tokens, &Segments::uniform(2, 4), None);
//! assert_eq!(logits.shape().dims(), [8, 65]);
//!
//! // Writing: the prompt first, then one token at a time, with the same call.
//! let mut state = model.state();
//! no_grad(|| {
//!     model.forward(&tokens.narrow(0, 0, 3), &Segments::one(3), Some(&mut [&mut state]));
//!     let last = model.forward(&tokens.narrow(0, 3, 1), &Segments::one(1), Some(&mut [&mut state]));
//!     assert!(last.relative_error(&logits.narrow(0, 3, 1)) < 1e-5);
//! });
//! assert_eq!(state.position(), 4);
//! # Ok::<(), cupola_models::SpecError>(())
//! ```
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | what a model is; presets; what is wrong with an impossible one |
//! | [`decoder`] | the model |
//! | [`encoder`] | a model that reads a text as a whole |
//! | [`block`] | one layer: norm, mixer, norm, channel mixer |
//! | [`mixers`] | what moves information between tokens |
//! | [`channels`] | what works on each token alone |
//! | [`positions`] | rotary tables, slopes |
//! | [`state`] | what is kept of a sequence between calls |
//! | [`generate`] | from logits to text |
//! | [`files`] | model directories |

pub mod block;
pub mod channels;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod files;
pub mod generate;
pub mod mixers;
mod norm;
pub mod positions;
pub mod spec;
pub mod state;

pub use decoder::{Decoder, IGNORE};
pub use encoder::Encoder;
pub use error::ModelError;
pub use files::{
    AdapterInfo, fingerprint, is_adapter, load, load_adapter, load_encoder, load_spec, save, save_adapter,
    save_encoder, save_spec, save_split,
};
pub use generate::{Generator, Sampler, SamplerConfig};
pub use spec::{EncoderFields, EncoderSpec, ModelFields, ModelSpec, SpecError};
pub use state::{Mark, State};
