//! Where a token stands in its sequence.

use cupola_core::Shape;
use cupola_tensor::{Segments, Tensor, no_grad};

use crate::init::Init;
use crate::{Module, Param};

/// The position of every token in its own sequence, `[N]` of i64.
pub fn positions(segments: &Segments) -> Tensor {
    let all: Vec<i64> = segments.iter().flat_map(|range| 0..range.len() as i64).collect();
    let count = all.len();
    Tensor::from_vec(all, [count])
}

/// `rows` of the table at each token's position, in the shape of `x`.
#[track_caller]
fn at_positions(name: &str, table: &Tensor, x: &Tensor, segments: &Segments) -> Tensor {
    let width = table.dim(1);
    let tokens = x.shape()[..x.rank().saturating_sub(1)].iter().product::<usize>();
    assert!(
        x.rank() >= 2 && x.dim(-1) == width && tokens == segments.total(),
        "{name}: input {} for segments of {} tokens and positions of width {width}",
        x.shape(),
        segments.total()
    );
    assert!(
        segments.longest() <= table.dim(0),
        "{name}: a sequence of {} tokens, there are {} positions",
        segments.longest(),
        table.dim(0)
    );
    match segments.uniform_length() {
        // A batch of equal lengths adds the same rows to each sequence.
        Some(length) if length > 0 => {
            let rows = table.narrow(0, 0, length);
            let all = rows.unsqueeze(0).expand([tokens / length, length, width]);
            all.reshape(Shape::new(x.shape().dims()))
        }
        _ => table.embedding(&positions(segments)).reshape(Shape::new(x.shape().dims())),
    }
}

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
