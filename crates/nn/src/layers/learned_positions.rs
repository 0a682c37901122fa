//! Positions as parameters.

use cupola_tensor::{Segments, Tensor};

use super::positions::at_positions;
use crate::init::Init;
use crate::{Module, Param};

/// Adds a learned vector for the position to each token (GPT-2's `wpe`).
///
/// ```
/// use cupola_nn::{Module, layers::LearnedPositions};
/// use cupola_tensor::{Segments, Tensor};
/// let positions = LearnedPositions::new(16, 4).init(0);
/// let y = positions.forward(&Tensor::zeros([2, 3, 4]), &Segments::uniform(2, 3));
/// assert_eq!(y.to_vec::<f32>()[..12], y.to_vec::<f32>()[12..]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct LearnedPositions {
    /// `[longest, D]`, normal with deviation 0.02 at first.
    pub weight: Param,
}

impl LearnedPositions {
    /// For sequences of up to `longest` tokens.
    #[track_caller]
    pub fn new(longest: usize, width: usize) -> Self {
        Self { weight: Param::new([longest, width], Init::normal(0.02)) }
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
        x + at_positions("LearnedPositions", &self.weight, x, segments)
    }
}
