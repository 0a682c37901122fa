//! Scopes that hold for a thread: whether operations are recorded, whether the model trains, which dtype products compute in.

use std::cell::{Cell, RefCell};

use cupola_core::{DType, Rng};

use crate::tensor::Tensor;

thread_local! {
    static PAUSED: Cell<bool> = const { Cell::new(false) };
    static AUTOCAST: Cell<Option<DType>> = const { Cell::new(None) };
    static TRAINING: Cell<Option<Training>> = const { Cell::new(None) };
    static LEAVES: RefCell<Option<Vec<Tensor>>> = const { RefCell::new(None) };
    static AUXILIARY: RefCell<Vec<(String, Tensor)>> = const { RefCell::new(Vec::new()) };
}

/// Puts a thread-local cell back to what it was, also when a panic passes.
pub(crate) struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy + 'static> Restore<T> {
    fn set(key: &'static std::thread::LocalKey<Cell<T>>, value: T) -> Self {
        Self(key, key.replace(value))
    }
}

impl<T: Copy + 'static> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Whether operations on tensors that need gradients are recorded on this thread now.
pub fn is_recording() -> bool {
    !PAUSED.get()
}

pub(crate) fn pause_recording() -> Restore<bool> {
    Restore::set(&PAUSED, true)
}

pub(crate) fn resume_recording() -> Restore<bool> {
    Restore::set(&PAUSED, false)
}

/// Runs `body` without recording: its results need no gradients and keep nothing alive.
///
/// ```
/// use cupola_tensor::{Tensor, no_grad};
/// let w = Tensor::ones([2]).requires_grad();
/// assert!((&w * 2.0).needs_grad());
/// assert!(!no_grad(|| &w * 2.0).needs_grad());
/// ```
pub fn no_grad<R>(body: impl FnOnce() -> R) -> R {
    let _paused = pause_recording();
    body()
}

/// Runs `body` with recording on, also inside [`no_grad`].
///
/// ```
/// use cupola_tensor::{Tensor, mode::enable_grad, no_grad};
/// let w = Tensor::ones([2]).requires_grad();
/// assert!(no_grad(|| enable_grad(|| &w * 2.0)).needs_grad());
/// ```
pub fn enable_grad<R>(body: impl FnOnce() -> R) -> R {
    let _recording = resume_recording();
    body()
}

/// Whether what is computed now will be differentiated: it is recorded, or it is the unrecorded first pass of a
/// [`crate::checkpoint`] region.
pub fn expects_backward() -> bool {
    is_recording() || LEAVES.with_borrow(Option::is_some)
}

/// Runs `body` with products and convolutions computed in `dtype` (bf16 in practice) and with activations kept in it, while
/// parameters and reductions stay in f32.
///
/// # Panics
/// When `dtype` is not floating-point.
#[track_caller]
pub fn autocast<R>(dtype: DType, body: impl FnOnce() -> R) -> R {
    assert!(dtype.is_float(), "autocast: {dtype} is not a floating-point type");
    let _scope = Restore::set(&AUTOCAST, Some(dtype));
    body()
}

/// The dtype that [`autocast`] asks for on this thread now.
pub fn autocast_dtype() -> Option<DType> {
    AUTOCAST.get()
}

pub(crate) fn set_autocast(dtype: Option<DType>) -> Restore<Option<DType>> {
    Restore::set(&AUTOCAST, dtype)
}

/// Where a training step's random numbers come from: each draw is addressed by seed, step, the number of the call within the
/// step, and the position of the sample in the global batch, so that neither order nor threads nor micro-batches matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// The run's seed.
    pub seed: u64,
    /// The step within the run.
    pub step: u64,
    /// The position of this micro-batch's first sample in the global batch.
    pub first_sample: u64,
    /// Random calls made so far in this pass.
    pub calls: u64,
    /// Whether this pass repeats an earlier one to get its activations back; side effects are then left out.
    pub recomputing: bool,
}

/// The training scope of this thread, if one is open. Outside of it layers are in evaluation mode.
pub fn training() -> Option<Training> {
    TRAINING.get()
}

/// Opens (or replaces, or with `None` closes) the training scope; the returned guard puts the former one back.
pub fn set_training(state: Option<Training>) -> TrainingGuard {
    TrainingGuard { _restore: Restore::set(&TRAINING, state) }
}

/// Changes the open training scope, if there is one, without closing it.
pub fn update_training(change: impl FnOnce(&mut Training)) {
    if let Some(mut state) = TRAINING.get() {
        change(&mut state);
        TRAINING.set(Some(state));
    }
}

/// Keeps a training scope open; see [`set_training`].
pub struct TrainingGuard {
    _restore: Restore<Option<Training>>,
}

/// The random stream for the next call within the training scope, together with the global position of its first sample.
/// `None` outside a scope.
pub fn next_random_call() -> Option<(Rng, u64)> {
    let mut state = TRAINING.get()?;
    let stream = Rng::seed(state.seed).stream(&[state.step, state.calls]);
    state.calls += 1;
    TRAINING.set(Some(state));
    Some((stream, state.first_sample))
}

/// Hands a scalar that is to be added to the loss, such as a router's balance, to whoever opened the training scope; outside of
/// one it is dropped. A [`crate::checkpoint`] region passes it on with its gradient intact.
///
/// # Panics
/// When `loss` has more than one element.
#[track_caller]
pub fn add_auxiliary_loss(name: impl Into<String>, loss: &Tensor) {
    assert_eq!(loss.numel(), 1, "auxiliary loss: the shape is {}, expected one element", loss.shape());
    if training().is_some() {
        AUXILIARY.with_borrow_mut(|losses| losses.push((name.into(), loss.clone())));
    }
}

/// Takes out the auxiliary losses handed in since the last call, oldest first.
pub fn take_auxiliary_losses() -> Vec<(String, Tensor)> {
    AUXILIARY.take()
}

/// Runs `body` and returns the auxiliary losses it handed in; those from before stay where they are.
pub(crate) fn collect_auxiliary<R>(body: impl FnOnce() -> R) -> (R, Vec<(String, Tensor)>) {
    let before = AUXILIARY.take();
    let result = body();
    (result, AUXILIARY.replace(before))
}

/// Collects the leaves that operations meet while `body` runs unrecorded: what a checkpointed region's gradient will reach
/// besides its inputs.
pub(crate) fn collect_leaves<R>(body: impl FnOnce() -> R) -> (R, Vec<Tensor>) {
    let outer = LEAVES.replace(Some(Vec::new()));
    let result = body();
    let leaves = LEAVES.replace(outer).unwrap_or_default();
    leaves.iter().for_each(note_leaf);
    (result, leaves)
}

/// Tells a surrounding [`collect_leaves`] of `tensor` if it is a leaf.
pub(crate) fn note_leaf(tensor: &Tensor) {
    let Some(id) = tensor.leaf_id() else { return };
    LEAVES.with_borrow_mut(|leaves| {
        if let Some(leaves) = leaves
            && !leaves.iter().any(|leaf| leaf.leaf_id() == Some(id))
        {
            leaves.push(tensor.clone());
        }
    });
}
