//! The mean of each window.

use cupola_cpu::pooling::average::{self, Divisor};

use crate::compute::{Window, compute_dtype, prepare, with_plane, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y[.., i, j] = sum over window (i, j) of x[.., h, w] / n`.
pub struct AvgPool2d {
    /// The windows.
    pub window: Window<2>,
    /// Whether n counts the padding that a window covers; otherwise it counts the elements of the input.
    pub count_include_pad: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[AvgPool2d::INFO];

impl AvgPool2d {
    fn divisor(&self) -> Divisor {
        if self.count_include_pad { Divisor::WithPadding } else { Divisor::InputOnly }
    }
}

impl Op for AvgPool2d {
    const NAME: &'static str = "avg_pool2d";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("avg_pool2d has one input") };
        let sizes = self.window.pooling(Self::NAME, x.shape());
        let dtype = compute_dtype(Self::NAME, x);
        let (wide, shape) = (prepare(x, dtype), with_plane(x.shape(), sizes.output));
        let y = with_real!(dtype, T => {
            Tensor::build::<T>(shape, |y| average::forward(&sizes, self.divisor(), wide.slice_of::<T>(), y))
        });
        y.to_dtype(x.dtype()).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let (dy, shape) = (cx.dy(), cx.input_shape(0));
        let sizes = self.window.pooling(Self::NAME, &shape);
        let dtype = compute_dtype(Self::NAME, &dy);
        let dy = prepare(&dy, dtype);
        let dx = with_real!(dtype, T => {
            Tensor::build::<T>(shape, |dx| average::backward(&sizes, self.divisor(), dy.slice_of::<T>(), dx))
        });
        dx.to_dtype(cx.input(0).dtype).into()
    }
}

impl Tensor {
    /// The mean of each window over the last two dimensions; see [`AvgPool2d`]. Sums are kept in f32 (f64 for f64).
    ///
    /// ```
    /// use cupola_tensor::{Tensor, ops::Window};
    /// let x = Tensor::arange(0.0, 16.0, 1.0).reshape([1, 1, 4, 4]);
    /// assert_eq!(x.avg_pool2d(Window::new([2, 2]), true).to_vec::<f32>(), [2.5, 4.5, 10.5, 12.5]);
    /// ```
    ///
    /// # Shapes
    /// `[.., H, W]` -> `[.., OH, OW]`, `OH = floor((H + 2 padding - kernel) / stride) + 1`, or rounded up with `ceil_mode`.
    ///
    /// # Panics
    /// When no window fits, padding is more than half a window, or the dtype is not floating-point.
    #[track_caller]
    pub fn avg_pool2d(&self, window: Window<2>, count_include_pad: bool) -> Tensor {
        AvgPool2d { window, count_include_pad }.apply(&[self])
    }

    /// The mean of each window over the last dimension; see [`AvgPool2d`].
    ///
    /// # Shapes
    /// `[.., L]` -> `[.., OL]`.
    ///
    /// # Panics
    /// As [`Tensor::avg_pool2d`].
    #[track_caller]
    pub fn avg_pool1d(&self, window: Window<1>, count_include_pad: bool) -> Tensor {
        assert!(self.rank() >= 1, "avg_pool1d: a scalar has no dimension to slide over");
        self.unsqueeze(-2).avg_pool2d(window.into(), count_include_pad).squeeze(-2)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use super::max_pool::reference;
    use crate::testing::{Array, Case, uniform};
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let padded = Window { stride: [2, 1], padding: [1, 2], ..Window::new([3, 4]) };
    let ceil = Window { stride: [2, 3], padding: [1, 1], ceil_mode: true, ..Window::new([3, 3]) };
    let dilated = Window { stride: [1, 2], padding: [1, 0], dilation: [2, 3], ..Window::new([2, 3]) };
    let mut cases = Vec::new();
    for (name, window) in [("2x2", Window::new([2, 2])), ("padded", padded), ("ceil", ceil), ("dilated", dilated)] {
        let run = move |x: &[Tensor]| vec![x[0].avg_pool2d(window, false)];
        let case = Case::new(format!("{name}, input only"), [uniform([2, 3, 8, 9], 1)], run);
        cases.push(case.reference(move |x| vec![reference(&x[0], window, mean)]));
        // The mean over padding and input is the mean over an image with a border of zeros; what reaches past the border in
        // ceil mode is not counted.
        let run = move |x: &[Tensor]| vec![x[0].avg_pool2d(window, true)];
        let case = Case::new(format!("{name}, with padding"), [uniform([2, 3, 8, 33], 1)], run);
        cases.push(case.reference(move |x| {
            let [top, left] = window.padding;
            let (h, w) = (x[0].shape[2], x[0].shape[3]);
            let bordered = Array::from_fn(&[2, 3, h + 2 * top, w + 2 * left], |i| {
                let inside = (top..top + h).contains(&i[2]) && (left..left + w).contains(&i[3]);
                if inside { x[0].at(&[i[0], i[1], i[2] - top, i[3] - left]) } else { 0.0 }
            });
            let all = reference(&bordered, Window { padding: [0, 0], ..window }, mean);
            let shape = reference(&x[0], window, mean).shape;
            vec![Array::from_fn(&shape, |i| all.at(i))]
        }));
    }
    let line = Window { stride: [2], padding: [1], ..Window::new([3]) };
    cases.push(
        Case::new("one dimension", [uniform([2, 65], 1)], move |x| vec![x[0].avg_pool1d(line, false)]).reference(
            move |x| {
                let y = reference(&Array::new(&[1, 2, 1, 65], x[0].data.clone()), line.into(), mean);
                vec![Array::new(&[2, y.shape[3]], y.data)]
            },
        ),
    );
    cases
}
