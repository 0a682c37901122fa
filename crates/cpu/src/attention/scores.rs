//! What happens to a block of scores between the two products. A block is `[keys, WIDTH]`: a key is a row, a lane a column.

use std::f64::consts::LOG2_E;
use std::ops::Range;

use cupola_core::Rng;

use crate::real::Real;

use super::engine::{Engine, WIDTH};
use super::plan::{Lanes, Reach};
use super::{Attributes, Dropout};

/// How scores are made from products of queries and keys, in the base 2 that the softmax works in.
#[derive(Clone, Copy)]
pub struct Scoring<R> {
    /// Factor on the product.
    pub scale: R,
    /// With a soft cap: factor on the hyperbolic tangent of the scaled product.
    pub cap: Option<R>,
}

impl<R: Real> Scoring<R> {
    pub fn new(attributes: &Attributes<'_>) -> Self {
        match attributes.soft_cap {
            Some(cap) => Self { scale: R::of(attributes.scale / cap), cap: Some(R::of(cap * LOG2_E)) },
            None => Self { scale: R::of(attributes.scale * LOG2_E), cap: None },
        }
    }
}

/// Caps and biases scores, and gives those that a lane must not see the value `-inf`. `tangents`, with a soft cap, receives
/// the hyperbolic tangents. `first` is the key of row 0; `slopes` are those of the lanes.
///
/// # Safety
/// As [`Engine`]; blocks must have the rows of `reach`, rounded up to whole words.
#[inline(always)]
pub unsafe fn adjust<E: Engine>(
    scores: *mut E::Acc,
    tangents: Option<*mut E::Acc>,
    scoring: &Scoring<E::Acc>,
    slopes: Option<&[E::Acc; WIDTH]>,
    lanes: &Lanes,
    reach: &[Reach],
    first: usize,
) {
    let vector = |v: usize, key: usize| key * WIDTH + v * E::LANES;
    for (v, Reach { any, all }) in reach.iter().enumerate() {
        if scoring.cap.is_some() || slopes.is_some() {
            for key in any.clone() {
                // SAFETY: a vector of a row within the block.
                let row = unsafe { std::slice::from_raw_parts_mut(scores.add(vector(v, key)), E::LANES) };
                if let Some(cap) = scoring.cap {
                    row.iter_mut().for_each(|s| *s = s.tanh::<E::Tier>());
                    if let Some(tangents) = tangents {
                        // SAFETY: the other block has as many rows.
                        unsafe { tangents.add(vector(v, key)).copy_from_nonoverlapping(row.as_ptr(), E::LANES) };
                    }
                    row.iter_mut().for_each(|s| *s = *s * cap);
                }
                if let Some(slopes) = slopes {
                    let key = (first + key) as i32;
                    let lane = v * E::LANES;
                    for (l, s) in row.iter_mut().enumerate() {
                        let distance = (lanes.position[lane + l] - key).abs();
                        *s = *s - slopes[lane + l] * E::Acc::of(f64::from(distance));
                    }
                }
            }
        }
        for key in (any.start..all.start.min(any.end)).chain(all.end.max(all.start.min(any.end))..any.end) {
            // SAFETY: as above; lanes have limits.
            unsafe {
                let at = scores.add(vector(v, key));
                let (low, high) = (lanes.low.as_ptr().add(v * E::LANES), lanes.high.as_ptr().add(v * E::LANES));
                let key = (first + key) as i32;
                E::store(at, E::within(E::load(at), key, low, high, -E::Acc::INFINITY));
            }
        }
    }
}

