//! Softmax cross-entropy (label smoothing: Szegedy et al., 2016, arXiv:1512.00567; z-loss: Chowdhery et al., "PaLM", 2022,
//! arXiv:2204.02311).

use cupola_cpu::cross_entropy::{self as kernel, Options};
use cupola_cpu::real::Number;

use super::row_norm::wide;
use crate::dispatch::with_float;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// How losses of rows become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The losses as they are, `[N]`.
    None,
    /// Their sum divided by the number of rows that count, or by the sum of their targets' class weights.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// What a cross-entropy counts.
#[derive(Clone, Debug, Default)]
pub struct CrossEntropyConfig {
    /// How the rows' losses become one number.
    pub reduction: Reduction,
    /// Rows with this target do not count.
    pub ignore_index: Option<i64>,
    /// The part of the target's probability that is spread evenly over all classes, in 0..1.
    pub label_smoothing: f64,
    /// A factor for each class, `[V]`.
    pub class_weights: Option<Tensor>,
    /// The weight of the squared log-sum-exp of each row.
    pub z_loss: f64,
    /// What [`Reduction::Mean`] divides by instead: the number of tokens of the whole step, when the rows are a part of it.
    pub divisor: Option<f64>,
}

/// `loss = log_sum_exp(x) - x[target]` of each row of logits, without storing probabilities.
pub struct CrossEntropy {
    /// What is counted.
    pub config: CrossEntropyConfig,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[CrossEntropy::INFO];

impl CrossEntropy {
    /// Calls `body` with the kernel's options for logits of dtype `T`.
    pub(super) fn with_options<R: cupola_core::Element, O>(&self, body: impl FnOnce(&Options<'_, R>) -> O) -> O {
        let weights = self.config.class_weights.as_ref().map(|w| w.to_dtype(R::DTYPE).contiguous());
        body(&Options {
            ignore_index: self.config.ignore_index,
            label_smoothing: self.config.label_smoothing,
            class_weights: weights.as_ref().map(|w| w.slice_of::<R>()),
            z_loss: self.config.z_loss,
        })
    }

    /// What each row's loss is multiplied by.
    pub(super) fn scale(&self, targets: &[i64], classes: usize) -> f64 {
        match (self.config.reduction, self.config.divisor) {
            (Reduction::Mean, Some(divisor)) => 1.0 / divisor,
            (Reduction::Mean, None) => {
                self.with_options::<f64, _>(|options| 1.0 / options.total_weight(targets, classes))
            }
            _ => 1.0,
        }
    }
}

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [logits, targets] = inputs else { unreachable!("cross_entropy has two inputs") };
        let fits = logits.rank() == 2 && targets.shape().dims() == [logits.shape()[0]] && targets.dtype().is_integer();
        let weights = self.config.class_weights.as_ref();
        let weights_fit = weights.is_none_or(|w| fits && w.shape().dims() == [logits.shape()[1]] && !w.needs_grad());
        assert!(
            fits && weights_fit && (0.0..1.0).contains(&self.config.label_smoothing),
            "cross_entropy: logits {}, targets {} {}, class weights {:?} and label smoothing {} do not fit",
            logits.shape(),
            targets.dtype(),
            targets.shape(),
            weights.map(Tensor::shape),
            self.config.label_smoothing
        );
        let (rows, classes) = (logits.shape()[0], logits.shape()[1]);
        let (logits, indices) = (logits.contiguous(), targets.to_indices());
        let scale = self.scale(&indices, classes);
        with_float!(Self::NAME, logits.dtype(), T => {
            type R = <T as Number>::Real;
            let mut loss = Tensor::zeros_of([rows], wide(logits.dtype()));
            let lse = Tensor::build::<R>([rows], |lse| {
                let loss = loss.as_mut_slice::<R>().expect("a fresh tensor is writable");
                self.with_options::<R, _>(|options| kernel::forward(logits.slice_of::<T>(), &indices, classes, options, loss, lse));
            });
            saved.keep([&logits, targets, &lse]);
            match self.config.reduction {
                Reduction::None => loss.into(),
                Reduction::Sum => loss.sum([]).into(),
                Reduction::Mean => loss.sum([]).affine(scale, 0.0).into(),
            }
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [logits, targets, lse] = cx.saved();
        let (indices, classes) = (targets.to_indices(), logits.shape()[1]);
        let scales = cx.take_dy().to_dtype(lse.dtype()).affine(self.scale(&indices, classes), 0.0);
        let scales = if scales.rank() == 0 { scales.reshape([1]) } else { scales.contiguous() };
        let dlogits = with_float!(Self::NAME, logits.dtype(), T => {
            type R = <T as Number>::Real;
            Tensor::build::<T>(*logits.shape(), |dlogits| self.with_options::<R, _>(|options| {
                let (x, lse, scales) = (logits.slice_of::<T>(), lse.slice_of::<R>(), scales.slice_of::<R>());
                kernel::backward(x, &indices, classes, options, lse, scales, dlogits);
            }))
        });
        [Some(dlogits), None].into()
    }
}

impl Tensor {
    /// The cross-entropy of these logits with targets: for each row, with `L` its log-sum-exp, `t` its target, `c` the class
    /// weights (1 when absent), `s` the label smoothing and `z` the weight of the z-loss,
    ///
    /// `loss = (1 - s) c[t] (L - x[t]) + s / V * sum over j of c[j] (L - x[j]) + z c[t] L^2`
    ///
    /// Probabilities are never stored; backward computes them again. Computed in f32, of f64 in f64, which is also the dtype of
    /// the result.
    ///
    /// # Shapes
    /// `[N, V]`, targets (integers) `[N]` -> a scalar, or `[N]` without reduction.
    ///
    /// # Panics
    /// When the shapes do not fit, a target is neither a class nor ignored, or class weights need a gradient.
    #[track_caller]
    pub fn cross_entropy(&self, targets: &Tensor, config: &CrossEntropyConfig) -> Tensor {
        CrossEntropy { config: config.clone() }.apply(&[self, targets])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, normal};
    let config = |reduction, smoothing: f64, weighted: bool, z_loss: f64, classes: usize| CrossEntropyConfig {
        reduction,
        ignore_index: Some(-100),
        label_smoothing: smoothing,
        class_weights: weighted.then(|| between(0.5, 1.5, [classes], 9)),
        z_loss,
        divisor: None,
    };
    let mut cases = Vec::new();
    for classes in [1, 5, 33, 257] {
        for (reduction, smoothing, weighted, z_loss) in [
            (Reduction::Mean, 0.0, false, 0.0),
            (Reduction::None, 0.1, true, 0.01),
            (Reduction::Mean, 0.2, true, 0.0),
            (Reduction::Sum, 0.0, false, 0.1),
        ] {
            let config = config(reduction, smoothing, weighted, z_loss, classes);
            let targets: Vec<i64> = (0..7).map(|i| if i == 3 { -100 } else { i * 5 % classes as i64 }).collect();
            let c = config.class_weights.as_ref().map_or(vec![1.0; classes], |w| w.to_vec::<f64>());
            let reference = move |x: &[Array]| {
                let row = |i: usize| -> (f64, f64) {
                    if x[1].data[i] < 0.0 {
                        return (0.0, 0.0);
                    }
                    let (row, t) = (&x[0].data[i * classes..(i + 1) * classes], x[1].data[i] as usize);
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
            let name =
                format!("{classes} classes, {reduction:?}, smoothing {smoothing}, weights {weighted}, z {z_loss}");
            let inputs = [normal([7, classes], 1), Tensor::from_vec(targets, [7])];
            cases.push(Case::new(name, inputs, move |x| vec![x[0].cross_entropy(&x[1], &config)]).reference(reference));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_core::DType;

    #[test]
    fn bf16_logits_give_an_f32_loss_and_a_bf16_gradient() {
        let logits = Tensor::zeros_of([2, 4], DType::BF16).requires_grad();
        let loss = logits.cross_entropy(&Tensor::range(0, 2), &CrossEntropyConfig::default());
        assert_eq!(loss.dtype(), DType::F32);
        assert!((loss.item() - 4f64.ln()).abs() < 1e-6);
        assert_eq!(loss.backward()[&logits].dtype(), DType::BF16);
    }

    #[test]
    fn a_confident_wrong_answer_has_a_finite_loss() {
        let logits = Tensor::from_vec(vec![200.0f32, 0.0], [1, 2]);
        assert_eq!(logits.cross_entropy(&Tensor::range(1, 2), &CrossEntropyConfig::default()).item(), 200.0);
    }

    #[test]
    #[should_panic(expected = "cross_entropy: target 4 of row 0 is outside of 0..4")]
    fn a_target_that_is_no_class_is_named() {
        Tensor::zeros([1, 4]).cross_entropy(&Tensor::range(4, 5), &CrossEntropyConfig::default());
    }
}
