//! Rotary position embedding (Su et al., "RoFormer", 2021): pairs of elements of each head turn by an angle that grows with
//! the position, (a, b) -> (a cos - b sin, a sin + b cos). The gradient turns back.

use cupola_core::{bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{loaded, scratch, stored};
use crate::work::{pieces, rows_per_piece};
use crate::{Isa, instantiate, isa, kernel};

/// Which elements of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// 2i and 2i + 1, as in the paper and GPT-J.
    Interleaved,
    /// i and i + half the rotated width, as in GPT-NeoX and LLaMA's public weights.
    HalfSplit,
}

/// The angles, and which elements they turn.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a, R> {
    /// The cosines `[positions, pairs]`.
    pub cos: &'a [R],
    /// The sines `[positions, pairs]`.
    pub sin: &'a [R],
    /// Pairs of each head that turn; the elements after the first 2 pairs stay as they are.
    pub pairs: usize,
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// Turns back instead: the gradient.
    pub inverse: bool,
}

kernel! {
    fn halves[_I; R: Real](x: &[R], cos: &[R], sin: &[R], sign: R, head: usize, y: &mut [R]) {
        let pairs = cos.len();
        let sin = &sin[..pairs];
        for (x, y) in x.chunks_exact(head).zip(y.chunks_exact_mut(head)) {
            let (turned, rest) = x.split_at(2 * pairs);
            let (a, b) = turned.split_at(pairs);
            let (out, out_rest) = y.split_at_mut(2 * pairs);
            let (out_a, out_b) = out.split_at_mut(pairs);
            for k in 0..pairs {
                let s = sign * sin[k];
                out_a[k] = a[k] * cos[k] - b[k] * s;
                out_b[k] = a[k] * s + b[k] * cos[k];
            }
            out_rest.copy_from_slice(rest);
        }
    }
    fn interleaved[_I; R: Real](x: &[R], cos: &[R], sin: &[R], sign: R, head: usize, y: &mut [R]) {
        let pairs = cos.len();
        let sin = &sin[..pairs];
        for (x, y) in x.chunks_exact(head).zip(y.chunks_exact_mut(head)) {
            let (turned, rest) = x.split_at(2 * pairs);
            let (out, out_rest) = y.split_at_mut(2 * pairs);
            for k in 0..pairs {
                let (a, b, s) = (turned[2 * k], turned[2 * k + 1], sign * sin[k]);
                out[2 * k] = a * cos[k] - b * s;
                out[2 * k + 1] = a * s + b * cos[k];
            }
            out_rest.copy_from_slice(rest);
        }
    }
}

#[track_caller]
fn rotate_of<T: Number>(
    x: &[T],
    positions: &[u32],
    head: usize,
    rotation: &Rotation<'_, <T as Number>::Real>,
    y: &mut [T],
) {
    let Rotation { cos, sin, pairs, pairing, inverse } = *rotation;
    let tokens = positions.len();
    assert_eq!(x.len(), y.len(), "rotary: lengths of x and y");
    if x.is_empty() {
        return;
    }
    assert!(
        x.len().is_multiple_of(tokens * head) && 2 * pairs <= head && pairs > 0,
        "rotary: {} elements, {tokens} tokens, heads of {head}, {pairs} pairs",
        x.len()
    );
    assert!(
        cos.len() == sin.len() && cos.len().is_multiple_of(pairs),
        "rotary: tables of {} and {}",
        cos.len(),
        sin.len()
    );
    let longest = cos.len() / pairs;
    for &position in positions {
        assert!((position as usize) < longest, "rotary: position {position} is outside of tables for {longest}");
    }
    let width = x.len() / tokens;
    type Kernel<R> = fn(Isa, &[R], &[R], &[R], R, usize, &mut [R]);
    let run: Kernel<T::Real> = match pairing {
        Pairing::HalfSplit => halves::<T::Real>,
        Pairing::Interleaved => interleaved::<T::Real>,
    };
    let sign = if inverse { -T::Real::ONE } else { T::Real::ONE };
    let isa = isa();
    pieces(y, rows_per_piece(width) * width, |first, y| {
        let (mut wide, mut result) = (scratch::<T>(width), scratch::<T>(width));
        for (k, y) in y.chunks_mut(width).enumerate() {
            let token = first / width + k;
            let x = loaded(isa, &x[token * width..(token + 1) * width], &mut wide);
            let angles = positions[token] as usize * pairs..(positions[token] as usize + 1) * pairs;
            let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
            stored(isa, y, &mut result, |y| run(isa, x, cos, sin, sign, head, y));
        }
    });
}

