//! A linear map of its own for each group of rows: the experts of a mixture.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType};

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::{Matrix, multiply_depths, multiply_rows, operand, product_dtype};
use crate::tensor::Tensor;

/// `y[i] = W[g] x[i]` for the rows i of group g, where `W[g]` is rows `g F .. (g + 1) F` of the weight.
pub struct GroupedLinear {
    /// What the products are computed in; sums are kept in f32, or in f64 for f64.
    pub compute: DType,
    /// How many consecutive rows each group has.
    pub groups: Vec<usize>,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[GroupedLinear::INFO];

impl GroupedLinear {
    /// The weight of the first group.
    fn first<'a>(&self, weight: &'a Tensor) -> Matrix<'a> {
        let all = Matrix::whole(weight);
        Matrix { rows: all.rows / self.groups.len(), ..all }
    }

    /// The dtype in which a gradient for an input of dtype `input` is computed.
    fn grad_dtype(&self, input: DType) -> DType {
        if self.compute == DType::BF16 && input == DType::F32 { DType::F32 } else { self.compute }
    }

    /// `dW[g] = dy[g]^T x[g]`, each one chain of sums over the group's rows that goes on from what the gradient holds already.
    fn weight_gradient(&self, cx: &mut Backward<'_>, x: &Tensor, dy: &Tensor) -> Tensor {
        let meta = cx.input(1);
        let dtype = self.grad_dtype(meta.dtype);
        let (dy, x) = (Matrix::whole(dy).t(), Matrix::whole(x));
        let earlier = match cx.take_accumulator(1).map(Tensor::into_buffer) {
            Some(Ok(mut buffer)) if dtype == meta.dtype => {
                multiply_depths(self.compute, dy, x, &self.groups, &mut buffer, true);
                return Tensor::from_buffer(buffer, meta.shape);
            }
            Some(Ok(buffer)) => Some(Tensor::from_buffer(buffer, meta.shape)),
            Some(Err(shared)) => Some(shared),
            None => None,
        };
        let mut out = Buffer::uninit(dtype, meta.shape.numel(), Placement::Passing);
        multiply_depths(self.compute, dy, x, &self.groups, &mut out, false);
        let grad = Tensor::from_buffer(out, meta.shape).to_dtype(meta.dtype);
        match earlier {
            Some(earlier) => earlier.accumulate(&grad),
            None => grad,
        }
    }
}

impl Op for GroupedLinear {
    const NAME: &'static str = "grouped_linear";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, weight] = inputs else { unreachable!("grouped_linear has two inputs") };
        let count = self.groups.len();
        let fits = x.rank() == 2 && weight.rank() == 2 && x.dim(1) == weight.dim(1);
        let fits = fits && count > 0 && weight.dim(0).is_multiple_of(count);
        assert!(
            fits && self.groups.iter().sum::<usize>() == x.dim(0),
            "grouped_linear: input {} and weight {} do not fit groups of {:?} rows",
            x.shape(),
            weight.shape(),
            self.groups
        );
        // In the product's own dtype the input is all that backward reads of it.
        let x = if saved.is_enabled() { x.to_dtype(self.compute) } else { operand(x, self.compute) };
        let weight = operand(weight, self.compute);
        let shape = [x.dim(0), weight.dim(0) / count];
        let mut out = Buffer::uninit(self.compute, shape[0] * shape[1], Placement::Passing);
        let keep_packed = !saved.is_enabled() && weight.is_leaf();
        // Whole matrices of weights lie one behind the other along the first dimension.
        let step = shape[1] * row_step(&weight);
        multiply_rows(
            self.compute,
            Matrix::whole(&x),
            self.first(&weight).t(),
            (&self.groups, step),
            &mut out,
            keep_packed,
        );
        saved.keep([&x, &weight]);
        Tensor::from_buffer(out, shape).into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x, weight] = cx.saved();
        let dy = operand(&cx.take_dy(), self.compute).contiguous();
        let dx = cx.needs(0).then(|| {
            let meta = cx.input(0);
            let mut out = Buffer::uninit(self.grad_dtype(meta.dtype), x.numel(), Placement::Passing);
            let step = dy.dim(1) * row_step(weight);
            multiply_rows(self.compute, Matrix::whole(&dy), self.first(weight), (&self.groups, step), &mut out, false);
            Tensor::from_buffer(out, meta.shape).to_dtype(meta.dtype)
        });
        let dweight = cx.needs(1).then(|| self.weight_gradient(cx, x, &dy));
        [dx, dweight].into()
    }
}

