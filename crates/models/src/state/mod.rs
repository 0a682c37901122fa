//! What is kept of a sequence between calls.
//!
//! - [`PagePool`]: the memory, and the account of it
//! - [`KeyValue`]: keys and values, or latent vectors, in pages that sequences share
//! - [`Recurrent`]: what scans and convolutions have come to, of a fixed size
//! - [`Stretch`]: a page's worth of a sequence, for others that begin alike

mod key_value;
mod pool;
mod recurrent;
mod stretch;

use std::ops::Range;
use std::sync::Arc;

use cupola_tensor::{Segments, Tensor};

pub use cupola_tensor::ops::attention::PAGE;
pub use key_value::{HeadLayout, KeyValue};
pub use pool::{PagePool, PoolFull, Usage};
pub use recurrent::Recurrent;
pub use stretch::Stretch;

/// What a model keeps of one sequence: keys and values of its tokens, or what its scans have come to.
///
/// A clone shares memory and is a snapshot: a later call that advances one leaves the other as it was. [`State::mark`] and
/// [`State::rewind`] take back the last calls without a copy.
#[derive(Clone)]
pub struct State {
    position: usize,
    layers: Vec<MixerState>,
    pool: PagePool,
    /// Where the last call that was followed began.
    followed: Option<usize>,
}

/// A place in a sequence to which its state can go back.
#[derive(Clone)]
pub struct Mark {
    position: usize,
    layers: Vec<Option<Recurrent>>,
}

/// What one layer keeps of one sequence.
// Most are the larger one.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
#[non_exhaustive]
pub enum MixerState {
    /// Keys and values of all tokens so far.
    KeyValue(KeyValue),
    /// What the layer's scan has come to.
    Recurrent(Recurrent),
}

impl State {
    /// The state of a sequence that has not begun, of a model with these layers.
    pub(crate) fn new(layers: Vec<MixerState>, pool: &PagePool) -> Self {
        let layers = layers.into_iter().map(|layer| layer.in_pool(pool)).collect();
        Self { position: 0, layers, pool: pool.clone(), followed: None }
    }

    /// How many tokens of the sequence have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes of what is kept, of what is shared with other states included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(MixerState::bytes).sum()
    }

    /// Where its memory comes from.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// What each layer keeps.
    pub fn layers(&self) -> &[MixerState] {
        &self.layers
    }

    pub(crate) fn layer_mut(&mut self, index: usize) -> &mut MixerState {
        &mut self.layers[index]
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn advance(&mut self, tokens: usize) {
        self.followed = self.followed.filter(|&begin| begin == self.position);
        self.position += tokens;
    }

    fn key_values(&mut self) -> impl Iterator<Item = &mut KeyValue> {
        self.layers.iter_mut().filter_map(|layer| match layer {
            MixerState::KeyValue(all) => Some(all),
            MixerState::Recurrent(_) => None,
        })
    }

    /// Bytes that the next so many tokens take from the pool.
    pub fn missing(&self, tokens: usize) -> usize {
        let missing = |layer: &MixerState| match layer {
            MixerState::KeyValue(all) => all.missing(tokens),
            MixerState::Recurrent(_) => 0,
        };
        self.layers.iter().map(missing).sum()
    }

    /// Takes the pages for the next so many tokens, so that the call that reads them needs none. Without this the call takes them, and
    /// panics when the pool has no room.
    ///
    /// # Errors
    /// When the pool has no room for all of them; nothing is taken then.
    pub fn reserve(&mut self, tokens: usize) -> Result<(), PoolFull> {
        let missing = self.missing(tokens);
        if missing > 0 {
            self.pool.check(missing)?;
            self.reserve_beyond(tokens);
        }
        Ok(())
    }

    /// As [`State::reserve`], and beyond the pool's bound where there is no room: for a sequence that must end so that there is again.
    pub fn reserve_beyond(&mut self, tokens: usize) {
        for layer in self.key_values() {
            let taken = layer.reserve(tokens, true);
            debug_assert!(taken.is_ok(), "beyond the bound there is always room");
        }
    }

    /// Remembers where the sequence is, for [`State::rewind`]; costs nothing that grows with its length.
    pub fn mark(&self) -> Mark {
        let layer = |state: &MixerState| match state {
            MixerState::KeyValue(_) => None,
            MixerState::Recurrent(all) => Some(all.clone()),
        };
        Mark { position: self.position, layers: self.layers.iter().map(layer).collect() }
    }

    /// Goes back to where this state was marked: what was read since is forgotten.
    ///
    /// # Panics
    /// When the mark lies ahead or is of another model.
    #[track_caller]
    pub fn rewind(&mut self, mark: &Mark) {
        assert!(
            mark.position <= self.position && mark.layers.len() == self.layers.len(),
            "rewind: a mark at {} of {} layers for a state at {} of {}",
            mark.position,
            mark.layers.len(),
            self.position,
            self.layers.len()
        );
        for (state, kept) in self.layers.iter_mut().zip(&mark.layers) {
            match (state, kept) {
                (MixerState::KeyValue(all), _) => all.rewind(mark.position),
                (state, Some(kept)) => *state = MixerState::Recurrent(kept.clone()),
                (MixerState::Recurrent(_), None) => unreachable!("a mark keeps the tensors of recurrent layers"),
            }
        }
        self.position = mark.position;
    }

    /// Has the next call remember what scans come to behind each of its tokens, for [`State::truncate`]: it reads them in the form in
    /// which tokens are read one by one, with the same bits. Costs nothing where all layers keep keys and values.
    pub fn follow(&mut self) {
        self.followed = Some(self.position);
        for layer in &mut self.layers {
            if let MixerState::Recurrent(all) = layer {
                all.follow();
            }
        }
    }

    /// Moves what lies beside other sequences into memory of its own: for a sequence that is set aside while those go on.
    pub fn separate(&mut self) {
        for layer in &mut self.layers {
            if let MixerState::Recurrent(all) = layer
                && !all.is_followed()
            {
                *all = all.snapshot();
            }
        }
    }

    /// Forgets the tokens from `position` on. Possible where all layers keep keys and values, and within the tokens of the last call
    /// if it was one that was followed ([`State::follow`]); elsewhere nothing is done and the answer is `false`.
    pub fn truncate(&mut self, position: usize) -> bool {
        if position >= self.position {
            return true;
        }
        let tokens = self.followed.and_then(|begin| position.checked_sub(begin));
        let possible = |layer: &MixerState| match layer {
            MixerState::KeyValue(_) => true,
            MixerState::Recurrent(all) => tokens.is_some_and(|tokens| all.reaches(tokens)),
        };
        if !self.layers.iter().all(possible) {
            return false;
        }
        for layer in &mut self.layers {
            match (layer, tokens) {
                (MixerState::KeyValue(all), _) => all.truncate(position),
                (MixerState::Recurrent(all), Some(tokens)) => all.go_back(tokens),
                (MixerState::Recurrent(_), None) => unreachable!("it reaches back some tokens of a call"),
            }
        }
        self.position = position;
        true
    }

    /// Forgets the whole sequence, so that another can begin: pages go back to the pool, scans begin at zero again.
    pub fn reset(&mut self) {
        self.layers.iter_mut().for_each(MixerState::reset);
        (self.position, self.followed) = (0, None);
    }

    /// Gives each layer's tensors their gradients' graph up: what follows does not reach back into earlier calls.
    pub fn detach(&mut self) {
        self.layers.iter_mut().for_each(MixerState::detach);
    }
}

