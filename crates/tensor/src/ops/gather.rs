//! Elements picked along a dimension by an index tensor, and their counterpart that adds them back.

use cupola_core::{Element, Shape};

use crate::dispatch::with_element;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y[.., i, ..] = x[.., index[.., i, ..], ..]` along dimension `axis`.
pub struct Gather {
    /// The dimension.
    pub axis: usize,
}

/// `y = x`, then `y[.., index[.., i, ..], ..] += source[.., i, ..]` along dimension `axis`, in rising order of `i`.
pub struct ScatterAdd {
    /// The dimension.
    pub axis: usize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Gather::INFO, ScatterAdd::INFO];

/// The position in a row-major array of shape `shape` that each element of `index` points to along `axis`.
#[track_caller]
fn targets(op: &str, shape: &Shape, axis: usize, index: &Tensor) -> Vec<usize> {
    let others_fit =
        shape.rank() == index.rank() && (0..shape.rank()).all(|d| d == axis || index.shape()[d] <= shape[d]);
    assert!(
        others_fit && index.dtype().is_integer(),
        "{op}: an index of {} {} does not fit shape {shape} along dimension {axis}",
        index.dtype(),
        index.shape()
    );
    let indices = index.to_indices();
    if let Some(bad) = indices.iter().find(|&&i| i < 0 || i as usize >= shape[axis]) {
        panic!("{op}: index {bad} is outside dimension {axis} of shape {shape}");
    }
    let strides = shape.contiguous_strides();
    // The position with index 0 along the axis, walked over the index tensor's own extent.
    let mut frame = strides;
    frame[axis] = 0;
    let walk = cupola_core::Layout::strided(*index.shape(), &frame[..shape.rank()], 0);
    let step = strides[axis] as usize;
    walk.positions().zip(indices).map(|(base, i)| base + i as usize * step).collect()
}

impl Op for Gather {
    const NAME: &'static str = "gather";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, index] = inputs else { unreachable!("gather has two inputs") };
        let targets = targets(Self::NAME, x.shape(), self.axis, index);
        saved.keep([index]);
        let x = x.contiguous();
        with_element!(x.dtype(), T => Tensor::build::<T>(*index.shape(), |out| {
            let data = x.slice_of::<T>();
            out.iter_mut().zip(targets).for_each(|(y, target)| *y = data[target]);
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([index], dy, x) = (cx.saved(), cx.dy(), cx.input(0));
        [Some(Tensor::zeros_of(x.shape, x.dtype).scatter_add(self.axis as isize, index, &dy)), None].into()
    }
}

impl Op for ScatterAdd {
    const NAME: &'static str = "scatter_add";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, index, source] = inputs else { unreachable!("scatter_add has three inputs") };
        assert!(
            index.shape() == source.shape() && x.dtype() == source.dtype(),
            "scatter_add: index {} and source {} {} do not fit {} {}",
            index.shape(),
            source.dtype(),
            source.shape(),
            x.dtype(),
            x.shape()
        );
        let targets = targets(Self::NAME, x.shape(), self.axis, index);
        saved.keep([index]);
        let (x, source) = (x.contiguous(), source.contiguous());
        with_element!(x.dtype(), T => Tensor::build::<T>(*x.shape(), |out| {
            out.copy_from_slice(x.slice_of::<T>());
            for (&value, target) in source.slice_of::<T>().iter().zip(targets) {
                out[target] = if T::DTYPE.is_float() {
                    <T as Element>::from_f64(out[target].to_f64() + value.to_f64())
                } else {
                    T::from_i64(out[target].to_i64().wrapping_add(value.to_i64()))
                };
            }
        }))
        .into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([index], dy) = (cx.saved(), cx.dy());
        let dsource = cx.needs(2).then(|| dy.gather(self.axis as isize, index));
        [cx.needs(0).then_some(dy), None, dsource].into()
    }
}

impl Tensor {
    /// `y[.., i, ..] = self[.., index[.., i, ..], ..]` along dimension `axis`, as PyTorch's `gather`.
    ///
    /// # Shapes
    /// `index` has this tensor's rank, and no larger size in the other dimensions; the result has its shape.
    ///
    /// # Panics
    /// When the shapes do not fit or an index is out of range.
    #[track_caller]
    pub fn gather(&self, axis: isize, index: &Tensor) -> Tensor {
        Gather { axis: self.shape().axis(axis, "gather") }.apply(&[self, index])
    }

    /// This tensor with `source[.., i, ..]` added at `[.., index[.., i, ..], ..]` along dimension `axis`, as PyTorch's
    /// `scatter_add`. Additions to one element happen in row-major order of `source`.
    ///
    /// # Shapes
    /// `index` and `source` have one shape, of this tensor's rank, and no larger size in the other dimensions.
    ///
    /// # Panics
    /// When shapes or dtypes do not fit or an index is out of range.
    #[track_caller]
    pub fn scatter_add(&self, axis: isize, index: &Tensor, source: &Tensor) -> Tensor {
        ScatterAdd { axis: self.shape().axis(axis, "scatter_add") }.apply(&[self, index, source])
    }

    /// The slices of dimension `axis` that `index` (integers, rank 1) names, in its order.
    ///
    /// # Shapes
    /// `[.., D, ..]`, index `[N]` -> `[.., N, ..]`.
    ///
    /// # Panics
    /// When `index` is not of rank 1 or an index is out of range.
    #[track_caller]
    pub fn index_select(&self, axis: isize, index: &Tensor) -> Tensor {
        let axis = self.shape().axis(axis, "index_select");
        assert!(index.rank() == 1, "index_select: the index has shape {}, expected rank 1", index.shape());
        let mut frame = vec![1; self.rank()];
        frame[axis] = index.numel();
        let full = index.reshape(frame).expand(self.shape().with_dim(axis, index.numel()));
        self.gather(axis as isize, &full)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let index = || Tensor::from_vec(vec![2i64, 0, 2, 1, 1, 0], [3, 2]);
    vec![
        Case::new("gather rows", [uniform([3, 4], 1), index()], |x| vec![x[0].gather(0, &x[1])])
            .reference(|x| vec![Array::from_fn(&[3, 2], |i| x[0].at(&[x[1].at(i) as usize, i[1]]))]),
        Case::new("gather columns", [uniform([5, 4], 1), index()], |x| vec![x[0].gather(1, &x[1])])
            .reference(|x| vec![Array::from_fn(&[3, 2], |i| x[0].at(&[i[0], x[1].at(i) as usize]))]),
        Case::new("scatter_add", [uniform([3, 4], 1), index(), uniform([3, 2], 2)], |x| {
            vec![x[0].scatter_add(0, &x[1], &x[2])]
        })
        .reference(|x| {
            let mut sum = x[0].clone();
            for i in 0..3 {
                for j in 0..2 {
                    sum.data[x[1].at(&[i, j]) as usize * 4 + j] += x[2].at(&[i, j]);
                }
            }
            vec![sum]
        }),
        Case::new("index_select", [uniform([3, 33], 1), Tensor::from_vec(vec![2u32, 2, 0], [3])], |x| {
            vec![x[0].index_select(0, &x[1])]
        })
        .reference(|x| vec![Array::from_fn(&[3, 33], |i| x[0].at(&[x[1].data[i[0]] as usize, i[1]]))]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "gather: index 3 is outside dimension 0 of shape [3]")]
    fn an_index_out_of_range_is_named() {
        Tensor::zeros([3]).gather(0, &Tensor::from_vec(vec![3i64], [1]));
    }
}
