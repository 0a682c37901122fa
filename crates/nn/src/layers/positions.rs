//! Where a token stands in its sequence.

use cupola_core::Shape;
use cupola_tensor::{Segments, Tensor};

/// The position of every token in its own sequence, `[N]` of i64.
pub fn positions(segments: &Segments) -> Tensor {
    let all: Vec<i64> = segments.iter().flat_map(|range| 0..range.len() as i64).collect();
    let count = all.len();
    Tensor::from_vec(all, [count])
}

/// `rows` of the table at each token's position, in the shape of `x`.
#[track_caller]
pub(super) fn at_positions(name: &str, table: &Tensor, x: &Tensor, segments: &Segments) -> Tensor {
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
