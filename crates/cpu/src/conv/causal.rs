//! The causal convolution of sequences, each channel with a kernel of its own:
//!
//! `y[t, d] = act(bias[d] + sum over k of w[d, k] x[t - (K - 1) + k, d])`
//!
//! where x before a sequence's first position comes from its initial state, the K - 1 positions before it, or is zero.

use cupola_core::alloc::Placement;
use cupola_core::pool::Parts;
use cupola_core::{Buffer, parallel_for};

use crate::real::Real;
use crate::work::{PIECE, ROW_BLOCK, pieces};
use crate::{isa, kernel};

/// Sequences one after the other in `[N, D]`.
#[derive(Clone, Copy, Debug)]
pub struct Causal<'a> {
    /// Where each sequence begins, and N at the end.
    pub offsets: &'a [usize],
    /// Channels, D.
    pub channels: usize,
    /// Taps of a kernel, K.
    pub taps: usize,
    /// Whether the result passes through SiLU, `x / (1 + exp(-x))`.
    pub silu: bool,
}

impl Causal<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[track_caller]
    fn check(&self, x: usize, w: usize, state: Option<usize>) {
        assert!(self.taps > 0 && self.offsets.is_sorted() && self.offsets.first() == Some(&0), "{self:?}");
        let expected = (self.tokens() * self.channels, self.channels * self.taps);
        assert_eq!((x, w), expected, "sizes of input and weight of {self:?}");
        assert!(state.is_none_or(|s| s == self.state_len()), "size of the state of {self:?}");
    }

    /// Elements of a state of all sequences, `[sequences, K - 1, D]`.
    pub fn state_len(&self) -> usize {
        self.sequences() * (self.taps - 1) * self.channels
    }

    /// Position `token - back` of its sequence, from the input or the state; `None` before what is known.
    #[inline(always)]
    fn before<'b, T>(
        &self,
        x: &'b [T],
        state: Option<&'b [T]>,
        sequence: usize,
        token: usize,
        back: usize,
    ) -> Option<&'b [T]> {
        let (start, width) = (self.offsets[sequence], self.channels);
        if token >= start + back {
            return Some(&x[(token - back) * width..(token - back + 1) * width]);
        }
        let missing = start + back - token;
        state.map(|state| {
            let row = (sequence + 1) * (self.taps - 1) - missing;
            &state[row * width..(row + 1) * width]
        })
    }

    /// The sequence that a token belongs to.
    fn sequence_of(&self, token: usize) -> usize {
        self.offsets.partition_point(|&start| start <= token) - 1
    }
}

/// Weights as `[K, D]`.
fn by_tap<T: Real>(causal: &Causal<'_>, w: &[T]) -> Vec<T> {
    let (taps, channels) = (causal.taps, causal.channels);
    (0..taps).flat_map(|k| (0..channels).map(move |d| w[d * taps + k])).collect()
}

/// y `[N, D]` from x `[N, D]`, w `[D, K]`, bias `[D]` and the state before each sequence `[sequences, K - 1, D]`.
///
/// # Panics
/// When a slice has another length.
#[track_caller]
pub fn forward<T: Real>(causal: &Causal<'_>, x: &[T], w: &[T], bias: Option<&[T]>, state: Option<&[T]>, y: &mut [T]) {
    causal.check(x.len(), w.len(), state.map(<[T]>::len));
    assert_eq!(y.len(), x.len());
    let (isa, w, width) = (isa(), by_tap(causal, w), causal.channels);
    pieces(y, (PIECE / width.max(1)).max(1) * width, |first, y| {
        rows::<T>(isa, causal, first / width, x, &w, bias, state, y);
        if causal.silu {
            silu::<T>(isa, y);
        }
    });
}

/// The K - 1 positions at the end of each sequence, `[sequences, K - 1, D]`: the state before what follows.
#[track_caller]
pub fn final_state<T: Real>(causal: &Causal<'_>, x: &[T], state: Option<&[T]>, last: &mut [T]) {
    causal.check(x.len(), causal.channels * causal.taps, state.map(<[T]>::len));
    assert_eq!(last.len(), causal.state_len());
    for (row, last) in last.chunks_exact_mut(causal.channels.max(1)).enumerate() {
        let (sequence, index) = (row / (causal.taps - 1), row % (causal.taps - 1));
        // The row is as far from the sequence's end as it is from the end of the state.
        match causal.before(x, state, sequence, causal.offsets[sequence + 1], causal.taps - 1 - index) {
            Some(known) => last.copy_from_slice(known),
            None => last.fill(T::ZERO),
        }
    }
}

