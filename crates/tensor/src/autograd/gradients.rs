//! Gradients of leaves.

use std::collections::BTreeMap;
use std::ops::Index;

use crate::tensor::Tensor;

/// The gradients that a backward pass found, one for each leaf it reached.
///
/// Iteration is in the order in which the leaves were made, so that sums over all gradients (a norm) have the same bits in
/// every run.
#[derive(Clone, Default)]
pub struct Gradients {
    by_leaf: BTreeMap<u64, Tensor>,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradient of `leaf`; `None` when it is no leaf or no gradient reached it.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_leaf.get(&leaf.leaf_id()?)
    }

    /// The gradient of the leaf with this [`Tensor::leaf_id`].
    pub fn get_id(&self, leaf: u64) -> Option<&Tensor> {
        self.by_leaf.get(&leaf)
    }

    /// Sets the gradient of `leaf`, returning the former one.
    ///
    /// # Panics
    /// When `leaf` is not a leaf or the shapes differ.
    #[track_caller]
    pub fn insert(&mut self, leaf: &Tensor, grad: Tensor) -> Option<Tensor> {
        let id = leaf.leaf_id().expect("gradients are kept for tensors made by requires_grad");
        assert_eq!(leaf.shape(), grad.shape(), "a gradient has its leaf's shape");
        self.by_leaf.insert(id, grad)
    }

    /// Takes the gradient of `leaf` out.
    pub fn remove(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_leaf.remove(&leaf.leaf_id()?)
    }

    /// How many leaves have a gradient.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether no leaf has a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }

    /// All gradients with their leaf's identity, in the order in which the leaves were made.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Tensor)> {
        self.by_leaf.iter().map(|(&id, grad)| (id, grad))
    }

    /// All gradients, for changing them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Tensor)> {
        self.by_leaf.iter_mut().map(|(&id, grad)| (id, grad))
    }

    /// Adds `grad` to what leaf `id` has collected, in place where possible.
    pub(crate) fn add(&mut self, id: u64, grad: Tensor) {
        match self.by_leaf.remove(&id) {
            None => self.by_leaf.insert(id, grad),
            Some(sum) => self.by_leaf.insert(id, sum.accumulate(&grad)),
        };
    }

    pub(crate) fn lend(&mut self, id: u64) -> Option<Tensor> {
        self.by_leaf.remove(&id)
    }

    pub(crate) fn merge(&mut self, other: Gradients) {
        other.by_leaf.into_iter().for_each(|(id, grad)| self.add(id, grad));
    }
}

impl Index<&Tensor> for Gradients {
    type Output = Tensor;

    /// # Panics
    /// When `leaf` has no gradient.
    fn index(&self, leaf: &Tensor) -> &Tensor {
        let shape = leaf.shape();
        match self.get(leaf) {
            Some(grad) => grad,
            None if leaf.is_leaf() => panic!("no gradient reached the leaf of shape {shape}"),
            None => panic!(
                "the tensor of shape {shape} is not a leaf; gradients are kept for tensors made by requires_grad"
            ),
        }
    }
}
