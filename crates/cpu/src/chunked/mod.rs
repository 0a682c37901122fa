//! Linear recurrences with a matrix as state and one decay for each head and token, chunk by chunk as matrix products: the
//! state-space duality of Mamba-2 and -3, linear attention, and the (gated) delta rule.
//!
//! With decay `e[t] = exp(decay[t])` and, for each head, a state S of keys by values:
//!
//! ```text
//! S[t] = e[t] S[t - 1] + scale[t] sum over r of k[t, r] v[t, r]^T
//! y[t, r] = q[t, r] S[t]
//! ```
//!
//! * `rank` rows r belong to a token: each reads the state after all of them were written (Mamba-3's MIMO form).
//! * Where a `diagonal` is given, a token reads its own write with that factor instead of `scale`, which later tokens read
//!   (Mamba-3's trapezoidal rule, whose second factor is known at the next token).
//! * With `beta` (and rank 1, without scale) what is written is the delta rule's correction
//!   `beta[t] (v[t] - e[t] S[t - 1]^T k[t])` instead of v.
//!
//! In a chunk of Q tokens with `c[t]` the sum of decays since its begin, and S the state before it,
//!
//! ```text
//! y[t]  = exp(c[t]) q[t] S + sum over s <= t of (q[t] . k[s]) exp(c[t] - c[s]) scale[s] v[s]
//! S'    = exp(c[Q]) S + sum over s of exp(c[Q] - c[s]) scale[s] k[s] v[s]^T
//! ```
//!
//! and the delta rule's writes solve a triangular system (Yang et al., "Parallelizing Linear Transformers with the Delta Rule over
//! Sequence Length", 2024). Exponents are differences of sums, never quotients of exponentials. Forward keeps the states at chunk
//! borders and nothing else.
//!
//! # Same bits
//! Chunks are cut at multiples of [`CHUNK`] tokens from a sequence's begin, so that a sequence that is cut at such multiples gives the
//! same bits. Sequences, and blocks of at most four heads that share keys, are computed apart from each other. What a row does
//! not see enters as a product with zero; it must be finite.

mod backward;
mod block;
mod delta;
mod forward;
mod weights;

pub(crate) use block::{Scratch, product};
pub(crate) use forward::parts;

use crate::instantiate;
use crate::multiply::Multiply;

/// Tokens at whose multiples sequences may be cut without changing a bit.
pub const CHUNK: usize = 64;
/// The most heads in a block.
const HEADS: usize = 4;

/// Sequences one after the other, and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Chunked<'a> {
    /// Where each sequence begins, and the number of tokens at the end.
    pub offsets: &'a [usize],
    /// Rows of a token, R.
    pub rank: usize,
    /// Heads of queries and keys, G.
    pub groups: usize,
    /// Heads of values, H, a multiple of G.
    pub heads: usize,
    /// Width of queries and keys, S.
    pub keys: usize,
    /// Width of values, P.
    pub values: usize,
}

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `[N, R, G, S]`
    pub q: &'a [T],
    /// `[N, R, G, S]`
    pub k: &'a [T],
    /// `[N, R, H, P]`
    pub v: &'a [T],
    /// `[N, H]`, the logarithm of the decay.
    pub decay: &'a [T],
    /// `[N, H]`; 1 when not given.
    pub scale: Option<&'a [T]>,
    /// `[N, H]`; the scale when not given.
    pub diagonal: Option<&'a [T]>,
    /// `[N, H]`: makes it the delta rule.
    pub beta: Option<&'a [T]>,
    /// The states before each sequence, `[sequences, H, S, P]`; zero when not given.
    pub state: Option<&'a [T]>,
}

/// Gradients that backward writes; slices of inputs that were not given are empty.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Gradients<'a, T> {
    pub dq: &'a mut [T],
    pub dk: &'a mut [T],
    pub dv: &'a mut [T],
    pub ddecay: &'a mut [T],
    pub dscale: &'a mut [T],
    pub ddiagonal: &'a mut [T],
    pub dbeta: &'a mut [T],
    pub dstate: &'a mut [T],
}

impl Chunked<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Tokens in a chunk: a divisor of [`CHUNK`].
    fn chunk(&self) -> usize {
        // Several rows for each token make the triangle of a chunk larger.
        if self.rank == 1 { CHUNK } else { CHUNK / 2 }
    }

    /// Elements of one sequence's state.
    fn state(&self) -> usize {
        self.heads * self.keys * self.values
    }

    /// Elements of the states of all sequences.
    pub fn state_len(&self) -> usize {
        self.sequences() * self.state()
    }

    /// For each sequence the number of states saved for those before it; the number of all at the end.
    fn borders(&self) -> Vec<usize> {
        let mut sum = 0;
        let inner = |pair: &[usize]| (pair[1] - pair[0]).div_ceil(self.chunk()).saturating_sub(1);
        std::iter::once(0)
            .chain(self.offsets.windows(2).map(|pair| {
                sum += inner(pair);
                sum
            }))
            .collect()
    }

    /// Elements that [`forward`] saves.
    pub fn borders_len(&self) -> usize {
        self.borders().last().copied().unwrap_or(0) * self.state()
    }

    #[track_caller]
    fn check<T>(&self, inputs: &Inputs<'_, T>) {
        let sound = self.offsets.is_sorted()
            && self.offsets.first() == Some(&0)
            && self.rank > 0
            && self.groups > 0
            && self.heads.is_multiple_of(self.groups)
            && (inputs.beta.is_none() || self.rank == 1 && inputs.scale.is_none() && inputs.diagonal.is_none());
        assert!(sound, "{self:?} does not fit together");
        let (rows, small) = (self.tokens() * self.rank, self.tokens() * self.heads);
        let found = [inputs.q.len(), inputs.k.len(), inputs.v.len(), inputs.decay.len()];
        let keys = rows * self.groups * self.keys;
        assert_eq!(found, [keys, keys, rows * self.heads * self.values, small], "sizes of q, k, v, decay of {self:?}");
        let factors = [inputs.scale, inputs.diagonal, inputs.beta];
        assert!(factors.into_iter().flatten().all(|f| f.len() == small), "sizes of scale, diagonal, beta of {self:?}");
        assert!(inputs.state.is_none_or(|s| s.len() == self.state_len()), "size of the state of {self:?}");
    }
}

instantiate! {
    /// Types that chunks are computed in.
    Chunkwise: Multiply, for [f64, f32] {
        /// y `[N, R, H, P]`; the states after each sequence, `[sequences, H, S, P]`, unless that slice is empty; and what backward needs,
        /// [`Chunked::borders_len`] elements, unless that slice is empty.
        ///
        /// # Panics
        /// When a slice has another length.
        fn forward(
            chunked: &Chunked<'_>,
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
            chunked: &Chunked<'_>,
            inputs: &Inputs<'_, T>,
            borders: &[T],
            dy: &[T],
            dlast: Option<&[T]>,
            gradients: Gradients<'_, T>,
        ) = backward::run;
    }
}
