//! Dropout by position: whether element i is kept depends on word `first + i` of a random stream alone, so that the mask is
//! recomputed in the backward pass and never stored.

use cupola_core::{Rng, bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{loaded, scratch, stored};
use crate::work::{PIECE, pieces};
use crate::{instantiate, isa, kernel};

/// Elements whose words are drawn at a time.
const BLOCK: usize = 1024;

kernel! {
    /// Words `4 * first` to `4 * first + words.len()` of the stream, whole blocks of four.
    fn draw[_I;](rng: Rng, first: u64, words: &mut [u32]) {
        for (k, words) in words.chunks_exact_mut(4).enumerate() {
            words.copy_from_slice(&rng.u32x4(first + k as u64));
        }
    }
    fn keep[_I; R: Real](x: &[R], words: &[u32], threshold: u32, scale: R, y: &mut [R]) {
        for ((y, &x), &word) in y.iter_mut().zip(x).zip(words) {
            let kept = x * scale;
            *y = if word >= threshold { kept } else { R::ZERO };
        }
    }
}

/// The words below which an element is dropped, of 2^32.
fn threshold(probability: f64) -> u32 {
    (probability * 4_294_967_296.0).round().min(f64::from(u32::MAX)) as u32
}

/// Words `first` to `first + words.len()` of the stream, `room` being a buffer of four words more.
fn words_from(isa: crate::Isa, rng: Rng, first: u64, len: usize, room: &mut [u32; BLOCK + 8]) -> &[u32] {
    let lead = (first % 4) as usize;
    let whole = (lead + len).next_multiple_of(4);
    draw(isa, rng, first / 4, &mut room[..whole]);
    &room[lead..lead + len]
}

#[track_caller]
fn dropout_of<T: Number>(x: &[T], probability: f64, rng: Rng, first: u64, y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "dropout: lengths of x and y");
    assert!((0.0..1.0).contains(&probability), "dropout: probability {probability} is outside of 0..1");
    let isa = isa();
    let (threshold, scale) = (threshold(probability), T::Real::of(1.0 / (1.0 - probability)));
    pieces(y, PIECE, |begin, y| {
        let (mut wide, mut result) = (scratch::<T>(BLOCK), scratch::<T>(BLOCK));
        let mut room = [0; BLOCK + 8];
        for (k, y) in y.chunks_mut(BLOCK).enumerate() {
            let at = begin + k * BLOCK;
            let len = y.len();
            let words = words_from(isa, rng, first + at as u64, len, &mut room);
            let (wide, result) = (wide.get_mut(..len).unwrap_or_default(), result.get_mut(..len).unwrap_or_default());
            let x = loaded(isa, &x[at..at + len], wide);
            stored(isa, y, result, |y| keep(isa, x, words, threshold, scale, y));
        }
    });
}

instantiate! {
    /// Elements that can be dropped.
    Dropout: Number, for [f64, f32, bf16, f16] {
        /// y_i = x_i / (1 - probability) where word `first + i` of the stream is at least probability * 2^32, and 0 elsewhere.
        /// The gradient is the same function of dy.
        ///
        /// # Panics
        /// When the lengths differ or the probability is not in 0..1.
        fn dropout(x: &[T], probability: f64, rng: Rng, first: u64, y: &mut [T]) = dropout_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, close, each_tier_same_on_threads, normal, tolerance};

    fn check<T: Dropout<T>>() {
        let rng = Rng::seed(5);
        for len in SIZES {
            let x: Vec<T> = normal(len, 1.0, 1);
            for (first, p) in [(0u64, 0.1), (7, 0.5), (1 << 40 | 2, 0.0)] {
                let kept = |i: usize| f64::from(rng.u32(first + i as u64)) >= (p * 4_294_967_296.0f64).round();
                let value = |(i, x): (usize, &T)| if kept(i) { x.to_f64() / (1.0 - p) } else { 0.0 };
                let expected: Vec<f64> = x.iter().enumerate().map(value).collect();
                for y in each_tier_same_on_threads(|| {
                    let mut y = vec![T::default(); len];
                    dropout(&x, p, rng, first, &mut y);
                    y
                }) {
                    close(&y, &expected, tolerance::<T>(), &format!("{} {len} {p}", T::DTYPE));
                }
            }
        }
    }

    #[test]
    fn elements_are_kept_by_their_position() {
        check::<f64>();
        check::<f32>();
        check::<bf16>();
        check::<f16>();
    }

    #[test]
    fn a_part_has_the_mask_of_the_whole() {
        let x = vec![1.0f32; 5000];
        let (mut whole, mut part) = (vec![0.0; 5000], vec![0.0; 777]);
        dropout(&x, 0.3, Rng::seed(1), 0, &mut whole);
        dropout(&x[..777], 0.3, Rng::seed(1), 1234, &mut part);
        assert_eq!(whole[1234..1234 + 777], part);
        let dropped = whole.iter().filter(|y| **y == 0.0).count();
        assert!((1400..1600).contains(&dropped), "{dropped} of 5000 dropped at 0.3");
    }
}