impl MixerState {
    /// Keys and values of no tokens.
    pub fn key_value(layout: HeadLayout) -> Self {
        Self::KeyValue(KeyValue::new(layout, PagePool::unbounded()))
    }

    /// The tensors that a scan begins with, each with a first dimension of 1.
    pub fn recurrent(tensors: Vec<Tensor>) -> Self {
        Self::Recurrent(Recurrent::new(tensors, &PagePool::unbounded()))
    }

    fn in_pool(self, pool: &PagePool) -> Self {
        match self {
            Self::KeyValue(all) => Self::KeyValue(all.in_pool(pool)),
            Self::Recurrent(all) => Self::Recurrent(all.in_pool(pool)),
        }
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        match self {
            Self::KeyValue(all) => all.bytes(),
            Self::Recurrent(all) => all.bytes(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::KeyValue(all) => all.reset(),
            Self::Recurrent(all) => all.reset(),
        }
    }

    fn detach(&mut self) {
        match self {
            Self::KeyValue(all) => all.detach(),
            Self::Recurrent(all) => all.detach(),
        }
    }

    /// Appends the keys and values of the tokens `rows`.
    ///
    /// # Panics
    /// When the state is not of keys and values, or its pool is full.
    #[track_caller]
    pub(crate) fn extend(&mut self, k: &Tensor, v: &Tensor, rows: Range<usize>) -> &KeyValue {
        let Self::KeyValue(all) = self else { panic!("attention was given the state of another mixer") };
        all.extend(k, v, rows);
        all
    }

    /// What the layer's scan has come to.
    ///
    /// # Panics
    /// When the state is of keys and values.
    #[track_caller]
    fn scan(&self) -> &Recurrent {
        match self {
            Self::Recurrent(all) => all,
            Self::KeyValue(_) => panic!("a recurrent mixer was given keys and values"),
        }
    }

    /// Whether the next call is to be read token by token.
    pub(crate) fn is_followed(&self) -> bool {
        self.scan().is_followed()
    }

    /// The tensors of some states stacked along their first dimension, one entry for each tensor that a state has.
    ///
    /// # Panics
    /// When a state is not recurrent.
    #[track_caller]
    pub(crate) fn gather(states: &[&mut MixerState], which: &[usize]) -> Vec<Tensor> {
        Recurrent::stacked(&which.iter().map(|&index| states[index].scan()).collect::<Vec<_>>())
    }

    /// Gives each of these states its row of stacked tensors, the reverse of [`MixerState::gather`], after so many tokens as `lengths`
    /// says; of a state that is followed and has more tokens to come, what it had is remembered.
    ///
    /// A sequence that read one token will most likely be read on together with the others, and stays beside them. Others get memory of
    /// their own: one that waits for its turn must not keep the rows of all.
    pub(crate) fn scatter(
        states: &mut [&mut MixerState],
        which: &[usize],
        tensors: Vec<Tensor>,
        lengths: &Segments,
        step: bool,
    ) {
        let stack = Arc::new(tensors);
        for (row, (&index, range)) in which.iter().zip(lengths.iter()).enumerate() {
            let Self::Recurrent(all) = &mut *states[index] else { unreachable!("it was gathered from") };
            let next = all.next(&stack, row);
            if step && all.is_followed() {
                all.step(next.snapshot());
            } else if range.len() == 1 {
                *all = next;
            } else {
                *all = next.snapshot();
            }
        }
    }
}