/// Gradients of everything that went in.
#[derive(Debug)]
pub struct CausalGradients<'a, T> {
    /// `[N, D]`
    pub dx: &'a mut [T],
    /// `[D, K]`, added to.
    pub dw: &'a mut [T],
    /// `[D]`, added to.
    pub dbias: &'a mut [T],
    /// `[sequences, K - 1, D]`; empty without an initial state.
    pub dstate: &'a mut [T],
}

/// The gradients, from those of y and of the final state. Sums over tokens run in blocks of 256, which are added in order to what is
/// there.
///
/// # Panics
/// When a slice has another length.
#[track_caller]
pub fn backward<T: Real>(
    causal: &Causal<'_>,
    (dy, dlast): (&[T], Option<&[T]>),
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    state: Option<&[T]>,
    grads: CausalGradients<'_, T>,
) {
    causal.check(x.len(), w.len(), state.map(<[T]>::len));
    assert_eq!((dy.len(), grads.dx.len()), (x.len(), x.len()));
    assert!(dlast.is_none_or(|d| d.len() == causal.state_len()));
    assert_eq!((grads.dw.len(), grads.dbias.len()), (w.len(), causal.channels));
    assert_eq!(grads.dstate.len(), state.map_or(0, <[T]>::len));
    let (isa, w, width, taps) = (isa(), by_tap(causal, w), causal.channels, causal.taps);
    let slopes = causal.silu.then(|| {
        let mut pre = Buffer::uninit(T::DTYPE, x.len(), Placement::Passing);
        pieces(pre.as_mut_slice::<T>(), (PIECE / width.max(1)).max(1) * width, |first, pre| {
            rows::<T>(isa, causal, first / width, x, &w, bias, state, pre);
            silu_backward::<T>(isa, &dy[first..first + pre.len()], pre);
        });
        pre
    });
    let dpre = slopes.as_ref().map_or(dy, |slopes| slopes.as_slice::<T>());

    pieces(grads.dx, (PIECE / width.max(1)).max(1) * width, |first, dx| {
        input_rows::<T>(isa, causal, first / width, dpre, &w, dlast, dx);
    });
    state_rows(causal, dpre, &w, dlast, grads.dstate);

    // [blocks, K + 1, D]: one row for each tap, and one for the bias.
    let blocks = causal.tokens().div_ceil(ROW_BLOCK);
    let size = (taps + 1) * width;
    let mut partial = Buffer::uninit(T::DTYPE, blocks * size, Placement::Passing);
    let partial = partial.as_mut_slice::<T>();
    partial.fill(T::ZERO);
    let parts = Parts::new(partial, size);
    parallel_for(parts.len(), |block| {
        let (_, sums) = parts.take(block);
        let tokens = block * ROW_BLOCK..causal.tokens().min((block + 1) * ROW_BLOCK);
        weight_rows::<T>(isa, causal, tokens, dpre, x, state, sums);
    });
    for block in partial.chunks_exact(size.max(1)) {
        for (index, &sum) in block.iter().enumerate() {
            let (tap, d) = (index / width, index % width);
            let target = if tap < taps { &mut grads.dw[d * taps + tap] } else { &mut grads.dbias[d] };
            *target = *target + sum;
        }
    }
}

