//! Copies between strided layouts: a transposed or broadcast view laid out in order, a part written into a whole.
//!
//! Runs that are contiguous on both sides are copied as such. Where the innermost dimensions of the two sides differ, as in a
//! transposition, the copy goes in square tiles, so that every cache line that is touched is used whole.

use cupola_core::{Element, Layout, Shape, bf16, f16};

use crate::strided::Plan;
use crate::work::{PIECE, parallel_for};
use crate::{instantiate, stream};

/// The side of a tile: 16 elements of f32 are a cache line.
const TILE: usize = 16;

/// Whether every element of the layout has a place of its own: sorted by stride, each dimension steps over all smaller ones.
fn is_injective(dims: &[usize], strides: &[isize]) -> bool {
    let mut order: Vec<(usize, usize)> =
        dims.iter().zip(strides).filter(|&(&dim, _)| dim > 1).map(|(&dim, &s)| (s.unsigned_abs(), dim)).collect();
    order.sort_unstable();
    let mut reach = 0;
    order.iter().all(|&(stride, dim)| {
        let fits = stride > reach;
        reach += stride * (dim - 1);
        fits
    })
}

/// Shares a slice whose elements are written at positions that the plan knows to be distinct.
struct Target<'a, T> {
    start: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `strided` hands every position to one piece only.
unsafe impl<T: Send> Sync for Target<'_, T> {}

#[track_caller]
fn strided_of<T: Element>(shape: Shape, from: (&[T], &Layout), to: (&mut [T], &Layout)) {
    let (source, from_layout) = from;
    let (target, to_layout) = to;
    if shape.numel() == 0 {
        return;
    }
    let plan = Plan::new(shape, [from_layout, to_layout], "copy");
    assert!(
        is_injective(plan.dims(), plan.strides(1)),
        "copy: the target's strides {:?} give elements of shape {shape} the same place",
        to_layout.strides()
    );
    // Checked once here: every position that the plan gives lies inside.
    let inside = |layout: &Layout, len: usize| layout.broadcast_to(shape).is_some_and(|l| l.extent().1 <= len);
    assert!(inside(from_layout, source.len()), "copy: the source of {} elements is too short", source.len());
    assert!(inside(to_layout, target.len()), "copy: the target of {} elements is too short", target.len());
    let target = Target { start: target.as_mut_ptr(), len: target.len(), slice: std::marker::PhantomData };
    match tiled_axes(&plan) {
        Some((row, column)) => tiles(&plan, row, column, source, &target),
        None => runs(&plan, shape.numel(), source, &target),
    }
}

/// The dimensions along which source and target are contiguous, when they are two that both have several elements.
fn tiled_axes(plan: &Plan<2>) -> Option<(usize, usize)> {
    let unit = |k: usize| plan.strides(k).iter().position(|&stride| stride == 1);
    let (row, column) = (unit(0)?, unit(1)?);
    (row != column && plan.dims()[row] >= 4 && plan.dims()[column] >= 4).then_some((row, column))
}

fn runs<T: Element>(plan: &Plan<2>, numel: usize, source: &[T], target: &Target<'_, T>) {
    let [step_from, step_to] = plan.inner();
    let pieces = numel.div_ceil(PIECE);
    // Runs that follow each other at a distance in the source: their memory is asked for some runs ahead.
    let ahead = plan.strides(0).iter().rev().nth(1).map_or(0, |stride| stride * 8);
    let piece = |index: usize| {
        let first = index * PIECE;
        plan.runs(first, PIECE.min(numel - first), |[from, to], _, count| {
            if step_from == 1 && step_to == 1 {
                let next = (from as isize + ahead) as usize;
                crate::rows::prefetch(source.get(next..next.saturating_add(count.min(256))));
                debug_assert!(to + count <= target.len);
                // SAFETY: `strided` has checked that all positions lie inside and that no two elements share one, so no other
                // piece writes these.
                let out = unsafe { std::slice::from_raw_parts_mut(target.start.add(to), count) };
                out.copy_from_slice(&source[from..from + count]);
                return;
            }
            for k in 0..count as isize {
                let value = source[(from as isize + k * step_from) as usize];
                let at = (to as isize + k * step_to) as usize;
                debug_assert!(at < target.len);
                // SAFETY: as above.
                unsafe { target.start.add(at).write(value) };
            }
        });
    };
    if pieces <= 2 { (0..pieces).for_each(piece) } else { parallel_for(pieces, &piece) }
}