/// Elements from one row of a weight to the next.
fn row_step(weight: &Tensor) -> usize {
    usize::try_from(weight.layout().strides()[0]).expect("prepared by `forward`, a weight's rows go forward in memory")
}

/// A linear map of its own for each group of consecutive rows: the first `groups[0]` rows of `x` times the transpose of the first
/// `F` rows of the weight, and so on. Groups may be empty. All products run as one list of tasks, so that small groups leave no
/// thread idle, and a row has the same bits in any group of any size. Sums are kept in f32, of f64 in f64; under autocast the
/// factors are rounded to its dtype first, and the result has it.
///
/// # Shapes
/// `x [M, K]`, `weight [G F, K]`, `groups` of G numbers that add up to M -> `[M, F]`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn grouped_linear(x: &Tensor, weight: &Tensor, groups: &[usize]) -> Tensor {
    let compute = product_dtype(x.dtype(), weight.dtype());
    assert!(
        compute.is_float(),
        "grouped_linear: input is {} and weight {}, expected floats",
        x.dtype(),
        weight.dtype()
    );
    GroupedLinear { compute, groups: groups.to_vec() }.apply(&[x, weight])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let layouts: [(&[usize], usize, usize); 5] =
        [(&[3, 0, 5], 7, 4), (&[65, 1, 33, 2], 17, 9), (&[0, 0], 3, 2), (&[4], 5, 1), (&[1, 1, 1], 31, 33)];
    let case = |(groups, depth, out): (&'static [usize], usize, usize)| {
        let rows: usize = groups.iter().sum();
        let inputs = [uniform([rows, depth], 1), uniform([groups.len() * out, depth], 2)];
        let group_of = move |row: usize| {
            let mut end = 0;
            groups.iter().position(|rows| {
                end += rows;
                row < end
            })
        };
        Case::new(format!("{groups:?} of {depth} to {out}"), inputs, move |x| {
            vec![grouped_linear(&x[0], &x[1], groups)]
        })
        .reference(move |x| {
            let cell = |i: &[usize]| -> f64 {
                let g = group_of(i[0]).expect("a row of some group");
                (0..depth).map(|k| x[0].at(&[i[0], k]) * x[1].at(&[g * out + i[1], k])).sum()
            };
            vec![Array::from_fn(&[rows, out], cell)]
        })
    };
    layouts.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradients::Gradients;
    use crate::no_grad;
    use crate::ops::linear::{Activation, linear};
    use crate::testing::uniform;

    #[test]
    fn every_group_has_the_bits_of_its_own_product() {
        let groups = [70, 0, 1, 130];
        let x = uniform([201, 40], 1).to_dtype(DType::F32);
        let w = uniform([4 * 24, 40], 2).to_dtype(DType::F32);
        let recorded = grouped_linear(&x, &w.requires_grad(), &groups);
        let packed = no_grad(|| grouped_linear(&x, &w.requires_grad(), &groups));
        let mut begin = 0;
        for (g, &rows) in groups.iter().enumerate() {
            let own = linear(&x.narrow(0, begin, rows), &w.narrow(0, g * 24, 24), None, Activation::None);
            assert!(recorded.narrow(0, begin, rows).same_bits(&own), "group {g}");
            assert!(packed.narrow(0, begin, rows).same_bits(&own), "group {g}, packed");
            begin += rows;
        }
    }

    #[test]
    fn accumulating_micro_batches_has_the_bits_of_one_batch() {
        let x = uniform([48, 12], 1).to_dtype(DType::F32);
        let w = uniform([2 * 7, 12], 2).to_dtype(DType::F32).requires_grad();
        let whole = grouped_linear(&x, &w, &[24, 24]).sum([]).backward();
        let mut grads = Gradients::new();
        for half in [0, 1] {
            let rows = [x.narrow(0, 12 * half, 12), x.narrow(0, 24 + 12 * half, 12)];
            let part = Tensor::cat(&[&rows[0], &rows[1]], 0);
            grouped_linear(&part, &w, &[12, 12]).sum([]).backward_into(&mut grads);
        }
        assert!(grads[&w].same_bits(&whole[&w]));
    }

    #[test]
    #[should_panic(expected = "grouped_linear: input [3, 2] and weight [4, 2] do not fit groups of [1, 1] rows")]
    fn groups_that_do_not_cover_the_rows_are_named() {
        grouped_linear(&Tensor::zeros([3, 2]), &Tensor::zeros([4, 2]), &[1, 1]);
    }
}
