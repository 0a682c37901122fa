//! Reductions of a contiguous `[outer, n, inner]` over its middle dimension to `[outer, inner]`.
//!
//! Sums are taken in a fixed order that depends on the sizes alone. Along contiguous rows (inner = 1): 64 lanes within blocks
//! of 4096 elements, a tree over the lanes, a tree over the blocks. Down columns: blocks of 256 rows, added in order. Both
//! keep f32 sums of millions of numbers accurate to a few units of the last place. Types narrower than f32 sum in f32.

pub mod arg;
pub mod dims;
mod fold;
pub mod scan;
#[cfg(test)]
mod tests;

pub use arg::{all, any, argmax, argmin};
pub use dims::{sum_dims, sum_dims_onto};
pub use scan::cumsum;

use cupola_core::{bf16, f16};

use crate::binary::{Integer, Lane};
use crate::real::{Number, Real};
use crate::work::{PIECE, ROW_BLOCK, parallel_for};
use crate::{Isa, instantiate, isa};
use fold::FOLDED;
pub(crate) use fold::{FoldReal, Folder, SumDeviations, SumExponentials};

/// Elements of a row that are folded at a time.
const BLOCK: usize = 4096;

/// A reduction of numbers to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The sum divided by the count; NaN of nothing.
    Mean,
    /// The product.
    Prod,
    /// The largest; NaN when there is one.
    Max,
    /// The smallest; NaN when there is one.
    Min,
    /// The sum of squares.
    SumSquares,
    /// The Euclidean norm, sqrt of the sum of squares.
    Norm,
    /// The sum of magnitudes.
    Norm1,
}

impl Reduction {
    /// The operation's name.
    pub const fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Mean => "mean",
            Reduction::Prod => "prod",
            Reduction::Max => "max",
            Reduction::Min => "min",
            Reduction::SumSquares => "sum_squares",
            Reduction::Norm => "norm",
            Reduction::Norm1 => "norm1",
        }
    }

    fn folder<R: FoldReal>(self) -> Folder<R> {
        match self {
            Reduction::Sum | Reduction::Mean => R::folder::<fold::Sum>(),
            Reduction::Prod => R::folder::<fold::Product>(),
            Reduction::Max => R::folder::<fold::Max>(),
            Reduction::Min => R::folder::<fold::Min>(),
            Reduction::SumSquares | Reduction::Norm => R::folder::<fold::SumSquares>(),
            Reduction::Norm1 => R::folder::<fold::SumMagnitudes>(),
        }
    }
}

/// The sizes `[outer, n, inner]` of a reduction over the middle dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// The product of the dimensions before.
    pub outer: usize,
    /// The dimension that is reduced.
    pub n: usize,
    /// The product of the dimensions after.
    pub inner: usize,
}

impl Dims {
    /// One row or more of `n` contiguous elements.
    pub fn rows(outer: usize, n: usize) -> Self {
        Self { outer, n, inner: 1 }
    }

    fn numel(self) -> usize {
        self.outer * self.n * self.inner
    }

    fn results(self) -> usize {
        self.outer * self.inner
    }

    #[track_caller]
    pub(crate) fn check(self, op: &str, x: usize, y: usize) {
        let Self { outer, n, inner } = self;
        assert_eq!(x, self.numel(), "{op}: length of x of shape [{outer}, {n}, {inner}]");
        assert_eq!(y, self.results(), "{op}: length of the result of shape [{outer}, {inner}]");
    }
}

/// `x` in the type of computing, converted into `buffer` where it is another.
#[inline(always)]
pub(crate) fn lifted<'a, T: Lane>(isa: Isa, x: &'a [T], buffer: &'a mut Vec<T::Compute>) -> &'a [T::Compute] {
    if let Some(direct) = T::direct(x) {
        return direct;
    }
    buffer.resize(x.len(), T::Compute::default());
    T::up_all(isa, x, buffer);
    buffer
}

