//! Matrix products, alone, in batches, and of vectors.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, Layout, Shape};
use cupola_cpu::integer::{self, Integers};

use crate::dispatch::with_integer;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::{Matrix, multiply_batch, operand, product_dtype};
use crate::tensor::Tensor;

/// `y[.., i, j] = sum over k of a[.., i, k] * b[.., k, j]`, leading dimensions broadcast.
pub struct MatMul {
    /// What the products are computed in; sums are kept in f32, or in f64 for f64.
    pub compute: DType,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[MatMul::INFO];

impl Op for MatMul {
    const NAME: &'static str = "matmul";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [a, b] = inputs else { unreachable!("matmul has two inputs") };
        let fits = a.rank() >= 2 && b.rank() >= 2 && a.dim(-1) == b.dim(-2);
        let leading = |x: &Tensor| Shape::new(&x.shape()[..x.rank() - 2]);
        let batch = if fits { leading(a).broadcast(&leading(b)) } else { None };
        let Some(batch) = batch else { panic!("matmul: shapes {} and {} do not fit", a.shape(), b.shape()) };
        if self.compute.is_integer() {
            return integer_product(self.compute, a, b, batch).into();
        }
        let (a, b) = (operand(a, self.compute), operand(b, self.compute));
        saved.keep([&a, &b]);
        product(self.compute, self.compute, &a, &b, batch).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let ([a, b], dy) = (cx.saved(), cx.dy());
        // A gradient goes back in its operand's dtype, which in an autocast product may be wider than the product's.
        let grad = |needed: bool, left: &Tensor, right: &Tensor, input: usize| {
            let meta = cx.input(input);
            let wide = if self.compute == DType::BF16 && meta.dtype == DType::F32 { DType::F32 } else { self.compute };
            let batch = Shape::new(&dy.shape()[..dy.rank() - 2]);
            needed.then(|| product(self.compute, wide, left, right, batch).reduce_like(meta))
        };
        let da = grad(cx.needs(0), &dy, &b.transpose(-1, -2), 0);
        let db = grad(cx.needs(1), &a.transpose(-1, -2), &dy, 1);
        [da, db].into()
    }
}

/// The same for integers, by plain loops.
fn integer_product(compute: DType, a: &Tensor, b: &Tensor, batch: Shape) -> Tensor {
    let (rows, cols) = (a.dim(-2), b.dim(-1));
    let dims: Vec<usize> = batch.iter().copied().chain([rows, cols]).collect();
    let (a, b) = (a.to_dtype(compute), b.to_dtype(compute));
    let pairs: Vec<_> = starts(&a, batch).into_iter().zip(starts(&b, batch)).collect();
    let view = |x: &Tensor| {
        let (shape, strides, rank) = (x.shape(), x.layout().strides(), x.rank());
        ([shape[rank - 2], shape[rank - 1]], [strides[rank - 2], strides[rank - 1]])
    };
    let ((a_shape, a_strides), (b_shape, b_strides)) = (view(&a), view(&b));
    with_integer!("matmul", compute, T => Tensor::build::<T>(Shape::new(&dims), |out| {
        let (left, right) = (a.buffer().as_slice::<T>(), b.buffer().as_slice::<T>());
        for (out, &(from, to)) in out.chunks_mut((rows * cols).max(1)).zip(&pairs) {
            let left = Integers { data: left, offset: from, shape: a_shape, strides: a_strides };
            integer::matmul(left, Integers { data: right, offset: to, shape: b_shape, strides: b_strides }, out);
        }
    }))
}

/// Where the matrices of `x` begin, one for each place of the batch that its leading dimensions broadcast to.
fn starts(x: &Tensor, batch: Shape) -> Vec<usize> {
    let rank = x.rank();
    let strides = &x.layout().strides()[..rank - 2];
    let leading = Layout::strided(Shape::new(&x.shape()[..rank - 2]), strides, x.layout().offset);
    leading.broadcast_to(batch).expect("the batch shape was computed by broadcasting").positions().collect()
}

