//! Gradient checkpointing: memory for time (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).

use crate::autograd::backward::backward_within;
use crate::autograd::graph::Rule;
use crate::mode::{self, Training};
use crate::op::{Backward, InputGrads, Saved, record};
use crate::tensor::Tensor;
use cupola_core::DType;

/// Computes `body(inputs)` keeping only the inputs; backward computes it again to get its activations back.
///
/// The second pass sees the training scope as the first did, so dropout draws the same masks, and is marked as a repetition,
/// so that no side effect (batch-norm statistics) happens twice. Leaves that `body` captures, such as parameters, receive
/// their gradients even when no input needs one, added to what earlier passes have collected as without the region: all gradients have
/// the bits that they would have without it.
///
/// ```
/// use cupola_tensor::{Tensor, checkpoint};
/// let w = Tensor::full([3], 0.5).requires_grad();
/// let weight = w.clone();
/// let y = checkpoint(&[&Tensor::ones([3])], move |x| vec![(&x[0] * &weight).exp()]);
/// let grads = y[0].sum([]).backward();
/// assert!((grads[&w].to_vec::<f32>()[0] - 0.5f32.exp()).abs() < 1e-6);
/// ```
#[track_caller]
pub fn checkpoint(inputs: &[&Tensor], body: impl Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync + 'static) -> Vec<Tensor> {
    let training = mode::training();
    let plain: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    if !mode::is_recording() {
        return body(&plain);
    }
    let ((mut outputs, auxiliary), leaves) = mode::collect_leaves(|| {
        let _paused = mode::pause_recording();
        mode::collect_auxiliary(|| body(&plain))
    });
    // Auxiliary losses leave the region as outputs of its node, or their gradient would be lost.
    let results = outputs.len();
    let (names, losses): (Vec<String>, Vec<Tensor>) = auxiliary.into_iter().unzip();
    outputs.extend(losses);
    if !leaves.is_empty() || inputs.iter().any(|x| x.needs_grad()) {
        let rule = Recompute { body, training, autocast: mode::autocast_dtype(), count: inputs.len() };
        // Captured leaves are inputs of the node, so that a walk knows that gradients for them are still to come.
        let all: Vec<&Tensor> = inputs.iter().copied().chain(&leaves).collect();
        let mut saved = Saved::enabled();
        inputs.iter().for_each(|x| saved.keep([x]));
        outputs = record(Box::new(rule), &all, saved, outputs);
    }
    let losses = outputs.split_off(results);
    names.into_iter().zip(&losses).for_each(|(name, loss)| mode::add_auxiliary_loss(name, loss));
    outputs
}

/// A leaf as the result of an operation, which it is outside of the region: what it is used for adds up in the same order.
fn entrance(leaf: &Tensor) -> Tensor {
    record(Box::new(Entrance), &[leaf], Saved::default(), vec![leaf.detach()]).swap_remove(0)
}

struct Entrance;

impl Rule for Entrance {
    fn name(&self) -> &'static str {
        "checkpoint_input"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        cx.take_dy().into()
    }
}

struct Recompute<F> {
    body: F,
    training: Option<Training>,
    autocast: Option<DType>,
    /// Inputs proper; captured leaves follow them.
    count: usize,
}

impl<F: Fn(&[Tensor]) -> Vec<Tensor> + Send + Sync> Rule for Recompute<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let needs = |(index, x): (usize, &Tensor)| cx.needs(index).then(|| x.requires_grad());
        let own: Vec<Option<Tensor>> = cx.all_saved().iter().enumerate().map(needs).collect();
        let enter = |(x, own): (&Tensor, &Option<Tensor>)| own.as_ref().map_or_else(|| x.clone(), entrance);
        let inputs: Vec<Tensor> = cx.all_saved().iter().zip(&own).map(enter).collect();
        let outputs = {
            let _recording = mode::resume_recording();
            let _training = mode::set_training(self.training.map(|t| Training { recomputing: true, ..t }));
            let _autocast = mode::set_autocast(self.autocast);
            let (mut outputs, auxiliary) = mode::collect_auxiliary(|| (self.body)(&inputs));
            outputs.extend(auxiliary.into_iter().map(|(_, loss)| loss));
            outputs
        };
        let reached: Vec<(&Tensor, Tensor)> = outputs
            .iter()
            .enumerate()
            .filter(|(_, y)| y.needs_grad())
            .filter_map(|(index, y)| Some((y, cx.output_grad(index)?)))
            .collect();
        // Uses of captured leaves inside are counted on from the region's own, so that each has the number, and the sum, that it would
        // have outside of a region.
        for &(leaf, number) in cx.leaves[self.count..].iter().flatten() {
            cx.uses.go_on_from(leaf, number);
        }
        backward_within(reached, cx);
        cx.added.extend(self.count..cx.inputs());
        let mut collected = |own: &Tensor| {
            let sum = own.leaf_id().and_then(|id| cx.sink.take(id));
            sum.unwrap_or_else(|| Tensor::zeros_of(*own.shape(), own.dtype()))
        };
        let mut result: Vec<Option<Tensor>> = own.iter().map(|own| own.as_ref().map(&mut collected)).collect();
        result.resize(cx.inputs(), None);
        result.into()
    }
}
