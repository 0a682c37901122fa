//! The selective scan of Mamba (Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023):
//!
//! ```text
//! h[t, d, s] = exp(dt[t, d] a[d, s]) h[t - 1, d, s] + dt[t, d] x[t, d] b[t, s]
//! y[t, d]    = sum over s of c[t, s] h[t, d, s] + skip[d] x[t, d]
//! ```
//!
//! Lanes are channels: a tile of 32 of them walks over the tokens with its states beside it, so that the exponentials, which are
//! most of the work, fill vectors. Nothing is kept for each token: forward saves the states at every 32nd token of a sequence, and
//! backward computes those between anew, chunk by chunk.
//!
//! A decay is `2^(dt a log2(e))`, with the logarithm multiplied into a beforehand, and kept within the normal numbers: from 2^-126, which
//! is nothing, to 2^127.
//!
//! # Same bits
//! A channel's states are one chain over the tokens, wherever a sequence is cut. Sums over channels run in blocks of 256, added in
//! order; those over tokens in groups of the sequences that begin in the same 256 tokens, which are added in order to what is there:
//! parts of a batch that are cut at multiples of 256 tokens add up to the bits of the whole.

mod backward;
mod forward;

use crate::attention::engine::EXP2;
use crate::instantiate;
use crate::real::Real;
use crate::tier::Tier;

pub(crate) use crate::lanes::LANES;

/// Tokens from one saved state to the next.
pub const CHUNK: usize = 32;
/// Tiles of channels in a piece of work.
const TILES: usize = 8;
/// Sequences that begin in the same block of so many tokens are a group.
const GROUP: usize = crate::work::ROW_BLOCK;

/// Sequences one after the other, and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Where each sequence begins, and the number of tokens at the end.
    pub offsets: &'a [usize],
    /// Channels, D.
    pub channels: usize,
    /// States of a channel, S.
    pub states: usize,
}

/// What a scan reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// `[N, D]`
    pub x: &'a [T],
    /// `[N, D]`
    pub dt: &'a [T],
    /// `[D, S]`
    pub a: &'a [T],
    /// `[N, S]`
    pub b: &'a [T],
    /// `[N, S]`
    pub c: &'a [T],
    /// `[D]`
    pub skip: Option<&'a [T]>,
    /// The states before each sequence, `[sequences, D, S]`; zero when not given.
    pub state: Option<&'a [T]>,
}

/// Gradients that backward writes.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// `[N, D]`
    pub dx: &'a mut [T],
    /// `[N, D]`
    pub ddt: &'a mut [T],
    /// `[D, S]`, added to.
    pub da: &'a mut [T],
    /// `[N, S]`
    pub db: &'a mut [T],
    /// `[N, S]`
    pub dc: &'a mut [T],
    /// `[D]`, added to.
    pub dskip: &'a mut [T],
    /// `[sequences, D, S]`; empty when it is not wanted.
    pub dstate: &'a mut [T],
}

impl Scan<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn tiles(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Elements of the states of one tile.
    fn tile(&self) -> usize {
        self.states * LANES
    }

    /// Elements of the states of all sequences.
    pub fn state_len(&self) -> usize {
        self.sequences() * self.channels * self.states
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
        self.borders().last().copied().unwrap_or(0) * self.tiles() * self.tile()
    }

    #[track_caller]
    fn check<T>(&self, inputs: &Inputs<'_, T>) {
        let (tokens, channels, states) = (self.tokens(), self.channels, self.states);
        assert!(self.offsets.is_sorted() && self.offsets.first() == Some(&0), "{self:?}");
        let found = [inputs.x, inputs.dt, inputs.a, inputs.b, inputs.c].map(<[T]>::len);
        let expected = [tokens * channels, tokens * channels, channels * states, tokens * states, tokens * states];
        assert_eq!(found, expected, "sizes of x, dt, a, b, c of {self:?}");
        assert!(inputs.skip.is_none_or(|s| s.len() == channels), "size of skip of {self:?}");
        assert!(inputs.state.is_none_or(|s| s.len() == self.state_len()), "size of the state of {self:?}");
    }

    /// `[D, S]` times log2(e) as `[tiles, S, LANES]`, zero in the lanes that are left over.
    fn tiled<T: Real>(&self, a: &[T]) -> Vec<T> {
        let factor = T::of(std::f64::consts::LOG2_E);
        let mut tiled = vec![T::ZERO; self.tiles() * self.tile()];
        for (channel, row) in a.chunks_exact(self.states.max(1)).enumerate() {
            for (state, &value) in row.iter().enumerate() {
                tiled[self.lane(channel, state)] = value * factor;
            }
        }
        tiled
    }

    fn lane(&self, channel: usize, state: usize) -> usize {
        (channel / LANES * self.states + state) * LANES + channel % LANES
    }
}

/// One tile's part of a row, zero in the lanes that are left over.
#[inline(always)]
fn load<T: Real>(row: &[T], channel: usize) -> [T; LANES] {
    match row[channel..].first_chunk::<LANES>() {
        Some(lanes) => *lanes,
        None => {
            let mut lanes = [T::ZERO; LANES];
            lanes.iter_mut().zip(&row[channel..]).for_each(|(lane, &x)| *lane = x);
            lanes
        }
    }
}

/// The exponential of scans.
#[doc(hidden)]
pub trait Decay: Real {
    /// 2^x, of x within the exponents of normal numbers.
    fn exp2<I: Tier>(self) -> Self;
}

impl Decay for f32 {
    #[inline(always)]
    fn exp2<I: Tier>(self) -> f32 {
        /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the fraction.
        const ROUNDER: f32 = 12_582_912.0;
        // Written so that NaN passes.
        let x = if self < -126.0 { -126.0 } else { self };
        let x = if x > 127.0 { 127.0 } else { x };
        let shifted = x + ROUNDER;
        let r = x - (shifted - ROUNDER);
        let mut p = EXP2[6];
        for k in (0..6).rev() {
            p = p.fma::<I>(r, EXP2[k]);
        }
        // The whole number stands in the lowest bits; shifted into place it is the power.
        p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()))
    }
}

impl Decay for f64 {
    #[inline(always)]
    fn exp2<I: Tier>(self) -> f64 {
        self.clamp(-1022.0, 1023.0).exp2()
    }
}

instantiate! {
    /// Types that scans compute in.
    Scanned: Decay, for [f64, f32] {
        /// y `[N, D]`; the states after each sequence, `[sequences, D, S]`, unless that slice is empty; and what backward needs,
        /// [`Scan::borders_len`] elements, unless that slice is empty.
        ///
        /// # Panics
        /// When a slice has another length.
        fn forward(
            scan: &Scan<'_>,
            inputs: &Inputs<'_, T>,
            y: &mut [T],
            last: &mut [T],
            borders: &mut [T],
        ) = forward::run;

        /// The gradients of everything that went in, from those of y and of the final states, and from what [`forward`] saved. Those of
        /// a and skip are added to.
        ///
        /// # Panics
        /// When a slice has another length.
        fn backward(
            scan: &Scan<'_>,
            inputs: &Inputs<'_, T>,
            borders: &[T],
            dy: &[T],
            dlast: Option<&[T]>,
            gradients: Gradients<'_, T>,
        ) = backward::run;
    }
}
