//! Batch normalisation: `y = (x - mean) rstd weight + bias`, with statistics of each channel over all images and positions
//! (Ioffe and Szegedy, "Batch normalization", 2015).

use super::Images;
use super::channels::{Term, linear, linear2, sums};
use crate::real::Real;

/// The mean and the biased variance of each channel, `[C]` each, in two passes: the variance is a mean of squared differences
/// from the mean and loses no digits where that is large.
///
/// # Panics
/// When a slice has another length.
pub fn statistics<T: Real>(images: &Images, x: &[T], mean: &mut [T], variance: &mut [T]) {
    assert_eq!((x.len(), mean.len(), variance.len()), (images.numel(), images.channels, images.channels));
    let scale = T::of(1.0 / images.per_channel().max(1) as f64);
    sums(images, Term::Plain(x), mean, variance);
    mean.iter_mut().for_each(|mean| *mean = *mean * scale);
    let mut unused = vec![T::ZERO; images.channels];
    sums(images, Term::Square(x, mean), variance, &mut unused);
    variance.iter_mut().for_each(|variance| *variance = *variance * scale);
}

/// `1 / sqrt(variance + eps)`.
pub fn rstd<T: Real>(variance: &[T], eps: f64) -> Vec<T> {
    variance.iter().map(|&v| T::ONE / (v + T::of(eps)).sqrt()).collect()
}

/// `y = (x - mean) rstd weight + bias` with given statistics.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Real>(
    images: &Images,
    x: &[T],
    (mean, rstd): (&[T], &[T]),
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    y: &mut [T],
) {
    assert_eq!((x.len(), y.len()), (images.numel(), images.numel()));
    let scale: Vec<T> = (0..images.channels).map(|c| weight.map_or(rstd[c], |w| w[c] * rstd[c])).collect();
    let shift: Vec<T> = (0..images.channels).map(|c| bias.map_or(T::ZERO, |b| b[c])).collect();
    linear(images, x, mean, &scale, &shift, y);
}

/// The sums over each channel that every gradient is made of: of dy, and of dy (x - mean).
///
/// # Panics
/// When a slice has another length.
pub fn moments<T: Real>(images: &Images, dy: &[T], x: &[T], mean: &[T]) -> (Vec<T>, Vec<T>) {
    assert_eq!((dy.len(), x.len(), mean.len()), (images.numel(), images.numel(), images.channels));
    let (mut plain, mut weighted) = (vec![T::ZERO; images.channels], vec![T::ZERO; images.channels]);
    sums(images, Term::Moments(dy, x, mean), &mut plain, &mut weighted);
    (plain, weighted)
}

/// dx where mean and variance were computed from x, from [`moments`]:
///
/// `dx = weight rstd (dy - sum(dy) / n - (x - mean) rstd^2 sum(dy (x - mean)) / n) + dmean / n + 2 dvar (x - mean) / n`
///
/// where dmean and dvar are the gradients of the statistics themselves.
#[allow(clippy::too_many_arguments)]
pub fn backward<T: Real>(
    images: &Images,
    (dy, x): (&[T], &[T]),
    (mean, rstd): (&[T], &[T]),
    weight: Option<&[T]>,
    (plain, weighted): (&[T], &[T]),
    (dmean, dvar): (Option<&[T]>, Option<&[T]>),
    dx: &mut [T],
) {
    let part = T::of(1.0 / images.per_channel().max(1) as f64);
    let coefficients: Vec<(T, T, T)> = (0..images.channels)
        .map(|c| {
            let scale = weight.map_or(rstd[c], |w| w[c] * rstd[c]);
            let slope = -(scale * rstd[c] * rstd[c] * weighted[c] * part);
            let shift = -(scale * plain[c] * part);
            let slope = dvar.map_or(slope, |dvar| slope + (dvar[c] + dvar[c]) * part);
            let shift = dmean.map_or(shift, |dmean| shift + dmean[c] * part);
            (scale, slope, shift)
        })
        .collect();
    linear2(images, dy, x, mean, &coefficients, dx);
}

/// dx where mean and variance were given: `dx = dy weight rstd`.
pub fn backward_given<T: Real>(images: &Images, dy: &[T], rstd: &[T], weight: Option<&[T]>, dx: &mut [T]) {
    let scale: Vec<T> = (0..images.channels).map(|c| weight.map_or(rstd[c], |w| w[c] * rstd[c])).collect();
    let zeros = vec![T::ZERO; images.channels];
    linear(images, dy, &zeros, &scale, &zeros, dx);
}
