//! What scans and convolutions have come to.

use std::sync::Arc;

use cupola_tensor::Tensor;

use super::pool::{Hold, PagePool};

/// A fixed number of tensors, each with a first dimension of 1. They are replaced and never written, so that a clone is a snapshot.
///
/// Sequences that go on together, token by token, lie as rows in tensors of all of them: as long as they stay together, nothing is copied
/// between one token and the next.
#[derive(Clone)]
pub struct Recurrent {
    /// The tensors of this sequence and of those beside it.
    stack: Arc<Vec<Tensor>>,
    row: usize,
    pool: PagePool,
    /// Their place in the pool's account.
    hold: Hold,
    /// With [`State::follow`](super::State::follow): what there was before each token of the last call.
    trail: Option<Vec<Recurrent>>,
}

impl Recurrent {
    pub(super) fn new(tensors: Vec<Tensor>, pool: &PagePool) -> Self {
        Self::row(Arc::new(tensors), 0, pool)
    }

    fn row(stack: Arc<Vec<Tensor>>, row: usize, pool: &PagePool) -> Self {
        let bytes = |x: &Tensor| x.numel() / x.dim(0).max(1) * x.dtype().size();
        let hold = pool.hold(stack.iter().map(bytes).sum());
        Self { stack, row, pool: pool.clone(), hold, trail: None }
    }

    /// The tensors.
    pub fn tensors(&self) -> Vec<Tensor> {
        self.stack.iter().map(|x| x.narrow(0, self.row, 1)).collect()
    }

    /// The tensors of these sequences stacked along the first dimension, as they lie if they are the rows of one stack in order.
    pub(super) fn stacked(all: &[&Self]) -> Vec<Tensor> {
        let Some(first) = all.first() else { return Vec::new() };
        let together = |(row, one): (usize, &&Self)| one.row == row && Arc::ptr_eq(&one.stack, &first.stack);
        if first.stack.iter().all(|x| x.dim(0) == all.len()) && all.iter().enumerate().all(together) {
            return first.stack.to_vec();
        }
        let rows: Vec<Vec<Tensor>> = all.iter().map(|one| one.tensors()).collect();
        let joined = |i: usize| Tensor::cat(&rows.iter().map(|row| &row[i]).collect::<Vec<_>>(), 0);
        (0..first.stack.len()).map(joined).collect()
    }

    /// Bytes of the tensors.
    pub fn bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// The same in this pool.
    pub(super) fn in_pool(self, pool: &PagePool) -> Self {
        Self::row(self.stack, self.row, pool)
    }

    /// What comes after it, in the same pool: a row of the stack.
    pub(super) fn next(&self, stack: &Arc<Vec<Tensor>>, row: usize) -> Self {
        Self::row(stack.clone(), row, &self.pool)
    }

    /// Begins again. Every scan and convolution begins at zero.
    pub(super) fn reset(&mut self) {
        let zeros = self.tensors().iter().map(|x| Tensor::zeros_of(*x.shape(), x.dtype())).collect();
        *self = Self::new(zeros, &self.pool);
    }

    /// The same in memory of its own, without the way here: it may be kept for long, and others' rows are not to be kept with it.
    pub(super) fn snapshot(&self) -> Self {
        if self.stack.iter().all(|x| x.dim(0) == 1) {
            return Self { trail: None, ..self.clone() };
        }
        Self::new(self.tensors().iter().map(|x| Tensor::cat(&[x], 0)).collect(), &self.pool)
    }

    /// Whether somebody else holds the same tensors.
    pub(super) fn is_shared(&self) -> bool {
        self.hold.is_shared()
    }

    pub(super) fn detach(&mut self) {
        self.stack = Arc::new(self.stack.iter().map(Tensor::detach).collect());
    }

    pub(super) fn follow(&mut self) {
        self.trail = Some(Vec::new());
    }

    pub(super) fn is_followed(&self) -> bool {
        self.trail.is_some()
    }

    /// What comes after one more token of a call that is followed.
    pub(super) fn step(&mut self, next: Self) {
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
