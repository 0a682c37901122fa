//! Every so many elements of a range of a dimension, forwards or backwards.

use cupola_core::{Layout, Shape};

use crate::dispatch::with_element;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// Elements `start`, `start + step`, ... of dimension `axis`, `count` of them. A view; `step` may be negative.
pub struct Slice {
    /// The dimension.
    pub axis: usize,
    /// The first element taken.
    pub start: usize,
    /// How many are taken.
    pub count: usize,
    /// From one taken element to the next.
    pub step: isize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Slice::INFO];

impl Slice {
    fn layout(&self, x: &Layout) -> Layout {
        let mut strides = x.strides().to_vec();
        let offset = x.offset as isize + if self.count > 0 { self.start as isize * strides[self.axis] } else { 0 };
        strides[self.axis] *= self.step;
        Layout::strided(x.shape.with_dim(self.axis, self.count), &strides, offset as usize)
    }
}

impl Op for Slice {
    const NAME: &'static str = "slice";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let [x] = inputs else { unreachable!("slice has one input") };
        let size = x.shape()[self.axis] as isize;
        let last = self.start as isize + (self.count as isize - 1) * self.step;
        assert!(
            self.count == 0 || ((0..size).contains(&(self.start as isize)) && (0..size).contains(&last)),
            "slice: elements {} to {last} of dimension {} are outside shape {}",
            self.start,
            self.axis,
            x.shape()
        );
        x.view(self.layout(x.layout())).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.dy();
        let shape: Shape = cx.input_shape(0);
        let inner = self.layout(&Layout::contiguous(shape));
        with_element!(dy.dtype(), T => Tensor::build::<T>(shape, |out| {
            out.fill(T::default());
            naive::copy_into(&dy, out, &inner);
        }))
        .into()
    }
}

impl Tensor {
    /// Elements `start..start + count` of dimension `axis`. A view.
    ///
    /// # Panics
    /// When the range reaches outside the dimension.
    #[track_caller]
    pub fn narrow(&self, axis: isize, start: usize, count: usize) -> Tensor {
        let axis = self.shape().axis(axis, "narrow");
        Slice { axis, start, count, step: 1 }.apply(&[self])
    }

    /// Every `step`-th element of `start..end` of dimension `axis`. A view.
    ///
    /// # Panics
    /// When the range reaches outside the dimension or `step` is 0.
    #[track_caller]
    pub fn slice(&self, axis: isize, start: usize, end: usize, step: usize) -> Tensor {
        let axis = self.shape().axis(axis, "slice");
        assert!(step > 0 && start <= end, "slice: {start}..{end} by {step} is no range");
        assert!(
            end <= self.shape()[axis],
            "slice: {start}..{end} of dimension {axis} is outside shape {}",
            self.shape()
        );
        Slice { axis, start, count: (end - start).div_ceil(step), step: step as isize }.apply(&[self])
    }

    /// Element `index` of dimension `axis`, which disappears. A view.
    ///
    /// # Panics
    /// When there is no such element.
    #[track_caller]
    pub fn select(&self, axis: isize, index: usize) -> Tensor {
        let position = self.shape().axis(axis, "select");
        Slice { axis: position, start: index, count: 1, step: 1 }.apply(&[self]).squeeze(position as isize)
    }

    /// Dimension `axis` in reverse. A view.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn flip(&self, axis: isize) -> Tensor {
        let axis = self.shape().axis(axis, "flip");
        let count = self.shape()[axis];
        Slice { axis, start: count.saturating_sub(1), count, step: -1 }.apply(&[self])
    }

    /// Dimension `axis` shifted by `shift` places towards higher indices; what falls off the end comes back at the start.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn roll(&self, shift: isize, axis: isize) -> Tensor {
        let size = self.dim(axis);
        let shift = shift.checked_rem_euclid(size as isize).unwrap_or(0) as usize;
        if shift == 0 {
            return self.clone();
        }
        Tensor::cat(&[&self.narrow(axis, size - shift, shift), &self.narrow(axis, 0, size - shift)], axis)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("narrow", [uniform([5, 7], 1)], |x| vec![x[0].narrow(0, 1, 3)])
            .reference(|x| vec![Array::from_fn(&[3, 7], |i| x[0].at(&[i[0] + 1, i[1]]))]),
        Case::new("with a step", [uniform([5, 7], 1)], |x| vec![x[0].slice(-1, 1, 7, 3)])
            .reference(|x| vec![Array::from_fn(&[5, 2], |i| x[0].at(&[i[0], 1 + 3 * i[1]]))]),
        Case::new("select", [uniform([5, 7], 1)], |x| vec![x[0].select(0, 4)])
            .reference(|x| vec![Array::from_fn(&[7], |i| x[0].at(&[4, i[0]]))]),
        Case::new("flip", [uniform([5, 33], 1)], |x| vec![x[0].flip(1)])
            .reference(|x| vec![Array::from_fn(&[5, 33], |i| x[0].at(&[i[0], 32 - i[1]]))]),
        Case::new("flip of nothing", [uniform([0, 3], 1)], |x| vec![x[0].flip(0)])
            .reference(|_| vec![Array::new(&[0, 3], vec![])]),
        Case::new("roll", [uniform([5, 7], 1)], |x| vec![x[0].roll(-2, 1)])
            .reference(|x| vec![Array::from_fn(&[5, 7], |i| x[0].at(&[i[0], (i[1] + 2) % 7]))]),
    ]
}