/// Copies with dimension `row` contiguous in the source and `column` in the target.
#[allow(clippy::needless_range_loop)]
fn tiles<T: Element>(plan: &Plan<2>, row: usize, column: usize, source: &[T], target: &Target<'_, T>) {
    let dims = plan.dims();
    let (rows, columns) = (dims[row], dims[column]);
    // The matrices: all other dimensions.
    let others: Vec<usize> = (0..dims.len()).filter(|&axis| axis != row && axis != column).collect();
    let matrices: usize = others.iter().map(|&axis| dims[axis]).product();
    let base = |mut matrix: usize, k: usize| {
        let mut position = plan.offset(k) as isize;
        for &axis in others.iter().rev() {
            position += (matrix % dims[axis]) as isize * plan.strides(k)[axis];
            matrix /= dims[axis];
        }
        position
    };
    let (from_step, to_step) = (plan.strides(0)[column], plan.strides(1)[row]);
    // A band is a strip of columns of a matrix, or several matrices where these are small.
    let band = (PIECE / rows).next_multiple_of(TILE).min(columns.next_multiple_of(TILE));
    let bands = columns.div_ceil(band);
    let group = (PIECE / (rows * columns)).max(1);
    let groups = matrices.div_ceil(group);
    let piece = |index: usize| {
        let (g, b) = (index / bands, index % bands);
        for matrix in g * group..((g + 1) * group).min(matrices) {
            let (from, to) = (base(matrix, 0), base(matrix, 1));
            let (left, right) = (b * band, ((b + 1) * band).min(columns));
            for c0 in (left..right).step_by(TILE) {
                let width = TILE.min(right - c0);
                for r0 in (0..rows).step_by(TILE) {
                    let height = TILE.min(rows - r0);
                    let mut tile = [[T::default(); TILE]; TILE];
                    for (c, line) in tile.iter_mut().take(width).enumerate() {
                        let at = (from + (c0 + c) as isize * from_step) as usize + r0;
                        line[..height].copy_from_slice(&source[at..at + height]);
                    }
                    for r in 0..height {
                        let at = (to + (r0 + r) as isize * to_step) as usize + c0;
                        debug_assert!(at + width <= target.len);
                        // SAFETY: `strided` has checked that all positions lie inside and that no two elements share one;
                        // tiles are disjoint.
                        let out = unsafe { std::slice::from_raw_parts_mut(target.start.add(at), width) };
                        for (c, out) in out.iter_mut().enumerate() {
                            *out = tile[c][r];
                        }
                    }
                }
            }
        }
    };
    let pieces = groups * bands;
    if pieces <= 2 { (0..pieces).for_each(piece) } else { parallel_for(pieces, &piece) }
}

#[track_caller]
fn plain_of<T: Element>(x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "copy: lengths");
    let streams = stream::streams(y);
    crate::work::pieces(y, PIECE, |first, y| {
        let x = &x[first..first + y.len()];
        if streams {
            stream::store(x, y);
            stream::finish();
        } else {
            y.copy_from_slice(x);
        }
    });
}

#[track_caller]
fn fill_of<T: Element>(y: &mut [T], value: T) {
    crate::work::pieces(y, PIECE, |_, y| y.fill(value));
}

instantiate! {
    /// Elements that can be copied.
    Copied: Element, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8, bool] {
        /// Copies the elements of `from`, which broadcasts to `shape`, to their places in `to`, which has that shape; other
        /// places of the target stay as they are.
        ///
        /// # Panics
        /// When a layout does not fit its slice or the shape, or the target gives two elements one place.
        fn strided(shape: Shape, from: (&[T], &Layout), to: (&mut [T], &Layout)) = strided_of;
        /// y = x.
        ///
        /// # Panics
        /// When the lengths differ.
        fn plain(x: &[T], y: &mut [T]) = plain_of;
        /// Every y = value.
        fn fill(y: &mut [T], value: T) = fill_of;
    }
}

