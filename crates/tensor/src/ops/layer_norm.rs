//! Layer normalisation (Ba et al., 2016, arXiv:1607.06450).

use super::row_norm::{self, Kind, wide};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = (h - mean) * rstd * weight + bias` with `h = x + residual` and `rstd = 1 / sqrt(mean((h - mean)^2) + eps)`, over the last
/// dimension.
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f64,
    /// Whether the second input is a residual, and `h` the second output.
    pub residual: bool,
    /// Whether the next input is a weight.
    pub weighted: bool,
    /// Whether the last input is a bias.
    pub biased: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[LayerNorm::INFO];

impl LayerNorm {
    fn weight_index(&self) -> Option<usize> {
        self.weighted.then_some(1 + usize::from(self.residual))
    }

    fn bias_index(&self) -> Option<usize> {
        self.biased.then_some(1 + usize::from(self.residual) + usize::from(self.weighted))
    }
}

impl Op for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let weight = self.weight_index().map(|index| inputs[index]);
        let bias = self.bias_index().map(|index| inputs[index]);
        let residual = self.residual.then(|| inputs[1]);
        let result = row_norm::forward(Kind::Layer, inputs[0], residual, weight, bias, self.eps);
        saved.keep([result.sum.as_ref().unwrap_or(inputs[0]), &result.mean, &result.rstd]);
        // Backward has no need of the bias, the result computed again has.
        weight.into_iter().chain(bias).for_each(|parameter| saved.keep([parameter]));
        std::iter::once(result.y).chain(result.sum).collect::<Vec<_>>().into()
    }

    fn recomputes(&self) -> bool {
        true
    }

    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let inputs: Vec<&Tensor> = saved[..1].iter().chain(&saved[3..]).flatten().collect();
        Self { residual: false, ..*self }.forward(&inputs, &mut Saved::default()).into_first()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let (saved, dy) = (cx.all_saved(), cx.output_grad_or_zeros(0));
        let dh = if self.residual { cx.output_grad(1) } else { None };
        let (h, statistics, weight) = (&saved[0], (&saved[1], &saved[2]), saved.get(3).filter(|_| self.weighted));
        let dtype = wide(h.dtype());
        let dweight = row_norm::running(cx, self.weight_index(), dtype);
        let dbias = row_norm::running(cx, self.bias_index(), dtype);
        let grads = row_norm::backward(Kind::Layer, h, weight, statistics, &dy, dh.as_ref(), dweight, dbias);
        let mut all = vec![cx.needs(0).then(|| grads.dx.clone())];
        if self.residual {
            all.push(cx.needs(1).then_some(grads.dx));
        }
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
        let op = LayerNorm { eps, residual: false, weighted: weight.is_some(), biased: bias.is_some() };
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(weight).chain(bias).collect();
        op.apply(&inputs)
    }

    /// `h = x + residual` and its [`Tensor::layer_norm`], in one pass: `(y, h)`. Of different dtypes the one that holds both is taken,
    /// see [`cupola_core::DType::promote`].
    ///
    /// # Panics
    /// When the shapes do not fit.
    #[track_caller]
    pub fn layer_norm_residual(
        &self,
        residual: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> (Tensor, Tensor) {
        let op = LayerNorm { eps, residual: true, weighted: weight.is_some(), biased: bias.is_some() };
        let [x, residual] = row_norm::of_one_dtype(self, residual);
        let inputs: Vec<&Tensor> = [&x, &residual].into_iter().chain(weight).chain(bias).collect();
        let mut outputs = op.apply_all(&inputs).into_iter();
        let (Some(y), Some(h)) = (outputs.next(), outputs.next()) else { unreachable!("there are two outputs") };
        (y, h)
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
    for width in [31, 65] {
        let inputs = [normal([5, width], 1), normal([5, width], 2), uniform([width], 3), uniform([width], 4)];
        let run = |x: &[Tensor]| {
            let (y, h) = x[0].layer_norm_residual(&x[1], Some(&x[2]), Some(&x[3]), 1e-5);
            vec![y + &h, h]
        };
        cases.push(Case::new(format!("residual, width {width}"), inputs, run).reference(move |x| {
            let h = Array::from_fn(&[5, width], |i| x[0].at(i) + x[1].at(i));
            let y = normed(&h, width);
            let y = Array::from_fn(&[5, width], |i| y.at(i) * x[2].at(&[i[1]]) + x[3].at(&[i[1]]) + h.at(i));
            vec![y, h]
        }));
    }
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
