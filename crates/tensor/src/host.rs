//! To and from Rust values.

use cupola_core::{Buffer, DType, Element, Shape};

use crate::dispatch::with_element;
use crate::tensor::Tensor;

impl Tensor {
    /// The tensor with these elements in row-major order.
    ///
    /// ```
    /// let m = cupola_tensor::Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(m.to_vec::<f32>(), [1.0, 2.0, 3.0, 4.0]);
    /// ```
    ///
    /// # Panics
    /// When the number of elements is not that of the shape.
    #[track_caller]
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl Into<Shape>) -> Self {
        Self::from_slice(&data, shape)
    }

    /// The tensor with a copy of these elements in row-major order.
    ///
    /// # Panics
    /// When the number of elements is not that of the shape.
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(data.len(), shape.numel(), "from_slice: {} elements do not fill shape {shape}", data.len());
        Self::from_buffer(Buffer::from_slice(data), shape)
    }

    /// A copy of the elements in row-major order.
    ///
    /// # Panics
    /// When `T` is not the dtype; [`Tensor::to_dtype`] converts.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        match self.as_slice::<T>() {
            Some(slice) => slice.to_vec(),
            None => {
                let all = self.buffer().as_slice::<T>();
                self.layout().positions().map(|position| all[position]).collect()
            }
        }
    }

    /// The only element, as f64.
    ///
    /// # Panics
    /// When there is more or less than one element.
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert_eq!(self.numel(), 1, "item: the tensor has shape {}, expected one element", self.shape());
        with_element!(self.dtype(), T => self.buffer().as_slice::<T>()[self.layout().offset].to_f64())
    }

    /// All elements as f64, in row-major order.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        with_element!(self.dtype(), T => self.to_vec::<T>().into_iter().map(Element::to_f64).collect())
    }

    /// The elements of an integer tensor as i64, in row-major order.
    ///
    /// # Panics
    /// When the dtype is floating-point.
    #[track_caller]
    pub fn to_indices(&self) -> Vec<i64> {
        assert!(!self.dtype().is_float(), "indices are {}, expected integers", self.dtype());
        with_element!(self.dtype(), T => self.to_vec::<T>().into_iter().map(Element::to_i64).collect())
    }

    /// Whether shapes, dtypes and all elements are the same; a NaN equals nothing.
    pub fn equals(&self, other: &Tensor) -> bool {
        self.shape() == other.shape()
            && self.dtype() == other.dtype()
            && with_element!(self.dtype(), T => self.to_vec::<T>() == other.to_vec::<T>())
    }

    /// Whether shapes and dtypes are the same and all elements have the same bits.
    pub fn same_bits(&self, other: &Tensor) -> bool {
        let bits = |t: &Tensor| with_element!(t.dtype(), T => Buffer::from_slice(&t.to_vec::<T>()).bytes().to_vec());
        self.shape() == other.shape() && self.dtype() == other.dtype() && bits(self) == bits(other)
    }

    /// The largest absolute difference to `other`, relative to the largest absolute value in `other` (or to 1, if that is
    /// larger); infinite where either has a NaN that the other has not.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn relative_error(&self, other: &Tensor) -> f64 {
        assert_eq!(self.shape(), other.shape(), "relative_error: the shapes differ");
        let (a, b) = (self.to_f64_vec(), other.to_f64_vec());
        let scale = b.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
        let difference = |(&x, &y): (&f64, &f64)| match x == y || (x.is_nan() && y.is_nan()) {
            true => 0.0,
            false if (x - y).is_nan() => f64::INFINITY,
            false => (x - y).abs(),
        };
        a.iter().zip(&b).map(difference).fold(0.0, f64::max) / scale
    }

    /// The dtype that gradients and references use for checks: this tensor in f64.
    pub fn to_f64(&self) -> Tensor {
        self.to_dtype(DType::F64)
    }
}