/// The batched product of two tensors of rank 2 or more whose leading dimensions broadcast to `batch`.
fn product(compute: DType, result: DType, a: &Tensor, b: &Tensor, batch: Shape) -> Tensor {
    let (rows, cols) = (a.dim(-2), b.dim(-1));
    let dims: Vec<usize> = batch.iter().copied().chain([rows, cols]).collect();
    let shape = Shape::new(&dims);
    let mut out = Buffer::uninit(result, shape.numel(), Placement::Passing);
    if shape.numel() == 0 {
        return Tensor::from_buffer(out, shape);
    }
    // A right operand without a batch of its own multiplies all rows of the left one at once.
    if b.rank() == 2
        && let Some(layout) = a.layout().reshape(Shape::new(&[batch.numel() * rows, a.dim(-1)]))
    {
        let a = a.view(layout);
        let offsets = [(a.layout().offset, b.layout().offset)];
        multiply_batch(compute, Matrix::whole(&a), Matrix::whole(b), &offsets, &mut out);
        return Tensor::from_buffer(out, shape);
    }
    let pairs: Vec<_> = starts(a, batch).into_iter().zip(starts(b, batch)).collect();
    multiply_batch(compute, Matrix::last_two(a), Matrix::last_two(b), &pairs, &mut out);
    Tensor::from_buffer(out, shape)
}

