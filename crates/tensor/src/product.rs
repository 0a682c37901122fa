//! From tensors to matrix products: which kernel serves which dtypes.

use cupola_core::pool::Parts;
use cupola_core::{Buffer, DType, Element, bf16, f16, parallel_for};
use cupola_cpu::gemm::{
    Accumulator, Activation, Bf16, Epilogue, F32, F64, Lhs, MatMut, MatRef, Output, Packed, Product, Rhs,
};

use crate::mode;
use crate::tensor::Tensor;

/// A matrix inside a tensor: where it starts and how it steps, in elements of the tensor's buffer.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub tensor: &'a Tensor,
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: isize,
    pub col_stride: isize,
}

impl<'a> Matrix<'a> {
    /// The whole of a tensor of rank 2.
    pub fn whole(tensor: &'a Tensor) -> Self {
        let (shape, strides) = (tensor.shape(), tensor.layout().strides());
        let offset = tensor.layout().offset;
        Self { tensor, offset, rows: shape[0], cols: shape[1], row_stride: strides[0], col_stride: strides[1] }
    }

    /// The last two dimensions of a tensor of rank 2 or more, at the start of its other dimensions.
    pub fn last_two(tensor: &'a Tensor) -> Self {
        let (shape, strides, rank) = (tensor.shape(), tensor.layout().strides(), tensor.rank());
        let offset = tensor.layout().offset;
        let (rows, cols) = (shape[rank - 2], shape[rank - 1]);
        Self { tensor, offset, rows, cols, row_stride: strides[rank - 2], col_stride: strides[rank - 1] }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        let Self { rows, cols, row_stride, col_stride, .. } = self;
        Self { rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride, ..self }
    }

    fn view<T: Element>(&self) -> MatRef<'a, T> {
        let data = self.tensor.buffer().as_slice::<T>();
        MatRef::strided(data, self.offset, self.rows, self.cols, self.row_stride, self.col_stride)
    }
}

/// What a product does besides multiplying.
#[derive(Default)]
pub(crate) struct Finish<'a> {
    /// Adds to what the result holds.
    pub accumulate: bool,
    /// Where in the result's buffer it begins.
    pub start: usize,
    /// `[N]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// Applied to each element.
    pub activation: Activation,
    /// Keeps the packed right operand with its buffer for the next product with it: for weights that do not change.
    pub keep_packed: bool,
}

/// Products of this many multiplications are spread over the threads one by one; smaller ones of a batch side by side.
const LARGE: usize = 1 << 24;

/// The dtype that a product of these operands is computed in, under the autocast scope of this thread.
pub(crate) fn product_dtype(a: DType, b: DType) -> DType {
    let dtype = a.promote(b);
    match mode::autocast_dtype() {
        Some(cast) if dtype == DType::F32 || dtype == cast => cast,
        _ => dtype,
    }
}

/// `x` as an operand of a product in `compute`: converted, unless it is an f32 that a bf16 kernel rounds while it packs.
pub(crate) fn operand(x: &Tensor, compute: DType) -> Tensor {
    if compute == DType::BF16 && x.dtype() == DType::F32 { x.clone() } else { x.to_dtype(compute) }
}

/// `out = finish(A B)`, row-major in `out`; `pre` receives the argument of the activation.
///
/// Operands come from [`operand`]. The result has the dtype `compute`, or f32 when that is bf16. Sums are in f32 (f64 in f64).
pub(crate) fn multiply(
    compute: DType,
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut Buffer,
    pre: Option<&mut Buffer>,
    finish: &Finish<'_>,
) {
    dispatch(compute, a, b, Cut::Whole, out, pre, finish);
}

/// For each group of consecutive rows of A the product with a B of its own: `groups` says how many rows, and the next group's B
/// begins `step` elements behind this one's. One list of tasks over all groups.
pub(crate) fn multiply_rows(
    compute: DType,
    a: Matrix<'_>,
    b: Matrix<'_>,
    (groups, step): (&[usize], usize),
    out: &mut Buffer,
    keep_packed: bool,
) {
    dispatch(compute, a, b, Cut::Rows { groups, step }, out, None, &Finish { keep_packed, ..Finish::default() });
}

