//! The loops under reductions: a block of numbers to one, and rows into a row of accumulators.
//!
//! Every fold runs over the same number of lanes in every tier, so that the order of a sum does not depend on the width of
//! registers.

use crate::binary::Integer;
use crate::real::Real;
use crate::tier::{Portable, Tier};
use crate::{Isa, kernel};

/// Independent accumulators along a row: four registers of 16 hide the latency of an addition.
const LANES: usize = 64;
/// Blocks that are folded at a time.
pub(crate) const FOLDED: usize = 4;
/// Elements of a block that are folded before the next block has its turn.
const TURN: usize = 2 * LANES;

/// What a reduction does with each element and with two partial results.
pub(crate) trait Fold: Copy + Send + Sync + 'static {
    /// The result of nothing.
    fn identity<R: Real>() -> R;
    /// What an element contributes, given a centre that some folds subtract.
    fn lift<I: Tier, R: Real>(x: R, centre: R) -> R;
    /// Two partial results in one.
    fn merge<R: Real>(a: R, b: R) -> R;
}

macro_rules! folds {
    ([$tier:ident, $real:ident] $(
        $(#[$meta:meta])*
        $name:ident: $identity:expr, |$x:ident, $c:ident| $lift:expr, |$a:ident, $b:ident| $merge:expr;
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Fold for $name {
            #[inline(always)]
            fn identity<$real: Real>() -> $real { $identity }
            #[inline(always)]
            fn lift<$tier: Tier, $real: Real>($x: $real, $c: $real) -> $real { $lift }
            #[inline(always)]
            fn merge<$real: Real>($a: $real, $b: $real) -> $real { $merge }
        }
    )*};
}

folds! { [I, R]
    Sum: R::ZERO, |x, _c| x, |a, b| a + b;
    SumSquares: R::ZERO, |x, _c| x * x, |a, b| a + b;
    SumMagnitudes: R::ZERO, |x, _c| x.abs(), |a, b| a + b;
    Product: R::ONE, |x, _c| x, |a, b| a * b;
    Max: -R::INFINITY, |x, _c| x, |a, b| a.larger(b);
    Min: R::INFINITY, |x, _c| x, |a, b| a.smaller(b);
    /// (x - centre)^2.
    SumDeviations: R::ZERO, |x, c| (x - c) * (x - c), |a, b| a + b;
    /// e^(x - centre).
    SumExponentials: R::ZERO, |x, c| (x - c).exp::<I>(), |a, b| a + b;
}

/// Folds each of four blocks with its centre. What they have in common in length is read a piece of each in turn: memory gives
/// more to several streams than to one. The order within a block is that of the block alone.
#[inline(always)]
fn fold_body<I: Tier, R: Real, O: Fold>(blocks: [&[R]; FOLDED], centres: Few<R>) -> Few<R> {
    let mut lanes = [[O::identity::<R>(); LANES]; FOLDED];
    let common = blocks.iter().map(|block| block.len() / TURN).min().unwrap_or(0);
    let mut turns = blocks.map(|block| block.chunks_exact(TURN));
    for _ in 0..common {
        for ((lanes, turns), &centre) in lanes.iter_mut().zip(&mut turns).zip(&centres) {
            let Some((first, second)) = turns.next().and_then(|turn| turn.split_first_chunk::<LANES>()) else { break };
            for ((lane, &a), &b) in lanes.iter_mut().zip(first).zip(second) {
                *lane = O::merge(O::merge(*lane, O::lift::<I, R>(a, centre)), O::lift::<I, R>(b, centre));
            }
        }
    }
    let mut results = [O::identity::<R>(); FOLDED];
    for k in 0..FOLDED {
        results[k] = rest_body::<I, R, O>(lanes[k], &blocks[k][common * TURN..], centres[k]);
    }
    results
}

/// Folds the rest of a block onto the lanes, and the lanes to one.
#[inline(always)]
fn rest_body<I: Tier, R: Real, O: Fold>(mut lanes: [R; LANES], x: &[R], centre: R) -> R {
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = O::merge(*lane, O::lift::<I, R>(x, centre));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = O::merge(*lane, O::lift::<I, R>(x, centre));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] = O::merge(lanes[k], lanes[k + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn rows_body<I: Tier, R: Real, O: Fold>(acc: &mut [R], x: &[R], stride: usize, centres: &[R]) {
    let width = acc.len();
    let centres = &centres[..width];
    // Four rows at a time, in order: the accumulators are loaded and stored once for the four.
    let mut rows = x.chunks(stride);
    while rows.len() >= 4 {
        let [Some(a), Some(b), Some(c), Some(d)] = [rows.next(), rows.next(), rows.next(), rows.next()] else {
            return;
        };
        let (a, b, c, d) = (&a[..width], &b[..width], &c[..width], &d[..width]);
        for k in 0..width {
            let lift = |x: R| O::lift::<I, R>(x, centres[k]);
            let two = O::merge(O::merge(acc[k], lift(a[k])), lift(b[k]));
            acc[k] = O::merge(O::merge(two, lift(c[k])), lift(d[k]));
        }
    }
    for row in rows {
        for ((acc, &x), &centre) in acc.iter_mut().zip(&row[..width]).zip(centres) {
            *acc = O::merge(*acc, O::lift::<I, R>(x, centre));
        }
    }
}

#[inline(always)]
fn merge_body<R: Real, O: Fold>(acc: &mut [R], x: &[R]) {
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = O::merge(*acc, x);
    }
}

kernel! {
    fn fold_f32[I; O: Fold](blocks: [&[f32]; FOLDED], centres: Few<f32>) -> Few<f32> {
        fold_body::<I, f32, O>(blocks, centres)
    }
    fn rows_f32[I; O: Fold](acc: &mut [f32], x: &[f32], stride: usize, centres: &[f32]) {
        rows_body::<I, f32, O>(acc, x, stride, centres)
    }
    fn merge_f32[_I; O: Fold](acc: &mut [f32], x: &[f32]) {
        merge_body::<f32, O>(acc, x)
    }
}

/// A number for each block that is folded.
type Few<R> = [R; FOLDED];
type FoldFn<R> = fn(Isa, [&[R]; FOLDED], Few<R>) -> Few<R>;

/// The compiled loops of a fold over a type of computing.
#[derive(Clone, Copy)]
pub(crate) struct Folder<R> {
    /// Zero, one or an infinity.
    pub identity: R,
    /// Blocks of consecutive elements, with a centre each, to one number each.
    pub fold: FoldFn<R>,
    /// `acc[j] = merge(acc[j], lift(x[i][j], centres[j]))` for each row i, at `stride` elements from the last.
    pub rows: fn(Isa, &mut [R], &[R], usize, &[R]),
    /// `acc[j] = merge(acc[j], x[j])`.
    pub merge_rows: fn(Isa, &mut [R], &[R]),
    /// Two partial results in one.
    pub merge: fn(R, R) -> R,
}

/// Types that have compiled folds.
pub(crate) trait FoldReal: Real {
    fn folder<O: Fold>() -> Folder<Self>;
}

impl FoldReal for f32 {
    fn folder<O: Fold>() -> Folder<f32> {
        Folder {
            identity: O::identity(),
            fold: fold_f32::<O>,
            rows: rows_f32::<O>,
            merge_rows: merge_f32::<O>,
            merge: O::merge,
        }
    }
}

impl FoldReal for f64 {
    fn folder<O: Fold>() -> Folder<f64> {
        Folder {
            identity: O::identity(),
            fold: |_, blocks, centres| fold_body::<Portable, f64, O>(blocks, centres),
            rows: |_, acc, x, stride, centres| rows_body::<Portable, f64, O>(acc, x, stride, centres),
            merge_rows: |_, acc, x| merge_body::<f64, O>(acc, x),
            merge: O::merge,
        }
    }
}

/// A reduction of integers, modulo their range.
pub(crate) trait IntegerFold: Copy + Send + Sync + 'static {
    fn identity<N: Integer>() -> N;
    fn merge<N: Integer>(a: N, b: N) -> N;
}

macro_rules! integer_folds {
    ($($name:ident: $identity:expr, |$a:ident, $b:ident| $merge:expr;)*) => {$(
        impl IntegerFold for $name {
            fn identity<N: Integer>() -> N { $identity }
            fn merge<N: Integer>($a: N, $b: N) -> N { $merge }
        }
    )*};
}
integer_folds! {
    Sum: N::from_i64(0), |a, b| a.add(b);
    Product: N::from_i64(1), |a, b| a.mul(b);
    // The conversion saturates at the ends of the range.
    Max: N::from_f64(f64::NEG_INFINITY), |a, b| Ord::max(a, b);
    Min: N::from_f64(f64::INFINITY), |a, b| Ord::min(a, b);
}

/// The folder of an integer type; centres are ignored.
pub(crate) fn integer_folder<N: Integer, O: IntegerFold>() -> Folder<N> {
    Folder {
        identity: O::identity(),
        fold: |_, blocks, _| blocks.map(|x| x.iter().fold(O::identity(), |a, &x| O::merge(a, x))),
        rows: |_, acc, x, stride, _| {
            for row in x.chunks(stride) {
                acc.iter_mut().zip(row).for_each(|(acc, &x)| *acc = O::merge(*acc, x));
            }
        },
        merge_rows: |_, acc, x| acc.iter_mut().zip(x).for_each(|(acc, &x)| *acc = O::merge(*acc, x)),
        merge: O::merge,
    }
}

const _: () = assert!(LANES.is_power_of_two());
