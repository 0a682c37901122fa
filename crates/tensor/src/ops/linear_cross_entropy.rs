//! The last linear map of a language model together with its softmax cross-entropy, a part of the vocabulary at a time (Wijmans et
//! al., "Cut Your Losses in Large-Vocabulary Language Models", 2024, arXiv:2411.09009).

use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType};
use cupola_cpu::cross_entropy::{Running, Span, add_chunk, chunk_gradient, finish_chunks};

use super::cross_entropy::{CrossEntropy, CrossEntropyConfig, Reduction};
use super::row_norm::wide;
use crate::autograd::running::RunningSum;
use crate::compute::with_real;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::product::{Finish, Matrix, multiply, operand, product_dtype};
use crate::tensor::Tensor;

/// How many classes, and of how many rows, have logits at a time. Fixed, so that a row's bits do not depend on the batch; even,
/// because bf16 products add up pairs.
const CLASSES: usize = 8192;
const ROWS: usize = 512;
/// Logits of fewer elements than this are kept for backward, which spares their second product.
const KEPT: usize = 16 << 20;

/// `loss = log_sum_exp(x W^T) - (x W^T)[target]` of each row, without ever holding the logits `[N, V]` of a large vocabulary.
pub struct LinearCrossEntropy {
    /// What is counted.
    pub config: CrossEntropyConfig,
    /// What the products are computed in; logits are f32 (f64 for f64).
    pub compute: DType,
    /// How many classes have logits at a time.
    pub classes: usize,
    /// Of how many rows.
    pub rows: usize,
    /// Up to how many logits in all are kept for backward.
    pub kept: usize,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[LinearCrossEntropy::INFO];

/// `0..total` in parts of `size`.
fn parts(total: usize, size: usize) -> impl DoubleEndedIterator<Item = Range<usize>> + Clone + ExactSizeIterator {
    (0..total).step_by(size.max(1)).map(move |start| start..total.min(start + size.max(1)))
}

/// Some rows of a matrix.
fn part<'a>(matrix: Matrix<'a>, rows: &Range<usize>) -> Matrix<'a> {
    let offset = matrix.offset as isize + rows.start as isize * matrix.row_stride;
    Matrix { offset: offset as usize, rows: rows.len(), ..matrix }
}

impl LinearCrossEntropy {
    fn loss(&self) -> CrossEntropy {
        CrossEntropy { config: self.config.clone() }
    }

    fn logits(&self, x: Matrix<'_>, weight: Matrix<'_>) -> Tensor {
        let shape = [x.rows, weight.rows];
        let mut out = Buffer::uninit(wide(self.compute), shape[0] * shape[1], Placement::Passing);
        multiply(self.compute, x, weight.t(), &mut out, None, &Finish::default());
        Tensor::from_buffer(out, shape)
    }
}

