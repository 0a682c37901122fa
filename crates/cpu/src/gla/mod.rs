//! Gated linear attention: a matrix as state, with a decay for each key channel (Yang et al., "Gated Linear Attention Transformers with
//! Hardware-Efficient Training", 2023):
//!
//! ```text
//! S[t] = diag(exp(decay[t])) S[t - 1] + k[t] v[t]^T
//! y[t] = q[t] S[t]
//! ```
//!
//! In a chunk, with `c[t]` the sums of decays since its begin, a row reads earlier rows with the weights
//! `a[t, s] = sum over d of q[t, d] k[s, d] exp(c[t, d] - c[s, d])`. Rows that lie at least a border of 16 apart are products of
//! queries and keys that each decay to that border; within 16 rows the exponentials are taken pair by pair. No exponent is the
//! difference of more than what lies between the two rows, so nothing overflows.
//!
//! # Same bits
//! Chunks are cut at multiples of [`CHUNK`] tokens from a sequence's begin; sequences and heads are computed apart from each other.

mod backward;
mod forward;
mod pairs;

use std::ops::Range;

use crate::instantiate;
use crate::multiply::Multiply;
use crate::scattered::Scattered;

/// Tokens at whose multiples sequences may be cut without changing a bit.
pub const CHUNK: usize = 64;

/// Sequences one after the other, and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Gla<'a> {
    /// Where each sequence begins, and the number of tokens at the end.
    pub offsets: &'a [usize],
    /// Heads, H.
    pub heads: usize,
    /// Width of queries and keys, S.
    pub keys: usize,
    /// Width of values, P.
    pub values: usize,
}

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `[N, H, S]`
    pub q: &'a [T],
    /// `[N, H, S]`
    pub k: &'a [T],
    /// `[N, H, P]`
    pub v: &'a [T],
    /// `[N, H, S]`, the logarithm of the decay.
    pub decay: &'a [T],
    /// The states before each sequence, `[sequences, H, S, P]`; zero when not given.
    pub state: Option<&'a [T]>,
}

/// Gradients that backward writes; that of a state that was not given is empty.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Gradients<'a, T> {
    pub dq: &'a mut [T],
    pub dk: &'a mut [T],
    pub dv: &'a mut [T],
    pub ddecay: &'a mut [T],
    pub dstate: &'a mut [T],
}

impl Gla<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Elements of one head's state.
    fn state(&self) -> usize {
        self.keys * self.values
    }

    /// Elements of the states of all sequences.
    pub fn state_len(&self) -> usize {
        self.sequences() * self.heads * self.state()
    }

    /// For each sequence the number of states saved for those before it; the number of all at the end.
    fn borders(&self) -> Vec<usize> {
        let mut sum = 0;
        let inner = |pair: &[usize]| (pair[1] - pair[0]).div_ceil(CHUNK).saturating_sub(1);
        std::iter::once(0)
            .chain(self.offsets.windows(2).map(|pair| {
                sum += inner(pair);
                sum
            }))
            .collect()
    }

    /// Elements that [`forward`] saves.
    pub fn borders_len(&self) -> usize {
        self.borders().last().copied().unwrap_or(0) * self.heads * self.state()
    }

    #[track_caller]
    fn check<T>(&self, inputs: &Inputs<'_, T>) {
        assert!(self.offsets.is_sorted() && self.offsets.first() == Some(&0), "{self:?}");
        let (keys, values) = (self.tokens() * self.heads * self.keys, self.tokens() * self.heads * self.values);
        let found = [inputs.q, inputs.k, inputs.v, inputs.decay].map(<[T]>::len);
        assert_eq!(found, [keys, keys, values, keys], "sizes of q, k, v, decay of {self:?}");
        assert!(inputs.state.is_none_or(|s| s.len() == self.state_len()), "size of the state of {self:?}");
    }

    /// Copies a head's rows of `[N, H, width]`.
    fn gather<T: Copy>(&self, x: &[T], width: usize, head: usize, tokens: &Range<usize>, to: &mut [T]) {
        for (to, token) in to.chunks_exact_mut(width.max(1)).zip(tokens.clone()) {
            to.copy_from_slice(&x[(token * self.heads + head) * width..][..width]);
        }
    }

    /// The inverse of [`Gla::gather`].
    ///
    /// # Safety
    /// No other thread may write these rows.
    unsafe fn scatter<T: Copy>(
        &self,
        from: &[T],
        width: usize,
        head: usize,
        tokens: &Range<usize>,
        to: &Scattered<'_, T>,
    ) {
        for (from, token) in from.chunks_exact(width.max(1)).zip(tokens.clone()) {
            // SAFETY: the caller's.
            unsafe { to.part((token * self.heads + head) * width, width) }.copy_from_slice(from);
        }
    }

    /// Where a head's state of a sequence, or of a border, lies.
    fn place(&self, number: usize, head: usize) -> Range<usize> {
        let at = (number * self.heads + head) * self.state();
        at..at + self.state()
    }
}

instantiate! {
    /// Types that gated linear attention computes in.
    Gated: Multiply, for [f64, f32] {
        /// y `[N, H, P]`; the states after each sequence, `[sequences, H, S, P]`, unless that slice is empty; and what backward needs,
        /// [`Gla::borders_len`] elements, unless that slice is empty.
        ///
        /// # Panics
        /// When a slice has another length.
        fn forward(
            gla: &Gla<'_>,
            inputs: &Inputs<'_, T>,
            y: &mut [T],
            last: &mut [T],
            borders: &mut [T],
        ) = forward::run;

        /// The gradients of everything that went in, from those of y and of the final states, and from what [`forward`] saved.
        ///
        /// # Panics
        /// When a slice has another length.
        fn backward(
            gla: &Gla<'_>,
            inputs: &Inputs<'_, T>,
            borders: &[T],
            dy: &[T],
            dlast: Option<&[T]>,
            gradients: Gradients<'_, T>,
        ) = backward::run;
    }
}
