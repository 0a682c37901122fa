//! To and from `ndarray` arrays, with the feature `ndarray`.

use std::sync::Arc;

use bytemuck::NoUninit;
use cupola_core::{Buffer, Element, Layout};
use ndarray::{Array, ArrayBase, ArrayD, ArrayViewD, Data, Dimension, IxDyn, ShapeBuilder};

use crate::tensor::Tensor;

impl Tensor {
    /// The tensor with a copy of an array's elements, whatever its layout.
    ///
    /// # Panics
    /// When the array has more than eight dimensions.
    #[track_caller]
    pub fn from_ndarray<T: Element, S: Data<Elem = T>, D: Dimension>(array: &ArrayBase<S, D>) -> Tensor {
        match array.as_slice() {
            Some(slice) => Tensor::from_slice(slice, array.shape()),
            None => Tensor::from_vec(array.iter().copied().collect(), array.shape()),
        }
    }

    /// The tensor over the memory of an array in row-major order, without a copy; an array of another layout is copied.
    ///
    /// ```
    /// # use cupola_tensor::Tensor;
    /// let array = ndarray::arr2(&[[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(Tensor::over_ndarray(array).to_vec::<f32>(), [1.0, 2.0, 3.0, 4.0]);
    /// ```
    ///
    /// # Panics
    /// When the array has more than eight dimensions.
    #[track_caller]
    pub fn over_ndarray<T: Element + NoUninit, D: Dimension + 'static>(array: Array<T, D>) -> Tensor {
        if !array.is_standard_layout() {
            return Self::from_ndarray(&array);
        }
        let layout = Layout::contiguous(array.shape().into());
        let buffer = Buffer::foreign(T::DTYPE, Arc::new(array), |array| {
            bytemuck::cast_slice(array.as_slice().unwrap_or_default())
        });
        Tensor::from_parts(Arc::new(buffer.expect("the elements are those of the dtype")), layout)
    }

    /// The elements as an array of their own.
    ///
    /// # Panics
    /// When `T` is not the dtype.
    #[track_caller]
    pub fn to_ndarray<T: Element>(&self) -> ArrayD<T> {
        let shape = IxDyn(self.shape().dims());
        ArrayD::from_shape_vec(shape, self.to_vec()).expect("a tensor has as many elements as its shape says")
    }

    /// The elements where they lie; `None` where a dimension runs backwards, which needs [`Tensor::contiguous`] first.
    ///
    /// # Panics
    /// When `T` is not the dtype.
    #[track_caller]
    pub fn as_ndarray<T: Element>(&self) -> Option<ArrayViewD<'_, T>> {
        let layout = self.layout();
        let strides: Option<Vec<usize>> = layout.strides().iter().map(|&stride| stride.try_into().ok()).collect();
        let shape = IxDyn(self.shape().dims()).strides(IxDyn(&strides?));
        ArrayViewD::from_shape(shape, &self.buffer().as_slice::<T>()[layout.offset..]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_any_layout_become_tensors() {
        let array = Array::from_shape_fn((3, 4), |(i, j)| (10 * i + j) as i32);
        let transposed = Tensor::from_ndarray(&array.t());
        assert_eq!(transposed.shape().dims(), [4, 3]);
        assert_eq!(transposed.to_vec::<i32>()[..4], [0, 10, 20, 1]);
        assert!(Tensor::over_ndarray(array.clone().reversed_axes()).equals(&transposed));
        assert!(Tensor::from_ndarray(&array.view()).equals(&Tensor::over_ndarray(array)));
        assert_eq!(Tensor::over_ndarray(ndarray::arr0(2.5f64)).item(), 2.5);
        assert_eq!(Tensor::over_ndarray(Array::<f32, _>::zeros((0, 3))).shape().dims(), [0, 3]);
    }

    #[test]
    fn an_array_s_memory_is_shared_and_never_written() {
        let array = ndarray::arr1(&[1.0f32, 2.0]);
        let address = array.as_ptr();
        let mut x = Tensor::over_ndarray(array);
        assert_eq!(x.slice_of::<f32>().as_ptr(), address);
        assert!(x.as_mut_slice::<f32>().is_none());
        assert_eq!((&x + &x).to_vec::<f32>(), [2.0, 4.0]);
    }

    #[test]
    fn tensors_are_seen_as_arrays_where_they_lie() {
        let x = Tensor::from_vec((0..24).collect(), [2, 3, 4]);
        let view = x.permute(&[2, 0, 1]).narrow(0, 1, 2);
        let seen = view.as_ndarray::<i32>().expect("strides are positive");
        assert_eq!(seen.shape(), [2, 2, 3]);
        assert_eq!(seen[[1, 1, 2]], 22);
        assert_eq!(seen, view.to_ndarray::<i32>());
        let repeated = Tensor::from_vec(vec![5i32], [1, 1]).expand([2, 2]);
        assert_eq!(repeated.as_ndarray::<i32>().map(|a| a.sum()), Some(20));
        assert!(x.flip(0).as_ndarray::<i32>().is_none());
        assert_eq!(x.flip(0).to_ndarray::<i32>()[[0, 0, 0]], 12);
    }
}