kernel! {
    /// The sums for tokens from `first` on, without activation.
    fn rows[I; T: Real](
        causal: &Causal<'_>,
        first: usize,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        state: Option<&[T]>,
        y: &mut [T],
    ) {
        let width = causal.channels;
        if width == 0 {
            return;
        }
        let mut sequence = causal.sequence_of(first);
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let token = first + row;
            while token >= causal.offsets[sequence + 1] {
                sequence += 1;
            }
            match bias {
                Some(bias) => y.copy_from_slice(bias),
                None => y.fill(T::ZERO),
            }
            // The common width of state-space models, and the only one worth keeping the sums in registers for.
            if causal.taps == 4 && token >= causal.offsets[sequence] + 3 {
                let [a, b, c, d] = [3, 2, 1, 0].map(|back| &x[(token - back) * width..(token - back + 1) * width]);
                let (wa, rest) = w.split_at(width);
                let (wb, rest) = rest.split_at(width);
                let (wc, wd) = rest.split_at(width);
                for i in 0..width {
                    let sum = wb[i].fma::<I>(b[i], wa[i].fma::<I>(a[i], y[i]));
                    y[i] = wd[i].fma::<I>(d[i], wc[i].fma::<I>(c[i], sum));
                }
                continue;
            }
            for (k, w) in w.chunks_exact(width).enumerate() {
                if let Some(x) = causal.before(x, state, sequence, token, causal.taps - 1 - k) {
                    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                        *y = w.fma::<I>(x, *y);
                    }
                }
            }
        }
    }

    fn silu[I; T: Real](y: &mut [T]) {
        for y in y {
            *y = *y * y.sigmoid::<I>();
        }
    }

    /// `dpre = dy silu'(pre)`, over pre.
    fn silu_backward[I; T: Real](dy: &[T], pre: &mut [T]) {
        for (pre, &dy) in pre.iter_mut().zip(dy) {
            let s = pre.sigmoid::<I>();
            *pre = dy * (*pre * s).fma::<I>(T::ONE - s, s);
        }
    }

    /// `dx[t] = sum over k of w[k] dpre[t + K - 1 - k]` within the sequence, and what the final state passes on.
    fn input_rows[I; T: Real](
        causal: &Causal<'_>,
        first: usize,
        dpre: &[T],
        w: &[T],
        dlast: Option<&[T]>,
        dx: &mut [T],
    ) {
        let (width, taps) = (causal.channels, causal.taps);
        if width == 0 {
            return;
        }
        let mut sequence = causal.sequence_of(first);
        for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
            let token = first + row;
            while token >= causal.offsets[sequence + 1] {
                sequence += 1;
            }
            let end = causal.offsets[sequence + 1];
            // Row K - 1 - (end - token) of the final state is this token.
            match dlast {
                Some(dlast) if end - token < taps => {
                    let row = (sequence + 1) * (taps - 1) - (end - token);
                    dx.copy_from_slice(&dlast[row * width..(row + 1) * width]);
                }
                _ => dx.fill(T::ZERO),
            }
            for (k, w) in w.chunks_exact(width).enumerate() {
                let later = token + taps - 1 - k;
                if later < end {
                    let dpre = &dpre[later * width..(later + 1) * width];
                    for ((dx, &dpre), &w) in dx.iter_mut().zip(dpre).zip(w) {
                        *dx = w.fma::<I>(dpre, *dx);
                    }
                }
            }
        }
    }

    /// Adds `dpre[t] x[t - (K - 1) + k]` and `dpre[t]` for some tokens to the sums of each tap and of the bias.
    fn weight_rows[I; T: Real](
        causal: &Causal<'_>,
        tokens: std::ops::Range<usize>,
        dpre: &[T],
        x: &[T],
        state: Option<&[T]>,
        sums: &mut [T],
    ) {
        let (width, taps) = (causal.channels, causal.taps);
        if width == 0 {
            return;
        }
        let mut sequence = causal.sequence_of(tokens.start);
        for token in tokens {
            while token >= causal.offsets[sequence + 1] {
                sequence += 1;
            }
            let dpre = &dpre[token * width..(token + 1) * width];
            for (k, sums) in sums.chunks_exact_mut(width).enumerate() {
                if k == taps {
                    for (sum, &dpre) in sums.iter_mut().zip(dpre) {
                        *sum = *sum + dpre;
                    }
                } else if let Some(x) = causal.before(x, state, sequence, token, taps - 1 - k) {
                    for ((sum, &dpre), &x) in sums.iter_mut().zip(dpre).zip(x) {
                        *sum = dpre.fma::<I>(x, *sum);
                    }
                }
            }
        }
    }
}

/// The gradient of the initial state: its row r of a sequence is `K - 1 - r` positions before the first token.
fn state_rows<T: Real>(causal: &Causal<'_>, dpre: &[T], w: &[T], dlast: Option<&[T]>, dstate: &mut [T]) {
    let (width, taps) = (causal.channels, causal.taps);
    for (index, dstate) in dstate.chunks_exact_mut(width.max(1)).enumerate() {
        let (sequence, row) = (index / (taps - 1), index % (taps - 1));
        let (start, end) = (causal.offsets[sequence], causal.offsets[sequence + 1]);
        dstate.fill(T::ZERO);
        // In a sequence shorter than the state, the state's last rows move up by the sequence's length.
        if let Some(dlast) = dlast
            && row >= end - start
        {
            let from = (sequence * (taps - 1) + row - (end - start)) * width;
            dstate.copy_from_slice(&dlast[from..from + width]);
        }
        for token in start..end.min(start + row + 1) {
            let tap = row - (token - start);
            let (dpre, w) = (&dpre[token * width..], &w[tap * width..]);
            for ((dstate, &dpre), &w) in dstate.iter_mut().zip(dpre).zip(w) {
                *dstate = *dstate + w * dpre;
            }
        }
    }
}
