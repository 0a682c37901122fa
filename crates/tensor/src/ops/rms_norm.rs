//! Root-mean-square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467).

use super::row_norm::{self, Kind, wide};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::tensor::Tensor;

/// `y = h * rstd * weight` with `h = x + residual` and `rstd = 1 / sqrt(mean(h^2) + eps)`, over the last dimension.
pub struct RmsNorm {
    /// Added to the mean of squares.
    pub eps: f64,
    /// Whether the second input is a residual, and `h` the second output.
    pub residual: bool,
    /// Whether the last input is a weight.
    pub weighted: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[RmsNorm::INFO];

impl Op for RmsNorm {
    const NAME: &'static str = "rms_norm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let residual = self.residual.then(|| inputs[1]);
        let weight = self.weighted.then(|| inputs[inputs.len() - 1]);
        let result = row_norm::forward(Kind::Rms, inputs[0], residual, weight, None, self.eps);
        saved.keep([result.sum.as_ref().unwrap_or(inputs[0]), &result.rstd]);
        weight.into_iter().for_each(|w| saved.keep([w]));
        std::iter::once(result.y).chain(result.sum).collect::<Vec<_>>().into()
    }

    fn recomputes(&self) -> bool {
        true
    }

    fn recompute(&self, saved: &[Option<Tensor>]) -> Tensor {
        let inputs: Vec<&Tensor> = saved[..1].iter().chain(&saved[2..]).flatten().collect();
        Self { residual: false, ..*self }.forward(&inputs, &mut Saved::default()).into_first()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let (h, rstd, weight) = (&cx.all_saved()[0], &cx.all_saved()[1], cx.all_saved().get(2));
        let dy = cx.output_grad_or_zeros(0);
        let dh = if self.residual { cx.output_grad(1) } else { None };
        let last = cx.inputs() - 1;
        let dweight = row_norm::running(cx, self.weighted.then_some(last), wide(h.dtype()));
        let nothing = Tensor::zeros_of([0], rstd.dtype());
        let grads = row_norm::backward(Kind::Rms, h, weight, (&nothing, rstd), &dy, dh.as_ref(), dweight, None);
        let mut all = vec![cx.needs(0).then(|| grads.dx.clone())];
        if self.residual {
            all.push(cx.needs(1).then(|| grads.dx.clone()));
        }
        if self.weighted {
            all.push(grads.dweight.map(|sum| sum.finish()));
        }
        all.into()
    }
}

/// `(y, rstd)` of `y = x * rstd * weight`; the explicit form of [`Tensor::rms_norm`].
///
/// # Panics
/// As [`Tensor::rms_norm`].
#[track_caller]
pub fn forward(x: &Tensor, weight: &Tensor, eps: f64) -> (Tensor, Tensor) {
    let result = row_norm::forward(Kind::Rms, x, None, Some(weight), None, eps);
    (result.y, result.rstd)
}

/// `(dx, dweight)` from `dy` and what [`forward`] was given and returned.
pub fn backward(dy: &Tensor, x: &Tensor, weight: &Tensor, rstd: &Tensor) -> (Tensor, Tensor) {
    let dweight = row_norm::fresh(Some(weight), x.dim(-1), wide(x.dtype()));
    let nothing = Tensor::zeros_of([0], rstd.dtype());
    let grads = row_norm::backward(Kind::Rms, x, Some(weight), (&nothing, rstd), dy, None, dweight, None);
    (grads.dx, grads.dweight.expect("the weight's gradient was asked for").finish())
}

impl Tensor {
    /// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension. Computed in f32, of f64 in f64.
    ///
    /// # Shapes
    /// `[.., D]`, weight `[D]` -> `[.., D]`.
    ///
    /// # Panics
    /// When the shapes do not fit or the dtype is not floating-point.
    #[track_caller]
    pub fn rms_norm(&self, weight: Option<&Tensor>, eps: f64) -> Tensor {
        let op = RmsNorm { eps, residual: false, weighted: weight.is_some() };
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(weight).collect();
        op.apply(&inputs)
    }

    /// `h = x + residual` and its [`Tensor::rms_norm`], in one pass: `(y, h)`. Of different dtypes the one that holds both is taken,
    /// see [`cupola_core::DType::promote`].
    ///
    /// # Panics
    /// When the shapes do not fit.
    #[track_caller]
    pub fn rms_norm_residual(&self, residual: &Tensor, weight: Option<&Tensor>, eps: f64) -> (Tensor, Tensor) {
        let op = RmsNorm { eps, residual: true, weighted: weight.is_some() };
        let [x, residual] = row_norm::of_one_dtype(self, residual);
        let inputs: Vec<&Tensor> = [&x, &residual].into_iter().chain(weight).collect();
        let mut outputs = op.apply_all(&inputs).into_iter();
        let (Some(y), Some(h)) = (outputs.next(), outputs.next()) else { unreachable!("there are two outputs") };
        (y, h)
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, normal, uniform};
    fn normed(x: &Array, width: usize) -> Array {
        let square =
            |row: usize| x.data[row * width..(row + 1) * width].iter().map(|v| v * v).sum::<f64>() / width as f64;
        let data = x.data.iter().enumerate().map(|(i, v)| v / (square(i / width) + 1e-5).sqrt()).collect();
        Array::new(&x.shape, data)
    }
    let mut cases = Vec::new();
    for width in [1, 31, 33, 257] {
        let weighted = |y: Array, w: &Array| Array::from_fn(&y.shape.clone(), |i| y.at(i) * w.at(&[i[1]]));
        cases.push(
            Case::new(format!("width {width}"), [normal([5, width], 1), uniform([width], 2)], |x| {
                vec![x[0].rms_norm(Some(&x[1]), 1e-5)]
            })
            .reference(move |x| vec![weighted(normed(&x[0], width), &x[1])]),
        );
        cases.push(
            Case::new(
                format!("residual, width {width}"),
                [normal([5, width], 1), normal([5, width], 2), uniform([width], 3)],
                |x| {
                    let (y, h) = x[0].rms_norm_residual(&x[1], Some(&x[2]), 1e-5);
                    vec![y + &h, h]
                },
            )
            .reference(move |x| {
                let h = Array::from_fn(&[5, width], |i| x[0].at(i) + x[1].at(i));
                let y = weighted(normed(&h, width), &x[2]);
                vec![Array::from_fn(&[5, width], |i| y.at(i) + h.at(i)), h]
            }),
        );
    }
    cases.push(
        Case::new("bare", [normal([2, 3, 4], 1)], |x| vec![x[0].rms_norm(None, 1e-5)])
            .reference(|x| vec![normed(&x[0], 4)]),
    );
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normal;

    #[test]
    fn the_explicit_form_is_the_recorded_one() {
        let (x, w) = (normal([300, 9], 1).requires_grad(), normal([9], 2).requires_grad());
        let dy = normal([300, 9], 3);
        let y = x.rms_norm(Some(&w), 1e-5);
        let grads = (&y * &dy).sum([]).backward();
        let (plain, rstd) = forward(&x.detach(), &w.detach(), 1e-5);
        let (dx, dweight) = backward(&dy, &x.detach(), &w.detach(), &rstd);
        assert!(plain.same_bits(&y) && dx.same_bits(&grads[&x]) && dweight.same_bits(&grads[&w]));
    }
}
