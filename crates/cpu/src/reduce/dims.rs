//! Sums over any dimensions of a contiguous tensor, such as those that broadcasting repeated.

use cupola_core::{Shape, bf16, f16};

use super::fold::Sum;
use super::{Dims, FoldReal, fold, fold_columns};
use crate::binary::Lane;
use crate::real::{Number, Real};
use crate::{Isa, instantiate, isa};

/// Neighbouring dimensions that are all summed or all kept, as one: (size, summed).
fn groups(shape: Shape, summed: impl Fn(usize) -> bool) -> Vec<(usize, bool)> {
    let mut groups: Vec<(usize, bool)> = Vec::new();
    for (axis, &dim) in shape.iter().enumerate() {
        if dim == 1 {
            continue;
        }
        match groups.last_mut() {
            Some((size, kind)) if *kind == summed(axis) => *size *= dim,
            _ => groups.push((dim, summed(axis))),
        }
    }
    groups
}

/// Sums the innermost of the groups that are to be summed, until none is left.
fn sum_groups<R: FoldReal + Lane<Compute = R>>(isa: Isa, mut x: Vec<R>, mut groups: Vec<(usize, bool)>) -> Vec<R> {
    while let Some(last) = groups.iter().rposition(|&(_, summed)| summed) {
        x = step(isa, &x, &mut groups, last);
    }
    x
}

fn dims_at(groups: &[(usize, bool)], at: usize) -> Dims {
    let product = |groups: &[(usize, bool)]| groups.iter().map(|&(size, _)| size).product();
    Dims { outer: product(&groups[..at]), n: groups[at].0, inner: product(&groups[at + 1..]) }
}

fn step<T: Lane<Compute: FoldReal>>(isa: Isa, x: &[T], groups: &mut Vec<(usize, bool)>, at: usize) -> Vec<T::Compute> {
    let dims = dims_at(groups, at);
    let mut out = vec![T::Compute::ZERO; dims.outer * dims.inner];
    fold(isa, T::Compute::folder::<Sum>(), x, dims, &[], &mut out);
    groups.remove(at);
    out
}

#[track_caller]
fn sum_dims_of<
    T: Number<Real: FoldReal + Lane<Compute = <T as Number>::Real>> + Lane<Compute = <T as Number>::Real>,
>(
    x: &[T],
    shape: Shape,
    summed: &[usize],
    y: &mut [T],
) {
    assert_eq!(x.len(), shape.numel(), "sum: length of x of shape {shape}");
    let isa = isa();
    let mut groups = groups(shape, |axis| summed.contains(&axis));
    let Some(last) = groups.iter().rposition(|&(_, summed)| summed) else {
        assert_eq!(y.len(), x.len(), "sum: length of the result of shape {shape} over {summed:?}");
        return y.copy_from_slice(x);
    };
    let first = step(isa, x, &mut groups, last);
    let result = sum_groups(isa, first, groups);
    assert_eq!(y.len(), result.len(), "sum: length of the result of shape {shape} over {summed:?}");
    T::narrow(isa, &result, y);
}

/// Adds the sum over the outermost of the groups that are to be summed, behind those over the others, to `y`.
fn sum_onto<T: Lane<Compute: FoldReal + Lane<Compute = T::Compute>>>(
    isa: Isa,
    x: &[T],
    mut groups: Vec<(usize, bool)>,
    y: &mut [T::Compute],
) {
    let folder = T::Compute::folder::<Sum>();
    let mut summed = (0..groups.len()).rev().filter(|&at| groups[at].1);
    match (summed.next(), summed.next()) {
        (None, _) => {
            let dims = Dims { outer: 1, n: 1, inner: y.len() };
            assert_eq!(x.len(), y.len(), "sum: lengths where nothing is summed");
            fold_columns(isa, folder, x, dims, &[], y);
        }
        (Some(only), None) => {
            let dims = dims_at(&groups, only);
            dims.check("sum", x.len(), y.len());
            fold_columns(isa, folder, x, dims, &[], y);
        }
        (Some(last), Some(_)) => {
            let first = step(isa, x, &mut groups, last);
            sum_onto(isa, &first, groups, y);
        }
    }
}

#[track_caller]
fn sum_dims_onto_of<
    T: Number<Real: FoldReal + Lane<Compute = <T as Number>::Real>> + Lane<Compute = <T as Number>::Real>,
>(
    x: &[T],
    shape: Shape,
    summed: &[usize],
    y: &mut [<T as Number>::Real],
) {
    assert_eq!(x.len(), shape.numel(), "sum: length of x of shape {shape}");
    sum_onto(isa(), x, groups(shape, |axis| summed.contains(&axis)), y);
}

instantiate! {
    /// Elements that can be summed over any dimensions.
    Summable: Number, for [f64, f32, bf16, f16] {
        /// The sum of contiguous `x` of the shape `shape` over the dimensions `summed`, in the order of the others.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn sum_dims(x: &[T], shape: Shape, summed: &[usize], y: &mut [T]) = sum_dims_of;
        /// The same sum added to `y`: in blocks of 256 along the outermost of the dimensions summed, in order, so that what is cut
        /// there at multiples of 256 adds up to the bits of the whole.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn sum_dims_onto(x: &[T], shape: Shape, summed: &[usize], y: &mut [<T as Number>::Real]) = sum_dims_onto_of;
    }
}
