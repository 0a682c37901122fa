//! Gradient checkpointing of a module.

use cupola_tensor::{Tensor, checkpoint};

use crate::module::Module;
use crate::param::alias;

/// `forward(module, inputs)` that keeps only the inputs and computes the rest again in backward; see
/// [`checkpoint`](fn@cupola_tensor::checkpoint). The module's parameters get their gradients, its dropout draws the same masks
/// again, its buffers are updated once.
///
/// ```
/// use cupola_nn::{Module, Param, checkpointed, init::Init};
/// use cupola_tensor::Tensor;
/// #[derive(Module, Clone)]
/// struct Scale { weight: Param }
/// let block = Scale { weight: Param::new([2], Init::Constant(0.5)) }.init(0);
/// let y = checkpointed(&block, &[&Tensor::ones([2])], |block, x| vec![(&x[0] * &block.weight).exp()]);
/// let grads = y[0].sum([]).backward();
/// assert!((grads[&*block.weight].to_vec::<f32>()[0] - 0.5f32.exp()).abs() < 1e-6);
/// ```
#[track_caller]
pub fn checkpointed<M: Module + Clone + Send + Sync + 'static>(
    module: &M,
    inputs: &[&Tensor],
    forward: impl Fn(&M, &[Tensor]) -> Vec<Tensor> + Send + Sync + 'static,
) -> Vec<Tensor> {
    let module = alias(module);
    checkpoint(inputs, move |inputs| forward(&module, inputs))
}
