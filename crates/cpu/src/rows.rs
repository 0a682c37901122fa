//! What kernels over rows share: sums over a row, and rows in the type of computing.

use crate::Isa;
use crate::fetch::{self, LINE};
use crate::real::{Number, Real};

/// Independent accumulators along a row.
pub(crate) const LANES: usize = 64;

/// The lanes of `N` sums, added up in a tree.
#[inline(always)]
fn tree<R: Real, const N: usize>(mut lanes: [[R; LANES]; N]) -> [R; N] {
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

/// Sums `N` terms over the elements of a row at once, in 64 lanes each and then a tree over the lanes: the same order in every
/// tier.
///
/// Blocks of one known size leave the compiler nothing to check inside, which is what makes them vector code.
#[inline(always)]
pub(crate) fn sums<R: Real, const N: usize>(x: &[R], mut terms: impl FnMut(R) -> [R; N]) -> [R; N] {
    let mut lanes = [[R::ZERO; LANES]; N];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for x in blocks {
        for lane in 0..LANES {
            let terms = terms(x[lane]);
            for k in 0..N {
                lanes[k][lane] = lanes[k][lane] + terms[k];
            }
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        let terms = terms(x);
        for k in 0..N {
            lanes[k][lane] = lanes[k][lane] + terms[k];
        }
    }
    tree(lanes)
}

/// As [`sums`], over two rows of one length.
#[inline(always)]
pub(crate) fn sums2<R: Real, const N: usize>(x: &[R], y: &[R], mut terms: impl FnMut(R, R) -> [R; N]) -> [R; N] {
    let mut lanes = [[R::ZERO; LANES]; N];
    let ((blocks_x, rest_x), (blocks_y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in blocks_x.iter().zip(blocks_y) {
        for lane in 0..LANES {
            let terms = terms(x[lane], y[lane]);
            for k in 0..N {
                lanes[k][lane] = lanes[k][lane] + terms[k];
            }
        }
    }
    for (lane, (&x, &y)) in rest_x.iter().zip(rest_y).enumerate() {
        let terms = terms(x, y);
        for k in 0..N {
            lanes[k][lane] = lanes[k][lane] + terms[k];
        }
    }
    tree(lanes)
}

/// As [`sums`], over three rows of one length.
#[inline(always)]
pub(crate) fn sums3<R: Real, const N: usize>(
    x: &[R],
    y: &[R],
    z: &[R],
    mut terms: impl FnMut(R, R, R) -> [R; N],
) -> [R; N] {
    let mut lanes = [[R::ZERO; LANES]; N];
    let ((blocks_x, rest_x), (blocks_y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let (blocks_z, rest_z) = z.as_chunks::<LANES>();
    for ((x, y), z) in blocks_x.iter().zip(blocks_y).zip(blocks_z) {
        for lane in 0..LANES {
            let terms = terms(x[lane], y[lane], z[lane]);
            for k in 0..N {
                lanes[k][lane] = lanes[k][lane] + terms[k];
            }
        }
    }
    for (lane, ((&x, &y), &z)) in rest_x.iter().zip(rest_y).zip(rest_z).enumerate() {
        let terms = terms(x, y, z);
        for k in 0..N {
            lanes[k][lane] = lanes[k][lane] + terms[k];
        }
    }
    tree(lanes)
}

/// Writes `map(x)` to `y` and sums it.
#[inline(always)]
pub(crate) fn sum_mapped<R: Real>(x: &[R], y: &mut [R], mut map: impl FnMut(R) -> R) -> R {
    let mut lanes = [[R::ZERO; LANES]; 1];
    let ((blocks_x, rest_x), (blocks_y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
    for (x, y) in blocks_x.iter().zip(blocks_y) {
        for lane in 0..LANES {
            y[lane] = map(x[lane]);
            lanes[0][lane] = lanes[0][lane] + y[lane];
        }
    }
    for (lane, (&x, y)) in rest_x.iter().zip(rest_y).enumerate() {
        *y = map(x);
        lanes[0][lane] = lanes[0][lane] + *y;
    }
    let [sum] = tree(lanes);
    sum
}

/// The largest of a row, NaN left out; minus infinity of nothing.
#[inline(always)]
pub(crate) fn largest<R: Real>(x: &[R]) -> R {
    #[inline(always)]
    fn larger<R: Real>(x: R, than: R) -> R {
        if x > than { x } else { than }
    }
    let mut lanes = [-R::INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for x in blocks {
        for lane in 0..LANES {
            lanes[lane] = larger(x[lane], lanes[lane]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(x, *lane);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = larger(lanes[lane + width], lanes[lane]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Asks for the memory of `row` ahead of its use: for short runs far apart, which the processor's own prefetch does not
/// foresee. (For rows that follow each other it was measured to be of no use.)
#[inline(always)]
pub(crate) fn prefetch<T>(row: Option<&[T]>) {
    if let Some(row) = row {
        fetch::far_bytes(row.as_ptr().cast(), size_of_val(row).min(256 * LINE));
    }
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
