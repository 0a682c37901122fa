//! Forward and backward by hand, for any layer: the intermediates of a block are a value.
//!
//! ```
//! use cupola_nn::{Layer, Module, Param, explicit::Explicit, init::Init};
//! use cupola_tensor::{Gradients, Tensor};
//!
//! #[derive(Module)]
//! struct Scale { weight: Param }
//!
//! impl Layer for Scale {
//!     fn forward(&self, x: &Tensor) -> Tensor { x * &self.weight }
//! }
//!
//! // One set of weights used twice over depth: two caches.
//! let block = Scale { weight: Param::new([1], Init::Constant(3.0)) }.init(0);
//! let (h, first) = block.forward_explicit(&Tensor::full([1], 2.0));
//! let (y, second) = block.forward_explicit(&h);
//! let mut grads = Gradients::new();
//! let dh = block.backward_explicit(second, &Tensor::ones([1]), &mut grads);
//! let dx = block.backward_explicit(first, &dh, &mut grads);
//! assert_eq!((y.item(), dx.item(), grads[&*block.weight].item()), (18.0, 9.0, 12.0));
//! ```

use cupola_tensor::autograd::backward::backward_from;
use cupola_tensor::{Gradients, Tensor, mode::enable_grad};

use crate::layer::Layer;

/// What a block's backward needs: the recording of that block alone.
pub struct Cache {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Cache {
    /// Runs `forward` on `inputs` and keeps what its backward needs; returns its results outside of any graph.
    ///
    /// Works also under `no_grad`, where those who write their gradients by hand may be.
    #[track_caller]
    pub fn record(inputs: &[&Tensor], forward: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> (Vec<Tensor>, Cache) {
        let leaf = |x: &&Tensor| {
            if x.dtype().is_float() { x.detach().requires_grad() } else { x.detach() }
        };
        let inputs: Vec<Tensor> = inputs.iter().map(leaf).collect();
        let outputs = enable_grad(|| forward(&inputs));
        (outputs.iter().map(Tensor::detach).collect(), Cache { inputs, outputs })
    }

    /// Given the gradients of the results, adds those of the parameters to `grads` and returns those of the inputs: `None` for
    /// integers, zeros for inputs without influence.
    ///
    /// # Panics
    /// When there are not as many gradients as results, or a gradient has another shape than its result.
    #[track_caller]
    pub fn backward(self, dy: &[&Tensor], grads: &mut Gradients) -> Vec<Option<Tensor>> {
        assert_eq!(dy.len(), self.outputs.len(), "backward_explicit: the number of gradients is not that of results");
        let differentiable = |(y, dy): (&'_ Tensor, &&Tensor)| y.needs_grad().then(|| (*dy).clone());
        let results: Vec<(&Tensor, Tensor)> =
            self.outputs.iter().zip(dy).filter_map(|(y, dy)| Some((y, differentiable((y, dy))?))).collect();
        backward_from(&results, grads);
        drop(results);
        let gradient = |x: &Tensor| {
            let zeros = || Tensor::zeros_of(*x.shape(), x.dtype());
            x.is_leaf().then(|| grads.remove(x).unwrap_or_else(zeros))
        };
        self.inputs.iter().map(gradient).collect()
    }
}

/// The explicit form of every [`Layer`].
pub trait Explicit: Layer {
    /// `forward(x)` outside of any graph, and what [`Explicit::backward_explicit`] needs.
    #[track_caller]
    fn forward_explicit(&self, x: &Tensor) -> (Tensor, Cache) {
        let (mut y, cache) = Cache::record(&[x], |x| vec![self.forward(&x[0])]);
        (y.swap_remove(0), cache)
    }

    /// Adds the gradients of this layer's parameters to `grads` and returns that of the input. A cache serves once; a layer used
    /// several times has a cache for each.
    ///
    /// # Panics
    /// When `dy` has another shape than the result, or the input was integers, which have no gradient.
    #[track_caller]
    fn backward_explicit(&self, cache: Cache, dy: &Tensor, grads: &mut Gradients) -> Tensor {
        let dx = cache.backward(&[dy], grads).swap_remove(0);
        match dx {
            Some(dx) => dx,
            None => panic!("backward_explicit: the input holds integers, which have no gradient; use Cache::backward"),
        }
    }
}

impl<L: Layer + ?Sized> Explicit for L {}
