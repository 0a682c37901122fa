//! Keys and values of the tokens so far.

use cupola_tensor::Tensor;

/// Keys `[T, Hkv, Dh]` and values `[T, Hkv, Dv]` of the T tokens that a sequence has.
#[derive(Clone, Default)]
pub struct KeyValue(Option<(Tensor, Tensor)>);

impl KeyValue {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |(k, _)| k.dim(0))
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let size = |x: &Tensor| x.numel() * x.dtype().size();
        self.0.as_ref().map_or(0, |(k, v)| size(k) + size(v))
    }

    /// Appends tokens.
    #[track_caller]
    pub fn extend(&mut self, k: &Tensor, v: &Tensor) {
        self.0 = Some(match self.0.take() {
            Some((keys, values)) => (Tensor::cat(&[&keys, k], 0), Tensor::cat(&[&values, v], 0)),
            None => (Tensor::cat(&[k], 0), Tensor::cat(&[v], 0)),
        });
    }

    /// All keys.
    ///
    /// # Panics
    /// When nothing was ever appended, so that their shape is not known.
    #[track_caller]
    pub fn keys(&self) -> &Tensor {
        &self.0.as_ref().expect("keys are asked for after tokens were appended").0
    }

    /// All values.
    ///
    /// # Panics
    /// As [`KeyValue::keys`].
    #[track_caller]
    pub fn values(&self) -> &Tensor {
        &self.0.as_ref().expect("values are asked for after tokens were appended").1
    }

    pub(super) fn detach(&mut self) {
        self.0 = self.0.take().map(|(k, v)| (k.detach(), v.detach()));
    }
}