/// Partial results in a tree: the order depends on their number alone.
fn tree<R: Copy>(parts: &[R], merge: fn(R, R) -> R, identity: R) -> R {
    match parts {
        [] => identity,
        [one] => *one,
        _ => {
            let middle = parts.len().div_ceil(2);
            merge(tree(&parts[..middle], merge, identity), tree(&parts[middle..], merge, identity))
        }
    }
}

/// Folds each of `[outer, n]`'s rows, `centres` one a row, to `out [outer]`.
pub(crate) fn fold_rows<T: Lane>(
    isa: Isa,
    folder: Folder<T::Compute>,
    x: &[T],
    n: usize,
    centres: &[T::Compute],
    out: &mut [T::Compute],
) {
    if n == 0 {
        return out.fill(folder.identity);
    }
    let centre = |row: usize| centres.get(row).copied().unwrap_or_default();
    let blocks = n.div_ceil(BLOCK);
    if blocks <= PIECE / BLOCK {
        let rows = (PIECE / n).max(1);
        crate::work::pieces(out, rows, |first, out| {
            let mut parts = [folder.identity; PIECE / BLOCK];
            if blocks == 1 {
                return fold_blocks(isa, folder, |k| (&x[(first + k) * n..][..n], centre(first + k)), out);
            }
            for (k, out) in out.iter_mut().enumerate() {
                let row = &x[(first + k) * n..][..n];
                let block = |b: usize| (&row[b * BLOCK..n.min((b + 1) * BLOCK)], centre(first + k));
                fold_blocks(isa, folder, block, &mut parts[..blocks]);
                *out = tree(&parts[..blocks], folder.merge, folder.identity);
            }
        });
        return;
    }
    let mut parts = vec![folder.identity; out.len() * blocks];
    crate::work::pieces(&mut parts, PIECE / BLOCK, |first, parts| {
        let block = |k: usize| {
            let (row, block) = ((first + k) / blocks, (first + k) % blocks);
            (&x[row * n + block * BLOCK..(row * n + (block + 1) * BLOCK).min((row + 1) * n)], centre(row))
        };
        fold_blocks(isa, folder, block, parts);
    });
    for (out, parts) in out.iter_mut().zip(parts.chunks(blocks)) {
        *out = tree(parts, folder.merge, folder.identity);
    }
}

/// Folds the elements of `block(k)` with its centre to `out[k]`.
fn fold_blocks<'a, T: Lane>(
    isa: Isa,
    folder: Folder<T::Compute>,
    block: impl Fn(usize) -> (&'a [T], T::Compute),
    out: &mut [T::Compute],
) {
    let mut buffers: [Vec<T::Compute>; FOLDED] = std::array::from_fn(|_| Vec::new());
    for (group, out) in out.chunks_mut(FOLDED).enumerate() {
        let mut centres = [T::Compute::default(); FOLDED];
        let mut blocks: [&[T::Compute]; FOLDED] = [&[]; FOLDED];
        for (k, buffer) in buffers.iter_mut().enumerate().take(out.len()) {
            let (x, centre) = block(FOLDED * group + k);
            blocks[k] = lifted(isa, x, buffer);
            centres[k] = centre;
        }
        let results = (folder.fold)(isa, blocks, centres);
        out.copy_from_slice(&results[..out.len()]);
    }
}

