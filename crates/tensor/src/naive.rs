//! Plain loops for operations whose kernels are nothing special.

use cupola_core::{Element, Layout};
use cupola_cpu::copy::{self, Copied};

use crate::tensor::Tensor;

/// `f` of every element, in row-major order.
pub(crate) fn map<T: Element, U: Element>(x: &Tensor, f: impl Fn(T) -> U) -> Tensor {
    let data = x.buffer().as_slice::<T>();
    Tensor::build::<U>(*x.shape(), |out| {
        out.iter_mut().zip(x.layout().positions()).for_each(|(y, position)| *y = f(data[position]));
    })
}

/// Copies the elements of `x` to the positions of `layout` in `out`, which are all distinct.
pub(crate) fn copy_into<T: Copied<T>>(x: &Tensor, out: &mut [T], layout: &Layout) {
    copy::strided(*x.shape(), (x.buffer().as_slice::<T>(), x.layout()), (out, layout));
}
