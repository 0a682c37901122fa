//! What an update rule is given and does.

use cupola_core::Shape;
use cupola_cpu::optim::{Slices, Steps};
use cupola_cpu::real::Real;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What parameters are updated in: f32 or f64.
pub trait Master: Real + Steps<Self> {}

impl<R: Real + Steps<R>> Master for R {}

/// The formula by which an optimiser changes parameters; its fields are the options of a group.
pub trait Rule: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name that a saved state carries.
    const NAME: &'static str;

    /// The learning rate.
    fn lr(&self) -> f64;

    /// The names of the tensors that it keeps for each parameter, of the parameter's shape, zero at first.
    fn slots(&self) -> &'static [&'static str];

    /// Whether it can update parameters of this shape; the reason if not.
    ///
    /// # Errors
    /// With what it expects.
    fn accepts(&self, shape: &Shape) -> Result<(), &'static str> {
        let _ = shape;
        Ok(())
    }

    /// Updates all parameters.
    fn update<R: Master>(jobs: Vec<Job<'_, Self, R>>);
}

/// One parameter, or one part of a parameter, that is to be updated.
pub struct Job<'a, C, R> {
    /// The options of its group.
    pub rule: &'a C,
    /// The learning rate now.
    pub lr: f64,
    /// How many updates this parameter has had, this one included.
    pub step: u64,
    /// What its gradient is to be multiplied by first.
    pub grad_scale: f64,
    /// Its dimensions.
    pub shape: Shape,
    /// Its values.
    pub param: &'a mut [R],
    /// Its gradient.
    pub grad: &'a [R],
    /// The tensors of [`Rule::slots`].
    pub slots: Vec<&'a mut [R]>,
}

impl<'a, C, R> Job<'a, C, R> {
    /// The job as a kernel with room for `N` state tensors takes it: the rule's slots in order, at the places given.
    pub(super) fn slices<const N: usize>(self, places: &[usize]) -> Slices<'a, R, N> {
        let mut state: [&'a mut [R]; N] = std::array::from_fn(|_| Default::default());
        for (place, slot) in places.iter().zip(self.slots) {
            state[*place] = slot;
        }
        Slices { param: self.param, grad: self.grad, state }
    }
}