impl Op for LinearCrossEntropy {
    const NAME: &'static str = "linear_cross_entropy";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, weight, targets] = inputs else { unreachable!("linear_cross_entropy has three inputs") };
        let fits = x.rank() == 2
            && weight.rank() == 2
            && x.dim(1) == weight.dim(1)
            && targets.shape().dims() == [x.dim(0)]
            && targets.dtype().is_integer();
        let weights = self.config.class_weights.as_ref();
        let weights_fit = weights.is_none_or(|w| fits && w.shape().dims() == [weight.dim(0)] && !w.needs_grad());
        assert!(
            fits && weights_fit && (0.0..1.0).contains(&self.config.label_smoothing),
            "linear_cross_entropy: input {}, weight {}, targets {} {}, class weights {:?} and label smoothing {} do not fit",
            x.shape(),
            weight.shape(),
            targets.dtype(),
            targets.shape(),
            weights.map(Tensor::shape),
            self.config.label_smoothing
        );
        let (count, classes) = (x.dim(0), weight.dim(0));
        let again = saved.is_enabled() && Saved::recomputes(x);
        let input = x;
        let x = if saved.is_enabled() && !again { x.to_dtype(self.compute) } else { operand(x, self.compute) };
        let (weight, indices) = (operand(weight, self.compute), targets.to_indices());
        let (loss, scale) = (self.loss(), self.loss().scale(&indices, classes));
        let keeps = saved.is_enabled() && count * classes <= self.kept;
        let mut kept = Vec::new();
        let (losses, lse) = with_real!(wide(self.compute), T => {
            let mut losses = vec![T::default(); count];
            let lse = Tensor::build::<T>([count], |lse| loss.with_options::<T, _>(|options| {
                for rows in parts(count, self.rows) {
                    let targets = &indices[rows.clone()];
                    let mut running = vec![Running::<T>::new(); rows.len()];
                    for span in parts(classes, self.classes) {
                        let logits = self.logits(part(Matrix::whole(&x), &rows), part(Matrix::whole(&weight), &span));
                        let span = Span { classes: span, all: classes };
                        add_chunk(logits.slice_of::<T>(), &span, targets, options, &mut running);
                        kept.extend(keeps.then_some(logits));
                    }
                    let (losses, lse) = (&mut losses[rows.clone()], &mut lse[rows]);
                    finish_chunks(&running, targets, classes, options, losses, lse);
                }
            }));
            (Tensor::from_vec(losses, [count]), lse)
        });
        if again {
            saved.keep_or_recompute(input);
        } else {
            saved.keep([&x]);
        }
        saved.keep([&weight, targets, &lse]);
        kept.iter().for_each(|logits| saved.keep([logits]));
        match self.config.reduction {
            Reduction::None => losses.into(),
            Reduction::Sum => losses.sum([]).into(),
            Reduction::Mean => losses.sum([]).affine(scale, 0.0).into(),
        }
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dtype = wide(self.compute);
        let (weight, targets, lse) = (&cx.all_saved()[1], cx.all_saved()[2].to_indices(), &cx.all_saved()[3]);
        let (x, kept) = (operand(&cx.all_saved()[0], self.compute), &cx.all_saved()[4..]);
        let (count, classes, width) = (x.dim(0), weight.dim(0), x.dim(1));
        let scales = cx.take_dy().to_dtype(dtype).affine(self.loss().scale(&targets, classes), 0.0);
        let scales = if scales.rank() == 0 { scales.reshape([1]) } else { scales.contiguous() };
        let mut dx = cx.needs(0).then(|| Buffer::uninit(dtype, count * width, Placement::Passing));
        let mut dweight = cx.needs(1).then(|| RunningSum::unwritten(cx, 1, dtype));
        let (whole_x, whole_weight) = (Matrix::whole(&x), Matrix::whole(weight));
        let spans = parts(classes, self.classes);
        for (column, span) in spans.clone().enumerate() {
            for (row, rows) in parts(count, self.rows).enumerate() {
                let (x, weight) = (part(whole_x, &rows), part(whole_weight, &span));
                let known = kept.get(row * spans.len() + column);
                let again = known.is_none().then(|| self.logits(x, weight));
                let gradient = with_real!(dtype, T => self.loss().with_options::<T, _>(|options| {
                    let (targets, lse) = (&targets[rows.clone()], &lse.slice_of::<T>()[rows.clone()]);
                    let scales = scales.slice_of::<T>();
                    let scales = if scales.len() == 1 { scales } else { &scales[rows.clone()] };
                    let span = Span { classes: span.clone(), all: classes };
                    let fill = |logits: Option<&[T]>, gradient: &mut [T]| {
                        chunk_gradient(logits, &span, targets, options, lse, scales, gradient);
                    };
                    match (known, again) {
                        (Some(known), _) => {
                            Tensor::build::<T>(*known.shape(), |gradient| fill(Some(known.slice_of::<T>()), gradient))
                        }
                        (None, Some(mut logits)) => {
                            fill(None, logits.as_mut_slice::<T>().expect("a fresh product has no other holder"));
                            logits
                        }
                        (None, None) => unreachable!("logits are kept or computed again"),
                    }
                }));
                let gradient = Matrix::whole(&gradient);
                // Both are chains of sums over classes and over rows that one product after the other goes on with, so the cuts do
                // not show in their bits.
                if let Some(dx) = &mut dx {
                    let finish = Finish { accumulate: column > 0, start: rows.start * width, ..Finish::default() };
                    multiply(self.compute, gradient, weight, dx, None, &finish);
                }
                if let Some(sum) = &mut dweight {
                    let accumulate = row > 0 || sum.continues();
                    let finish = Finish { accumulate, start: span.start * width, ..Finish::default() };
                    multiply(self.compute, gradient.t(), x, sum.buffer(), None, &finish);
                }
            }
        }
        let (empty, meta) = (count == 0 || classes == 0, cx.input(0));
        let dx = dx.map(|mut dx| {
            if empty {
                dx.clear();
            }
            Tensor::from_buffer(dx, meta.shape).to_dtype(meta.dtype)
        });
        let dweight = dweight.map(|mut sum| {
            if empty && !sum.continues() {
                sum.buffer().clear();
            }
            sum.finish()
        });
        [dx, dweight, None].into()
    }
}