instantiate! {
    /// Elements that can be turned.
    Rotary: Number, for [f64, f32, bf16, f16] {
        /// Turns the heads of `x [N, heads * head]` by the angles of each token's position.
        ///
        /// # Panics
        /// When the lengths do not fit or a position is outside of the tables.
        fn rotate(
            x: &[T],
            positions: &[u32],
            head: usize,
            rotation: &Rotation<'_, <T as Number>::Real>,
            y: &mut [T],
        ) = rotate_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, each_tier_same_on_threads, normal, tolerance, wide};

    fn tables<R: Real>(positions: usize, pairs: usize) -> (Vec<R>, Vec<R>) {
        let angle = |k: usize| (k / pairs) as f64 * 10_000f64.powf(-((k % pairs) as f64) / pairs as f64);
        let table = |f: fn(f64) -> f64| (0..positions * pairs).map(|k| R::of(f(angle(k)))).collect();
        (table(f64::cos), table(f64::sin))
    }

    fn check<T: Rotary<T>>() {
        for (tokens, heads, head, pairs) in
            [(0, 1, 2, 1), (3, 2, 2, 1), (5, 3, 62, 31), (400, 2, 70, 33), (9, 4, 64, 16)]
        {
            let (cos, sin) = tables::<T::Real>(50, pairs);
            let positions: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % 50).collect();
            let x: Vec<T> = normal(tokens * heads * head, 1.0, 1);
            for pairing in [Pairing::Interleaved, Pairing::HalfSplit] {
                let mut expected = wide(&x);
                for (row, out) in expected.chunks_mut(head).enumerate() {
                    for k in 0..pairs {
                        let (i, j) = match pairing {
                            Pairing::Interleaved => (2 * k, 2 * k + 1),
                            Pairing::HalfSplit => (k, k + pairs),
                        };
                        let at = positions[row / heads] as usize * pairs + k;
                        let (c, s) = (wide(&cos)[at], wide(&sin)[at]);
                        (out[i], out[j]) = (out[i] * c - out[j] * s, out[i] * s + out[j] * c);
                    }
                }
                let rotation = Rotation { cos: &cos, sin: &sin, pairs, pairing, inverse: false };
                let back = Rotation { inverse: true, ..rotation };
                for (y, same) in each_tier_same_on_threads(|| {
                    let mut y = vec![T::default(); x.len()];
                    rotate(&x, &positions, head, &rotation, &mut y);
                    let mut same = vec![T::default(); x.len()];
                    rotate(&y, &positions, head, &back, &mut same);
                    (y, same)
                }) {
                    close(&y, &expected, tolerance::<T>(), &format!("{pairing:?} {}", T::DTYPE));
                    // The inverse is the transpose of the rotation, hence its gradient.
                    close(&same, &wide(&x), 2.0 * tolerance::<T>(), &format!("{pairing:?} back {}", T::DTYPE));
                }
            }
        }
    }

    #[test]
    fn pairs_turn_by_their_angles_and_back() {
        check::<f64>();
        check::<f32>();
        check::<bf16>();
        check::<f16>();
    }

    #[test]
    #[should_panic(expected = "rotary: position 4 is outside of tables for 4")]
    fn a_position_beyond_the_tables_is_named() {
        let (cos, sin) = tables::<f32>(4, 1);
        let rotation = Rotation { cos: &cos, sin: &sin, pairs: 1, pairing: Pairing::HalfSplit, inverse: false };
        rotate(&[0.0f32; 2], &[4], 2, &rotation, &mut [0.0; 2]);
    }
}
