//! What the kernels' tests share.

use cupola_core::pool::with_threads;
use cupola_core::{Element, Float, Rng};

use crate::Isa;
use crate::isa::with_isa;

/// Sizes on both sides of every vector and block border.
pub const SIZES: [usize; 7] = [0, 1, 31, 33, 65, 257, 70_001];

/// Runs `body` in every tier of this machine.
pub fn each_tier(mut body: impl FnMut(Isa)) {
    for isa in Isa::available() {
        with_isa(isa, || body(isa));
    }
}

/// Runs `body` in every tier on 1, 2, 4 and 7 threads; results must have the same bits within a tier. Returns the result of
/// each tier.
#[track_caller]
pub fn each_tier_same_on_threads<R: PartialEq + std::fmt::Debug>(body: impl Fn() -> R) -> Vec<R> {
    let mut results = Vec::new();
    each_tier(|isa| {
        let one = with_threads(1, &body);
        for threads in [2, 4, 7] {
            assert!(with_threads(threads, &body) == one, "{threads} threads change bits in {}", isa.name());
        }
        results.push(one);
    });
    results
}

/// `len` normal numbers times `scale`, rounded to `T`.
pub fn normal<T: Element>(len: usize, scale: f64, seed: u64) -> Vec<T> {
    let rng = Rng::seed(seed);
    (0..len as u64).map(|i| T::from_f64(rng.normal(i) * scale)).collect()
}

/// `len` numbers uniform in `low..high`, rounded to `T`.
pub fn uniform<T: Element>(len: usize, low: f64, high: f64, seed: u64) -> Vec<T> {
    let rng = Rng::seed(seed);
    (0..len as u64).map(|i| T::from_f64(low + (high - low) * rng.uniform(i))).collect()
}

/// The slice as f64.
pub fn wide<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// The tolerance of a dtype, relative to the largest reference value.
pub fn tolerance<T: Float>() -> f64 {
    match T::DTYPE {
        cupola_core::DType::F64 => 1e-12,
        cupola_core::DType::F32 => 2e-6,
        cupola_core::DType::F16 => 1e-3,
        _ => 8e-3,
    }
}

/// Asserts that `actual` is `expected` within `tolerance` times the largest finite reference value (or 1e-30).
#[track_caller]
pub fn close<T: Element>(actual: &[T], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().filter(|x| x.is_finite()).fold(1e-30f64, |m, x| m.max(x.abs()));
    for (i, (a, &e)) in actual.iter().zip(expected).enumerate() {
        let a = a.to_f64();
        let same = a == e || (a.is_nan() && e.is_nan());
        assert!(same || (a - e).abs() <= tolerance * largest, "{what}: element {i} is {a:e}, expected {e:e}");
    }
}
