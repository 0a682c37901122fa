//! Tensors from nothing.

use cupola_core::{Buffer, DType, Element, Rng, Shape, alloc::Placement, parallel_for, pool::Parts};

use crate::dispatch::with_element;
use crate::tensor::Tensor;

/// Random numbers are made in pieces of this many.
const PIECE: usize = 16 << 10;

impl Tensor {
    /// Zeros, in f32.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Self::zeros_of(shape, DType::F32)
    }

    /// Zeros of a dtype.
    #[track_caller]
    pub fn zeros_of(shape: impl Into<Shape>, dtype: DType) -> Self {
        let shape = shape.into();
        Self::from_buffer(Buffer::zeroed(dtype, shape.numel(), Placement::Passing), shape)
    }

    /// Ones, in f32.
    #[track_caller]
    pub fn ones(shape: impl Into<Shape>) -> Self {
        Self::ones_of(shape, DType::F32)
    }

    /// Ones of a dtype.
    #[track_caller]
    pub fn ones_of(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::full_of(shape, 1.0, dtype)
    }

    /// One value everywhere, in f32.
    #[track_caller]
    pub fn full(shape: impl Into<Shape>, value: f64) -> Self {
        Self::full_of(shape, value, DType::F32)
    }

    /// One value everywhere, converted to a dtype.
    #[track_caller]
    pub fn full_of(shape: impl Into<Shape>, value: f64, dtype: DType) -> Self {
        let shape = shape.into();
        with_element!(dtype, T => Self::build::<T>(shape, |out| out.fill(<T as Element>::from_f64(value))))
    }

    /// A scalar of rank 0, in f32.
    pub fn scalar(value: f64) -> Self {
        Self::full([], value)
    }

    /// `start`, `start + step`, ... up to but without `end`, in f32; computed in f64.
    ///
    /// # Panics
    /// When `step` is zero or leads away from `end`.
    #[track_caller]
    pub fn arange(start: f64, end: f64, step: f64) -> Self {
        let count = ((end - start) / step).ceil();
        assert!(step != 0.0 && count >= 0.0, "arange: no way from {start} to {end} in steps of {step}");
        Self::build::<f32>([count as usize], |out| {
            out.iter_mut().enumerate().for_each(|(i, y)| *y = (start + i as f64 * step) as f32);
        })
    }

    /// The integers `start..end`, in i64.
    pub fn range(start: i64, end: i64) -> Self {
        Self::from_vec((start..end).collect(), [(end - start).max(0) as usize])
    }

    /// `count` evenly spaced values from `start` to `end`, both included, in f32; computed in f64.
    #[track_caller]
    pub fn linspace(start: f64, end: f64, count: usize) -> Self {
        let step = (end - start) / count.saturating_sub(1).max(1) as f64;
        Self::build::<f32>([count], |out| {
            out.iter_mut().enumerate().for_each(|(i, y)| *y = (start + i as f64 * step) as f32);
            if let [_, .., last] = out {
                *last = end as f32;
            }
        })
    }

    /// The identity matrix `[n, n]`, in f32.
    #[track_caller]
    pub fn eye(n: usize) -> Self {
        Self::build::<f32>([n, n], |out| {
            out.fill(0.0);
            out.iter_mut().step_by(n + 1).for_each(|y| *y = 1.0);
        })
    }

    /// Uniform in [0, 1), in f32: element `i` is number `i` of the stream.
    #[track_caller]
    pub fn rand(shape: impl Into<Shape>, rng: Rng) -> Self {
        // 24 bits fill an f32's fraction exactly, so the result never rounds up to 1.
        Self::random(shape.into(), |i| (rng.u32(i) >> 8) as f32 * (1.0 / (1 << 24) as f32))
    }

    /// Standard normal, in f32: element `i` is number `i` of the stream.
    #[track_caller]
    pub fn randn(shape: impl Into<Shape>, rng: Rng) -> Self {
        Self::random(shape.into(), |i| rng.normal(i) as f32)
    }

    /// Uniform integers in `low..high`, in i64.
    ///
    /// # Panics
    /// When the range is empty.
    #[track_caller]
    pub fn randint(low: i64, high: i64, shape: impl Into<Shape>, rng: Rng) -> Self {
        assert!(low < high, "randint: {low}..{high} is empty");
        let span = high.wrapping_sub(low) as u64;
        Self::random(shape.into(), |i| low.wrapping_add(rng.below(i, span) as i64))
    }

    fn random<T: Element>(shape: Shape, draw: impl Fn(u64) -> T + Sync) -> Self {
        Self::build::<T>(shape, |out| {
            let parts = Parts::new(out, PIECE);
            parallel_for(parts.len(), |part| {
                let (start, out) = parts.take(part);
                out.iter_mut().enumerate().for_each(|(i, y)| *y = draw((start + i) as u64));
            });
        })
    }

    /// For every index in `self` (integers, any shape) a row of `classes` zeros with a one there: shape `[..., classes]`, f32.
    ///
    /// # Panics
    /// When the dtype is not an integer or an index is outside `0..classes`.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Self {
        assert!(self.dtype().is_integer(), "one_hot: indices are {}, expected integers", self.dtype());
        let indices = self.to_indices();
        if let Some(index) = indices.iter().find(|&&i| i < 0 || i as usize >= classes) {
            panic!("one_hot: index {index} is outside 0..{classes}");
        }
        let shape = self.shape().with_inserted(self.rank(), classes);
        Self::build::<f32>(shape, |out| {
            out.fill(0.0);
            for (row, &index) in indices.iter().enumerate() {
                out[row * classes + index as usize] = 1.0;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_bf16_or_f16_in_one_rounding() {
        // Just beyond the middle of two neighbours, by less than an f32 or half's own conversion would see.
        for beyond in [1e-9, 1e-15] {
            let x = Tensor::full_of([1], 1.0 + 1.0 / 256.0 + beyond, DType::BF16);
            assert_eq!(x.item(), 1.0 + 1.0 / 128.0);
            let x = Tensor::full_of([1], 1.0 + 1.0 / 2048.0 + beyond, DType::F16);
            assert_eq!(x.item(), 1.0 + 1.0 / 1024.0);
        }
        // The product of the first two and the last, rounded once; on the way it would end at 152 / 128.
        let x = [129.0f32, 130.0, 128.0, 149.0].map(|x| x / 128.0);
        let x = Tensor::from_slice(&x, [4]).to_dtype(DType::BF16).requires_grad();
        assert_eq!(x.prod([]).backward()[&x].to_f64_vec()[2], 153.0 / 128.0);
    }
}