impl Tensor {
    /// The matrix product, as PyTorch's `matmul`: leading dimensions broadcast; a vector on the left is a row, one on the right
    /// a column, and the dimension added for it is dropped again. Sums are kept in f32, of f64 in f64; under autocast
    /// the factors are rounded to its dtype first, and the result has it. Products of integers are integers, modulo the range of
    /// their type.
    ///
    /// # Shapes
    /// `[.., M, K]` by `[.., K, N]` -> `[.., M, N]`.
    ///
    /// # Panics
    /// When the shapes do not fit or both operands are bool.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let compute = product_dtype(self.dtype(), other.dtype());
        assert!(compute != DType::Bool, "matmul: operands are bool, expected numbers");
        assert!(
            self.rank() > 0 && other.rank() > 0,
            "matmul: shapes {} and {} do not fit",
            self.shape(),
            other.shape()
        );
        match (self.rank(), other.rank()) {
            (1, 1) => self.dot(other),
            (1, _) => self.unsqueeze(0).matmul(other).squeeze(-2),
            (_, 1) => self.matmul(&other.unsqueeze(1)).squeeze(-1),
            _ => MatMul { compute }.apply(&[self, other]),
        }
    }

    /// The sum of the products of two vectors' elements, a scalar.
    ///
    /// # Panics
    /// When the operands are not vectors of equal length.
    #[track_caller]
    pub fn dot(&self, other: &Tensor) -> Tensor {
        let fits = self.rank() == 1 && self.shape() == other.shape();
        assert!(fits, "dot: shapes {} and {} are not two equal vectors", self.shape(), other.shape());
        self.unsqueeze(0).matmul(&other.unsqueeze(1)).reshape([])
    }

    /// All products of two vectors' elements: `[M]` and `[N]` -> `[M, N]`.
    ///
    /// # Panics
    /// When the operands are not vectors.
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        let fits = self.rank() == 1 && other.rank() == 1;
        assert!(fits, "outer: shapes {} and {} are not two vectors", self.shape(), other.shape());
        self.unsqueeze(1) * other.unsqueeze(0)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[3, 5], &[5, 4]),
        (&[1, 1], &[1, 1]),
        (&[33, 65], &[65, 31]),
        (&[2, 3, 4], &[4, 5]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[2, 1, 3, 4], &[3, 4, 2]),
        (&[4, 3], &[2, 3, 2]),
        (&[0, 3], &[3, 2]),
        (&[2, 0], &[0, 3]),
    ];
    let mut cases: Vec<Case> = shapes
        .into_iter()
        .map(|(a, b)| {
            let depth = a[a.len() - 1];
            let leading = |s: &[usize]| Shape::new(&s[..s.len() - 2]);
            let batch = leading(a).broadcast(&leading(b)).expect("the shapes above fit");
            let shape: Vec<usize> = batch.iter().copied().chain([a[a.len() - 2], b[b.len() - 1]]).collect();
            let cell = move |x: &[Array], index: &[usize]| -> f64 {
                let (head, ij) = index.split_at(index.len() - 2);
                let element = |k: usize| {
                    let left: Vec<usize> = head.iter().copied().chain([ij[0], k]).collect();
                    let right: Vec<usize> = head.iter().copied().chain([k, ij[1]]).collect();
                    x[0].at(&left) * x[1].at(&right)
                };
                (0..depth).map(element).sum()
            };
            Case::new(format!("{a:?} {b:?}"), [uniform(a, 1), uniform(b, 2)], |x| vec![x[0].matmul(&x[1])])
                .reference(move |x| vec![Array::from_fn(&shape, |index| cell(x, index))])
        })
        .collect();
    cases.push(
        Case::new("row by matrix by column", [uniform([5], 1), uniform([5, 3], 2), uniform([3], 3)], |x| {
            vec![x[0].matmul(&x[1]).dot(&x[2]), x[0].dot(&x[1].matmul(&x[2]))]
        })
        .reference(|x| {
            let row = |j: usize| (0..5).map(|k| x[0].data[k] * x[1].at(&[k, j])).sum::<f64>();
            let both: f64 = (0..3).map(|j| row(j) * x[2].data[j]).sum();
            vec![Array::new(&[], vec![both]), Array::new(&[], vec![both])]
        }),
    );
    cases.push(
        Case::new("outer", [uniform([5], 1), uniform([3], 3)], |x| vec![x[0].outer(&x[1])])
            .reference(|x| vec![Array::from_fn(&[5, 3], |i| x[0].data[i[0]] * x[1].data[i[1]])]),
    );
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::autocast;
    use crate::testing::uniform;

    #[test]
    #[should_panic(expected = "matmul: shapes [2, 3] and [4, 2] do not fit")]
    fn shapes_that_do_not_fit_are_named() {
        Tensor::zeros([2, 3]).matmul(&Tensor::zeros([4, 2]));
    }

    #[test]
    fn integers_are_multiplied_as_integers() {
        let a = Tensor::from_vec((0..24).collect::<Vec<i32>>(), [2, 3, 4]);
        let b = Tensor::from_vec((0..20).map(|i| i * i - 7).collect::<Vec<i32>>(), [5, 4]).transpose(0, 1);
        let y = a.matmul(&b);
        assert_eq!((y.dtype(), y.shape().dims()), (DType::I32, &[2, 3, 5][..]));
        assert!(y.to_f64().equals(&a.to_f64().matmul(&b.to_f64())));
        // Beyond what f64 holds, and mixed with a narrower type.
        let big = Tensor::from_vec(vec![(1i64 << 60) + 1, 3], [2]);
        assert_eq!(big.matmul(&Tensor::from_vec(vec![1u8, 1], [2])).to_vec::<i64>(), [(1i64 << 60) + 4]);
        assert_eq!(Tensor::zeros_of([2, 0], DType::I64).matmul(&Tensor::zeros_of([0, 3], DType::I64)).numel(), 6);
    }

    #[test]
    fn autocast_gives_bf16_results_and_f32_gradients() {
        let f32 = |seed| uniform([8, 8], seed).to_dtype(DType::F32);
        let (a, b) = (f32(1).requires_grad(), f32(2).requires_grad());
        let y = autocast(DType::BF16, || a.matmul(&b));
        assert_eq!(y.dtype(), DType::BF16);
        let exact = a.detach().matmul(&b.detach());
        assert!(y.relative_error(&exact) < 1e-2 && !y.to_dtype(DType::F32).equals(&exact));
        let grads = y.sum([]).backward();
        assert_eq!((grads[&a].dtype(), grads[&b].dtype()), (DType::F32, DType::F32));
    }
}
