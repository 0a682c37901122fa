//! Plain loops for operations whose kernels are nothing special.

use cupola_core::{Element, Layout, Shape};

use crate::tensor::Tensor;

/// `f` of every element, in row-major order.
pub(crate) fn map<T: Element, U: Element>(x: &Tensor, f: impl Fn(T) -> U) -> Tensor {
    let data = x.buffer().as_slice::<T>();
    Tensor::build::<U>(*x.shape(), |out| {
        out.iter_mut()
            .zip(x.layout().positions())
            .for_each(|(y, position)| *y = f(data[position]));
    })
}

/// `f` of every pair of elements, both broadcast to `shape`.
pub(crate) fn zip<T: Element, U: Element>(a: &Tensor, b: &Tensor, shape: Shape, f: impl Fn(T, T) -> U) -> Tensor {
    let (left, right) = (a.buffer().as_slice::<T>(), b.buffer().as_slice::<T>());
    let layout = |x: &Tensor| {
        x.layout()
            .broadcast_to(shape)
            .expect("the caller has computed the broadcast shape")
    };
    let positions = layout(a).positions().zip(layout(b).positions());
    Tensor::build::<U>(shape, |out| {
        out.iter_mut()
            .zip(positions)
            .for_each(|(y, (i, j))| *y = f(left[i], right[j]));
    })
}

/// Copies the elements of `x` to the positions of `layout` in `out`.
pub(crate) fn copy_into<T: Element>(x: &Tensor, out: &mut [T], layout: &Layout) {
    let data = x.buffer().as_slice::<T>();
    x.layout()
        .positions()
        .zip(layout.positions())
        .for_each(|(from, to)| out[to] = data[from]);
}

/// Sums `x` down to `shape`, which broadcasts to it; sums are kept in f64.
pub(crate) fn sum_to<T: Element>(x: &Tensor, shape: Shape) -> Tensor {
    let data = x.buffer().as_slice::<T>();
    let target = Layout::contiguous(shape)
        .broadcast_to(*x.shape())
        .expect("the caller gives a shape that broadcasts");
    let mut sums = vec![0.0f64; shape.numel()];
    x.layout()
        .positions()
        .zip(target.positions())
        .for_each(|(from, to)| sums[to] += data[from].to_f64());
    Tensor::from_vec(sums.into_iter().map(T::from_f64).collect::<Vec<T>>(), shape)
}
