//! The training scope: where the side effects of a forward pass have their place.
//!
//! ```
//! use cupola_nn::{Module, Param, init::Init, training};
//! use cupola_tensor::Tensor;
//!
//! #[derive(Module)]
//! struct Scale { weight: Param }
//!
//! let mut model = Scale { weight: Param::new([3], Init::Ones) }.init(7);
//! let scope = training(7, 0);
//! let loss = (&Tensor::ones([3]) * &model.weight).sum([]);
//! let grads = loss.backward();
//! scope.finish(&mut model);
//! assert_eq!(grads[&*model.weight].to_vec::<f32>(), [1.0; 3]);
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use cupola_tensor::mode::{self, Training, TrainingGuard};
use cupola_tensor::{Tensor, no_grad};

use crate::module::Module;

/// What a buffer becomes, of its value before the step and of what the step has counted.
pub(crate) type Rule = Box<dyn FnOnce(&Tensor, &Tensor) -> Tensor>;

#[derive(Default)]
struct Effects {
    /// New values of buffers by the buffer's identity.
    updates: BTreeMap<u64, Tensor>,
    /// What has been counted for buffers by the buffer's identity, and what follows from it.
    tallies: BTreeMap<u64, (Tensor, Rule)>,
    /// What layers let be seen, when somebody looks.
    observed: Option<Vec<(String, Tensor)>>,
}

thread_local! {
    static EFFECTS: RefCell<Effects> = RefCell::default();
}

/// Opens the training scope of this thread for step `step` of a run with this seed.
///
/// While it is open layers are in training mode: dropout draws from an address made of seed, step, call and sample, and batch
/// norms use the batch and ask for new running statistics. [`TrainingScope::finish`] closes it and applies what was asked.
///
/// # Panics
/// When a scope is open on this thread already.
#[must_use = "the scope is open as long as this value lives"]
#[track_caller]
pub fn training(seed: u64, step: u64) -> TrainingScope {
    assert!(mode::training().is_none(), "training: a scope is open on this thread already; finish it first");
    reset();
    TrainingScope {
        _guard: mode::set_training(Some(Training { seed, step, first_sample: 0, calls: 0, recomputing: false })),
        _of_this_thread: PhantomData,
    }
}

/// Runs `body` in evaluation mode without recording, also while a training scope is open.
pub fn evaluate<R>(body: impl FnOnce() -> R) -> R {
    let _outside = mode::set_training(None);
    no_grad(body)
}

/// Lets whoever watches the training scope see `value` under a name, such as a histogram of activations; computed only when
/// somebody does.
pub fn observe(name: &str, value: impl FnOnce() -> Tensor) {
    let watched = EFFECTS.with_borrow(|effects| effects.observed.is_some());
    let first_pass = mode::training().is_some_and(|scope| !scope.recomputing);
    if watched && first_pass {
        let value = no_grad(value).detach();
        EFFECTS.with_borrow_mut(|effects| {
            if let Some(observed) = &mut effects.observed {
                observed.push((name.to_string(), value));
            }
        });
    }
}

/// Whether the layer `name`, which behaves differently in training, is to do so now.
///
/// # Panics
/// While recording outside of a training scope: the layer would be left out of training in silence.
#[track_caller]
pub fn is_training(name: &str) -> bool {
    let open = mode::training().is_some();
    assert!(
        open || !mode::expects_backward(),
        "{name} was met while recording outside of a training scope: open one with training(seed, step), or evaluate under \
         no_grad"
    );
    open
}

/// An open training scope; see [`training`]. Dropped without [`TrainingScope::finish`] it applies nothing.
pub struct TrainingScope {
    _guard: TrainingGuard,
    _of_this_thread: PhantomData<*const ()>,
}

impl TrainingScope {
    /// Says that what follows is the micro-batch whose first sample has this position in the step's batch. Each sample then
    /// draws the numbers that it would draw in one large batch.
    pub fn micro_batch(&self, first_sample: u64) {
        mode::update_training(|state| {
            state.first_sample = first_sample;
            state.calls = 0;
        });
    }

    /// Collects from now on what layers [`observe`].
    pub fn watch(&self) {
        EFFECTS.with_borrow_mut(|effects| {
            effects.observed.get_or_insert_default();
        });
    }

    /// What layers let be seen since the last call.
    pub fn observed(&self) -> Vec<(String, Tensor)> {
        EFFECTS.with_borrow_mut(|effects| effects.observed.as_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The losses that layers ask to be added to the model's own (the balance of a mixture of experts), by name; each is handed
    /// out once.
    pub fn auxiliary_losses(&self) -> Vec<(String, Tensor)> {
        mode::take_auxiliary_losses()
    }

    /// Closes the scope and gives the buffers of `model` the values that forward asked for.
    ///
    /// # Panics
    /// When an auxiliary loss was left lying, so that its gradient would be lost in silence, or when a buffer that is not in
    /// `model` was to change.
    #[track_caller]
    pub fn finish(self, model: &mut impl Module) {
        let left: Vec<String> = mode::take_auxiliary_losses().into_iter().map(|(name, _)| name).collect();
        assert!(
            left.is_empty(),
            "finish: nobody took the auxiliary losses {left:?}; add what auxiliary_losses() returns to the loss"
        );
        let (mut updates, mut tallies) = EFFECTS
            .with_borrow_mut(|effects| (std::mem::take(&mut effects.updates), std::mem::take(&mut effects.tallies)));
        for (_, buffer) in model.named_buffers_mut() {
            if let Some(value) = updates.remove(&buffer.id()) {
                buffer.set(&value);
            }
            if let Some((sum, rule)) = tallies.remove(&buffer.id()) {
                let value = no_grad(|| rule(&buffer.value(), &sum));
                buffer.set(&value);
            }
        }
        let lost = updates.values().chain(tallies.values().map(|(sum, _)| sum));
        let lost: Vec<_> = lost.map(|value| *value.shape()).collect();
        assert!(
            lost.is_empty(),
            "finish: buffers of shapes {lost:?} that were to change are not in this model; a tuple of models can be finished as one"
        );
    }
}

impl Drop for TrainingScope {
    fn drop(&mut self) {
        reset();
    }
}

fn reset() {
    mode::take_auxiliary_losses();
    EFFECTS.take();
}

/// The value that buffer `id` was asked to take last.
pub(crate) fn pending(id: u64) -> Option<Tensor> {
    EFFECTS.with_borrow(|effects| effects.updates.get(&id).cloned())
}

/// Notes that buffer `id` is to take `value`.
pub(crate) fn request(id: u64, value: Tensor) {
    EFFECTS.with_borrow_mut(|effects| effects.updates.insert(id, value));
}

/// Adds to what is counted for buffer `id`, which is to take what `rule` makes of the sum.
pub(crate) fn count(id: u64, amount: &Tensor, rule: Rule) {
    EFFECTS.with_borrow_mut(|effects| {
        let sum = match effects.tallies.remove(&id) {
            Some((sum, _)) => no_grad(|| sum + amount),
            None => amount.clone(),
        };
        effects.tallies.insert(id, (sum, rule));
    });
}
