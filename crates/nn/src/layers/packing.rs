//! Between padded batches and packed tokens.

use cupola_tensor::{Segments, Tensor};

/// The tokens of padded sequences without their padding: `x [B, T, ..]` of which sequence `b` has `lengths[b]` tokens, to
/// `[N, ..]` and the segments of the sequences in it.
///
/// ```
/// use cupola_nn::layers::{pack, unpack};
/// use cupola_tensor::Tensor;
/// let x = Tensor::arange(0.0, 6.0, 1.0).reshape([2, 3, 1]);
/// let (packed, segments) = pack(&x, &[1, 3]);
/// assert_eq!(packed.to_vec::<f32>(), [0.0, 3.0, 4.0, 5.0]);
/// assert_eq!(unpack(&packed, &segments, 3).to_vec::<f32>(), [0.0, 0.0, 0.0, 3.0, 4.0, 5.0]);
/// ```
///
/// # Panics
/// When there are not as many lengths as sequences, or one is longer than T.
#[track_caller]
pub fn pack(x: &Tensor, lengths: &[usize]) -> (Tensor, Segments) {
    assert!(
        x.rank() >= 2 && lengths.len() == x.shape()[0] && lengths.iter().all(|&length| length <= x.shape()[1]),
        "pack: lengths {lengths:?} do not fit shape {}",
        x.shape()
    );
    let steps = x.shape()[1];
    let rows = x.flatten_dims(0, 1);
    let segments = Segments::from_lengths(lengths);
    if segments.total() == rows.dim(0) {
        return (rows, segments);
    }
    let kept =
        lengths.iter().enumerate().flat_map(|(b, &length)| (b * steps..b * steps + length).map(|row| row as i64));
    let kept: Vec<i64> = kept.collect();
    let count = kept.len();
    (rows.index_select(0, &Tensor::from_vec(kept, [count])), segments)
}

/// The reverse of [`pack`]: `[N, ..]` to `[B, steps, ..]`, zero behind each sequence's end.
///
/// # Panics
/// When the segments are not those of `x`, or one is longer than `steps`.
#[track_caller]
pub fn unpack(x: &Tensor, segments: &Segments, steps: usize) -> Tensor {
    assert!(
        x.rank() >= 1 && segments.total() == x.shape()[0] && segments.longest() <= steps,
        "unpack: segments of {} tokens, {} at most, do not fit shape {} and {steps} steps",
        segments.total(),
        segments.longest(),
        x.shape()
    );
    let shape: Vec<usize> = [segments.count(), steps].into_iter().chain(x.shape()[1..].iter().copied()).collect();
    if segments.uniform_length() == Some(steps) {
        return x.reshape(shape);
    }
    // One row of zeros at the end, to which all padding points.
    let padded = x.pad(0, 0, 1, 0.0);
    let zero = x.shape()[0];
    let row =
        |range: std::ops::Range<usize>| (0..steps).map(move |t| if t < range.len() { range.start + t } else { zero });
    let rows: Vec<i64> = segments.iter().flat_map(row).map(|row| row as i64).collect();
    let count = rows.len();
    padded.index_select(0, &Tensor::from_vec(rows, [count])).reshape(shape)
}
