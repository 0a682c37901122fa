//! Layer normalisation (Ba et al., 2016, arXiv:1607.06450).

use super::row_norm::{self, Kind, wide};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = (x - mean) * rstd * weight + bias` with `rstd = 1 / sqrt(mean((x - mean)^2) + eps)`, over the last dimension.
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f64,
    /// Whether the second input is a weight.
    pub weighted: bool,
    /// Whether the last input is a bias.
    pub biased: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[LayerNorm::INFO];

impl LayerNorm {
    fn weight_index(&self) -> Option<usize> {
        self.weighted.then_some(1)
    }

    fn bias_index(&self) -> Option<usize> {
        self.biased.then_some(1 + usize::from(self.weighted))
    }
}

impl Op for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let weight = self.weight_index().map(|index| inputs[index]);
        let bias = self.bias_index().map(|index| inputs[index]);
        let result = row_norm::forward(Kind::Layer, inputs[0], None, weight, bias, self.eps);
        saved.keep([inputs[0], &result.mean, &result.rstd]);
        weight.into_iter().for_each(|w| saved.keep([w]));
        result.y.into()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let (saved, dy) = (cx.all_saved(), cx.take_dy());
        let (x, statistics, weight) = (&saved[0], (&saved[1], &saved[2]), saved.get(3));
        let dtype = wide(x.dtype());
        let dweight = row_norm::running(cx, self.weight_index(), dtype);
        let dbias = row_norm::running(cx, self.bias_index(), dtype);
        let grads = row_norm::backward(Kind::Layer, x, weight, statistics, &dy, None, dweight, dbias);
        let mut all = vec![cx.needs(0).then_some(grads.dx)];
        if self.weighted {
            all.push(grads.dweight.map(|sum| sum.finish()));
        }
        if self.biased {
            all.push(grads.dbias.map(|sum| sum.finish()));
        }
        all.into()
    }
}

/// `(y, mean, rstd)`; the explicit form of [`Tensor::layer_norm`].
///
/// # Panics
/// As [`Tensor::layer_norm`].
#[track_caller]
pub fn forward(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> (Tensor, Tensor, Tensor) {
    let result = row_norm::forward(Kind::Layer, x, None, weight, bias, eps);
    (result.y, result.mean, result.rstd)
}

/// `(dx, dweight, dbias)` from `dy` and what [`forward`] was given and returned; the bias's gradient has the weight's dtype.
pub fn backward(dy: &Tensor, x: &Tensor, weight: &Tensor, mean: &Tensor, rstd: &Tensor) -> (Tensor, Tensor, Tensor) {
    let fresh = || row_norm::fresh(Some(weight), x.dim(-1), wide(x.dtype()));
    let grads = row_norm::backward(Kind::Layer, x, Some(weight), (mean, rstd), dy, None, fresh(), fresh());
    let finish =
        |sum: Option<crate::autograd::running::RunningSum>| sum.expect("both gradients were asked for").finish();
    (grads.dx, finish(grads.dweight), finish(grads.dbias))
}

impl Tensor {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension, with the biased variance. Computed in f32,
    /// of f64 in f64.
    ///
    /// # Shapes
    /// `[.., D]`, weight and bias `[D]` -> `[.., D]`.
    ///
    /// # Panics
    /// When the shapes do not fit or the dtype is not floating-point.
    #[track_caller]
    pub fn layer_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Tensor {
        let op = LayerNorm { eps, weighted: weight.is_some(), biased: bias.is_some() };
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(weight).chain(bias).collect();
        op.apply(&inputs)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, normal, uniform};
    fn normed(x: &Array, width: usize) -> Array {
        let row = |i: usize| &x.data[i / width * width..(i / width + 1) * width];
        let mean = |i: usize| row(i).iter().sum::<f64>() / width as f64;
        let variance = |i: usize| row(i).iter().map(|v| (v - mean(i)).powi(2)).sum::<f64>() / width as f64;
        let data = x.data.iter().enumerate().map(|(i, v)| (v - mean(i)) / (variance(i) + 1e-5).sqrt()).collect();
        Array::new(&x.shape, data)
    }
    let mut cases: Vec<Case> = [2, 31, 33, 257]
        .into_iter()
        .map(|width| {
            let inputs = [normal([5, width], 1), uniform([width], 2), uniform([width], 3)];
            Case::new(format!("width {width}"), inputs, |x| vec![x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-5)])
                .reference(move |x| {
                    let y = normed(&x[0], width);
                    vec![Array::from_fn(&[5, width], |i| y.at(i) * x[1].at(&[i[1]]) + x[2].at(&[i[1]]))]
                })
        })
        .collect();
    cases.push(
        Case::new("bare", [normal([2, 3, 5], 1)], |x| vec![x[0].layer_norm(None, None, 1e-5)])
            .reference(|x| vec![normed(&x[0], 5)]),
    );
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradients::Gradients;
    use crate::testing::normal;

    #[test]
    fn the_explicit_form_is_the_recorded_one() {
        let (x, w, b) =
            (normal([300, 9], 1).requires_grad(), normal([9], 2).requires_grad(), normal([9], 4).requires_grad());
        let dy = normal([300, 9], 3);
        let y = x.layer_norm(Some(&w), Some(&b), 1e-5);
        let grads = (&y * &dy).sum([]).backward();
        let (plain, mean, rstd) = forward(&x.detach(), Some(&w.detach()), Some(&b.detach()), 1e-5);
        let (dx, dweight, dbias) = backward(&dy, &x.detach(), &w.detach(), &mean, &rstd);
        assert!(plain.same_bits(&y) && dx.same_bits(&grads[&x]));
        assert!(dweight.same_bits(&grads[&w]) && dbias.same_bits(&grads[&b]));
    }

    #[test]
    fn micro_batches_of_whole_blocks_add_up_to_the_bits_of_one_batch() {
        let x = normal([1024, 5], 1).to_dtype(cupola_core::DType::F32);
        let w = Tensor::ones([5]).requires_grad();
        let whole = x.layer_norm(Some(&w), None, 1e-5).exp().sum([]).backward();
        let mut grads = Gradients::new();
        for part in x.split(0, &[256, 512, 256]) {
            part.layer_norm(Some(&w), None, 1e-5).exp().sum([]).backward_into(&mut grads);
        }
        assert!(grads[&w].same_bits(&whole[&w]));
    }
}
