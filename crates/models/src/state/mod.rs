//! What is kept of a sequence between calls.

mod key_value;

use cupola_tensor::Tensor;

pub use key_value::KeyValue;

/// What a model keeps of one sequence: keys and values of its tokens, or what its scans have come to.
///
/// A clone shares memory and is a snapshot: a later call that advances one leaves the other as it was. [`State::mark`] and
/// [`State::rewind`] take back the last calls without a copy.
#[derive(Clone)]
pub struct State {
    position: usize,
    layers: Vec<MixerState>,
}

/// A place in a sequence to which its state can go back.
#[derive(Clone)]
pub struct Mark {
    position: usize,
    layers: Vec<Option<Vec<Tensor>>>,
}

/// What one layer keeps of one sequence.
// Most are the larger one.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
#[non_exhaustive]
pub enum MixerState {
    /// Keys and values of all tokens so far.
    KeyValue(KeyValue),
    /// A fixed number of tensors, each with a first dimension of 1.
    Recurrent(Vec<Tensor>),
}

impl State {
    /// The state of a sequence that has not begun, of a model with these layers.
    pub(crate) fn new(layers: Vec<MixerState>) -> Self {
        Self { position: 0, layers }
    }

    /// How many tokens of the sequence have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(MixerState::bytes).sum()
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
        self.position += tokens;
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
                (MixerState::KeyValue(all), _) => all.truncate(mark.position),
                (state, Some(kept)) => *state = MixerState::Recurrent(kept.clone()),
                (MixerState::Recurrent(_), None) => unreachable!("a mark keeps the tensors of recurrent layers"),
            }
        }
        self.position = mark.position;
    }

    /// Forgets the tokens from `position` on. Possible where all layers keep keys and values; where one does not, nothing is done and
    /// the answer is `false`.
    pub fn truncate(&mut self, position: usize) -> bool {
        let possible = self.layers.iter().all(|layer| matches!(layer, MixerState::KeyValue(_)));
        if possible && position < self.position {
            for layer in &mut self.layers {
                if let MixerState::KeyValue(all) = layer {
                    all.truncate(position);
                }
            }
            self.position = position;
        }
        possible
    }

    /// Gives each layer's tensors their gradients' graph up: what follows does not reach back into earlier calls.
    pub fn detach(&mut self) {
        self.layers.iter_mut().for_each(MixerState::detach);
    }
}

impl MixerState {
    /// Keys and values of no tokens.
    pub fn key_value() -> Self {
        Self::KeyValue(KeyValue::default())
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        let size = |x: &Tensor| x.numel() * x.dtype().size();
        match self {
            Self::KeyValue(all) => all.bytes(),
            Self::Recurrent(all) => all.iter().map(size).sum(),
        }
    }

    fn detach(&mut self) {
        match self {
            Self::KeyValue(all) => all.detach(),
            Self::Recurrent(all) => all.iter_mut().for_each(|x| *x = x.detach()),
        }
    }

    /// Appends the keys and values of a segment.
    ///
    /// # Panics
    /// When the state is not of keys and values.
    #[track_caller]
    pub(crate) fn extend(&mut self, k: &Tensor, v: &Tensor) -> &KeyValue {
        let Self::KeyValue(all) = self else { panic!("attention was given the state of another mixer") };
        all.extend(k, v);
        all
    }

    /// The tensors of all states stacked along their first dimension, one entry for each tensor that a state has.
    ///
    /// # Panics
    /// When a state is not recurrent.
    #[track_caller]
    pub fn gather(states: &[&mut MixerState]) -> Vec<Tensor> {
        let of = |state: &MixerState| match state {
            Self::Recurrent(all) => all.clone(),
            Self::KeyValue(_) => panic!("a recurrent mixer was given keys and values"),
        };
        let all: Vec<Vec<Tensor>> = states.iter().map(|state| of(state)).collect();
        let count = all.first().map_or(0, Vec::len);
        (0..count).map(|i| pack(all.iter().map(|tensors| tensors[i].clone()).collect())).collect()
    }

    /// Gives each state its part of stacked tensors, the reverse of [`MixerState::gather`].
    pub fn scatter(states: Vec<&mut MixerState>, tensors: &[Tensor]) {
        for (index, state) in states.into_iter().enumerate() {
            // A copy: a view would keep the tensors of all sequences alive for as long as one of them goes on.
            let own = |x: &Tensor| if x.dim(0) == 1 { x.clone() } else { copy(&x.narrow(0, index, 1)) };
            *state = Self::Recurrent(tensors.iter().map(own).collect());
        }
    }
}

/// Tensors one after the other along their first dimension.
fn pack(all: Vec<Tensor>) -> Tensor {
    match &all[..] {
        [only] => only.clone(),
        _ => Tensor::cat(&all.iter().collect::<Vec<_>>(), 0),
    }
}

/// The same elements in memory of their own.
fn copy(x: &Tensor) -> Tensor {
    Tensor::cat(&[x], 0)
}
