//! Group normalisation: `y = (x - mean) rstd weight + bias`, with statistics of each image over a group of channels (Wu and
//! He, "Group normalization", 2018). With one channel in a group it is instance normalisation.

use super::Images;
use crate::lanes;
use crate::real::Real;
use crate::work::{pieces2, rows_per_piece};
use crate::{isa, kernel};

/// `y`, `[N, C, S]`, and the mean and 1 / sqrt(variance + eps) of each group, `[N, groups]` each, interleaved as pairs in
/// `statistics`. The variance is computed from differences to the mean.
///
/// # Panics
/// When a slice has another length or the groups do not divide the channels.
pub fn forward<T: Real>(
    images: &Images,
    groups: usize,
    eps: f64,
    x: &[T],
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    y: &mut [T],
    statistics: &mut [T],
) {
    assert!(groups > 0 && images.channels.is_multiple_of(groups), "groups divide the channels");
    assert_eq!((x.len(), y.len(), statistics.len()), (images.numel(), images.numel(), 2 * images.batch * groups));
    let width = images.channels / groups * images.inner;
    if y.is_empty() {
        return statistics.fill(T::ZERO);
    }
    let (isa, rows) = (isa(), rows_per_piece(width));
    pieces2((y, rows * width), (statistics, 2 * rows), |first, y, statistics| {
        for (row, (y, statistics)) in y.chunks_exact_mut(width).zip(statistics.chunks_exact_mut(2)).enumerate() {
            let row = first / width + row;
            let channel = row % groups * (images.channels / groups);
            let x = &x[row * width..(row + 1) * width];
            group::<T>(isa, images.inner, channel, T::of(eps), x, weight, bias, y, statistics);
        }
    });
}

/// dx, `[N, C, S]`, from dy; and each image's part of dweight and dbias, `[N, C]` pairs in `partial`, to be summed over the
/// images by [`sum_partials`].
///
/// # Panics
/// When a slice has another length.
pub fn backward<T: Real>(
    images: &Images,
    groups: usize,
    (dy, x): (&[T], &[T]),
    statistics: &[T],
    weight: Option<&[T]>,
    dx: &mut [T],
    partial: &mut [T],
) {
    assert_eq!((dy.len(), x.len(), dx.len()), (images.numel(), images.numel(), images.numel()));
    assert_eq!((statistics.len(), partial.len()), (2 * images.batch * groups, 2 * images.batch * images.channels));
    let channels = images.channels / groups;
    let width = channels * images.inner;
    if dx.is_empty() {
        return partial.fill(T::ZERO);
    }
    let (isa, rows) = (isa(), rows_per_piece(width));
    pieces2((dx, rows * width), (partial, 2 * rows * channels), |first, dx, partial| {
        for (row, (dx, partial)) in dx.chunks_exact_mut(width).zip(partial.chunks_exact_mut(2 * channels)).enumerate() {
            let row = first / width + row;
            let weight = weight.map(|w| &w[row % groups * channels..][..channels]);
            let range = row * width..(row + 1) * width;
            let statistics = (statistics[2 * row], statistics[2 * row + 1]);
            group_backward::<T>(isa, images.inner, (&dy[range.clone()], &x[range]), statistics, weight, dx, partial);
        }
    });
}

/// dweight and dbias, `[C]` each, from the images' parts, summed in order.
pub fn sum_partials<T: Real>(images: &Images, partial: &[T], dweight: &mut [T], dbias: &mut [T]) {
    dweight.fill(T::ZERO);
    dbias.fill(T::ZERO);
    for image in partial.chunks_exact((2 * images.channels).max(1)) {
        for ((dweight, dbias), pair) in dweight.iter_mut().zip(&mut *dbias).zip(image.chunks_exact(2)) {
            *dweight = *dweight + pair[0];
            *dbias = *dbias + pair[1];
        }
    }
}

/// With one position to a channel the vectors run along the channels instead.
#[inline(always)]
fn normalise<I: crate::tier::Tier, T: Real>(
    inner: usize,
    x: &[T],
    (mean, rstd): (T, T),
    weight: &[T],
    bias: &[T],
    y: &mut [T],
) {
    if inner == 1 {
        for ((y, &x), (&weight, &bias)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = ((x - mean) * rstd).fma::<I>(weight, bias);
        }
        return;
    }
    let rows = x.chunks_exact(inner).zip(y.chunks_exact_mut(inner));
    for ((x, y), (&weight, &bias)) in rows.zip(weight.iter().zip(bias)) {
        let scale = rstd * weight;
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - mean).fma::<I>(scale, bias);
        }
    }
}

kernel! {
    fn group[I; T: Real](
        inner: usize,
        channel: usize,
        eps: T,
        x: &[T],
        weight: Option<&[T]>,
        bias: Option<&[T]>,
        y: &mut [T],
        statistics: &mut [T],
    ) {
        let part = T::of(1.0 / x.len() as f64);
        let mean = lanes::sum(x) * part;
        let rstd = T::ONE / (lanes::squares(x, mean) * part + eps).sqrt();
        statistics[0] = mean;
        statistics[1] = rstd;
        let channels = channel..channel + x.len() / inner;
        match (weight, bias) {
            (Some(weight), Some(bias)) => {
                normalise::<I, T>(inner, x, (mean, rstd), &weight[channels.clone()], &bias[channels], y);
            }
            _ => {
                let get = |values: Option<&[T]>, c: usize, default: T| values.map_or(default, |values| values[c]);
                for (c, (x, y)) in channels.zip(x.chunks_exact(inner).zip(y.chunks_exact_mut(inner))) {
                    let (scale, shift) = (rstd * get(weight, c, T::ONE), get(bias, c, T::ZERO));
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = (x - mean).fma::<I>(scale, shift);
                    }
                }
            }
        }
    }

    fn group_backward[I; T: Real](
        inner: usize,
        dy_and_x: (&[T], &[T]),
        statistics: (T, T),
        weight: Option<&[T]>,
        dx: &mut [T],
        partial: &mut [T],
    ) {
        let ((dy, x), (mean, rstd)) = (dy_and_x, statistics);
        let weight_of = |c: usize| weight.map_or(T::ONE, |w| w[c]);
        let part = T::of(1.0 / x.len() as f64);
        // Sums over the group of what dxhat = dy weight contributes: alone, and times (x - mean).
        let (mut plain, mut weighted) = (T::ZERO, T::ZERO);
        for (c, pair) in partial.chunks_exact_mut(2).enumerate() {
            let range = c * inner..(c + 1) * inner;
            let (sum, product) = lanes::moments::<I, T>(&dy[range.clone()], &x[range], mean);
            plain = sum.fma::<I>(weight_of(c), plain);
            weighted = product.fma::<I>(weight_of(c), weighted);
            pair[0] = product * rstd;
            pair[1] = sum;
        }
        let slope = -(rstd * rstd * rstd * weighted * part);
        let shift = -(rstd * plain * part);
        for c in 0..x.len() / inner {
            let scale = rstd * weight_of(c);
            let range = c * inner..(c + 1) * inner;
            for ((dx, &dy), &x) in dx[range.clone()].iter_mut().zip(&dy[range.clone()]).zip(&x[range]) {
                *dx = dy.fma::<I>(scale, (x - mean).fma::<I>(slope, shift));
            }
        }
    }
}
