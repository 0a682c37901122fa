//! Independent draws.

use std::f64::consts::TAU;

use cupola_core::pool::Parts;
use cupola_core::{Element, Rng, parallel_for};

/// Elements that one task draws; even, so that no pair of normals is torn.
const PIECE: usize = 16 << 10;

fn pieces<T: Element>(out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    let parts = Parts::new(out, PIECE);
    parallel_for(parts.len(), |index| {
        let (start, part) = parts.take(index);
        fill(start, part);
    });
}

/// Uniform in `[low, high)`; number `i` of the stream is element `i`.
pub fn uniform<T: Element>(out: &mut [T], low: f64, high: f64, rng: Rng) {
    pieces(out, |start, part| {
        for (index, y) in part.iter_mut().enumerate() {
            *y = T::from_f64(low + (high - low) * rng.uniform((start + index) as u64));
        }
    });
}

/// Normal: the numbers of [`Rng::normal`], both of a pair at once.
pub fn normal<T: Element>(out: &mut [T], mean: f64, std: f64, rng: Rng) {
    pieces(out, |start, part| {
        for (index, pair) in part.chunks_mut(2).enumerate() {
            let first = (start + 2 * index) as u64;
            let radius = (-2.0 * (1.0 - rng.uniform(first)).ln()).sqrt();
            let (sin, cos) = (TAU * rng.uniform(first + 1)).sin_cos();
            for (y, direction) in pair.iter_mut().zip([cos, sin]) {
                *y = T::from_f64(mean + std * (radius * direction));
            }
        }
    });
}

/// Normal within bounds, by rejection: from a normal where that is likely to fall inside, else from a uniform (Robert,
/// "Simulation of truncated normal variables", 1995).
#[track_caller]
pub fn trunc_normal<T: Element>(out: &mut [T], mean: f64, std: f64, low: f64, high: f64, rng: Rng) {
    assert!(low < high && std > 0.0, "init: a normal with deviation {std} has no part in {low}..{high}");
    let (a, b) = ((low - mean) / std, (high - mean) / std);
    let from_normal = a < 0.0 && b > 0.0 && b - a > TAU.sqrt();
    // The density is largest at the point of the interval that is nearest to 0.
    let peak = 0f64.clamp(a, b).powi(2);
    pieces(out, |start, part| {
        for (index, y) in part.iter_mut().enumerate() {
            let stream = rng.stream(&[(start + index) as u64]);
            let mut attempt = 0;
            let z = loop {
                let z =
                    if from_normal { stream.normal(2 * attempt) } else { a + (b - a) * stream.uniform(2 * attempt) };
                let kept = from_normal || stream.uniform(2 * attempt + 1) <= ((peak - z * z) / 2.0).exp();
                if kept && (a..=b).contains(&z) {
                    break z;
                }
                attempt += 1;
            };
            *y = T::from_f64(mean + std * z);
        }
    });
}

/// `map` of numbers uniform in [0, 1); number `i` of the stream is element `i`.
pub fn mapped<T: Element>(out: &mut [T], rng: Rng, map: impl Fn(f64) -> f64 + Sync) {
    pieces(out, |start, part| {
        for (index, y) in part.iter_mut().enumerate() {
            *y = T::from_f64(map(rng.uniform((start + index) as u64)));
        }
    });
}
