//! How work is cut into pieces for the thread pool: by fixed sizes, so that the number of threads never shows in a result.

use cupola_core::pool::Parts;

/// Elements in one piece of element-wise work: 128 KiB of f32, a few microseconds.
pub const PIECE: usize = 32 << 10;
/// Rows in one block of a sum over rows. Weight gradients add up in such blocks, in order.
pub const ROW_BLOCK: usize = 256;

/// As [`cupola_core::parallel_for`], compiled once for all bodies.
pub(crate) fn parallel_for(tasks: usize, body: &(dyn Fn(usize) + Sync)) {
    cupola_core::parallel_for(tasks, body);
}

/// Rows of `width` elements in one piece (at least one).
pub fn rows_per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Runs `body(first, part)` for pieces of `size` elements of `out`; `first` is the position of the part in `out`. Up to two
/// pieces run on the calling thread as one.
#[inline]
pub fn pieces<T: Send>(out: &mut [T], size: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= 2 * size {
        if !out.is_empty() {
            body(0, out);
        }
        return;
    }
    let parts = Parts::new(out, size);
    parallel_for(parts.len(), &|index| {
        let (first, part) = parts.take(index);
        body(first, part);
    });
}

/// As [`pieces`] over two slices cut in step, by their own sizes into the same number of parts.
///
/// # Panics
/// When the numbers of parts differ.
#[inline]
pub fn pieces2<T: Send, U: Send>(
    (a, size_a): (&mut [T], usize),
    (b, size_b): (&mut [U], usize),
    body: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let (a, b) = (Parts::new(a, size_a), Parts::new(b, size_b));
    assert_eq!(a.len(), b.len(), "slices that are cut in step have as many parts");
    let run = |index: usize| {
        let ((first, a), (_, b)) = (a.take(index), b.take(index));
        body(first, a, b);
    };
    if a.len() <= 2 { (0..a.len()).for_each(run) } else { parallel_for(a.len(), &run) }
}
