//! Tensors side by side along a dimension.

use cupola_core::Layout;

use crate::dispatch::with_element;
use crate::naive;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// The inputs one after the other along dimension `axis`, equal in all other dimensions.
pub struct Cat {
    /// The dimension.
    pub axis: usize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Cat::INFO];

impl Op for Cat {
    const NAME: &'static str = "cat";

    fn forward(&self, inputs: &[&Tensor], _saved: &mut Saved) -> Outputs {
        let axis = self.axis;
        let first = inputs[0];
        let fits =
            |x: &&Tensor| x.rank() == first.rank() && x.shape().with_dim(axis, 0) == first.shape().with_dim(axis, 0);
        let same_dtype = |x: &&Tensor| x.dtype() == first.dtype();
        assert!(
            inputs.iter().all(fits) && inputs.iter().all(same_dtype),
            "cat: shapes {:?} of {:?} do not line up along dimension {axis}",
            inputs.iter().map(|x| x.shape()).collect::<Vec<_>>(),
            inputs.iter().map(|x| x.dtype()).collect::<Vec<_>>()
        );
        let shape = first.shape().with_dim(axis, inputs.iter().map(|x| x.shape()[axis]).sum());
        let whole = Layout::contiguous(shape);
        with_element!(first.dtype(), T => Tensor::build::<T>(shape, |out| {
            let mut start = 0;
            for x in inputs {
                let offset = start * whole.strides()[axis] as usize;
                naive::copy_into::<T>(x, out, &Layout::strided(*x.shape(), whole.strides(), offset));
                start += x.shape()[axis];
            }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.dy();
        let mut start = 0;
        let mut grads = Vec::with_capacity(cx.inputs());
        for index in 0..cx.inputs() {
            let size = cx.input_shape(index)[self.axis];
            grads.push(cx.needs(index).then(|| dy.narrow(self.axis as isize, start, size)));
            start += size;
        }
        grads.into()
    }
}

impl Tensor {
    /// Tensors one after the other along dimension `axis`; -1 is the last.
    ///
    /// # Panics
    /// Without tensors, or when dtypes or other dimensions differ.
    #[track_caller]
    pub fn cat(tensors: &[&Tensor], axis: isize) -> Tensor {
        assert!(!tensors.is_empty(), "cat: there is nothing to put together");
        Cat { axis: tensors[0].shape().axis(axis, "cat") }.apply(tensors)
    }

    /// Tensors of equal shape one after the other along a new dimension before `axis`; -1 appends it.
    ///
    /// # Panics
    /// Without tensors, or when shapes or dtypes differ.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Tensor {
        let slices: Vec<Tensor> = tensors.iter().map(|x| x.unsqueeze(axis)).collect();
        Tensor::cat(&slices.iter().collect::<Vec<_>>(), axis)
    }

    /// `before` and `after` elements of `value` added at the ends of dimension `axis`.
    ///
    /// # Panics
    /// When there is no such dimension.
    #[track_caller]
    pub fn pad(&self, axis: isize, before: usize, after: usize, value: f64) -> Tensor {
        let index = self.shape().axis(axis, "pad");
        let border = |size: usize| Tensor::full_of(self.shape().with_dim(index, size), value, self.dtype());
        Tensor::cat(&[&border(before), self, &border(after)], axis)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    vec![
        Case::new("columns", [uniform([3, 2], 1), uniform([3, 5], 2)], |x| vec![Tensor::cat(&[&x[0], &x[1]], 1)])
            .reference(|x| {
                vec![Array::from_fn(&[3, 7], |i| if i[1] < 2 { x[0].at(i) } else { x[1].at(&[i[0], i[1] - 2]) })]
            }),
        Case::new("stack", [uniform([33], 1), uniform([33], 2)], |x| vec![Tensor::stack(&[&x[0], &x[1]], 0)])
            .reference(|x| vec![Array::from_fn(&[2, 33], |i| x[i[0]].at(&i[1..]))]),
        Case::new("pad", [uniform([2, 3], 1)], |x| vec![x[0].pad(-1, 1, 2, 0.5)]).reference(|x| {
            vec![Array::from_fn(&[2, 6], |i| if (1..4).contains(&i[1]) { x[0].at(&[i[0], i[1] - 1]) } else { 0.5 })]
        }),
    ]
}
