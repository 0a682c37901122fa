//! What optimisers ask of whole vectors.

use crate::real::Real;
use crate::work::{PIECE, parallel_for, pieces};
use crate::{isa, kernel};

kernel! {
    fn scale_piece[_I; R: Real](x: &mut [R], factor: R) {
        for x in x {
            *x = *x * factor;
        }
    }
    fn add_piece[I; R: Real](y: &mut [R], factor: R, x: &[R]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = factor.fma::<I>(x, *y);
        }
    }
    fn lerp_piece[I; R: Real](y: &mut [R], weight: R, x: &[R]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - *y).fma::<I>(weight, *y);
        }
    }
    fn squares_piece[_I; R: Real](x: &[R]) -> f64 {
        // Blocks short enough that f32 sums of squares stay accurate; the blocks add up in f64.
        let mut total = 0.0;
        for x in x.chunks(1024) {
            let [sum] = crate::rows::sums(x, |x| [x * x]);
            total += cupola_core::Element::to_f64(sum);
        }
        total
    }
}

pub(super) fn scale_of<R: Real>(x: &mut [R], factor: f64) {
    let isa = isa();
    pieces(x, PIECE, |_, x| scale_piece(isa, x, R::of(factor)));
}

#[track_caller]
pub(super) fn add_scaled_of<R: Real>(y: &mut [R], factor: f64, x: &[R]) {
    assert_eq!(y.len(), x.len(), "add_scaled: lengths");
    let isa = isa();
    pieces(y, PIECE, |first, y| {
        let len = y.len();
        add_piece(isa, y, R::of(factor), &x[first..first + len]);
    });
}

#[track_caller]
pub(super) fn lerp_of<R: Real>(y: &mut [R], weight: f64, x: &[R]) {
    assert_eq!(y.len(), x.len(), "lerp: lengths");
    let isa = isa();
    pieces(y, PIECE, |first, y| {
        let len = y.len();
        lerp_piece(isa, y, R::of(weight), &x[first..first + len]);
    });
}

pub(super) fn sum_squares_of<R: Real>(x: &[R]) -> f64 {
    let isa = isa();
    let mut parts = vec![0.0; x.len().div_ceil(PIECE)];
    {
        let cells = cupola_core::pool::Parts::new(&mut parts, 1);
        let run = |index: usize| {
            let piece = &x[index * PIECE..x.len().min((index + 1) * PIECE)];
            cells.take(index).1[0] = squares_piece(isa, piece);
        };
        if cells.len() <= 2 { (0..cells.len()).for_each(run) } else { parallel_for(cells.len(), &run) }
    }
    parts.iter().sum()
}
