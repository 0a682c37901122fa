//! What a module keeps beside its parameters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use cupola_core::{DType, Shape};
use cupola_tensor::{Tensor, mode, no_grad};

use crate::param::is_aliasing;
use crate::training;

/// A tensor that a module keeps and saves beside its parameters, without a gradient: the running statistics of a batch norm.
///
/// A forward pass does not change it. It asks for a change with [`ModuleBuffer::update`], and the training scope applies what was
/// asked once the step is done.
pub struct ModuleBuffer {
    id: u64,
    shape: Shape,
    dtype: DType,
    fill: f64,
    value: Option<Tensor>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl ModuleBuffer {
    /// A buffer in f32 that is `fill` everywhere.
    #[track_caller]
    pub fn new(shape: impl Into<Shape>, fill: f64) -> Self {
        Self::of(shape, fill, DType::F32)
    }

    /// A buffer of a dtype that is `fill` everywhere.
    #[track_caller]
    pub fn of(shape: impl Into<Shape>, fill: f64, dtype: DType) -> Self {
        Self { id: next_id(), shape: shape.into(), dtype, fill, value: None }
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The values as of the end of the last step. They stay the same throughout a training scope, so that a region computed
    /// twice sees them twice.
    pub fn value(&self) -> Tensor {
        self.value.clone().unwrap_or_else(|| Tensor::full_of(self.shape, self.fill, self.dtype))
    }

    /// The values that the training scope has been asked for last, [`ModuleBuffer::value`] without any: what the next
    /// micro-batch of the same step builds on.
    pub fn latest(&self) -> Tensor {
        training::pending(self.id).unwrap_or_else(|| self.value())
    }

    /// Asks the training scope for new values. Does nothing in a region that is computed a second time for its activations.
    ///
    /// # Panics
    /// Outside of a training scope, or when shape or dtype are others.
    #[track_caller]
    pub fn update(&self, value: &Tensor) {
        self.check("update", value);
        match mode::training() {
            Some(scope) if scope.recomputing => {}
            Some(_) => training::request(self.id, value.detach()),
            None => panic!("a buffer changes only in a training scope: open one with training(seed, step)"),
        }
    }

    /// Adds `amount` to what the step has counted for this buffer. Once, when the scope is finished, the buffer takes what `rule`
    /// makes of its value and of the sum, so that a step cut into micro-batches changes it as one that is whole does. Does nothing
    /// in a region that is computed a second time for its activations.
    ///
    /// # Panics
    /// Outside of a training scope, or when the shape is another.
    #[track_caller]
    pub fn tally(&self, amount: &Tensor, rule: impl FnOnce(&Tensor, &Tensor) -> Tensor + 'static) {
        let shape = amount.shape();
        assert!(*shape == self.shape, "tally: a buffer of shape {} cannot count values of shape {shape}", self.shape);
        match mode::training() {
            Some(scope) if scope.recomputing => {}
            Some(_) => training::count(self.id, &amount.detach(), Box::new(rule)),
            None => panic!("a buffer counts only in a training scope: open one with training(seed, step)"),
        }
    }

    /// Gives the buffer these values; floats are converted to its dtype.
    ///
    /// # Panics
    /// When the shape is another, or one dtype is floating-point and the other is not.
    #[track_caller]
    pub fn set(&mut self, value: &Tensor) {
        let value = if value.dtype().is_float() && self.dtype.is_float() {
            no_grad(|| value.detach().to_dtype(self.dtype))
        } else {
            value.detach()
        };
        self.check("set", &value);
        self.value = Some(value);
    }

    /// Converts the values when they are floating-point; counters stay what they are.
    pub fn set_dtype(&mut self, dtype: DType) {
        if self.dtype.is_float() && dtype.is_float() {
            self.dtype = dtype;
            self.value = self.value.take().map(|value| no_grad(|| value.to_dtype(dtype)));
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    #[track_caller]
    fn check(&self, verb: &str, value: &Tensor) {
        assert!(
            *value.shape() == self.shape && value.dtype() == self.dtype,
            "{verb}: a buffer of {} {} cannot have values of {} {}",
            self.dtype,
            self.shape,
            value.dtype(),
            value.shape()
        );
    }
}

impl Clone for ModuleBuffer {
    /// A buffer with the same values that changes by itself; see [`crate::alias`] for one that does not.
    fn clone(&self) -> Self {
        Self {
            id: if is_aliasing() { self.id } else { next_id() },
            shape: self.shape,
            dtype: self.dtype,
            fill: self.fill,
            value: self.value.clone(),
        }
    }
}

impl fmt::Debug for ModuleBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleBuffer({} {})", self.dtype, self.shape)
    }
}
