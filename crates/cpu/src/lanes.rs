//! Sums over slices in a fixed number of lanes, so that their bits do not depend on the width of the registers.

use crate::real::Real;
use crate::tier::Tier;

/// Lanes of a sum: two AVX-512 or four AVX2 registers of f32, enough to hide the latency of an addition.
pub(crate) const LANES: usize = 32;

/// Adds up `term(i)` for `i` in `0..len`.
#[inline(always)]
pub(crate) fn sum_of<T: Real>(len: usize, term: impl Fn(usize) -> T) -> T {
    let mut sums = [T::ZERO; LANES];
    let whole = len / LANES * LANES;
    let mut start = 0;
    while start < whole {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = *sum + term(start + lane);
        }
        start += LANES;
    }
    let mut total = fold(sums);
    for i in whole..len {
        total = total + term(i);
    }
    total
}

/// Halves the lanes until one is left.
#[inline(always)]
pub(crate) fn fold<T: Real>(mut sums: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] = sums[lane] + sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// The sum of the elements.
#[inline(always)]
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    sum_of(x.len(), |i| x[i])
}

/// The sum of squared differences from `mean`.
#[inline(always)]
pub(crate) fn squares<T: Real>(x: &[T], mean: T) -> T {
    sum_of(x.len(), |i| {
        let centred = x[i] - mean;
        centred * centred
    })
}

/// The sum of `dy`, and that of `dy * (x - mean)`.
#[inline(always)]
pub(crate) fn moments<I: Tier, T: Real>(dy: &[T], x: &[T], mean: T) -> (T, T) {
    let x = &x[..dy.len()];
    let (mut plain, mut weighted) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let whole = dy.len() / LANES * LANES;
    let mut start = 0;
    while start < whole {
        let (dy, x) = (&dy[start..start + LANES], &x[start..start + LANES]);
        for lane in 0..LANES {
            plain[lane] = plain[lane] + dy[lane];
            weighted[lane] = dy[lane].fma::<I>(x[lane] - mean, weighted[lane]);
        }
        start += LANES;
    }
    let (mut plain, mut weighted) = (fold(plain), fold(weighted));
    for (&dy, &x) in dy[whole..].iter().zip(&x[whole..]) {
        plain = plain + dy;
        weighted = dy.fma::<I>(x - mean, weighted);
    }
    (plain, weighted)
}
