//! Sums over each channel of a batch, and functions that are linear in each channel.
//!
//! A channel's positions within one image are contiguous. Where there are few of them (vectors, tiny images) a whole image is
//! one row, and sums run down the columns of the batch instead.

use super::Images;
use crate::lanes;
use crate::real::Real;
use crate::work::{PIECE, pieces, pieces2};
use crate::{isa, kernel};

/// Below this many positions columns are summed and not rows: a row would not fill a vector.
const NARROW: usize = 8;
/// Columns summed at a time: their sums stay in registers and L1.
const COLUMNS: usize = 256;

/// What is summed over a channel.
#[derive(Clone, Copy)]
pub(super) enum Term<'a, T> {
    /// x.
    Plain(&'a [T]),
    /// (x - mean of its channel)^2.
    Square(&'a [T], &'a [T]),
    /// dy, and dy (x - mean of its channel).
    Moments(&'a [T], &'a [T], &'a [T]),
}

/// The sums of each channel: `first` is `[C]`, `second` is `[C]` for [`Term::Moments`] and left alone otherwise.
pub(super) fn sums<T: Real>(images: &Images, term: Term<'_, T>, first: &mut [T], second: &mut [T]) {
    let isa = isa();
    if images.inner < NARROW {
        return narrow_sums(images, term, first, second);
    }
    let size = (PIECE / images.per_channel().max(1)).max(1);
    pieces2((first, size), (second, size), |start, first, second| {
        for (channel, (first, second)) in first.iter_mut().zip(second).enumerate() {
            channel_sums::<T>(isa, images, start + channel, term, first, second);
        }
    });
}

kernel! {
    fn channel_sums[I; T: Real](images: &Images, channel: usize, term: Term<'_, T>, first: &mut T, second: &mut T) {
        let row = |image: usize| {
            let start = (image * images.channels + channel) * images.inner;
            start..start + images.inner
        };
        *first = T::ZERO;
        match term {
            Term::Plain(x) => {
                for image in 0..images.batch {
                    *first = *first + lanes::sum(&x[row(image)]);
                }
            }
            Term::Square(x, mean) => {
                for image in 0..images.batch {
                    *first = *first + lanes::squares(&x[row(image)], mean[channel]);
                }
            }
            Term::Moments(dy, x, mean) => {
                *second = T::ZERO;
                for image in 0..images.batch {
                    let (plain, weighted) = lanes::moments::<I, T>(&dy[row(image)], &x[row(image)], mean[channel]);
                    *first = *first + plain;
                    *second = *second + weighted;
                }
            }
        }
    }

    /// Adds one image's row to the sums of columns from `start` on.
    fn add_row[I; T: Real](inner: usize, term: Term<'_, T>, row: usize, start: usize, first: &mut [T], second: &mut [T]) {
        let from = row + start;
        match term {
            Term::Plain(x) => {
                for (sum, &x) in first.iter_mut().zip(&x[from..]) {
                    *sum = *sum + x;
                }
            }
            Term::Square(x, mean) => {
                for (column, (sum, &x)) in first.iter_mut().zip(&x[from..]).enumerate() {
                    let centred = x - mean[(start + column) / inner];
                    *sum = centred.fma::<I>(centred, *sum);
                }
            }
            Term::Moments(dy, x, mean) => {
                for (column, ((first, second), (&dy, &x))) in
                    first.iter_mut().zip(second).zip(dy[from..].iter().zip(&x[from..])).enumerate()
                {
                    *first = *first + dy;
                    *second = dy.fma::<I>(x - mean[(start + column) / inner], *second);
                }
            }
        }
    }

    /// `y = a (x - mean) + b` for one row of one channel.
    fn linear_row[I; T: Real](x: &[T], mean: T, a: T, b: T, y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - mean).fma::<I>(a, b);
        }
    }

    /// `dx = a dy + b (x - mean) + c` for one row of one channel.
    fn linear_row2[I; T: Real](dy: &[T], x: &[T], mean: T, coefficients: (T, T, T), dx: &mut [T]) {
        let (a, b, c) = coefficients;
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            *dx = dy.fma::<I>(a, (x - mean).fma::<I>(b, c));
        }
    }

    /// [`linear_row`] with one set of coefficients for each element.
    fn linear_columns[I; T: Real](x: &[T], mean: &[T], a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &x), ((&mean, &a), &b)) in y.iter_mut().zip(x).zip(mean.iter().zip(a).zip(b)) {
            *y = (x - mean).fma::<I>(a, b);
        }
    }
}

fn narrow_sums<T: Real>(images: &Images, term: Term<'_, T>, first: &mut [T], second: &mut [T]) {
    let (isa, inner) = (isa(), images.inner);
    let width = images.channels * inner;
    let (mut plain, mut weighted) = (vec![T::ZERO; width], vec![T::ZERO; width]);
    pieces2((&mut plain, COLUMNS), (&mut weighted, COLUMNS), |start, plain, weighted| {
        for image in 0..images.batch {
            add_row::<T>(isa, inner, term, image * width, start, plain, weighted);
        }
    });
    let gather = |columns: &[T], sums: &mut [T]| {
        for (channel, sum) in sums.iter_mut().enumerate() {
            *sum = columns[channel * inner..(channel + 1) * inner].iter().fold(T::ZERO, |sum, &x| sum + x);
        }
    };
    gather(&plain, first);
    if matches!(term, Term::Moments(..)) {
        gather(&weighted, second);
    }
}

/// `y = a[c] (x - mean[c]) + b[c]`.
pub(super) fn linear<T: Real>(images: &Images, x: &[T], mean: &[T], a: &[T], b: &[T], y: &mut [T]) {
    let (isa, inner, channels) = (isa(), images.inner, images.channels);
    if y.is_empty() {
        return;
    }
    if inner < NARROW {
        let spread = |values: &[T]| values.iter().flat_map(|&v| std::iter::repeat_n(v, inner)).collect::<Vec<T>>();
        let (mean, a, b) = (spread(mean), spread(a), spread(b));
        let width = channels * inner;
        return pieces(y, crate::work::rows_per_piece(width) * width, |first, y| {
            for (x, y) in x[first..].chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                linear_columns::<T>(isa, x, &mean, &a, &b, y);
            }
        });
    }
    pieces(y, crate::work::rows_per_piece(inner) * inner, |first, y| {
        for (row, (x, y)) in x[first..].chunks_exact(inner).zip(y.chunks_exact_mut(inner)).enumerate() {
            let c = (first / inner + row) % channels;
            linear_row::<T>(isa, x, mean[c], a[c], b[c], y);
        }
    });
}

/// `dx = a[c] dy + b[c] (x - mean[c]) + k[c]`, the coefficients as (a, b, k).
pub(super) fn linear2<T: Real>(
    images: &Images,
    dy: &[T],
    x: &[T],
    mean: &[T],
    coefficients: &[(T, T, T)],
    dx: &mut [T],
) {
    let (isa, inner, channels) = (isa(), images.inner, images.channels);
    if dx.is_empty() {
        return;
    }
    pieces(dx, crate::work::rows_per_piece(inner) * inner, |first, dx| {
        let rows = dy[first..].chunks_exact(inner).zip(x[first..].chunks_exact(inner));
        for (row, ((dy, x), dx)) in rows.zip(dx.chunks_exact_mut(inner)).enumerate() {
            let c = (first / inner + row) % channels;
            linear_row2::<T>(isa, dy, x, mean[c], coefficients[c], dx);
        }
    });
}