/// For each group of columns of A and as many rows of B their product, one after the other in `out`: `groups` says how many.
pub(crate) fn multiply_depths(
    compute: DType,
    a: Matrix<'_>,
    b: Matrix<'_>,
    groups: &[usize],
    out: &mut Buffer,
    accumulate: bool,
) {
    dispatch(compute, a, b, Cut::Depths(groups), out, None, &Finish { accumulate, ..Finish::default() });
}

/// What a call multiplies.
#[derive(Clone, Copy)]
enum Cut<'a> {
    /// A by B.
    Whole,
    /// Matrices like A and B that start at these offsets.
    Batch(&'a [(usize, usize)]),
    /// See [`multiply_rows`].
    Rows { groups: &'a [usize], step: usize },
    /// See [`multiply_depths`].
    Depths(&'a [usize]),
}

/// `out[i] = A[i] B[i]` for matrices like `a` and `b` that start at the given offsets.
pub(crate) fn multiply_batch(
    compute: DType,
    a: Matrix<'_>,
    b: Matrix<'_>,
    offsets: &[(usize, usize)],
    out: &mut Buffer,
) {
    dispatch(compute, a, b, Cut::Batch(offsets), out, None, &Finish::default());
}

fn dispatch(
    compute: DType,
    a: Matrix<'_>,
    b: Matrix<'_>,
    cut: Cut<'_>,
    out: &mut Buffer,
    pre: Option<&mut Buffer>,
    finish: &Finish<'_>,
) {
    macro_rules! run {
        ($($compute:ident $product:ident: $A:ident $a:ident, $B:ident $b:ident => $C:ident $c:ident;)*) => {
            match (compute, a.tensor.dtype(), b.tensor.dtype(), out.dtype()) {
                $((DType::$compute, DType::$A, DType::$B, DType::$C) => run::<$product, $a, $b, $c>(a, b, cut, out, pre, finish),)*
                (compute, a, b, c) => unreachable!("no product in {compute} takes {a} and {b} and gives {c}"),
            }
        };
    }
    run! {
        F64 F64: F64 f64, F64 f64 => F64 f64;
        F32 F32: F32 f32, F32 f32 => F32 f32;
        F16 F32: F16 f16, F16 f16 => F16 f16;
        BF16 Bf16: F32 f32, F32 f32 => F32 f32;
        BF16 Bf16: F32 f32, F32 f32 => BF16 bf16;
        BF16 Bf16: F32 f32, BF16 bf16 => F32 f32;
        BF16 Bf16: F32 f32, BF16 bf16 => BF16 bf16;
        BF16 Bf16: BF16 bf16, F32 f32 => F32 f32;
        BF16 Bf16: BF16 bf16, F32 f32 => BF16 bf16;
        BF16 Bf16: BF16 bf16, BF16 bf16 => F32 f32;
        BF16 Bf16: BF16 bf16, BF16 bf16 => BF16 bf16;
    }
}

fn run<P, A, B, C>(
    a: Matrix<'_>,
    b: Matrix<'_>,
    cut: Cut<'_>,
    out: &mut Buffer,
    pre: Option<&mut Buffer>,
    finish: &Finish<'_>,
) where
    P: Product<Acc: Accumulator<Activation = Activation> + Element>,
    A: Element + Lhs<P>,
    B: Element + Rhs<P>,
    C: Element + Output<P::Acc>,
{
    let cut = match cut {
        Cut::Batch(&[(from_a, from_b)]) => {
            return run::<P, A, B, C>(
                Matrix { offset: from_a, ..a },
                Matrix { offset: from_b, ..b },
                Cut::Whole,
                out,
                pre,
                finish,
            );
        }
        other => other,
    };
    let (rows, depth, cols) = (a.rows, a.cols, b.cols);
    let out = out.as_mut_slice::<C>();
    let packed = |b: Matrix<'_>| {
        let key = [b.offset, b.rows, b.cols, b.row_stride as usize, b.col_stride as usize];
        b.tensor.buffer().packed(key, || Packed::<P>::new(b.view::<B>()))
    };
    match cut {
        Cut::Whole => {
            let bias = finish.bias.map(|bias| bias.to_dtype(<P::Acc as Element>::DTYPE).contiguous());
            let epilogue = Epilogue {
                accumulate: finish.accumulate,
                bias: bias.as_ref().map(|bias| bias.slice_of()),
                activation: finish.activation,
                pre_activation: pre.map(|pre| MatMut::new(pre.as_mut_slice::<C>(), rows, cols)),
                ..Epilogue::default()
            };
            let result = MatMut::new(&mut out[finish.start..], rows, cols);
            match finish.keep_packed {
                true => P::matmul_packed(a.view::<A>(), &packed(b), result, epilogue),
                false => P::matmul(a.view::<A>(), b.view::<B>(), result, epilogue),
            }
        }
        Cut::Batch(offsets) => {
            let jobs: Vec<_> = offsets
                .iter()
                .map(|&(from_a, from_b)| (Matrix { offset: from_a, ..a }, Matrix { offset: from_b, ..b }))
                .collect();
            each::<P, A, B, C>(&jobs, (rows, cols), out, false, rows * depth * cols);
        }
        Cut::Rows { groups, step } => {
            let result = MatMut::new(out, rows, cols);
            let all = groups.iter().enumerate().filter(|(_, rows)| **rows > 0);
            let all = all.map(|(index, &rows)| (rows, Matrix { offset: b.offset + index * step, ..b }));
            if finish.keep_packed {
                let forms: Vec<_> = all.map(|(rows, b)| (rows, packed(b))).collect();
                let forms: Vec<_> = forms.iter().map(|(rows, form)| (*rows, &**form)).collect();
                P::matmul_grouped(a.view::<A>(), &forms, result, Epilogue::default());
            } else {
                let views: Vec<_> = all.map(|(rows, b)| (rows, b.view::<B>())).collect();
                P::matmul_grouped_strided(a.view::<A>(), &views, result, Epilogue::default());
            }
        }
        Cut::Depths(groups) => {
            let mut begin = 0;
            let job = |&depth: &usize| {
                let from = begin as isize;
                begin += depth;
                let a = Matrix { cols: depth, offset: (a.offset as isize + from * a.col_stride) as usize, ..a };
                let b = Matrix { rows: depth, offset: (b.offset as isize + from * b.row_stride) as usize, ..b };
                (a, b)
            };
            let jobs: Vec<_> = groups.iter().map(job).collect();
            let most = groups.iter().copied().max().unwrap_or(0);
            each::<P, A, B, C>(&jobs, (rows, cols), out, finish.accumulate, rows * most * cols);
        }
    }
}

/// The product of each pair, one after the other in `out`; `largest` is the number of multiplications of the largest.
fn each<P, A, B, C>(
    jobs: &[(Matrix<'_>, Matrix<'_>)],
    (rows, cols): (usize, usize),
    out: &mut [C],
    accumulate: bool,
    largest: usize,
) where
    P: Product<Acc: Accumulator<Activation = Activation> + Element>,
    A: Element + Lhs<P>,
    B: Element + Rhs<P>,
    C: Element + Output<P::Acc>,
{
    if rows * cols == 0 {
        return;
    }
    let parts = Parts::new(out, rows * cols);
    let one = |index: usize| {
        let (_, out) = parts.take(index);
        let (a, b) = jobs[index];
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        P::matmul(a.view::<A>(), b.view::<B>(), MatMut::new(out, rows, cols), epilogue);
    };
    if largest >= LARGE {
        (0..parts.len()).for_each(one);
    } else {
        parallel_for(parts.len(), one);
    }
}