/// The cross-entropy of `x W^T` with targets, as [`Tensor::cross_entropy`] counts it, computed a range of classes at a time: of a
/// large vocabulary the logits `[N, V]` are never there as a whole, forward or backward, and backward computes them a second time.
/// Products as in [`linear`](super::linear::linear) (under autocast in its dtype); logits, sums and the result are f32, f64 for f64.
///
/// A row's loss depends on that row alone, and the weight's gradient is one chain over all rows, so micro-batches of even size add up
/// to the bits of one batch.
///
/// # Shapes
/// `x [N, D]`, `weight [V, D]`, targets (integers) `[N]` -> a scalar, or `[N]` without reduction.
///
/// # Panics
/// When the shapes do not fit, a dtype is not floating-point, a target is neither a class nor ignored, or class weights need a
/// gradient.
#[track_caller]
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor, config: &CrossEntropyConfig) -> Tensor {
    let compute = product_dtype(x.dtype(), weight.dtype());
    assert!(
        compute.is_float(),
        "linear_cross_entropy: input is {} and weight {}, expected floats",
        x.dtype(),
        weight.dtype()
    );
    // Products in f16 give f16, which is too narrow for logits.
    let compute = if compute == DType::F16 { DType::F32 } else { compute };
    let op = LinearCrossEntropy { config: config.clone(), compute, classes: CLASSES, rows: ROWS, kept: KEPT };
    op.apply(&[x, weight, targets])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, normal};
    let mut cases = Vec::new();
    for (classes, step) in [(1, 4), (5, 5), (33, 8), (65, 16)] {
        for (reduction, smoothing, weighted, z_loss, kept) in [
            (Reduction::Mean, 0.0, false, 0.0, 0),
            (Reduction::None, 0.1, true, 0.01, 0),
            (Reduction::Mean, 0.2, true, 0.0, 1 << 20),
            (Reduction::Sum, 0.0, false, 0.1, 0),
        ] {
            let config = CrossEntropyConfig {
                reduction,
                ignore_index: Some(-100),
                label_smoothing: smoothing,
                class_weights: weighted.then(|| between(0.5, 1.5, [classes], 9)),
                z_loss,
                divisor: None,
            };
            let c = config.class_weights.as_ref().map_or(vec![1.0; classes], |w| w.to_vec::<f64>());
            let targets: Vec<i64> = (0..7).map(|i| if i == 3 { -100 } else { i * 5 % classes as i64 }).collect();
            let reference = move |x: &[Array]| {
                let row = |i: usize| -> (f64, f64) {
                    if x[2].data[i] < 0.0 {
                        return (0.0, 0.0);
                    }
                    let logit = |j: usize| (0..6).map(|k| x[0].at(&[i, k]) * x[1].at(&[j, k])).sum::<f64>();
                    let (row, t) = ((0..classes).map(logit).collect::<Vec<_>>(), x[2].data[i] as usize);
                    let log = row.iter().map(|v| v.exp()).sum::<f64>().ln();
                    let spread: f64 = row.iter().zip(&c).map(|(v, c)| c * (log - v)).sum();
                    let plain = (1.0 - smoothing) * c[t] * (log - row[t]) + smoothing / classes as f64 * spread;
                    (plain + z_loss * c[t] * log * log, c[t])
                };
                let rows: Vec<(f64, f64)> = (0..7).map(row).collect();
                let sum: f64 = rows.iter().map(|r| r.0).sum();
                vec![match reduction {
                    Reduction::None => Array::new(&[7], rows.iter().map(|r| r.0).collect()),
                    Reduction::Sum => Array::new(&[], vec![sum]),
                    Reduction::Mean => Array::new(&[], vec![sum / rows.iter().map(|r| r.1).sum::<f64>()]),
                }]
            };
            let run = move |x: &[Tensor]| {
                let compute = if x[0].dtype() == DType::F16 { DType::F32 } else { x[0].dtype() };
                let op = LinearCrossEntropy { config: config.clone(), compute, classes: step, rows: 2, kept };
                vec![op.apply(&[&x[0], &x[1], &x[2]])]
            };
            let name =
                format!("{classes} by {step}, {reduction:?}, smoothing {smoothing}, weights {weighted}, z {z_loss}");
            let inputs = [normal([7, 6], 1), normal([classes, 6], 2), Tensor::from_vec(targets, [7])];
            cases.push(Case::new(name, inputs, run).reference(reference));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradients::Gradients;
    use crate::autograd::inspect;
    use crate::mode::autocast;
    use crate::ops::linear::{Activation, linear};
    use crate::testing::uniform;

    fn inputs(count: usize, width: usize, classes: usize) -> (Tensor, Tensor, Tensor) {
        let f32 = |shape: [usize; 2], seed| uniform(shape, seed).to_dtype(DType::F32).requires_grad();
        let targets = Tensor::from_vec((0..count as i64).map(|i| i * 37 % classes as i64).collect(), [count]);
        (f32([count, width], 1), f32([classes, width], 2), targets)
    }

    #[test]
    fn a_vocabulary_in_chunks_never_has_its_logits_in_memory() {
        let (x, weight, targets) = inputs(96, 4, 20_000);
        let config = CrossEntropyConfig::default();
        let run =
            |kept| LinearCrossEntropy { config: config.clone(), compute: DType::F32, classes: 4096, rows: 64, kept };
        let loss = run(0).apply(&[&x, &weight, &targets]);
        // The inputs, and one number for each row.
        let saved = inspect::summary(&loss).saved_bytes;
        assert_eq!(saved, (96 * 4 + 20_000 * 4 + 96) * 4 + 96 * 8);
        let kept = run(96 * 20_000).apply(&[&x, &weight, &targets]);
        assert_eq!(inspect::summary(&kept).saved_bytes, saved + 96 * 20_000 * 4);
        let plain = linear(&x, &weight, None, Activation::None).cross_entropy(&targets, &config);
        let (grads, kept_grads, expected) = (loss.backward(), kept.backward(), plain.backward());
        assert!(loss.same_bits(&kept) && loss.relative_error(&plain.detach()) < 1e-6);
        for leaf in [&x, &weight] {
            assert!(grads[leaf].same_bits(&kept_grads[leaf]));
            assert!(grads[leaf].relative_error(&expected[leaf]) < 1e-6);
        }
    }

    #[test]
    fn micro_batches_add_up_to_the_bits_of_one_batch() {
        let (x, weight, targets) = inputs(1300, 8, 33);
        let config = CrossEntropyConfig { divisor: Some(1300.0), ..CrossEntropyConfig::default() };
        let whole = linear_cross_entropy(&x, &weight, &targets, &config).backward();
        let mut grads = Gradients::new();
        for (start, count) in [(0, 300), (300, 700), (1000, 300)] {
            let (x, targets) = (x.detach().narrow(0, start, count), targets.narrow(0, start, count));
            linear_cross_entropy(&x, &weight, &targets, &config).backward_into(&mut grads);
        }
        assert!(grads[&weight].same_bits(&whole[&weight]));
    }

    #[test]
    fn autocast_multiplies_in_bf16_and_keeps_logits_and_gradients_in_f32() {
        let (x, weight, targets) = inputs(40, 16, 50);
        let config = CrossEntropyConfig::default();
        let loss = autocast(DType::BF16, || linear_cross_entropy(&x, &weight, &targets, &config));
        let exact = linear_cross_entropy(&x.detach(), &weight.detach(), &targets, &config);
        assert!(loss.dtype() == DType::F32 && loss.relative_error(&exact) < 1e-2 && !loss.detach().equals(&exact));
        let grads = loss.backward();
        assert_eq!((grads[&x].dtype(), grads[&weight].dtype()), (DType::F32, DType::F32));
    }

    #[test]
    fn nothing_has_gradients_of_zero() {
        let (x, weight, targets) = inputs(0, 4, 5);
        let config = CrossEntropyConfig { reduction: Reduction::Sum, ..CrossEntropyConfig::default() };
        let grads = linear_cross_entropy(&x, &weight, &targets, &config).backward();
        assert!(grads[&weight].equals(&Tensor::zeros([5, 4])) && grads[&x].numel() == 0);
    }

    #[test]
    #[should_panic(expected = "linear_cross_entropy: input [2, 3], weight [5, 4], targets i64 [2]")]
    fn shapes_that_do_not_fit_are_named() {
        let config = CrossEntropyConfig::default();
        linear_cross_entropy(&Tensor::zeros([2, 3]), &Tensor::zeros([5, 4]), &Tensor::range(0, 2), &config);
    }
}
