//! What scans and convolutions have come to.

use cupola_tensor::Tensor;

use super::pool::{Hold, PagePool};

/// A fixed number of tensors, each with a first dimension of 1. They are replaced and never written, so that a clone is a snapshot.
#[derive(Clone)]
pub struct Recurrent {
    tensors: Vec<Tensor>,
    pool: PagePool,
    /// Their place in the pool's account.
    hold: Hold,
    /// With [`State::follow`](super::State::follow): what there was before each token of the last call.
    trail: Option<Vec<Recurrent>>,
}

impl Recurrent {
    pub(super) fn new(tensors: Vec<Tensor>, pool: &PagePool) -> Self {
        let hold = pool.hold(tensors.iter().map(|x| x.numel() * x.dtype().size()).sum());
        Self { tensors, pool: pool.clone(), hold, trail: None }
    }

    /// The tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Bytes of the tensors.
    pub fn bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// The same in this pool.
    pub(super) fn in_pool(self, pool: &PagePool) -> Self {
        Self::new(self.tensors, pool)
    }

    /// What comes after it, in the same pool.
    pub(super) fn next(&self, tensors: Vec<Tensor>) -> Self {
        Self::new(tensors, &self.pool)
    }

    /// Begins again. Every scan and convolution begins at zero.
    pub(super) fn reset(&mut self) {
        *self = self.next(self.tensors.iter().map(|x| Tensor::zeros_of(*x.shape(), x.dtype())).collect());
    }

    /// The same without the way here.
    pub(super) fn snapshot(&self) -> Self {
        Self { trail: None, ..self.clone() }
    }

    /// Whether somebody else holds the same tensors.
    pub(super) fn is_shared(&self) -> bool {
        self.hold.is_shared()
    }

    pub(super) fn detach(&mut self) {
        self.tensors.iter_mut().for_each(|x| *x = x.detach());
    }

    pub(super) fn follow(&mut self) {
        self.trail = Some(Vec::new());
    }

    pub(super) fn is_followed(&self) -> bool {
        self.trail.is_some()
    }

    /// What comes after one more token of a call that is followed.
    pub(super) fn step(&mut self, tensors: Vec<Tensor>) {
        let next = self.next(tensors);
        let mut trail = self.trail.take().unwrap_or_default();
        trail.push(std::mem::replace(self, next));
        self.trail = Some(trail);
    }

    /// Whether [`Recurrent::go_back`] can go back to behind the first `tokens` of the last call's.
    pub(super) fn reaches(&self, tokens: usize) -> bool {
        self.trail.as_ref().is_some_and(|trail| tokens < trail.len())
    }

    /// Goes back to behind the first `tokens` tokens of the last call.
    pub(super) fn go_back(&mut self, tokens: usize) {
        let trail = self.trail.take().unwrap_or_default();
        if let Some(before) = trail.into_iter().nth(tokens) {
            *self = before;
        }
    }
}
