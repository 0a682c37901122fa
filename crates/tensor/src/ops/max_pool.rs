//! The largest element of each window.

use cupola_core::DType;
use cupola_cpu::pooling::max;

use crate::compute::{Window, compute_dtype, prepare, with_plane, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y[.., i, j] = max over window (i, j) of x[.., h, w]`; padding never wins. A NaN in the window makes the result NaN.
///
/// The gradient goes to the element that was the largest, the first of equals.
pub struct MaxPool2d {
    /// The windows.
    pub window: Window<2>,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[MaxPool2d::INFO];

impl Op for MaxPool2d {
    const NAME: &'static str = "max_pool2d";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("max_pool2d has one input") };
        let sizes = self.window.pooling(Self::NAME, x.shape());
        let dtype = compute_dtype(Self::NAME, x);
        let (wide, shape) = (prepare(x, dtype), with_plane(x.shape(), sizes.output));
        let mut y = None;
        let index = Tensor::build::<i32>(shape, |index| {
            y = Some(with_real!(dtype, T => {
                Tensor::build::<T>(shape, |y| max::forward(&sizes, wide.slice_of::<T>(), y, index))
            }));
        });
        saved.keep([&index]);
        y.expect("build calls its closure").to_dtype(x.dtype()).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([index], dy) = (cx.saved(), cx.dy());
        let shape = cx.input_shape(0);
        let sizes = self.window.pooling(Self::NAME, &shape);
        let dtype = compute_dtype(Self::NAME, &dy);
        let dy = prepare(&dy, dtype);
        debug_assert_eq!(index.dtype(), DType::I32);
        let dx = with_real!(dtype, T => {
            Tensor::build::<T>(shape, |dx| max::backward(&sizes, dy.slice_of::<T>(), index.slice_of::<i32>(), dx))
        });
        dx.to_dtype(cx.input(0).dtype).into()
    }
}

impl Tensor {
    /// The largest element of each window over the last two dimensions; see [`MaxPool2d`].
    ///
    /// ```
    /// use cupola_tensor::{Tensor, ops::Window};
    /// let x = Tensor::arange(0.0, 16.0, 1.0).reshape([1, 1, 4, 4]);
    /// assert_eq!(x.max_pool2d(Window::new([2, 2])).to_vec::<f32>(), [5.0, 7.0, 13.0, 15.0]);
    /// ```
    ///
    /// # Shapes
    /// `[.., H, W]` -> `[.., OH, OW]`, `OH = floor((H + 2 padding - kernel) / stride) + 1`, or rounded up with `ceil_mode`.
    ///
    /// # Panics
    /// When no window fits, padding is more than half a window, or the dtype is not floating-point.
    #[track_caller]
    pub fn max_pool2d(&self, window: Window<2>) -> Tensor {
        MaxPool2d { window }.apply(&[self])
    }

    /// The largest element of each window over the last dimension; see [`MaxPool2d`].
    ///
    /// # Shapes
    /// `[.., L]` -> `[.., OL]`.
    ///
    /// # Panics
    /// As [`Tensor::max_pool2d`].
    #[track_caller]
    pub fn max_pool1d(&self, window: Window<1>) -> Tensor {
        assert!(self.rank() >= 1, "max_pool1d: a scalar has no dimension to slide over");
        self.unsqueeze(-2).max_pool2d(window.into()).squeeze(-2)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let windows = [
        ("2x2", [1, 3, 6, 8], Window::new([2, 2])),
        ("3x3, stride 2, padding 1", [2, 2, 7, 9], Window { stride: [2, 2], padding: [1, 1], ..Window::new([3, 3]) }),
        ("overlapping", [1, 2, 5, 33], Window { stride: [1, 1], ..Window::new([2, 3]) }),
        ("ceil", [1, 2, 7, 8], Window { stride: [2, 3], ceil_mode: true, ..Window::new([3, 2]) }),
        (
            "ceil beyond the padding",
            [1, 1, 5, 5],
            Window { stride: [3, 3], padding: [1, 1], ceil_mode: true, ..Window::new([2, 2]) },
        ),
        ("dilated", [1, 2, 7, 9], Window { stride: [1, 2], padding: [1, 2], dilation: [2, 3], ..Window::new([2, 2]) }),
        ("wide", [1, 2, 4, 70], Window { stride: [2, 2], padding: [0, 1], ..Window::new([2, 2]) }),
        ("no planes", [0, 3, 4, 4], Window::new([2, 2])),
    ];
    let two = windows.into_iter().map(|(name, shape, window)| {
        Case::new(name, [uniform(shape, 1)], move |x| vec![x[0].max_pool2d(window)]).reference(move |x| {
            vec![reference(&x[0], window, |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max))]
        })
    });
    let line = Window { stride: [2], padding: [1], ..Window::new([3]) };
    let one = Case::new("one dimension", [uniform([2, 3, 65], 1)], move |x| vec![x[0].max_pool1d(line)]).reference(
        move |x| {
            let image = Array::new(&[2, 3, 1, 65], x[0].data.clone());
            let y = reference(&image, line.into(), |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            vec![Array::new(&[2, 3, y.shape[3]], y.data)]
        },
    );
    two.chain([one]).collect()
}

/// `f` of the input elements of each window of an `[N, C, H, W]` array; output sizes counted by trying windows one by one.
#[cfg(test)]
pub(super) fn reference(
    x: &crate::testing::Array,
    window: Window<2>,
    f: impl Fn(&[f64]) -> f64,
) -> crate::testing::Array {
    let count = |axis: usize| {
        let (size, padding) = (x.shape[2 + axis] as isize, window.padding[axis] as isize);
        let fits = |i: &isize| {
            let start = i * window.stride[axis] as isize - padding;
            let end = start + (window.dilation[axis] * (window.kernel[axis] - 1) + 1) as isize;
            end <= size + padding
                || (window.ceil_mode && start < size && end - (window.stride[axis] as isize) < size + padding)
        };
        (0..).take_while(fits).count()
    };
    let shape = [x.shape[0], x.shape[1], count(0), count(1)];
    crate::testing::Array::from_fn(&shape, |i| {
        let mut values = Vec::new();
        for kh in 0..window.kernel[0] {
            for kw in 0..window.kernel[1] {
                let h = (i[2] * window.stride[0] + kh * window.dilation[0]).checked_sub(window.padding[0]);
                let w = (i[3] * window.stride[1] + kw * window.dilation[1]).checked_sub(window.padding[1]);
                if let (Some(h), Some(w)) = (h, w)
                    && h < x.shape[2]
                    && w < x.shape[3]
                {
                    values.push(x.at(&[i[0], i[1], h, w]));
                }
            }
        }
        f(&values)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_wins_and_the_first_of_equals_gets_the_gradient() {
        let x = Tensor::from_vec(vec![1.0f32, f32::NAN, 2.0, 2.0, 2.0, 1.0], [1, 6]).requires_grad();
        let y = x.max_pool1d(Window::new([2]));
        assert!(y.to_vec::<f32>()[0].is_nan());
        assert_eq!(y.to_vec::<f32>()[1..], [2.0, 2.0]);
        assert_eq!(y.sum([]).backward()[&x].to_vec::<f32>(), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "max_pool2d: window [5, 2] with padding [0, 0] does not fit shape [1, 1, 4, 4]")]
    fn a_window_that_does_not_fit_is_named() {
        let _ = Tensor::zeros([1, 1, 4, 4]).max_pool2d(Window::new([5, 2]));
    }
}
