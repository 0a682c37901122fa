//! Tensors, operations, and automatic differentiation.
//!
//! ```
//! use cupola_tensor::{Rng, Tensor};
//!
//! let x = Tensor::randn([4, 3], Rng::seed(0));
//! let w = Tensor::randn([4, 3], Rng::seed(1)).requires_grad();
//! let loss = (&x * &w).exp().sum([]);
//! let grads = loss.backward();
//! assert_eq!(grads[&w].shape().dims(), [4, 3]);
//! ```
//!
//! Read in this order:
//!
//! | module | what it holds |
//! |---|---|
//! | [`tensor`] | the one type: dtype, layout, buffer, and the node that made it |
//! | [`create`], [`host`] | tensors from nothing, and to and from Rust values |
//! | [`op`] | what an operation is: forward, backward, what it saves |
//! | [`ops`] | the operations, one file each |
//! | [`segments`] | where sequences begin and end in packed tokens |
//! | [`autograd`] | the graph, backward, gradients, checkpointing, gradient check |
//! | [`mode`] | scopes of a thread: no gradients, training, autocast |

#[cfg(feature = "ndarray")]
mod arrays;
pub mod autograd;
mod chunked;
mod compute;
pub mod create;
mod dispatch;
mod display;
pub mod host;
pub mod mode;
mod naive;
pub mod op;
mod operators;
pub mod ops;
mod product;
mod recurrent;
pub mod segments;
pub mod tensor;
#[cfg(test)]
mod testing;

pub use autograd::checkpoint::checkpoint;
pub use autograd::gradcheck::{GradcheckError, gradcheck};
pub use autograd::gradients::Gradients;
pub use cupola_core::{DType, Element, Float, Rng, Shape, bf16, f16};
pub use mode::{autocast, no_grad};
pub use op::{Backward, Differentiable, InputGrads, Op, OpInfo, Outputs, Saved};
pub use segments::{Segments, SegmentsError};
pub use tensor::Tensor;