/// Takes the running maximum and sum of a vector of lanes on over the rows `keys`, turns scores into probabilities relative
/// to the new maximum, and gives the factor for what was summed up before, or `None` when that is 1 in all lanes.
///
/// # Safety
/// As [`Engine`]; `maximum` and `sum` have a vector of lanes.
#[inline(always)]
pub unsafe fn softmax<E: Engine>(
    scores: *mut E::Acc,
    keys: Range<usize>,
    maximum: *mut E::Acc,
    sum: *mut E::Acc,
) -> Option<E::Vector> {
    // SAFETY: the caller's.
    unsafe {
        let before = E::load(maximum);
        let rows = keys.len();
        let scores = scores.add(keys.start * WIDTH);
        // Four chains, so that none waits for itself.
        let mut best = [before; 4];
        let mut row = 0;
        while row + 4 <= rows {
            for (i, best) in best.iter_mut().enumerate() {
                *best = E::max(*best, E::load(scores.add((row + i) * WIDTH)));
            }
            row += 4;
        }
        while row < rows {
            best[0] = E::max(best[0], E::load(scores.add(row * WIDTH)));
            row += 1;
        }
        let best = E::max(E::max(best[0], best[1]), E::max(best[2], best[3]));
        E::store(maximum, best);
        // Where nothing is seen yet the maximum is -inf, and the largest negative number keeps differences defined.
        let safe = E::max(best, E::all(E::Acc::of(LOWEST)));
        let factor = E::exp2(E::sub(before, safe));
        let mut total = E::mul(E::load(sum), factor);
        for row in 0..rows {
            let at = scores.add(row * WIDTH);
            let p = E::exp2(E::sub(E::load(at), safe));
            total = E::add(total, p);
            E::store(at, p);
        }
        E::store(sum, total);
        changed::<E>(factor).then_some(factor)
    }
}

/// Below any score that is not -inf; -inf minus this is -inf.
const LOWEST: f64 = -1e38;

#[inline(always)]
unsafe fn changed<E: Engine>(factor: E::Vector) -> bool {
    let mut lanes = [E::Acc::ZERO; WIDTH];
    // SAFETY: no vector has more lanes than `WIDTH`.
    unsafe { E::store(lanes.as_mut_ptr(), factor) };
    lanes[..E::LANES].iter().any(|&factor| factor != E::Acc::ONE)
}

/// Turns scores into probabilities by the log-sum-exp (base 2) of each lane.
///
/// # Safety
/// As [`Engine`]; `lse` has a vector of lanes.
#[inline(always)]
pub unsafe fn probabilities<E: Engine>(scores: *mut E::Acc, keys: Range<usize>, lse: *const E::Acc) {
    // SAFETY: the caller's.
    unsafe {
        let lse = E::load(lse);
        for key in keys {
            let at = scores.add(key * WIDTH);
            E::store(at, E::exp2(E::sub(E::load(at), lse)));
        }
    }
}

/// Which probabilities of a segment are dropped.
///
/// The random words of a row (a query of one head) are addressed by the row's number and the key's, four keys to a block, so
/// that they depend on nothing else.
pub struct Mask<R> {
    stream: Rng,
    /// Random words below this drop.
    threshold: u32,
    /// What is kept is multiplied by this.
    kept: R,
}

impl<R: Real> Mask<R> {
    /// The mask of segment `index`.
    pub fn new(dropout: &Dropout, index: usize) -> Self {
        let threshold = (dropout.probability * 4_294_967_296.0).round().min(4_294_967_295.0);
        Self {
            stream: dropout.rng.stream(&[dropout.first_sample + index as u64]),
            threshold: threshold as u32,
            kept: R::of(1.0 / (1.0 - dropout.probability)),
        }
    }

    /// Writes factors (0 or what is kept) for the rows `keys` of a vector of lanes; `rows` are the numbers of its rows,
    /// `first` is the key of row 0, a multiple of four.
    ///
    /// # Safety
    /// The block must have the rows, rounded up to a multiple of four.
    #[inline(always)]
    pub unsafe fn write<E: Engine<Acc = R>>(&self, factors: *mut R, keys: Range<usize>, first: usize, rows: &[u32]) {
        let mut key = keys.start / 4 * 4;
        while key < keys.end {
            for (lane, &row) in rows[..E::LANES].iter().enumerate() {
                let words = self.stream.u32x4(u64::from(row) << 32 | ((first + key) / 4) as u64);
                for (i, word) in words.into_iter().enumerate() {
                    let factor = if word < self.threshold { R::ZERO } else { self.kept };
                    // SAFETY: the caller's.
                    unsafe { factors.add((key + i) * WIDTH + lane).write(factor) };
                }
            }
            key += 4;
        }
    }
}

/// Multiplies the rows `keys` of a vector of lanes by factors.
///
/// # Safety
/// As [`Engine`]; both blocks must have the rows.
#[inline(always)]
pub unsafe fn multiply<E: Engine>(block: *mut E::Acc, factors: *const E::Acc, keys: Range<usize>) {
    for key in keys {
        // SAFETY: the caller's.
        unsafe {
            let at = block.add(key * WIDTH);
            E::store(at, E::mul(E::load(at), E::load(factors.add(key * WIDTH))));
        }
    }
}