/// Folds the columns of each of `outer` matrices `[n, inner]` onto `out [outer, inner]`, which holds what the fold begins
/// with; `centres` are `[outer, inner]` or empty.
pub(crate) fn fold_columns<T: Lane>(
    isa: Isa,
    folder: Folder<T::Compute>,
    x: &[T],
    dims: Dims,
    centres: &[T::Compute],
    out: &mut [T::Compute],
) {
    let Dims { outer, n, inner } = dims;
    if n == 0 || inner == 0 || outer == 0 {
        return;
    }
    let row_blocks = n.div_ceil(ROW_BLOCK);
    // A unit of work is a block of rows times a strip of columns.
    // Strips of 512 columns for 256 rows: narrower ones would jump from page to page.
    let strip = (4 * PIECE / n.min(ROW_BLOCK)).clamp(1, inner);
    let strips = inner.div_ceil(strip);
    let zeros = vec![T::Compute::default(); if centres.is_empty() { strip } else { 0 }];
    let mut parts = vec![folder.identity; outer * row_blocks * inner];
    {
        // Parts lie as [outer, row_blocks, inner]; a piece owns a strip of one such row.
        let cells = Cells::new(&mut parts);
        let run = |index: usize| {
            let (rest, s) = (index / strips, index % strips);
            let (o, block) = (rest / row_blocks, rest % row_blocks);
            let (begin, end) = (s * strip, ((s + 1) * strip).min(inner));
            // SAFETY: distinct indices have distinct (o, block, s), whose ranges do not overlap.
            let acc = unsafe { cells.range(rest * inner + begin, end - begin) };
            let centres =
                if centres.is_empty() { &zeros[..acc.len()] } else { &centres[o * inner + begin..o * inner + end] };
            let mut buffer = Vec::new();
            let (top, bottom) = (block * ROW_BLOCK, ((block + 1) * ROW_BLOCK).min(n));
            let at = |row: usize| (o * n + row) * inner;
            if T::direct(&[]).is_some() {
                let x = &x[at(top) + begin..at(bottom - 1) + end];
                (folder.rows)(isa, acc, lifted(isa, x, &mut buffer), inner, centres);
            } else {
                for row in top..bottom {
                    let x = lifted(isa, &x[at(row) + begin..at(row) + end], &mut buffer);
                    (folder.rows)(isa, acc, x, x.len(), centres);
                }
            }
        };
        let units = outer * row_blocks * strips;
        if units <= 2 { (0..units).for_each(run) } else { parallel_for(units, &run) }
    }
    for (o, out) in out.chunks_mut(inner).enumerate() {
        for part in parts[o * row_blocks * inner..][..row_blocks * inner].chunks(inner) {
            (folder.merge_rows)(isa, out, part);
        }
    }
}

/// A slice of which pieces of work write parts that their caller knows to be disjoint.
pub(crate) struct Cells<'a, T> {
    start: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by an unsafe method whose caller promises that they are disjoint.
unsafe impl<T: Send> Sync for Cells<'_, T> {}

impl<'a, T> Cells<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn range(&self, first: usize, len: usize) -> &mut [T] {
        assert!(first <= self.len && len <= self.len - first, "a part lies inside its slice");
        // SAFETY: inside the slice by the assertion, disjoint from other parts by contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }
}

/// Folds to `out [outer, inner]` from the identity.
pub(crate) fn fold<T: Lane>(
    isa: Isa,
    folder: Folder<T::Compute>,
    x: &[T],
    dims: Dims,
    centres: &[T::Compute],
    out: &mut [T::Compute],
) {
    if dims.inner == 1 {
        fold_rows(isa, folder, x, dims.n, centres, out);
    } else {
        out.fill(folder.identity);
        fold_columns(isa, folder, x, dims, centres, out);
    }
}

fn store<T: Number>(isa: Isa, values: &[T::Real], y: &mut [T]) {
    T::narrow(isa, values, y);
}

#[track_caller]
fn reduce_of<T: Number<Real: FoldReal> + Lane<Compute = <T as Number>::Real>>(
    op: Reduction,
    x: &[T],
    dims: Dims,
    y: &mut [T],
) {
    dims.check(op.name(), x.len(), y.len());
    let isa = isa();
    let mut results = vec![T::Real::ZERO; y.len()];
    fold(isa, op.folder::<T::Real>(), x, dims, &[], &mut results);
    match op {
        Reduction::Mean => {
            let count = T::Real::of(dims.n as f64);
            results.iter_mut().for_each(|r| *r = *r / count);
        }
        Reduction::Norm => results.iter_mut().for_each(|r| *r = r.sqrt()),
        _ => {}
    }
    store(isa, &results, y);
}

