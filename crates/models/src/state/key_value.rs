//! Keys and values of the tokens so far.

use cupola_core::{Buffer, DType, Element, alloc::Placement};
use cupola_tensor::{Tensor, bf16, f16};

/// Keys `[T, Hkv, Dh]` and values `[T, Hkv, Dv]` of the T tokens that a sequence has.
///
/// Memory grows by half at a time and new tokens are written behind the old ones, so that a token costs its own bytes. A clone
/// shares memory; whichever of the two goes on first copies it.
#[derive(Clone, Default)]
pub struct KeyValue {
    keys: Rows,
    values: Rows,
}

impl KeyValue {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.keys.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.keys.len == 0
    }

    /// Bytes of all keys and values, of memory kept for later ones included.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Appends tokens.
    #[track_caller]
    pub fn extend(&mut self, k: &Tensor, v: &Tensor) {
        self.keys.extend(k);
        self.values.extend(v);
    }

    /// All keys.
    ///
    /// # Panics
    /// When nothing was ever appended, so that their shape is not known.
    #[track_caller]
    pub fn keys(&self) -> Tensor {
        self.keys.view()
    }

    /// All values.
    ///
    /// # Panics
    /// As [`KeyValue::keys`].
    #[track_caller]
    pub fn values(&self) -> Tensor {
        self.values.view()
    }

    /// Forgets all tokens but the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.keys.len = self.keys.len.min(len);
        self.values.len = self.values.len.min(len);
    }

    pub(super) fn detach(&mut self) {
        for rows in [&mut self.keys, &mut self.values] {
            rows.all = rows.all.as_ref().map(Tensor::detach);
        }
    }
}

/// Rows with room behind them.
#[derive(Clone, Default)]
struct Rows {
    /// At least `len` rows; what is behind them is arbitrary.
    all: Option<Tensor>,
    len: usize,
}

impl Rows {
    fn bytes(&self) -> usize {
        self.all.as_ref().map_or(0, |x| x.numel() * x.dtype().size())
    }

    #[track_caller]
    fn view(&self) -> Tensor {
        let all = self.all.as_ref().expect("keys and values are asked for after tokens were appended");
        if all.dim(0) == self.len { all.clone() } else { all.narrow(0, 0, self.len) }
    }

    #[track_caller]
    fn extend(&mut self, x: &Tensor) {
        let recorded = x.needs_grad() || self.all.as_ref().is_some_and(Tensor::needs_grad);
        self.len += x.dim(0);
        if recorded {
            // Gradients reach back through the state.
            let before = Self { all: self.all.take(), len: self.len - x.dim(0) };
            self.all = Some(match before.all {
                Some(_) => Tensor::cat(&[&before.view(), x], 0),
                None => x.clone(),
            });
            return;
        }
        let x = x.contiguous();
        match x.dtype() {
            DType::F64 => self.write::<f64>(&x),
            DType::BF16 => self.write::<bf16>(&x),
            DType::F16 => self.write::<f16>(&x),
            _ => self.write::<f32>(&x),
        }
    }

    /// Writes x into the last rows.
    #[track_caller]
    fn write<T: Element>(&mut self, x: &Tensor) {
        let width = x.shape()[1..].iter().product::<usize>();
        let begin = (self.len - x.dim(0)) * width;
        let new = x.slice_of::<T>();
        let enough = self.all.as_ref().is_some_and(|all| all.dim(0) >= self.len);
        if let Some(all) = self.all.as_mut().filter(|_| enough)
            && let Some(place) = all.as_mut_slice::<T>()
        {
            place[begin..begin + new.len()].copy_from_slice(new);
            return;
        }
        let room = if self.all.is_some() { self.len + self.len / 2 } else { self.len };
        let mut shape = *x.shape();
        shape = shape.with_dim(0, room.next_multiple_of(16));
        let mut buffer = Buffer::uninit(x.dtype(), shape.numel(), Placement::Lasting);
        let place = buffer.as_mut_slice::<T>();
        if let Some(all) = &self.all {
            let old = all.contiguous();
            place[..begin].copy_from_slice(&old.slice_of::<T>()[..begin]);
        }
        place[begin..begin + new.len()].copy_from_slice(new);
        // Products with what lies behind are masked by zero, which must not meet an infinity.
        place[begin + new.len()..].fill(T::from_f64(0.0));
        self.all = Some(Tensor::from_buffer(buffer, shape));
    }
}
