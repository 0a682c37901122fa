//! Rotary position embedding (Su et al., "RoFormer", 2021, arXiv:2104.09864).

use cupola_cpu::real::Number;
use cupola_cpu::rotary::{self, Rotation};

pub use cupola_cpu::rotary::Pairing;

use super::row_norm::wide;
use crate::dispatch::with_float;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// Pairs of each head turned by the angle of their token's position: `(a, b) -> (a cos - b sin, a sin + b cos)`.
pub struct Rotary {
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// Turns back instead.
    pub inverse: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Rotary::INFO];

impl Op for Rotary {
    const NAME: &'static str = "rotary";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, positions, cos, sin] = inputs else { unreachable!("rotary has four inputs") };
        let rank = x.rank();
        let heads_fit = rank == 3 && positions.shape().dims() == [x.shape()[0]];
        let tables_fit =
            cos.rank() == 2 && cos.shape() == sin.shape() && heads_fit && 2 * cos.shape()[1] <= x.shape()[2];
        assert!(
            tables_fit && positions.dtype().is_integer() && !cos.needs_grad() && !sin.needs_grad(),
            "rotary: input {}, positions {} {} and tables {} and {} do not fit",
            x.shape(),
            positions.dtype(),
            positions.shape(),
            cos.shape(),
            sin.shape()
        );
        saved.keep([positions, cos, sin]);
        let table = |t: &Tensor| t.to_dtype(wide(x.dtype())).contiguous();
        let (x, cos, sin) = (x.contiguous(), table(cos), table(sin));
        let positions: Vec<u32> =
            positions.to_indices().iter().map(|&p| u32::try_from(p).unwrap_or(u32::MAX)).collect();
        with_float!(Self::NAME, x.dtype(), T => Tensor::build::<T>(*x.shape(), |y| {
            type R = <T as Number>::Real;
            let rotation = Rotation {
                cos: cos.slice_of::<R>(),
                sin: sin.slice_of::<R>(),
                pairs: cos.shape()[1],
                pairing: self.pairing,
                inverse: self.inverse,
            };
            rotary::rotate(x.slice_of::<T>(), &positions, x.shape()[2], &rotation, y);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([positions, cos, sin], dy) = (cx.saved(), cx.take_dy());
        let turn_back = Rotary { pairing: self.pairing, inverse: !self.inverse };
        [Some(turn_back.apply(&[&dy, positions, cos, sin])), None, None, None].into()
    }
}

impl Tensor {
    /// The heads of each token turned by the angles of its position.
    ///
    /// # Shapes
    /// `[N, H, Dh]`, positions (integers) `[N]`, cosines and sines `[P, Dr / 2]` with `Dr <= Dh` -> `[N, H, Dh]`. The first `Dr`
    /// elements of a head are turned, the rest stay.
    ///
    /// # Panics
    /// When the shapes do not fit, a position is outside the tables, or a table needs a gradient.
    #[track_caller]
    pub fn rotary(&self, positions: &Tensor, cos: &Tensor, sin: &Tensor, pairing: Pairing) -> Tensor {
        Rotary { pairing, inverse: false }.apply(&[self, positions, cos, sin])
    }
}

/// Cosines and sines of `position * base^(-2 i / width)` for `positions` positions and `width / 2` pairs, in f32; computed in f64.
///
/// # Panics
/// When `width` is odd.
#[track_caller]
pub fn rotary_tables(positions: usize, width: usize, base: f64) -> (Tensor, Tensor) {
    assert!(width.is_multiple_of(2), "rotary_tables: a width of {width} is no number of pairs");
    let pairs = width / 2;
    let angle = |k: usize| (k / pairs) as f64 * base.powf(-2.0 * (k % pairs) as f64 / width as f64);
    let table = |f: fn(f64) -> f64| {
        Tensor::from_vec((0..positions * pairs).map(|k| f(angle(k)) as f32).collect(), [positions, pairs])
    };
    (table(f64::cos), table(f64::sin))
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let mut cases = Vec::new();
    for pairing in [Pairing::Interleaved, Pairing::HalfSplit] {
        for (heads, width, turned) in [(1, 2, 2), (2, 10, 6), (3, 66, 66)] {
            let pairs = turned / 2;
            let positions = || Tensor::from_vec(vec![3i64, 0, 7, 1], [4]);
            let run = move |x: &[Tensor]| {
                let (cos, sin) = rotary_tables(8, turned, 100.0);
                vec![x[0].rotary(&x[1], &cos, &sin, pairing)]
            };
            let reference = move |x: &[Array]| {
                vec![Array::from_fn(&[4, heads, width], |i| {
                    let at = |k: usize| x[0].at(&[i[0], i[1], k]);
                    if i[2] >= turned {
                        return at(i[2]);
                    }
                    let (pair, second) = match pairing {
                        Pairing::Interleaved => (i[2] / 2, i[2] % 2 == 1),
                        Pairing::HalfSplit => (i[2] % pairs, i[2] >= pairs),
                    };
                    let (a, b) = match pairing {
                        Pairing::Interleaved => (at(2 * pair), at(2 * pair + 1)),
                        Pairing::HalfSplit => (at(pair), at(pair + pairs)),
                    };
                    let angle = x[1].data[i[0]] * 100f64.powf(-2.0 * pair as f64 / turned as f64);
                    // As the tables hold them.
                    let (sin, cos) = (f64::from(angle.sin() as f32), f64::from(angle.cos() as f32));
                    if second { a * sin + b * cos } else { a * cos - b * sin }
                })]
            };
            let inputs = [uniform([4, heads, width], 1), positions()];
            cases.push(
                Case::new(format!("{pairing:?} {heads} x {width}, {turned} turned"), inputs, run).reference(reference),
            );
        }
    }
    cases
}
