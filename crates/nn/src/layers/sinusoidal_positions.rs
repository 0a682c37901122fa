//! Positions as sines and cosines.

use cupola_tensor::{Segments, Tensor, no_grad};

use super::positions::at_positions;
use crate::Module;

/// Adds sines and cosines of the position to each token (Vaswani et al., "Attention Is All You Need", 2017):
/// `sin(t / 10000^(2i / D))` to value `2i`, the cosine to value `2i + 1`.
///
/// ```
/// use cupola_nn::layers::SinusoidalPositions;
/// use cupola_tensor::{Segments, Tensor};
/// let y = SinusoidalPositions::new(16, 4).forward(&Tensor::zeros([5, 4]), &Segments::from_lengths(&[2, 3]));
/// assert_eq!(y.to_vec::<f32>()[8..12], [0.0, 1.0, 0.0, 1.0]);
/// ```
#[derive(Module, Clone)]
pub struct SinusoidalPositions {
    /// `[longest, D]`, in f64.
    #[module(skip)]
    table: Tensor,
}

impl SinusoidalPositions {
    /// For sequences of up to `longest` tokens of an even width.
    ///
    /// # Panics
    /// When the width is odd.
    #[track_caller]
    pub fn new(longest: usize, width: usize) -> Self {
        assert!(width.is_multiple_of(2), "SinusoidalPositions: the width {width} is odd");
        let value = |position: usize, index: usize| {
            let rate = 10000f64.powf((index / 2 * 2) as f64 / width as f64);
            let angle = position as f64 / rate;
            if index.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        let values = (0..longest).flat_map(|t| (0..width).map(move |i| value(t, i))).collect();
        Self { table: Tensor::from_vec::<f64>(values, [longest, width]) }
    }

    /// The table, `[longest, D]` in f64.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// `x` with the positions added.
    ///
    /// # Shapes
    /// `[N, D]` or `[B, T, D]` -> the same.
    ///
    /// # Panics
    /// When the shapes do not fit or a sequence is too long.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments) -> Tensor {
        let table = no_grad(|| self.table.to_dtype(x.dtype()));
        x + at_positions("SinusoidalPositions", &table, x, segments)
    }
}
