//! Cumulative sums.

use cupola_core::{bf16, f16};

use super::Dims;
use crate::binary::Lane;
use crate::instantiate;
use crate::work::{PIECE, pieces};

/// What a cumulative sum is kept in: wider than f32, because it has no tree that would keep the error down.
trait Running: Lane {
    type Sum: Copy + Default;
    fn add(sum: Self::Sum, x: Self) -> Self::Sum;
    fn result(sum: Self::Sum) -> Self;
}

macro_rules! running {
    ($($type:ty),* => $sum:ty, $widen:ident, $narrow:ident, |$a:ident, $b:ident| $add:expr) => {$(
        impl Running for $type {
            type Sum = $sum;
            #[inline(always)]
            fn add($a: $sum, x: Self) -> $sum {
                let $b = cupola_core::Element::$widen(x);
                $add
            }
            #[inline(always)]
            fn result(sum: $sum) -> Self {
                cupola_core::Element::$narrow(sum)
            }
        }
    )*};
}
running!(f64, f32, bf16, f16 => f64, to_f64, from_f64, |a, b| a + b);
running!(i64, i32, u32, i8, u8 => i64, to_i64, from_i64, |a, b| a.wrapping_add(b));

#[track_caller]
fn cumsum_of<T: Running>(x: &[T], dims: Dims, reverse: bool, y: &mut [T]) {
    let Dims { outer, n, inner } = dims;
    assert_eq!(x.len(), outer * n * inner, "cumsum: length of x of shape [{outer}, {n}, {inner}]");
    assert_eq!(y.len(), x.len(), "cumsum: lengths of x and y");
    let matrix = n * inner;
    pieces(y, (PIECE / matrix.max(1)).max(1) * matrix, |first, y| {
        let mut sums = vec![T::Sum::default(); inner];
        for (y, x) in y.chunks_mut(matrix).zip(x[first..].chunks(matrix)) {
            sums.fill(T::Sum::default());
            for step in 0..n {
                let at = if reverse { n - 1 - step } else { step } * inner;
                for ((y, &x), sum) in y[at..at + inner].iter_mut().zip(&x[at..at + inner]).zip(&mut sums) {
                    *sum = T::add(*sum, x);
                    *y = T::result(*sum);
                }
            }
        }
    });
}

instantiate! {
    /// Elements that have cumulative sums.
    Scannable: Lane, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8] {
        /// y_k = x_0 + ... + x_k along n of `[outer, n, inner]`, or x_k + ... + x_(n-1) when `reverse`, which is the gradient.
        /// Floats are summed in f64, integers modulo their range.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn cumsum(x: &[T], dims: Dims, reverse: bool, y: &mut [T]) = cumsum_of;
    }
}