#[track_caller]
fn var_of<T: Number<Real: FoldReal> + Lane<Compute = <T as Number>::Real>>(
    x: &[T],
    dims: Dims,
    correction: f64,
    means: &mut [<T as Number>::Real],
    y: &mut [T],
) {
    dims.check("var", x.len(), y.len());
    dims.check("var", x.len(), means.len());
    let isa = isa();
    let count = T::Real::of(dims.n as f64);
    fold(isa, T::Real::folder::<fold::Sum>(), x, dims, &[], means);
    means.iter_mut().for_each(|m| *m = *m / count);
    let mut squares = vec![T::Real::ZERO; y.len()];
    fold(isa, T::Real::folder::<SumDeviations>(), x, dims, means, &mut squares);
    // As PyTorch: infinite or NaN when there are no degrees of freedom.
    let freedom = T::Real::of((dims.n as f64 - correction).max(0.0));
    squares.iter_mut().for_each(|s| *s = *s / freedom);
    store(isa, &squares, y);
}

#[track_caller]
fn logsumexp_of<T: Number<Real: FoldReal> + Lane<Compute = <T as Number>::Real>>(x: &[T], dims: Dims, y: &mut [T]) {
    dims.check("logsumexp", x.len(), y.len());
    let isa = isa();
    let mut largest = vec![T::Real::ZERO; y.len()];
    fold(isa, T::Real::folder::<fold::Max>(), x, dims, &[], &mut largest);
    // Subtracting an infinite maximum would give NaN: of all -infinity the result is that, with +infinity likewise.
    let finite = |m: T::Real| if m.abs() == T::Real::INFINITY { T::Real::ZERO } else { m };
    largest.iter_mut().for_each(|m| *m = finite(*m));
    let mut sums = vec![T::Real::ZERO; y.len()];
    fold(isa, T::Real::folder::<SumExponentials>(), x, dims, &largest, &mut sums);
    for (sum, &m) in sums.iter_mut().zip(&largest) {
        *sum = sum.ln::<crate::tier::Portable>() + m;
    }
    store(isa, &sums, y);
}

#[track_caller]
fn integers_of<T: Integer>(op: Reduction, x: &[T], dims: Dims, y: &mut [T]) {
    dims.check(op.name(), x.len(), y.len());
    let folder = match op {
        Reduction::Sum => fold::integer_folder::<T, fold::Sum>(),
        Reduction::Prod => fold::integer_folder::<T, fold::Product>(),
        Reduction::Max => fold::integer_folder::<T, fold::Max>(),
        Reduction::Min => fold::integer_folder::<T, fold::Min>(),
        _ => panic!("{}: {} is an integer type, expected a float", op.name(), T::DTYPE),
    };
    fold(isa(), folder, x, dims, &[], y);
}

instantiate! {
    /// Floating-point elements that can be reduced.
    Reducible: Number, for [f64, f32, bf16, f16] {
        /// Reduces `x [outer, n, inner]` to `y [outer, inner]`.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn reduce(op: Reduction, x: &[T], dims: Dims, y: &mut [T]) = reduce_of;
        /// The variance over n - correction degrees of freedom, in two passes, with the means it is taken around.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn var(x: &[T], dims: Dims, correction: f64, means: &mut [<T as Number>::Real], y: &mut [T]) = var_of;
        /// ln of the sum of e^x, without overflow.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn logsumexp(x: &[T], dims: Dims, y: &mut [T]) = logsumexp_of;
    }
}

instantiate! {
    /// Integer elements that can be reduced.
    ReducibleInteger: Integer, for [i64, i32, u32, i8, u8] {
        /// Reduces `x [outer, n, inner]` to `y [outer, inner]` modulo the range of the type: sum, prod, max and min.
        ///
        /// # Panics
        /// When the lengths do not fit, and for the reductions that need a float.
        fn reduce_integers(op: Reduction, x: &[T], dims: Dims, y: &mut [T]) = integers_of;
    }
}
