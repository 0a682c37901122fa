//! What kernels over rows share: sums over a row, and rows in the type of computing.

use crate::Isa;
use crate::real::{Number, Real};

/// Independent accumulators along a row.
pub(crate) const LANES: usize = 64;

/// Sums `term(k)` over 0..n in `N` sums at once: 64 lanes each, then a tree over the lanes, in the same order in every tier.
#[inline(always)]
pub(crate) fn sums<R: Real, const N: usize>(n: usize, mut term: impl FnMut(usize) -> [R; N]) -> [R; N] {
    let mut lanes = [[R::ZERO; LANES]; N];
    let whole = n / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for lane in 0..LANES {
            let terms = term(at + lane);
            for k in 0..N {
                lanes[k][lane] = lanes[k][lane] + terms[k];
            }
        }
        at += LANES;
    }
    for lane in 0..n - whole {
        let terms = term(whole + lane);
        for k in 0..N {
            lanes[k][lane] = lanes[k][lane] + terms[k];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lanes in &mut lanes {
            for lane in 0..width {
                lanes[lane] = lanes[lane] + lanes[lane + width];
            }
        }
        width /= 2;
    }
    std::array::from_fn(|k| lanes[k][0])
}

/// The largest of a row, NaN left out; minus infinity of nothing.
#[inline(always)]
pub(crate) fn largest<R: Real>(x: &[R]) -> R {
    let mut lanes = [-R::INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.iter().fold(-R::INFINITY, |m, &x| if x > m { x } else { m })
}

/// The row in the type of computing: itself, or widened into `buffer`.
#[inline(always)]
pub(crate) fn loaded<'a, T: Number>(isa: Isa, row: &'a [T], buffer: &'a mut [T::Real]) -> &'a [T::Real] {
    match T::as_real(row) {
        Some(row) => row,
        None => {
            T::widen(isa, row, buffer);
            buffer
        }
    }
}

/// Runs `kernel` on the row in the type of computing, then stores it where that is another type.
#[inline(always)]
pub(crate) fn stored<T: Number, O>(
    isa: Isa,
    row: &mut [T],
    buffer: &mut [T::Real],
    kernel: impl FnOnce(&mut [T::Real]) -> O,
) -> O {
    if T::as_real(&[]).is_some()
        && let Some(row) = T::as_real_mut(row)
    {
        return kernel(row);
    }
    let result = kernel(buffer);
    T::narrow(isa, buffer, row);
    result
}

/// A buffer for one row, empty for types that are what they are computed in.
pub(crate) fn scratch<T: Number>(width: usize) -> Vec<T::Real> {
    vec![T::Real::ZERO; if T::as_real(&[]).is_some() { 0 } else { width }]
}
