//! Means over as many windows as are asked for.

use cupola_cpu::pooling::adaptive::{self, Adaptive};

use crate::compute::{compute_dtype, prepare, with_plane, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y[.., i, j]` = the mean of `x[.., h, w]` over `floor(i H / OH) <= h < ceil((i + 1) H / OH)` and likewise across.
pub struct AdaptiveAvgPool2d {
    /// Height and width of the result.
    pub output: [usize; 2],
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[AdaptiveAvgPool2d::INFO];

impl AdaptiveAvgPool2d {
    #[track_caller]
    fn sizes(&self, x: &cupola_core::Shape) -> Adaptive {
        let rank = x.rank();
        assert!(
            rank >= 2 && x[rank - 2] > 0 && x[rank - 1] > 0,
            "adaptive_avg_pool2d: shape {x} has no height and width to take means over"
        );
        Adaptive { planes: x[..rank - 2].iter().product(), input: [x[rank - 2], x[rank - 1]], output: self.output }
    }
}

impl Op for AdaptiveAvgPool2d {
    const NAME: &'static str = "adaptive_avg_pool2d";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("adaptive_avg_pool2d has one input") };
        let sizes = self.sizes(x.shape());
        let dtype = compute_dtype(Self::NAME, x);
        let (wide, shape) = (prepare(x, dtype), with_plane(x.shape(), self.output));
        let y =
            with_real!(dtype, T => Tensor::build::<T>(shape, |y| adaptive::forward(&sizes, wide.slice_of::<T>(), y)));
        y.to_dtype(x.dtype()).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let (dy, shape) = (cx.dy(), cx.input_shape(0));
        let sizes = self.sizes(&shape);
        let dtype = compute_dtype(Self::NAME, &dy);
        let dy = prepare(&dy, dtype);
        let dx =
            with_real!(dtype, T => Tensor::build::<T>(shape, |dx| adaptive::backward(&sizes, dy.slice_of::<T>(), dx)));
        dx.to_dtype(cx.input(0).dtype).into()
    }
}

impl Tensor {
    /// Means over `output` windows of the last two dimensions; see [`AdaptiveAvgPool2d`]. Sums are kept in f32 (f64 for f64).
    ///
    /// # Shapes
    /// `[.., H, W]` -> `[.., OH, OW]`.
    ///
    /// # Panics
    /// When height or width is missing or 0, or the dtype is not floating-point.
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Tensor {
        AdaptiveAvgPool2d { output }.apply(&[self])
    }

    /// Means over `output` windows of the last dimension; see [`AdaptiveAvgPool2d`], of which it is the case of height 1.
    ///
    /// # Shapes
    /// `[.., L]` -> `[.., output]`.
    ///
    /// # Panics
    /// As [`Tensor::adaptive_avg_pool2d`].
    #[track_caller]
    pub fn adaptive_avg_pool1d(&self, output: usize) -> Tensor {
        assert!(self.rank() >= 1, "adaptive_avg_pool1d: a scalar has no dimension to take means over");
        self.unsqueeze(-2).adaptive_avg_pool2d([1, output]).squeeze(-2)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let sizes = [
        ([2, 3, 7, 65], [1, 1]),
        ([2, 3, 7, 5], [3, 2]),
        ([1, 2, 3, 4], [3, 4]),
        ([1, 2, 3, 2], [5, 3]),
        ([0, 2, 3, 3], [1, 1]),
    ];
    let case = |(shape, output): ([usize; 4], [usize; 2])| {
        let run = move |x: &[Tensor]| vec![x[0].adaptive_avg_pool2d(output)];
        Case::new(format!("{shape:?} to {output:?}"), [uniform(shape, 1)], run).reference(move |x| {
            let range = |i: usize, size: usize, count: usize| {
                let start = (i as f64 * size as f64 / count as f64).floor() as usize;
                start..((i + 1) as f64 * size as f64 / count as f64).ceil() as usize
            };
            vec![Array::from_fn(&[shape[0], shape[1], output[0], output[1]], |i| {
                let (rows, columns) = (range(i[2], shape[2], output[0]), range(i[3], shape[3], output[1]));
                let values =
                    rows.flat_map(|h| columns.clone().map(move |w| (h, w))).map(|(h, w)| x[0].at(&[i[0], i[1], h, w]));
                let values: Vec<f64> = values.collect();
                values.iter().sum::<f64>() / values.len() as f64
            })]
        })
    };
    sizes.into_iter().map(case).collect()
}