/// The elements of `from`, which broadcasts to `shape`, in row-major order.
///
/// # Panics
/// When the layout does not fit its slice or the shape, or `to` has another length.
#[track_caller]
pub fn contiguous<T: Copied<T>>(shape: Shape, from: (&[T], &Layout), to: &mut [T]) {
    assert_eq!(to.len(), shape.numel(), "copy: length of the result of shape {shape}");
    strided(shape, from, (to, &Layout::contiguous(shape)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_core::pool::with_threads;

    fn check<T: Copied<T>>(shape: &[usize], order: &[usize]) {
        let shape = Shape::new(shape);
        let x: Vec<T> = (0..shape.numel()).map(|k| T::from_f64((k % 251) as f64)).collect();
        let all = shape.contiguous_strides();
        let dims: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let strides: Vec<isize> = order.iter().map(|&axis| all[axis]).collect();
        let turned = Layout::strided(Shape::new(&dims), &strides, 0);
        let expected: Vec<T> = turned.positions().map(|position| x[position]).collect();
        for threads in [1, 2, 4, 7] {
            let mut y = vec![T::default(); x.len()];
            with_threads(threads, || contiguous(turned.shape, (&x, &turned), &mut y));
            assert!(y == expected, "{shape} {order:?} {}", T::DTYPE);
            // And back: the target is strided.
            let mut back = vec![T::default(); x.len()];
            with_threads(threads, || {
                strided(turned.shape, (&y, &Layout::contiguous(turned.shape)), (&mut back, &turned));
            });
            assert!(back == x, "{shape} {order:?} {} back", T::DTYPE);
        }
    }

    #[test]
    fn permuted_views_are_laid_out_in_order() {
        for (shape, order) in [
            (&[257, 65][..], &[1, 0][..]),
            (&[700, 333], &[1, 0]),
            (&[3, 31, 4, 33], &[0, 2, 1, 3]),
            (&[3, 31, 4, 33], &[0, 2, 3, 1]),
            (&[2, 70, 3, 5], &[3, 2, 1, 0]),
            (&[9, 8, 7], &[2, 0, 1]),
            (&[40, 1, 60], &[2, 1, 0]),
            (&[0, 3], &[1, 0]),
            (&[5], &[0]),
            (&[], &[]),
        ] {
            check::<f64>(shape, order);
            check::<f32>(shape, order);
            check::<bf16>(shape, order);
            check::<u8>(shape, order);
        }
        check::<bool>(&[33, 65], &[1, 0]);
    }

    #[test]
    fn broadcast_flipped_and_gapped_views_are_copied() {
        let x: Vec<i32> = (0..60).collect();
        for layout in [
            Layout::strided([4, 5].into(), &[0, 1], 3),
            Layout::strided([20, 30].into(), &[1, 0], 3),
            Layout::strided([5, 4].into(), &[-5, -1], 40),
            Layout::strided([5, 6].into(), &[10, 2], 1),
            Layout::strided([6, 5].into(), &[1, 10], 0),
        ] {
            let expected: Vec<i32> = layout.positions().map(|p| x[p]).collect();
            let mut y = vec![-1; layout.shape.numel()];
            contiguous(layout.shape, (&x, &layout), &mut y);
            assert_eq!(y, expected, "{layout:?}");
        }
        let part = Layout::strided([2, 3].into(), &[5, 1], 6);
        let mut whole = [0; 20];
        strided(part.shape, (&[7], &Layout::contiguous([1].into())), (&mut whole, &part));
        let written: Vec<usize> = (0..20).filter(|&k| whole[k] == 7).collect();
        assert_eq!(written, [6, 7, 8, 11, 12, 13]);
    }

    #[test]
    #[should_panic(expected = "the same place")]
    fn a_target_that_overlaps_itself_is_refused() {
        let overlapping = Layout::strided([3, 3].into(), &[1, 1], 0);
        strided([3, 3].into(), (&[0.0f32; 9], &Layout::contiguous([3, 3].into())), (&mut [0.0; 9], &overlapping));
    }

    #[test]
    #[should_panic(expected = "the source of 5 elements is too short")]
    fn a_source_that_is_too_short_is_refused() {
        contiguous([2, 3].into(), (&[0.0f32; 5], &Layout::contiguous([2, 3].into())), &mut [0.0; 6]);
    }

    #[test]
    fn plain_copies_and_fills_cover_everything() {
        for len in crate::testing::SIZES {
            let x: Vec<f32> = (0..len).map(|k| k as f32).collect();
            let mut y = vec![-1.0; len];
            plain(&x, &mut y);
            assert_eq!(x, y);
            fill(&mut y, 2.0);
            assert!(y.iter().all(|&y| y == 2.0));
        }
    }
}
